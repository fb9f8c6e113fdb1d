"""What comes back at boot where systemd runs: the node of the network that was joined, its server, its relay.

Units are enabled and not started: what a command started by hand stays as it is until the machine boots. A
unit that is there already, a distribution's or one that somebody wrote, is taken as it is. Directories other
than the usual ones belong to nodes that are somebody else's to start: nothing is enabled for those.
"""

import os
import pwd
import subprocess
from collections.abc import Iterable
from pathlib import Path

from shore.cli.unit import unit_text
from shore.io.programs import NAMES
from shore.io.user import OF_PLANES, OF_PROGRAMS

RUNS = Path("/run/systemd/system")
OWN = Path("/etc/systemd/system")
PACKAGED = (Path("/usr/lib/systemd/system"), Path("/lib/systemd/system"))
PROGRAMS = tuple(f"shore-{name}" for name in NAMES)
ANSWERS_WITHIN = 20.0
USERS = {OF_PROGRAMS: "Shore", OF_PLANES: "Shore data planes"}


def is_ours() -> bool:
    """Whether systemd starts what this machine runs."""
    elsewhere = any(os.environ.get(name) for name in ("SHORE_STATE_DIR", "SHORE_RUNTIME_DIR"))
    return RUNS.is_dir() and not elsewhere and os.geteuid() == 0


def tunnel_unit(interface: str) -> str:
    """The unit of a tunnel."""
    return f"shore@{interface}"


def enable(units: Iterable[str]) -> str | None:
    """Have them started at boot; what went wrong as one sentence, None also where there is nothing to do."""
    if not is_ours():
        return None
    names = tuple(units)
    try:
        for name in names:
            _install(name)
    except OSError as error:
        return _sentence(names, f"{error.filename}: {(error.strerror or '').lower()}")
    because = _run("systemctl", "daemon-reload") or _run("systemctl", "enable", "--quiet", *names)
    return None if because is None else _sentence(names, because)


def disable(units: Iterable[str]) -> None:
    """Have them not started at boot any more; one that never was is no fault."""
    if is_ours():
        _run("systemctl", "disable", "--quiet", *units)


def make_users() -> None:
    """The users of server and relay and of data planes, where they are missing; without, nobody is."""
    for name, words in USERS.items():
        try:
            pwd.getpwnam(name)
        except KeyError:
            if is_ours():
                _run("systemd-sysusers", "--inline", f'u {name} - "{words}" -')


def _install(name: str) -> None:
    program = name.removeprefix("shore-") if name in PROGRAMS else None
    file = f"{name.partition('@')[0]}@.service" if program is None else f"{name}.service"
    if not any((place / file).exists() for place in (OWN, *PACKAGED)):
        (OWN / file).write_text(unit_text(program), encoding="utf-8")


def _run(*words: str) -> str | None:
    """None if it worked, else the last that it said."""
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=ANSWERS_WITHIN)
    except FileNotFoundError:
        return f"{words[0]} is missing"
    except subprocess.TimeoutExpired:
        return f"{words[0]} did not answer within {ANSWERS_WITHIN:.0f} s"
    said = (done.stderr.strip().splitlines() or [f"{words[0]} failed"])[-1]
    return None if done.returncode == 0 else said


def _sentence(names: tuple[str, ...], because: str) -> str:
    return f"{' and '.join(names)} will not come back at boot: {because}"
