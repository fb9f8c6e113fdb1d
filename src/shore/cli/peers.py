"""Commands about one peer: its session, its paths, why they are as they are, and what became of them."""

import time

import click
import msgspec

from shore.cli import advertising
from shore.cli import show as text
from shore.cli.asking import FAILED, NOT_RUNNING, UNREACHABLE, USAGE, fail, obtain, running, seconds
from shore.cli.whom import Known, NotOne, find, known
from shore.core.why import explain, where
from shore.io.history import History, tunnels_kept
from shore.model.config import Uplink
from shore.model.history import Change
from shore.model.keys import key_text, parse_key
from shore.model.status import PeerStatus, TunnelStatus
from shore.wire import api
from shore.wire.wgconf import parse_peer_name, parse_redundancy, parse_uplink

RENEWED_WITHIN = 10
PEER = click.argument("peer", metavar="PEER")
NAME = click.argument("name", required=False)
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON (docs/cli.md).")


@click.command()
@PEER
@NAME
def rekey(peer: str, name: str | None) -> None:
    """Make a new session with a peer, and wait for it.

    PEER is a public key, the beginning of one, or a Name.
    """
    meant = one(peer, running(name))[2]
    obtain(meant.tunnel, api.AskRenew(parse_key(meant.public_key)))
    if renewed(meant) is None:
        fail(f"{meant.tunnel}: {peer} did not answer within {RENEWED_WITHIN} s", UNREACHABLE)
    click.echo(f"{meant.tunnel}: there is a new session with {meant.words}")


@click.command()
@PEER
@NAME
@JSON
def paths(peer: str, name: str | None, as_json: bool) -> None:
    """List the paths to a peer with what was measured of them.

    PEER is a public key, the beginning of one, or a Name.
    """
    _, status, meant = one(peer, running(name))
    if as_json:
        listed = {"paths": status.paths, "lanes": status.lanes, "switches": status.switches}
        click.echo(msgspec.json.format(msgspec.json.encode(listed), indent=2).decode())
    elif not status.paths:
        click.echo(
            f"{meant.words} is plain WireGuard as far as we know: it answers no probes, so its paths are not "
            f"measured; packets go to {where(status) or 'nowhere yet'}"
        )
    else:
        click.echo("\n".join(text.path_lines(status)))


@click.command()
@PEER
@NAME
@JSON
def why(peer: str, name: str | None, as_json: bool) -> None:
    """Say why a peer's packets take the path that they take.

    PEER is a public key, the beginning of one, or a Name.
    """
    tunnel, status, meant = one(peer, running(name))
    try:
        changes = History(meant.tunnel).read(parse_key(meant.public_key))
    except PermissionError:
        changes = ()
    said = explain(tunnel, status, changes, time.time())
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(said), indent=2).decode())
    else:
        click.echo("\n".join(text.why_lines(said)))


@click.command()
@PEER
@NAME
@click.option("--since", metavar="TIME", help="Only what is younger than TIME (30s, 5m, 1h, 2d).")
@JSON
def history(peer: str, name: str | None, since: str | None, as_json: bool) -> None:
    """Print what changed for a peer, why, and by which numbers, up to 1,000 changes.

    PEER is a public key, the beginning of one, or a Name; of a tunnel that is down, a key.
    """
    youngest = None if since is None else time.time() - seconds(since)
    peers = known(tunnel for tunnel in running(None) if name in (None, tunnel.name))
    try:
        meant = _find(peer, peers + _kept(name, peers))
        changes = History(meant.tunnel).read(parse_key(meant.public_key))
    except PermissionError:
        fail("only root may read what is kept: run as root", FAILED)
    for change in changes:
        if youngest is None or change.at >= youngest:
            click.echo(msgspec.json.encode(change).decode() if as_json else _change_line(change))


