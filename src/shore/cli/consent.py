"""`shore accept`: the prefixes beyond their own addresses that are routed to peers of the network.

A netmap comes from a server, and this machine's owner has the last word: what was not accepted is left out
where the tunnel is configured (`core.mesh`). Accepted prefixes are kept with the identity, and a running node
takes them at once.
"""

import click
import msgspec

from shore.cli.asking import FAILED, USAGE, fail
from shore.cli.keeping import keep, member
from shore.core.consent import is_accepted, unfit
from shore.core.netmap import NotTaken
from shore.io.identity import Identity
from shore.model.netmap import NODE_RANGE_V4
from shore.wire import api


class Offered(msgspec.Struct, frozen=True):
    """A prefix that a peer leads to."""

    prefix: str
    peer: str
    accepted: bool


class Accepted(msgspec.Struct, frozen=True):
    """What `--json` prints."""

    accepted: tuple[str, ...]
    offered: tuple[Offered, ...]
    schema: int = 1


@click.command()
@click.argument("prefixes", nargs=-1, metavar="[PREFIX]...")
@click.option("--withdraw", is_flag=True, help="Accept these no longer.")
@click.option("--json", "as_json", is_flag=True, help="Print what is accepted afterwards as JSON, schema 1.")
def accept(prefixes: tuple[str, ...], *, withdraw: bool, as_json: bool) -> None:
    """Send what is meant for these prefixes to the peers that lead there; without any, list what is accepted.

    Addresses of the network need no consent. A prefix within an accepted one is accepted as well; a default
    route is only where it was accepted as such: `shore accept 0.0.0.0/0 ::/0`.
    """
    given = [_parse(text) for text in prefixes]
    joined = member("what this machine accepts")
    before = joined.network.accepted
    if withdraw:
        if missing := [prefix for prefix in given if prefix not in before]:
            fail(f"{missing[0]} was not accepted", FAILED)
        wanted = tuple(prefix for prefix in before if prefix not in given)
    else:
        wanted = tuple(dict.fromkeys((*before, *given)))
    if wanted != before:
        keep(joined, api.AskAccept(wanted), accepted=wanted)
    offered = _offered(joined, wanted)
    if as_json:
        click.echo(msgspec.json.encode(Accepted(wanted, offered)).decode())
        return
    click.echo("\n".join(wanted) or "no prefix beyond the addresses of the network is accepted")
    for each in offered:
        if not each.accepted:
            click.echo(
                f"{each.peer} leads to {each.prefix}: `shore accept {each.prefix}` sends it what is for there"
            )


def _offered(joined: Identity, accepted: tuple[str, ...]) -> tuple[Offered, ...]:
    """As the netmap on disk says."""
    try:
        netmap = joined.netmap()
    except NotTaken:
        return ()
    ranges = (NODE_RANGE_V4, netmap.names.range_v6)
    return tuple(
        Offered(prefix, peer.name, is_accepted(prefix, accepted, ranges))
        for peer in netmap.peers
        for prefix in peer.prefixes
    )


def _parse(text: str) -> str:
    if (why := unfit(text)) is not None:
        fail(why, USAGE)
    return text
