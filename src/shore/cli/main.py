"""The `shore` command.

Exit codes: 0 done, 1 it failed, 2 wrong usage, 3 the tunnel is not running, 5 the peer is unreachable, 7 the
policy does not let it in, 124 it took too long; under systemd 78 in place of 1 where another try would fail
the same way.
"""

import json
import os
import signal
import sys
import time
from typing import NoReturn

import click
import msgspec

from shore import __version__, _native
from shore.cli import advertising, mesh, peers, programs
from shore.cli import cleanup as clean
from shore.cli import show as text
from shore.cli.asking import FAILED, NOT_RUNNING, USAGE, fail, obtain, running, seconds
from shore.cli.consent import accept
from shore.cli.database import db
from shore.cli.netcheck import netcheck
from shore.cli.ping import ping
from shore.cli.policy import policy
from shore.cli.relay import relay
from shore.cli.routes import routes as node_routes
from shore.cli.server import invite, nodes, server, tokens
from shore.cli.start import NotStarted, become_brain, give_brain, start, take_down
from shore.cli.unit import unit_text
from shore.io import systemd
from shore.io.conffile import Unreadable, find, read
from shore.io.programs import NAMES, Founded
from shore.io.runtime import Runtime
from shore.model.config import TunnelConfig
from shore.model.keys import key_text, parse_key
from shore.model.status import Status
from shore.wire import api
from shore.wire.wgconf import ConfigError

REFUSED = 78
PORT = click.IntRange(1, 65535)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="shore")
def main() -> None:
    """Self-healing WireGuard tunnels: from ordinary wg0.conf files, or as a mesh."""
    mesh.hide_token(sys.argv[1:])


@main.command()
@click.argument("conf", required=False)
@click.option(
    "--join", "join_from", metavar="TOKEN|-", help="Join the network of this token (-: from stdin)."
)
@click.option("--join-file", metavar="FILE", help="Join the network of the token in FILE.")
@click.option("--new", is_flag=True, help="Found a network here, and be its server, relay and first node.")
@click.option("--network", default="shore", show_default=True, help="With --new: the network's name.")
@click.option(
    "--advertise",
    multiple=True,
    metavar="HOST[:PORT]",
    help="With --new: where others reach this machine; else at its addresses.",
)
@click.option("--port", type=PORT, default=443, show_default=True, help="With --new: the TCP port.")
@click.option("--stun-port", type=PORT, default=3478, show_default=True, help="With --new: the UDP port.")
@click.option("--name", help="With --new, --join: what this node shall be called; else as the machine is.")
@click.option("--interface", default="shore0", show_default=True, help="With either: the tunnel's name.")
@click.option(
    advertising.OPTION,
    "routes",
    metavar="PREFIX,...",
    help="In a network: what this machine would lead others to.",
)
@click.option("--proxy", metavar="URL", help="With --join or alone: reach server and relays through it.")
@click.option("--timeout", default="30s", show_default=True, help="With either: how long to try to join.")
@click.option("--foreground", is_flag=True, help="Stay until the tunnel goes down; SIGINT takes it down.")
@click.option(
    "--confirm", metavar="TIME", help="Undo everything after TIME (60s, 5m) unless `shore confirm`."
)
def up(
    *,
    conf: str | None,
    join_from: str | None,
    join_file: str | None,
    new: bool,
    network: str,
    advertise: tuple[str, ...],
    port: int,
    stun_port: int,
    name: str | None,
    interface: str,
    routes: str | None,
    proxy: str | None,
    timeout: str,
    foreground: bool,
    confirm: str | None,
) -> None:
    """Bring up a tunnel from CONF, a file, or a name looked for in /etc/shore and /etc/wireguard.

    Without CONF: found a network (--new), join one (--join), or resume the one that this machine is in.
    Returns when the device is configured and the processes run, whether or not a peer answers yet.
    """
    advertised = advertising.parse_routes(routes)
    if new:
        if conf is not None or join_from is not None or join_file is not None:
            fail("it is `shore up --new`, without CONF and without a token", USAGE)
        from shore.cli import founding  # noqa: PLC0415  (netlink takes a tenth of a second)

        ports = Founded(network, port, stun_port)
        founding.found_network(
            founding.Plan(network, advertise, ports, name, interface, seconds(timeout), advertised or ())
        )
        return
    if join_from is not None or join_file is not None:
        if conf is not None or (join_from is not None and join_file is not None):
            fail("it is `shore up --join TOKEN` or `shore up --join-file FILE`, without CONF", USAGE)
        token = mesh.read_token(join_from, join_file)
        wish = mesh.Wish(interface, name, proxy or None, advertised or ())
        mesh.join_network(token, wish, seconds(timeout))
        return
    if conf is None:
        if (founded := programs.known()) is not None:
            programs.start_programs(founded)
        mesh.resume(proxy, advertised)
        return
    if advertised is not None:
        fail(f"{advertising.OPTION} is of a network: a file says with AllowedIPs who leads where", USAGE)
    confirm_s = None if confirm is None else seconds(confirm)
    if foreground and systemd.is_asked_for():
        _go_on_as_brain(conf, confirm_s)
    config = _read(conf)
    runtime = Runtime(config.name)
    try:
        keeper, notes = start(runtime, api.Start(config, confirm_s))
    except NotStarted as error:
        fail(str(error), FAILED)
    for note in notes:
        click.echo(f"note: {note}", err=True)
    click.echo(f"{config.name} is up: `shore status {config.name}` says whether its peers answer")
    if foreground:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: take_down(runtime))
        keeper.wait()


