"""Commands of a mesh node: join, resume, leave, and who is there.

The join token is a secret. Given as an argument it would stand in the process list for as long as the join
takes, so this process starts itself anew and reads it from a descriptor.
"""

import asyncio
import os
import sys
import time
from pathlib import Path

import click
import msgspec

from shore.cli import advertising, boot
from shore.cli.asking import FAILED, NOT_RUNNING, TIMED_OUT, USAGE, fail, obtain, running
from shore.cli.keeping import keep
from shore.cli.peers import one
from shore.cli.start import NotStarted, give_brain, start
from shore.core.netmap import LABEL, NotTaken
from shore.io import identity as kept
from shore.io.identity import Identity, Network
from shore.io.proxy import parse_proxy
from shore.io.runtime import Runtime
from shore.model.config import TunnelConfig
from shore.model.status import TunnelStatus
from shore.wire import api
from shore.wire.token import Token, parse_token

LONGEST_TOKEN = 8192
LEAVE_WITHIN = 5.0


def hide_token(words: list[str]) -> None:
    """Start this command anew without a join token in its arguments; returns if there is none."""
    for at, word in enumerate(words):
        written = word.removeprefix("--join=") if word.startswith("--join=") else None
        if word == "--join" and at + 1 < len(words):
            written = words[at + 1]
        if written is None or written == "-":
            continue
        given = os.memfd_create("token", 0)
        os.write(given, written.encode())
        os.lseek(given, 0, os.SEEK_SET)
        rest = words[at + 1 + (word == "--join") :]
        os.execv(
            sys.executable,
            [sys.executable, *_ourselves(), *words[:at], f"--join-file=/dev/fd/{given}", *rest],
        )


def read_token(join_from: str | None, file: str | None) -> Token:
    """The token from stdin or a file, or the end with one sentence."""
    try:
        if join_from == "-":
            text = sys.stdin.read(LONGEST_TOKEN)
        elif file is not None:
            text = Path(file).read_text(encoding="utf-8")[:LONGEST_TOKEN]
        else:
            text = join_from or ""
        return parse_token(text)
    except (OSError, UnicodeDecodeError) as error:
        fail(f"{file}: {(getattr(error, 'strerror', None) or 'not a text file').lower()}", FAILED)
    except ValueError as error:
        fail(str(error), USAGE)


class Wish(msgspec.Struct, frozen=True):
    """As what to join: the tunnel's name, the node's (None: the machine's), a proxy, and what to lead to."""

    interface: str
    name: str | None = None
    proxy: str | None = None
    advertised: tuple[str, ...] = ()


def join_network(token: Token, wish: Wish, within: float) -> None:
    """Become a member and bring up the tunnel; returns when it has its address and a link to the server."""
    # aiohttp takes a tenth of a second, which no other command has to wait for.
    from shore.io.joining import NotJoined, join  # noqa: PLC0415

    name = default_name() if wish.name is None else wish.name
    if not LABEL.match(name):
        fail(f"`{name}` is no name for a node: a to z, 0 to 9 and `-`, at most 63 of them", USAGE)
    _check_proxy(wish.proxy)
    deadline, interface = time.monotonic() + within, wish.interface
    try:
        Runtime(interface).make()
        asked = Network(
            interface, name, token.root, token.addresses, proxy=wish.proxy, advertised=wish.advertised
        )
        joined = asyncio.run(join(token, asked, within, _say))
    except (NotJoined, kept.Damaged) as error:
        fail(str(error), TIMED_OUT if "within" in str(error) else FAILED)
    except OSError as error:
        fail(f"{error.filename}: {(error.strerror or '').lower()}: run as root", FAILED)
    except KeyboardInterrupt:
        fail("interrupted: this machine did not join", FAILED)
    boot.make_users()
    told = _bring_up(joined)
    if (missing := boot.enable([boot.tunnel_unit(interface)])) is not None:
        click.echo(f"note: {missing}", err=True)
    _wait_for_server(interface, deadline, told)
    if wish.advertised:
        advertising.say(joined)


def resume(proxy: str | None = None, advertised: tuple[str, ...] | None = None) -> None:
    """Bring up the tunnel of the network that this machine joined, with or without its server.

    A `proxy` is kept in place of the former one; an empty one leaves it to the environment. So is what is
    `advertised`.
    """
    _check_proxy(proxy)
    joined = _joined()
    if joined is None:
        fail(
            "this machine has joined no network: `shore up --join TOKEN` joins one, `shore up --new` founds "
            "one, `shore up CONF` brings up a tunnel from a file",
            USAGE,
        )
    if proxy is not None:
        joined = _keep_proxy(joined, proxy or None)
    if advertised is not None:
        joined = advertising.advertise(joined, advertised)
        advertising.say(joined)
        if Runtime(joined.network.interface).is_held("brain"):
            return
    _bring_up(joined)


def tunnel_called(name: str, code: int) -> TunnelConfig | None:
    """The joined network's tunnel as the disk has it, if it is called so; `code` ends what cannot be used."""
    try:
        joined = kept.read()
        if joined is None or joined.network.interface != name:
            return None
        return joined.tunnel(time.time())
    except (kept.Damaged, NotTaken, OSError) as error:
        fail(f"the network of {name} cannot be gone on with: {error}", code)


