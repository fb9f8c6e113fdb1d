"""`shore invite`, `tokens`, `nodes` and `server`: who is let in, who is there, and how the server is. They
ask the coordination server of this machine."""

import os
import sys
import time
from typing import NoReturn, TypeVar
from urllib.parse import quote

import click
import msgspec

from shore.cli.asking import FAILED, NOT_RUNNING, TIMED_OUT, USAGE, fail, seconds
from shore.io import serverapi
from shore.io.state import root
from shore.wire import server as said

T = TypeVar("T", bound=msgspec.Struct)
NEVER = "never"
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON (docs/server.md).")
FILE = click.argument("file", metavar="FILE", type=click.Path())
NAME = click.argument("name")
EXPIRES = click.option("--expires", default="1h", show_default=True, metavar="TIME|never")


class _Line(msgspec.Struct):
    schema: int
    token: str
    command: str


@click.command()
@click.option("--reusable", is_flag=True, help="Any number of machines may come with it.")
@EXPIRES
@click.option("--tag", "tags", multiple=True, help="The machine acts for nobody; it is what its tags say.")
@click.option("--ephemeral", is_flag=True, help="The machine is forgotten 5 min after it went away.")
@click.option("--user", default="owner", show_default=True, help="Whose machine it is.")
@click.option("--relay", is_flag=True, help="The machine becomes a further relay, and no node by it.")
@JSON
def invite(
    *,
    reusable: bool,
    expires: str,
    tags: tuple[str, ...],
    ephemeral: bool,
    user: str,
    relay: bool,
    as_json: bool,
) -> None:
    """Print the command that lets a machine join the network."""
    if relay and (ephemeral or tags):
        fail("a relay is neither ephemeral nor does it have tags: it is no node", USAGE)
    lifetime = None if expires == NEVER else seconds(expires)
    asked = said.Invite(user, tags, reusable, ephemeral, lifetime, "relay" if relay else "node")
    made = obtain("POST", "/tokens", said.Invited, asked)
    command = "relay" if relay else "up"
    line = _Line(1, made.token, f"shore {command} --join {made.token}")
    click.echo(msgspec.json.encode(line).decode() if as_json else line.command)


@click.group(invoke_without_command=True)
@click.pass_context
@JSON
def tokens(context: click.Context, as_json: bool) -> None:
    """List the join tokens, by the first digits of their hash."""
    if context.invoked_subcommand is not None:
        return
    found = obtain("GET", "/tokens", said.Tokens)
    if as_json:
        show_json(found)
        return
    for token in found.tokens:
        words = [token.prefix, token.state, token.user, *(f"tag:{tag}" for tag in token.tags)]
        words += ["reusable"] * token.reusable + ["ephemeral"] * token.ephemeral
        words += ["relay"] * (token.role == "relay")
        if token.state == "open" and token.expires_at is not None:
            words.append(f"expires {time.strftime('%F %T', time.localtime(token.expires_at))}")
        click.echo("  ".join(words))


@tokens.command()
@click.argument("prefix")
@click.option("--with-nodes", is_flag=True, help="Put out the machines that came with it, too.")
def revoke(prefix: str, with_nodes: bool) -> None:
    """Let nobody in with the token any more."""
    out = obtain("DELETE", f"/tokens/{path_word(prefix)}{'?with_nodes=true' * with_nodes}", said.Out)
    click.echo(f"{prefix} is revoked")
    for name in out.nodes:
        click.echo(f"{name} is out")


@click.group()
def nodes() -> None:
    """See who is in the network, and say who may be."""


@nodes.command(name="list")
@JSON
def list_nodes(as_json: bool) -> None:
    """List the nodes, those that are out included."""
    found = obtain("GET", "/nodes", said.Nodes)
    if as_json:
        show_json(found)
        return
    for node in found.nodes:
        there = "online" if node.online else "offline"
        words = [node.name, node.standing, there, *node.addresses, node.user]
        words += [f"tag:{tag}" for tag in node.tags] + ["ephemeral"] * node.ephemeral
        click.echo("  ".join([*words, "relay"] if node.role == "relay" else words))


