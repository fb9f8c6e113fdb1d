"""Start a tunnel's processes and wait for what the first brain says.

By hand a keeper is started, and it starts the brain. Under systemd the unit is the keeper: this process turns
into the brain. A tunnel that shall run and has no brain (the unit was stopped, or restarts it) is gone on
with, and its file is not read; `reload` does that.
"""

import contextlib
import os
import subprocess
import sys
import time
from typing import NoReturn

import msgspec

from shore.io.api import NotRunning, ask
from shore.io.process import environment, keepers_environment, start_keeper
from shore.io.runtime import Runtime, is_programs
from shore.io.tun import has_device
from shore.wire import api

GONE_WITHIN = 3.0
KEPT_WITHIN = 5.0
# What a traceback of several exceptions draws around itself.
FRAME = " |+-"


class NotStarted(Exception):
    """Why the tunnel is not up; nothing was left behind."""


def start(runtime: Runtime, request: api.Start) -> tuple[subprocess.Popen[bytes], tuple[str, ...]]:
    """Start keeper and brain; return when the tunnel is configured, with the keeper and its notes.

    The configuration goes through a pipe: no secret is in argv or the environment. Raises NotStarted.
    """
    _make(runtime)
    _refuse_second(runtime)
    start_reader, start_writer = os.pipe()
    answer_reader, answer_writer = os.pipe()
    around = keepers_environment(SHORE_START_FD=str(start_reader), SHORE_ANSWER_FD=str(answer_writer))
    with runtime.errors.open("ab") as errors:
        keeper = start_keeper(runtime.name, around, (start_reader, answer_writer), errors)
    os.close(start_reader)
    os.close(answer_writer)
    with os.fdopen(start_writer, "wb") as given:
        given.write(msgspec.json.encode(request))
    try:
        with os.fdopen(answer_reader, "rb") as answers:
            for line in answers:
                match api.start_reply(line):
                    case api.NotStarted(reason):
                        raise NotStarted(reason)
                    case api.Started(notes):
                        return keeper, notes
    except KeyboardInterrupt:
        # The brain sees that nobody waits any more.
        _wait_gone(runtime)
        raise NotStarted("interrupted: what was begun is undone") from None
    died = f"the brain died while it started{_last_words(runtime)}"
    # What still runs is another tunnel of this name, which was begun at the same instant.
    raise NotStarted(died if _wait_gone(runtime) else _up_already(runtime))


def become_brain(runtime: Runtime, request: api.Start | None) -> NoReturn:
    """Go on as the brain, in this very process; None goes on with what is in force. Raises NotStarted."""
    _make(runtime)
    around = environment()
    if request is not None:
        _refuse_second(runtime)
        given = os.memfd_create("start", 0)
        with os.fdopen(os.dup(given), "wb") as file:
            file.write(msgspec.json.encode(request))
        os.lseek(given, 0, os.SEEK_SET)
        around["SHORE_START_FD"] = str(given)
    os.chdir("/")
    words = [sys.executable, "-S", "-m", "shore.node", runtime.name]
    os.execve(sys.executable, words, around)


def go_on(name_or_conf: str) -> None:
    """Become the brain of a tunnel that shall run and has none; returns for any other. Raises NotStarted."""
    runtime = Runtime(tunnel_name(name_or_conf))
    if runtime.is_left:
        become_brain(runtime, None)


def tunnel_name(name_or_conf: str) -> str:
    """The tunnel of a file, or of that name."""
    return os.path.basename(name_or_conf).removesuffix(".conf")


def give_brain(runtime: Runtime) -> None:
    """Give a tunnel that was left without one a keeper and a brain; nothing happens to any other."""
    if not runtime.is_left:
        return
    with runtime.errors.open("ab") as errors:
        start_keeper(runtime.name, keepers_environment(), (), errors)
    deadline = time.monotonic() + KEPT_WITHIN
    while runtime.is_left and time.monotonic() < deadline:
        time.sleep(0.02)


def take_down(runtime: Runtime) -> None:
    """Take down a tunnel that we stayed for; nothing happens if it is down."""
    with contextlib.suppress(NotRunning, TimeoutError):
        ask(runtime, api.AskDown(), within=60)


def _make(runtime: Runtime) -> None:
    if is_programs(runtime.name):
        raise NotStarted(f"the network's {runtime.name} has this name: give the tunnel another")
    try:
        runtime.make()
    except OSError as error:
        raise NotStarted(f"{error.filename}: {(error.strerror or '').lower()}: run as root") from None


def _refuse_second(runtime: Runtime) -> None:
    name = runtime.name
    if _is_running(runtime):
        raise NotStarted(_up_already(runtime))
    if runtime.has_plane:
        raise NotStarted(
            f"{name} is up without a brain: `systemctl start shore@{name}`, or `shore down {name}` first"
        )


def _is_running(runtime: Runtime) -> bool:
    """Whether it runs; one that is on its way down (its device is deleted) is waited for."""
    deadline = time.monotonic() + GONE_WITHIN
    while runtime.is_held("brain") or runtime.is_held("keeper"):
        running = runtime.read_running()
        leaving = running is None or running.phase == "leaving" or not has_device(runtime.name)
        if not leaving or time.monotonic() > deadline:
            return True
        time.sleep(0.02)
    runtime.make()
    return False


def _wait_gone(runtime: Runtime) -> bool:
    deadline = time.monotonic() + GONE_WITHIN
    while runtime.is_held("brain") or runtime.is_held("keeper"):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def _up_already(runtime: Runtime) -> str:
    return f"{runtime.name} is up already: `shore reload {runtime.name}` or `shore down` first"


def _last_words(runtime: Runtime) -> str:
    try:
        lines = runtime.errors.read_text(errors="replace").splitlines()
    except OSError:
        return ""
    said = [line.strip(FRAME) for line in lines if line.strip(FRAME)]
    return f": {said[-1]}" if said else ""