@main.command()
@click.argument("name", metavar="NAME|CONF", required=False)
@click.option("--all", "whole", is_flag=True, help="Stop the network's server and relay here as well.")
def down(name: str | None, whole: bool) -> None:
    """Take a tunnel down and leave nothing behind; without NAME that of the network we joined."""
    tunnel = mesh.interface() if name is None else _name(name)
    if tunnel is None:
        fail("this machine has joined no network: name the tunnel, as in `shore down wg0`", USAGE)
    runtime = Runtime(tunnel)
    give_brain(runtime)
    if runtime.is_held("brain") or not (whole and programs.running_programs()):
        obtain(tunnel, api.AskDown(), within=60)
        click.echo(f"{tunnel} is down")
    if whole:
        click.echo("\n".join(f"the {stopped} is stopped" for stopped in programs.stop_programs()))
    elif tunnel == mesh.interface() and (going := programs.running_programs()):
        click.echo(f"{' and '.join(going)} of the network go on here: `shore server stop` ends them")


@main.command()
@click.argument("conf")
def reload(conf: str) -> None:
    """Read CONF again; peers that did not change keep their sessions."""
    config = _read(conf)
    obtain(config.name, api.AskReload(config), within=30)
    click.echo(f"{config.name} is reloaded")


@main.command()
@click.argument("conf")
def check(conf: str) -> None:
    """Say whether CONF is right, without touching anything."""
    config = _read(conf)
    prefixes = sum(len(peer.allowed_ips) for peer in config.peers)
    click.echo(f"{config.source}: right ({len(config.peers)} peers, {prefixes} prefixes)")


@main.command()
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print the contract of docs/cli.md, schema 1.")
@click.option("--watch", is_flag=True, help="Again each second, until interrupted.")
def status(name: str | None, as_json: bool, watch: bool) -> None:
    """Say how the tunnels are."""
    while True:
        tunnels = running(name)
        if watch and not as_json:
            click.clear()
        if as_json:
            click.echo(msgspec.json.format(msgspec.json.encode(Status(tuple(tunnels))), indent=2).decode())
        elif not tunnels:
            click.echo("no tunnel is up")
        else:
            click.echo("\n".join(line for tunnel in tunnels for line in text.tunnel_lines(tunnel)))
        if not watch:
            return
        time.sleep(1)


@main.command()
@click.argument("name", required=False)
def show(name: str | None) -> None:
    """Print the tunnels as `wg show` does."""
    click.echo("\n\n".join("\n".join(text.wg_lines(tunnel)) for tunnel in running(name)))