def interface() -> str | None:
    """The name of the mesh's tunnel; None if this machine has joined nothing."""
    joined = _joined()
    return None if joined is None else joined.network.interface


@click.command()
def logout() -> None:
    """Leave the network: take the tunnel down, have the server forget this machine, remove its keys."""
    joined = _read_or_none()
    if joined is None and not kept.exists():
        fail("this machine has joined no network", FAILED)
    if joined is not None:
        from shore.io.joining import leave  # noqa: PLC0415 (as above)

        runtime = Runtime(joined.network.interface)
        give_brain(runtime)
        if runtime.is_held("brain") or runtime.is_held("keeper"):
            obtain(runtime.name, api.AskDown(), within=60)
        gone = asyncio.run(leave(joined, LEAVE_WITHIN))
        if not gone:
            click.echo(
                "note: the server was not reached and still lists this machine: `shore nodes revoke "
                f"{joined.network.name}` there",
                err=True,
            )
    if joined is not None:
        boot.disable([boot.tunnel_unit(joined.network.interface)])
    try:
        kept.forget()
    except OSError as error:
        fail(f"{error.filename}: {(error.strerror or '').lower()}: run as root", FAILED)
    click.echo("this machine left the network and forgot its keys")


@click.command()
@click.argument("peer", required=False)
def ip(peer: str | None) -> None:
    """Print the addresses of this node, or of PEER, one a line."""
    if peer is not None:
        status = one(peer, running(None))[1]
        addresses = status.addresses or status.allowed_ips
    else:
        joined = _joined()
        if joined is None:
            fail("this machine has joined no network: `shore up --join TOKEN`", NOT_RUNNING)
        try:
            addresses = tuple(text.partition("/")[0] for text in joined.tunnel(time.time()).addresses)
        except NotTaken as error:
            fail(f"the network's netmap cannot be used: {error}", FAILED)
    click.echo("\n".join(addresses))


@click.command()
@click.argument("name", required=False)
def peers(name: str | None) -> None:
    """List the peers of the tunnels by name, with their addresses and whether they answer."""
    tunnels = running(name)
    if not tunnels:
        fail("no tunnel is up", NOT_RUNNING)
    rows = [_peer_row(tunnel, at) for tunnel in tunnels for at in range(len(tunnel.peers))]
    widths = [max((len(row[column]) for row in rows), default=0) for column in range(4)]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    if not rows:
        click.echo("there are no peers yet")


def default_name() -> str:
    """The machine's own name as a label, else `node`."""
    label = os.uname().nodename.partition(".")[0].lower()
    allowed = "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in label)
    return allowed.strip("-")[:63].strip("-") or "node"


def _check_proxy(url: str | None) -> None:
    try:
        if url:
            parse_proxy(url)
    except ValueError as error:
        fail(f"`{url}`: {error}", USAGE)


def _keep_proxy(joined: Identity, proxy: str | None) -> Identity:
    name = joined.network.interface
    if Runtime(name).is_held("brain"):
        fail(f"{name} is up: `shore down`, then `shore up --proxy URL`", FAILED)
    return keep(joined, proxy=proxy)


def _peer_row(tunnel: TunnelStatus, at: int) -> tuple[str, str, str, str]:
    peer = tunnel.peers[at]
    addresses = ", ".join(peer.addresses or peer.allowed_ips) or "(none)"
    return peer.name or peer.public_key, addresses, "connected" if peer.connected else "silent", tunnel.name


def _bring_up(joined: Identity) -> tuple[str, ...]:
    """Returns the notes that were told."""
    try:
        config = joined.tunnel(time.time())
    except NotTaken as error:
        fail(f"the netmap on disk cannot be used ({error}): `shore logout`, then join again", FAILED)
    try:
        _, notes = start(Runtime(config.name), api.Start(config))
    except NotStarted as error:
        fail(str(error), FAILED)
    for note in notes:
        click.echo(f"note: {note}", err=True)
    addresses = " and ".join(text.partition("/")[0] for text in config.addresses)
    click.echo(f"{config.name} is up as {joined.network.name}: {addresses}")
    return notes


def _wait_for_server(name: str, deadline: float, told: tuple[str, ...]) -> None:
    """Until there is a link; what is known of the surroundings by then is told, once."""
    while time.monotonic() < deadline:
        linked = [
            tunnel
            for tunnel in running(name)
            if any(link.kind == "server" and link.state == "up" for link in tunnel.links)
        ]
        if linked:
            for note in (note for note in linked[0].notes if note not in told):
                click.echo(f"note: {note}", err=True)
            return
        time.sleep(0.05)
    click.echo("note: there is no link to the server yet; `shore status` says when there is", err=True)


def _joined() -> Identity | None:
    try:
        return kept.read()
    except kept.Damaged as error:
        fail(str(error), FAILED)
    except PermissionError:
        fail("only root may read what this machine is in its network: run as root", FAILED)


def _read_or_none() -> Identity | None:
    try:
        return kept.read()
    except kept.Damaged:
        return None
    except PermissionError:
        fail("only root may log out: run as root", FAILED)


def _ourselves() -> list[str]:
    return ["-c", "from shore.cli.main import main; main(prog_name='shore')"]


def _say(said: str) -> None:
    click.echo(said, err=True)
