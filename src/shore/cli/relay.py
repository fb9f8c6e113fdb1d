"""`shore relay`: make this machine a further relay of a network, start and stop it, and say how it is.

A machine is a relay whether or not it is a node as well. Ports are opened before the token is spent, so the
usual reason for a failure has cost nothing.
"""

import asyncio
import os
import subprocess
import sys

import click
import msgspec

from shore.cli import mesh, programs
from shore.cli.asking import FAILED, NOT_RUNNING, TIMED_OUT, USAGE, fail, seconds
from shore.core.netmap import LABEL
from shore.io import programs as kept
from shore.io import runtime, state
from shore.io.doors import DoorShut
from shore.io.process import keepers_environment
from shore.io.programs import Founded, NotRun, Sockets
from shore.wire.token import Token, token_text

RELAY = "relay"
# Python starts, on a busy machine, before the time that was asked for begins.
STARTS_WITHIN_S = 30.0
PORT = click.IntRange(1, 65535)


class _Shown(msgspec.Struct):
    schema: int
    name: str
    state: str
    port: int
    stun_port: int


@click.group(invoke_without_command=True)
@click.pass_context
@click.option("--join", "join_from", metavar="TOKEN|-", help="Be a relay of this token's network.")
@click.option("--join-file", metavar="FILE", help="The same with the token in FILE.")
@click.option("--advertise", multiple=True, metavar="HOST[:PORT]", help="Where others reach this machine.")
@click.option("--port", type=PORT, default=443, show_default=True, help="The TCP port.")
@click.option("--stun-port", type=PORT, default=3478, show_default=True, help="The UDP port.")
@click.option("--name", help="What the relay shall be called; else as the machine is.")
@click.option("--timeout", default="30s", show_default=True, help="How long to try to join.")
def relay(
    context: click.Context,
    *,
    join_from: str | None,
    join_file: str | None,
    advertise: tuple[str, ...],
    port: int,
    stun_port: int,
    name: str | None,
    timeout: str,
) -> None:
    """Be a further relay of a network (docs/mesh.md): `shore invite --relay` prints the command."""
    asked = join_from is not None or join_file is not None
    if context.invoked_subcommand is not None and not asked:
        return
    if not asked or context.invoked_subcommand is not None or None not in (join_from, join_file):
        fail("it is `shore relay --join TOKEN`, or `shore relay start|stop|status`", USAGE)
    token = mesh.read_token(join_from, join_file)
    _become_relay(token, advertise, Founded(name or mesh.default_name(), port, stun_port), seconds(timeout))


@relay.command()
@click.option("--foreground", is_flag=True, help="Stay as its keeper, as its unit of systemd wants it.")
def start(*, foreground: bool) -> None:
    """Start the relay, if it does not run."""
    ports = _joined()
    if kept.is_kept(RELAY):
        if foreground:
            fail("the relay runs already: `shore relay stop`", FAILED)
        click.echo("the relay runs already")
        return
    try:
        sockets = kept.open_sockets(RELAY, ports)
        if foreground:
            kept.become_keeper(RELAY, sockets)
    except (DoorShut, NotRun) as error:
        fail(str(error), FAILED)
    _start(sockets)
    click.echo("started the relay")


@relay.command()
def stop() -> None:
    """Stop the relay; who is linked to it is told to move first."""
    _joined()
    if not kept.stop(RELAY):
        fail("the relay does not run", NOT_RUNNING)
    click.echo("stopped the relay")


@relay.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def status(*, as_json: bool) -> None:
    """Say whether the relay runs; exit code 3 if it does not."""
    ports = _joined()
    state_ = "running" if kept.is_kept(RELAY) else "stopped"
    if as_json:
        shown = _Shown(1, ports.name, state_, ports.port, ports.stun_port)
        click.echo(msgspec.json.encode(shown).decode())
    else:
        click.echo(f"relay {ports.name}: {state_}, TCP port {ports.port}, UDP port {ports.stun_port}")
    if state_ == "stopped":
        sys.exit(NOT_RUNNING)


def _become_relay(token: Token, advertise: tuple[str, ...], asked: Founded, within: float) -> None:
    _need_root()
    if not LABEL.match(asked.name):
        fail(f"`{asked.name}` is no name for a relay: a to z, 0 to 9 and `-`, at most 63 of them", USAGE)
    if programs.known() is not None:
        fail("this machine has founded a network, and is its relay already", FAILED)
    place = runtime.root() / RELAY
    if place.exists() and not runtime.is_programs(RELAY):
        fail("a tunnel is called `relay`, as the network's relay would be: give it another name", FAILED)
    if (state.root() / RELAY).exists():
        fail("this machine is a relay already: `shore relay start` starts it", FAILED)
    try:
        sockets = kept.open_sockets(RELAY, asked)
        standing = _join(token, advertise or _advertised(), asked, within)
    except (DoorShut, NotRun) as error:
        fail(str(error), TIMED_OUT if " within " in str(error) else FAILED)
    except OSError as error:
        fail(f"{error.filename}: {(error.strerror or '').lower()}", FAILED)
    except subprocess.TimeoutExpired:
        fail(f"joining took longer than {within:.0f} s", TIMED_OUT)
    except KeyboardInterrupt:
        fail("interrupted: this machine is no relay", FAILED)
    _start(sockets)
    click.echo(f"this machine is the relay `{asked.name}` of the network")
    if standing == "pending":
        click.echo("nodes use it after `shore nodes approve` on the server")


def _join(token: Token, advertise: tuple[str, ...], asked: Founded, within: float) -> str:
    """Have the relay's own code enrol it; its standing. Raises NotRun, OSError, TimeoutExpired."""
    words = ["join", "--state", str(state.root().absolute()), "--name", asked.name]
    words += [word for address in advertise for word in ("--advertise", address)]
    words += ["--port", str(asked.port), "--stun-port", str(asked.stun_port), "--within", str(within)]
    state.root().mkdir(mode=0o700, parents=True, exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-m", "shore.relay", *words],
        input=token_text(token),
        capture_output=True,
        text=True,
        check=False,
        timeout=within + STARTS_WITHIN_S,
        env=keepers_environment(),
    )
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["joining failed"])[-1]
        raise NotRun(last.removeprefix("shore: "))
    return done.stdout.strip()


def _advertised() -> tuple[str, ...]:
    # Netlink takes a tenth of a second.
    from shore.cli.founding import advertised  # noqa: PLC0415
    from shore.io.links import read_links  # noqa: PLC0415

    found = advertised(asyncio.run(read_links()))
    if not found:
        fail("this machine has no address that others could reach: name one with --advertise", FAILED)
    return found


def _start(sockets: Sockets) -> None:
    try:
        kept.wait(RELAY, kept.start(RELAY, sockets))
    except (NotRun, OSError) as error:
        kept.stop(RELAY)
        because = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) else str(error)
        fail(f"{because}: `shore relay start` tries again", FAILED)
    finally:
        sockets.close()


def _need_root() -> None:
    if os.geteuid() != 0:
        fail("only root may make this machine a relay, and start or stop it: run as root", FAILED)


def _joined() -> Founded:
    _need_root()
    if programs.known() is not None:
        fail("this machine's relay is that of the network founded here: `shore server start|stop`", FAILED)
    try:
        found = kept.further_relay()
    except NotRun as error:
        fail(str(error), FAILED)
    if found is None:
        fail("this machine is no relay: `shore relay --join TOKEN` makes it one", NOT_RUNNING)
    return found
