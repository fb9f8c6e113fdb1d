"""`shore up --new`: found a network here, start its server and relay, and be its first node.

Whatever fails, and whenever: nothing is left of it. Ports are opened before anything is made, so the usual
reason has nothing to undo.
"""

import asyncio
import ipaddress
import os
import subprocess
import sys
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address

import click
import msgspec

from shore.cli import boot, mesh, programs
from shore.cli.asking import FAILED, USAGE, fail
from shore.cli.server import obtain
from shore.cli.start import take_down
from shore.core.netmap import LABEL
from shore.io import identity as kept
from shore.io import programs as kept_programs
from shore.io import runtime, state
from shore.io.doors import DoorShut
from shore.io.links import read_links, read_taken
from shore.io.process import keepers_environment
from shore.io.programs import NAMES, Founded, NotRun, Sockets
from shore.io.runtime import Runtime
from shore.model.links import Link
from shore.wire import server
from shore.wire.token import parse_token

FOUNDED_WITHIN = 60.0
# Its own first node comes at once.
FIRST_TOKEN_S = 120.0


class Plan(msgspec.Struct, frozen=True):
    """What `up --new` was told; without `advertise` it is every address that others may reach."""

    network: str
    advertise: tuple[str, ...]
    ports: Founded
    name: str | None
    interface: str
    within: float
    routes: tuple[str, ...] = ()


def found_network(plan: Plan) -> None:
    """All of it, or nothing and one sentence."""
    name = mesh.default_name() if plan.name is None else plan.name
    if not LABEL.match(name):
        fail(f"`{name}` is no name for a node: a to z, 0 to 9 and `-`, at most 63 of them", USAGE)
    _refuse_second()
    advertise = plan.advertise or advertised(asyncio.run(read_links()))
    if not advertise:
        fail("this machine has no address that others could reach: name one with --advertise", FAILED)
    boot.make_user()
    sockets: dict[str, Sockets] = {}
    try:
        for program in reversed(NAMES):
            sockets[program] = kept_programs.open_sockets(program, plan.ports)
        _found(plan, advertise)
        started = [(program, kept_programs.start(program, sockets[program])) for program in NAMES]
        for program, answers in started:
            kept_programs.wait(program, answers)
        for opened in sockets.values():
            opened.close()
        own = parse_token(_invite(FIRST_TOKEN_S))
        here = msgspec.structs.replace(own, addresses=(f"127.0.0.1:{plan.ports.port}",))
        mesh.join_network(here, mesh.Wish(plan.interface, name, advertised=plan.routes), plan.within)
        token = _invite(3600.0)
    except BaseException as error:
        _undo(plan.interface, sockets.values())
        _say_why(error)
        raise
    if (missing := boot.enable(boot.PROGRAMS)) is not None:
        click.echo(f"note: {missing}", err=True)
    click.echo(f"the network `{plan.network}` is founded at {', '.join(_addresses())}; others join with")
    click.echo(f"shore up --join {token}")


def advertised(links: Iterable[Link]) -> tuple[str, ...]:
    """Of each family the public addresses, or the private ones where there are no others."""
    found = [
        ipaddress.ip_address(text) for link in links if link.up for text in link.addresses if text is not None
    ]
    chosen: list[IPv4Address | IPv6Address] = []
    for version in (4, 6):
        ours = [ip for ip in found if ip.version == version and not (ip.is_link_local or ip.is_loopback)]
        chosen += [ip for ip in ours if ip.is_global] or ours
    return tuple(str(ip) for ip in chosen)


def _refuse_second() -> None:
    programs.need_root()
    if programs.known() is not None:
        fail("this machine has founded a network already: `shore up` resumes it", FAILED)
    if kept.exists():
        fail("this machine is in a network already: `shore up` resumes it, `shore logout` leaves it", FAILED)
    for name in NAMES:
        place = runtime.root() / name
        if place.exists() and not runtime.is_programs(name):
            fail(f"a tunnel is called `{name}`, as the network's {name} would be: give it another", FAILED)


def _found(plan: Plan, advertise: tuple[str, ...]) -> None:
    words = ["found", "--state", str(state.root().absolute()), "--name", plan.network]
    words += [word for address in advertise for word in ("--advertise", address)]
    words += [word for prefix in asyncio.run(read_taken()) for word in ("--avoid", prefix)]
    words += ["--port", str(plan.ports.port), "--stun-port", str(plan.ports.stun_port)]
    state.root().mkdir(mode=0o700, parents=True, exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-m", "shore.coordination", *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=FOUNDED_WITHIN,
        env=keepers_environment(),
    )
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["founding failed"])[-1]
        raise NotRun(last.removeprefix("shore: "))


def _invite(lifetime_s: float) -> str:
    asked = server.Invite(lifetime_s=lifetime_s)
    return obtain("POST", "/tokens", server.Invited, asked).token


def _addresses() -> tuple[str, ...]:
    return obtain("GET", "/status", server.ServerStatus).addresses


def _undo(interface: str, opened: Iterable[Sockets]) -> None:
    if Runtime(interface).read_running() is not None:
        take_down(Runtime(interface))
    for sockets in opened:
        sockets.close()
    for name in NAMES:
        kept_programs.stop(name)
        kept_programs.remove(name)
    boot.disable([boot.tunnel_unit(interface)])
    kept.forget()
    for empty in (state.root(), runtime.root()):
        if empty.is_dir() and not os.listdir(empty):
            empty.rmdir()


def _say_why(error: BaseException) -> None:
    match error:
        case DoorShut() | NotRun():
            fail(str(error), FAILED)
        case subprocess.TimeoutExpired():
            fail(f"founding took longer than {FOUNDED_WITHIN:.0f} s", FAILED)
        case OSError():
            fail(f"{error.filename}: {(error.strerror or '').lower()}", FAILED)
        case KeyboardInterrupt():
            fail("interrupted: what was begun is undone", FAILED)