@nodes.command()
@NAME
def approve(name: str) -> None:
    """Let in a node that waits for it."""
    obtain("POST", f"/nodes/{path_word(name)}/approve", said.NodeShown)
    click.echo(f"{name} is a member")


@nodes.command(name="revoke")
@NAME
def revoke_node(name: str) -> None:
    """Put a node out, for good."""
    obtain("POST", f"/nodes/{path_word(name)}/revoke", said.NodeShown)
    click.echo(f"{name} is out")


@nodes.command()
@NAME
def expire(name: str) -> None:
    """Have a node draw another key; the one that it has counts no more."""
    obtain("POST", f"/nodes/{path_word(name)}/expire", said.NodeShown)
    click.echo(f"the key of {name} counts no more")


@nodes.command()
@NAME
@click.argument("new")
def rename(name: str, new: str) -> None:
    """Call a node NEW."""
    obtain("POST", f"/nodes/{path_word(name)}/rename", said.NodeShown, said.Rename(new))
    click.echo(f"{name} is {new} now")


@click.group()
def server() -> None:
    """See to the coordination server of this machine (docs/server.md)."""


@server.command()
@JSON
def status(as_json: bool) -> None:
    """Say how the server is."""
    found = obtain("GET", "/status", said.ServerStatus)
    if as_json:
        show_json(found)
        return
    click.echo(f"network {found.network} at {', '.join(found.addresses)}")
    click.echo(f"{found.nodes} nodes, {found.online} online; netmap {found.epoch}.{found.version}")
    for relay in found.relays:
        click.echo(f"{relay.id} at {', '.join(relay.addresses)}, {'online' if relay.online else 'offline'}")
    for note in found.notes:
        click.echo(f"note: {note}")


@server.command()
@FILE
def backup(file: str) -> None:
    """Write all of the network, keys included, to FILE; the server may run."""
    become("backup", file)


@server.command()
@FILE
def restore(file: str) -> None:
    """Make the network anew from FILE, on a machine that has none."""
    become("restore", file)


@server.group(invoke_without_command=True)
@click.pass_context
@JSON
def keys(context: click.Context, as_json: bool) -> None:
    """List the keys to the REST API, by the first digits of their hash."""
    if context.invoked_subcommand is not None:
        return
    found = obtain("GET", "/keys", said.Keys)
    if as_json:
        show_json(found)
        return
    for key in found.keys:
        click.echo("  ".join([key.prefix, "revoked" if key.revoked else key.right, key.note]).rstrip())


@keys.command()
@click.option("--write", is_flag=True, help="Who has it may change things; else he may look.")
@click.option("--note", default="", help="What it is for.")
def create(write: bool, note: str) -> None:
    """Print a new key. It is shown this once."""
    click.echo(obtain("POST", "/keys", said.KeyMade, said.KeyAsk("write" if write else "read", note)).key)


@keys.command(name="revoke")
@click.argument("prefix")
def revoke_key(prefix: str) -> None:
    """Let nobody in by the key any more."""
    obtain("DELETE", f"/keys/{path_word(prefix)}", said.KeyShown)
    click.echo(f"{prefix} is revoked")


def become(command: str, *words: str) -> NoReturn:
    """What touches the server's files needs its code, which is not loaded for anything else."""
    words = ("-m", "shore.coordination", command, "--state", str(root()), "--", *words)
    os.execv(sys.executable, [sys.executable, *words])


def obtain(method: str, route: str, kind: type[T], body: msgspec.Struct | None = None) -> T:
    """Have the server do something, or end with one sentence."""
    try:
        answer = serverapi.ask(method, said.ROUTE + route, body)
    except serverapi.NoServer as error:
        fail(str(error), NOT_RUNNING)
    except serverapi.Refused as error:
        fail(str(error), FAILED)
    except TimeoutError as error:
        fail(str(error), TIMED_OUT)
    return msgspec.json.decode(answer, type=kind)


def show_json(found: msgspec.Struct) -> None:
    """With `schema` before all."""
    content = {"schema": 1, **msgspec.to_builtins(found)}
    click.echo(msgspec.json.format(msgspec.json.encode(content), indent=2).decode())


def path_word(word: str) -> str:
    """One word of a path, quoted."""
    return quote(word, safe="")
