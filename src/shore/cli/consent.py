"""`shore accept`: the prefixes beyond their own addresses that peers of the network may route here.

A netmap comes from a server, and this machine's owner has the last word: what was not accepted is left out
where the tunnel is configured (`core.mesh`). Accepted prefixes are kept with the identity, and a running node
takes them at once.
"""

import ipaddress

import click
import msgspec

from shore.cli.asking import FAILED, NOT_RUNNING, USAGE, fail, obtain
from shore.io import identity as kept
from shore.io.identity import Identity
from shore.io.runtime import Runtime
from shore.wire import api


class Accepted(msgspec.Struct, frozen=True):
    """What `--json` prints."""

    accepted: tuple[str, ...]
    schema: int = 1


@click.command()
@click.argument("prefixes", nargs=-1, metavar="[PREFIX]...")
@click.option("--withdraw", is_flag=True, help="Accept these no longer.")
@click.option("--json", "as_json", is_flag=True, help="Print what is accepted afterwards as JSON, schema 1.")
def accept(prefixes: tuple[str, ...], *, withdraw: bool, as_json: bool) -> None:
    """Let peers of the network route these prefixes to this node; without any, list what is accepted.

    Addresses of the network need no consent, and default routes are never taken from it.
    """
    given = [_parse(text) for text in prefixes]
    joined = _joined()
    before = joined.network.accepted
    if withdraw:
        if missing := [prefix for prefix in given if prefix not in before]:
            fail(f"{missing[0]} was not accepted", FAILED)
        wanted = tuple(prefix for prefix in before if prefix not in given)
    else:
        wanted = tuple(dict.fromkeys((*before, *given)))
    if wanted != before:
        _keep(joined, wanted)
    if as_json:
        click.echo(msgspec.json.encode(Accepted(wanted)).decode())
    else:
        click.echo("\n".join(wanted) or "no prefix beyond the addresses of the network is accepted")


def _parse(text: str) -> str:
    try:
        network = ipaddress.ip_network(text)
    except ValueError as error:
        fail(f"`{text}` is no prefix: {error}", USAGE)
    if network.prefixlen == 0:
        fail(f"{network} is a default route, which is never taken from a network", USAGE)
    return str(network)


def _keep(joined: Identity, wanted: tuple[str, ...]) -> None:
    network = msgspec.structs.replace(joined.network, accepted=wanted)
    try:
        kept.keep_network(network)
    except OSError as error:
        fail(f"{error.filename}: {(error.strerror or '').lower()}: run as root", FAILED)
    if Runtime(network.interface).is_held("brain"):
        obtain(network.interface, api.AskAccept(wanted))


def _joined() -> Identity:
    try:
        joined = kept.read()
    except kept.Damaged as error:
        fail(str(error), FAILED)
    except PermissionError:
        fail("only root may say what this machine accepts: run as root", FAILED)
    if joined is None:
        fail("this machine has joined no network: `shore up --join TOKEN`", NOT_RUNNING)
    return joined
