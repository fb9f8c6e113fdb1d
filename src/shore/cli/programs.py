"""`shore server start|stop`: the coordination server and the relay of the machine that founded a network."""

import os

import click

from shore.cli.asking import FAILED, NOT_RUNNING, fail
from shore.io import programs
from shore.io.doors import DoorShut
from shore.io.programs import NAMES, Founded, NotRun


@click.command()
@click.option(
    "--foreground",
    "one",
    type=click.Choice(NAMES),
    help="Stay as the keeper of this one alone, as its unit of systemd wants it.",
)
def start(one: str | None) -> None:
    """Start server and relay, if they do not run."""
    ports = need_founded()
    if one is not None:
        if programs.is_kept(one):
            fail(f"the {one} runs already: `shore server stop`", FAILED)
        try:
            programs.become_keeper(one, programs.open_sockets(one, ports))
        except (DoorShut, NotRun) as error:
            fail(str(error), FAILED)
    started = start_programs(ports)
    click.echo(f"started {' and '.join(started)}" if started else "server and relay run already")


@click.command()
def stop() -> None:
    """Stop server and relay; nodes that know each other go on."""
    need_founded()
    stopped = stop_programs()
    if not stopped:
        fail("neither server nor relay runs", NOT_RUNNING)
    click.echo(f"stopped {' and '.join(stopped)}")


def known() -> Founded | None:
    """What this machine founded, or the end with one sentence."""
    try:
        return programs.founded()
    except NotRun as error:
        fail(str(error), FAILED)
    except PermissionError:
        return None


def is_further_relay() -> bool:
    """Whether this machine joined a network as a relay, as far as we may see."""
    try:
        return programs.further_relay() is not None
    except (NotRun, PermissionError):
        return False


def need_root() -> None:
    """The end with one sentence for anybody else."""
    if os.geteuid() != 0:
        fail("only root may found a network, and start or stop its server: run as root", FAILED)


def start_programs(ports: Founded) -> list[str]:
    """Start what does not run; what was started, or the end with one sentence."""
    started = []
    try:
        for name in NAMES:
            if not programs.is_kept(name):
                sockets = programs.open_sockets(name, ports)
                started.append((name, programs.start(name, sockets)))
                sockets.close()
        for name, answers in started:
            programs.wait(name, answers)
    except (DoorShut, NotRun, OSError) as error:
        for name, _ in started:
            programs.stop(name)
        because = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) else str(error)
        fail(because, FAILED)
    return [name for name, _ in started]


def stop_programs() -> list[str]:
    """Stop what runs, the relay first, so that nobody is sent to a server that goes; what was stopped."""
    return [name for name in reversed(NAMES) if programs.stop(name)]


def running_programs() -> list[str]:
    """What runs now."""
    return [name for name in NAMES if programs.is_kept(name)]


def need_founded() -> Founded:
    """What root founded here, or the end with one sentence."""
    need_root()
    ports = known()
    if ports is None:
        fail("no network was founded on this machine: `shore up --new` founds one", NOT_RUNNING)
    return ports