@click.command("set")
@click.argument("name", required=False)
@click.argument("words", nargs=-1, metavar="[PEER] KEY=VALUE...")
@click.option(
    advertising.OPTION, "routes", metavar="PREFIX,...", help="What this machine leads its network to; kept."
)
def amend(name: str | None, words: tuple[str, ...], routes: str | None) -> None:
    """Change what is in force now, and not the file.

    \b
    shore set NAME PEER redundancy=off|auto|interactive|always
    shore set NAME PEER name=NAME
    shore set NAME "uplinks=eth0, wwan0 metered"
    shore set --advertise-routes 10.1.0.0/24,fd77::/64

    `shore reload` brings back what the file says. Routes that are advertised stay so; "" ends them.
    """
    if routes is not None and name is None:
        advertising.change(routes)
        return
    if name is None or routes is not None:
        fail(
            "it is `shore set NAME [PEER] KEY=VALUE...`, or `shore set --advertise-routes PREFIX,...`", USAGE
        )
    changes = [word.partition("=")[::2] for word in words if word.partition("=")[2]]
    peers = [word for word in words if not word.partition("=")[2]]
    if len(peers) > 1 or not changes:
        fail("it is `shore set NAME [PEER] KEY=VALUE...`", USAGE)
    request = _wanted(dict(changes), bool(peers))
    if peers:
        meant = one(peers[0], running(name))[2]
        request = msgspec.structs.replace(request, public_key=parse_key(meant.public_key))
    obtain(name, request, within=30)
    said = ", ".join(f"{key} is {value}" for key, value in changes)
    click.echo(f"{name}: {said}; `shore reload {name}` brings back what the file says")


def one(word: str, tunnels: list[TunnelStatus]) -> tuple[TunnelStatus, PeerStatus, Known]:
    """The peer that is meant, or the end with one sentence."""
    if not tunnels:
        fail("no tunnel is up", NOT_RUNNING)
    meant = _find(word, known(tunnels))
    tunnel = next(tunnel for tunnel in tunnels if tunnel.name == meant.tunnel)
    status = next(peer for peer in tunnel.peers if peer.public_key == meant.public_key)
    return tunnel, status, meant


def renewed(meant: Known) -> PeerStatus | None:
    """The peer once it has a session younger than our question; None if that does not come in time."""
    asked = time.monotonic()
    while time.monotonic() - asked < RENEWED_WITHIN:
        for tunnel in running(meant.tunnel):
            for peer in tunnel.peers:
                age = peer.session_age_s if peer.public_key == meant.public_key else None
                if age is not None and age < time.monotonic() - asked:
                    return peer
        time.sleep(0.05)
    return None


def _find(word: str, peers: list[Known]) -> Known:
    try:
        return find(word, peers)
    except NotOne as error:
        fail(str(error), FAILED)


def _kept(name: str | None, peers: list[Known]) -> list[Known]:
    """Peers that have a history and are in no running tunnel."""
    there = {(peer.tunnel, peer.public_key) for peer in peers}
    tunnels = tunnels_kept() if name is None else [name]
    kept = [Known(tunnel, key_text(key)) for tunnel in tunnels for key in History(tunnel).peers()]
    return [peer for peer in kept if (peer.tunnel, peer.public_key) not in there]


def _wanted(changes: dict[str, str], of_peer: bool) -> api.AskAmend:
    keys = ("redundancy", "name") if of_peer else ("uplinks",)
    wrong = [key for key in changes if key not in keys]
    if wrong:
        whose = "a peer" if of_peer else "a tunnel"
        fail(f"`{wrong[0]}` cannot be set of {whose}: {' or '.join(keys)} can", USAGE)
    try:
        return api.AskAmend(
            name=parse_peer_name(changes["name"]) if "name" in changes else None,
            redundancy=parse_redundancy(changes["redundancy"]) if "redundancy" in changes else None,
            uplinks=_uplinks(changes["uplinks"]) if "uplinks" in changes else None,
        )
    except ValueError as error:
        fail(str(error), USAGE)


def _uplinks(written: str) -> tuple[Uplink, ...]:
    return tuple(parse_uplink(word.strip()) for word in written.split(",") if word.strip())


def _change_line(change: Change) -> str:
    numbers = ", ".join(f"{name} {value:g}" for name, value in change.numbers.items())
    return f"{text.stamp(change.at)} {change.what}: {change.why}{f' [{numbers}]' if numbers else ''}"
