"""`shore nodes routes`: which networks behind its nodes a mesh may be led to.

Who advertises a prefix is one thing, whether it counts another: it takes both, and then the consent of each
node that is to send anything there (`shore accept`).
"""

import click

from shore.cli.asking import USAGE, fail
from shore.cli.server import JSON, obtain, path_word, show_json
from shore.wire import server as said


@click.command()
@click.argument("name", required=False)
@click.option("--approve", multiple=True, metavar="PREFIX", help="The node may lead there from now.")
@click.option("--revoke", multiple=True, metavar="PREFIX", help="The node may lead there no longer.")
@JSON
def routes(name: str | None, *, approve: tuple[str, ...], revoke: tuple[str, ...], as_json: bool) -> None:
    """List the prefixes beyond their addresses that nodes lead to, and say which of them count.

    Several prefixes are written with commas, or the option several times.
    """
    if name is None and (approve or revoke):
        fail("it is `shore nodes routes NAME --approve PREFIX`", USAGE)
    if name is not None and (approve or revoke):
        asked = said.Routes(_words(approve), _words(revoke))
        shown = [obtain("POST", f"/nodes/{path_word(name)}/routes", said.NodeShown, asked)]
    else:
        every = obtain("GET", "/nodes", said.Nodes).nodes
        shown = [node for node in every if name in (None, node.name)]
        if name is not None and not shown:
            fail(f"no node is called {name}", 1)
    if as_json:
        show_json(said.Nodes(tuple(shown)))
        return
    lines = [line for node in shown for line in _lines(node)]
    click.echo("\n".join(lines) or "no node leads to anything beyond its addresses")


def _words(given: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(word.strip() for text in given for word in text.split(",") if word.strip())


def _lines(node: said.NodeShown) -> list[str]:
    lines = []
    for prefix in dict.fromkeys((*node.advertised, *node.approved)):
        state = "approved" if prefix in node.approved else "waits for --approve"
        if prefix not in node.advertised:
            state = "approved, and not advertised by the node"
        lines.append(f"{node.name}  {prefix}  {state}")
    return lines