@main.command()
@click.argument("name")
@click.option("-f", "--follow", is_flag=True, help="Go on as lines come.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def log(name: str, follow: bool, as_json: bool) -> None:
    """Print what the tunnel announced, and why."""
    runtime = Runtime(name)
    try:
        lines = runtime.log.open(encoding="utf-8")
    except PermissionError:
        fail(f"no right to read the log of {name}: run as root", FAILED)
    except OSError:
        fail(f"{name} is not running", NOT_RUNNING)
    with lines as file:
        while True:
            line = file.readline()
            if line:
                click.echo(line.rstrip() if as_json else _log_line(json.loads(line)))
            elif follow and runtime.log.exists():
                time.sleep(0.2)
            else:
                return


@main.command()
@click.argument("name")
def confirm(name: str) -> None:
    """Keep a tunnel that was brought up with --confirm."""
    obtain(name, api.AskConfirm())
    click.echo(f"{name} stays up")


@main.command()
def cleanup() -> None:
    """Remove what is left of tunnels whose processes are gone."""
    try:
        removed = clean.cleanup()
    except PermissionError:
        fail("only root may clean up: run as root", FAILED)
    click.echo("\n".join(removed) or "nothing is left over")


@main.command()
@click.argument("program", type=click.Choice(NAMES), required=False)
def unit(program: str | None) -> None:
    """Print shore@.service, the unit that runs tunnels under systemd, or that of a network's server or relay.

    \b
    shore unit > /etc/systemd/system/shore@.service && systemctl daemon-reload
    shore unit relay > /etc/systemd/system/shore-relay.service
    """
    click.echo(unit_text(program, further=program == "relay" and programs.is_further_relay()), nl=False)


@main.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("words", nargs=-1, type=click.UNPROCESSED)
def lab(words: tuple[str, ...]) -> None:
    """Build networks of bad links and NATs in namespaces, and see what tunnels make of them.

    WORDS are `run FILE`, `check FILE`, `faults`, `shell HOST` or `report [DIRECTORY]`; each has a --help.
    """
    os.execv(sys.executable, [sys.executable, "-m", "shore.lab", *words])


@main.command()
def genkey() -> None:
    """Print a new private key."""
    key = bytearray(os.urandom(32))
    key[0] &= 248
    key[31] = key[31] & 127 | 64
    click.echo(key_text(bytes(key)))


@main.command()
def genpsk() -> None:
    """Print a new preshared key."""
    click.echo(key_text(os.urandom(32)))


@main.command()
def pubkey() -> None:
    """Read a private key from stdin, print its public key."""
    try:
        key = parse_key(sys.stdin.read().strip())
    except ValueError as error:
        fail(f"stdin: {error}", USAGE)
    click.echo(key_text(_native.public_key(key)))


def _read(conf: str, *, code: int = FAILED) -> TunnelConfig:
    try:
        config, warnings = read(find(conf))
    except (Unreadable, ConfigError) as error:
        fail(str(error), code)
    for warning in warnings:
        click.echo(f"warning: {warning}", err=True)
    return config


def _go_on_as_brain(conf: str, confirm_s: float | None) -> NoReturn:
    """Become the brain that systemd waits for: of what is in force, else of the network, else of CONF."""
    runtime = Runtime(_name(conf))
    try:
        if runtime.is_left:
            become_brain(runtime, None)
        config = mesh.tunnel_called(conf, REFUSED) or _read(conf, code=REFUSED)
        become_brain(runtime, api.Start(config, confirm_s))
    except NotStarted as error:
        fail(str(error), REFUSED)


def _name(name_or_conf: str) -> str:
    return os.path.basename(name_or_conf).removesuffix(".conf")


def _log_line(entry: dict[str, object]) -> str:
    peer = f" ({entry['peer']})" if entry.get("peer") else ""
    return f"{text.stamp(float(str(entry['at'])))} {entry['what']}{peer}: {entry['why']}"


for command in (
    accept,
    mesh.ip,
    mesh.logout,
    mesh.peers,
    peers.rekey,
    peers.paths,
    peers.why,
    peers.history,
    peers.amend,
    netcheck,
    ping,
    policy,
    invite,
    tokens,
    nodes,
    server,
    relay,
):
    main.add_command(command)
for command in (programs.start, programs.stop, db):
    server.add_command(command)
nodes.add_command(node_routes)
