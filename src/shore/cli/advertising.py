"""`--advertise-routes`: the networks behind this machine that it would lead members of the mesh to.

To offer is this machine's part; somebody approves it on the server (`shore nodes routes`), and each other
node accepts it for itself (`shore accept`). Whether the kernel forwards is its owner's business: it is looked
at, and told, and left as it is.
"""

import click

from shore.cli.asking import USAGE, fail
from shore.cli.keeping import keep, member
from shore.core.consent import unfit
from shore.io.host.behind import not_forwarded, unforwarded
from shore.io.identity import Identity
from shore.wire import api

MOST = 32
OPTION = "--advertise-routes"


def parse_routes(written: str | None) -> tuple[str, ...] | None:
    """`10.1.0.0/24,fd77::/64`, or nothing for none; None stays None."""
    if written is None:
        return None
    found = tuple(dict.fromkeys(word.strip() for word in written.split(",") if word.strip()))
    for prefix in found:
        if (why := unfit(prefix)) is not None:
            fail(why, USAGE)
    if len(found) > MOST:
        fail(f"a node leads to {MOST} prefixes at most", USAGE)
    return found


def advertise(joined: Identity, prefixes: tuple[str, ...]) -> Identity:
    """Offer these and no others from now, where the tunnel is up at once."""
    return keep(joined, api.AskAdvertise(prefixes), advertised=prefixes)


def change(written: str) -> None:
    """`shore set --advertise-routes`."""
    prefixes = parse_routes(written) or ()
    say(advertise(member("what this machine leads to"), prefixes))


def say(joined: Identity) -> None:
    """What is offered, and what is missing before anything gets there."""
    prefixes = joined.network.advertised
    if not prefixes:
        click.echo("this machine leads to no network")
        return
    name = joined.network.name
    click.echo(
        f"{', '.join(prefixes)}: on the server, `shore nodes routes {name} --approve {','.join(prefixes)}`"
    )
    for parameter in not_forwarded(prefixes):
        click.echo(f"note: {unforwarded(parameter)}", err=True)
