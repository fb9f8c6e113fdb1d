"""The two programs of the machine that founded a network, its coordination server and its first relay; and
the one of a machine that joined as a further relay.

Each runs as a user without rights, on sockets that root opened, and is restarted by a keeper of its own
(`shore.node.program`). They outlive the command that started them, and the node of this machine.

RUNTIME/server/  RUNTIME/relay/   0711  root's
    program.lock                  held while the keeper lives
    wanted                        its presence means that the program shall run
    program                       which process it is
    errors                        stderr of both
RUNTIME/server/control.sock       0600  the relay splices nodes to it
RUNTIME/server/api.sock           0600  for people and scripts of this machine
"""

import contextlib
import fcntl
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NoReturn

import msgspec

from shore.io import runtime, state
from shore.io.doors import open_doors
from shore.io.process import Process, environment, is_alive, keepers_environment, kill
from shore.io.user import program_user

BACKLOG = 512
# A relay says `goaway` and goes on for a while.
GONE_WITHIN = 20.0
NAMES = ("server", "relay")
# What they import only when it is needed, which is after they gave up the right to read it.
IMPORTED_EARLY = {
    "server": (
        "shore.coordination",
        "encodings.idna",
        "aiosqlite",
        "sqlalchemy.dialects.sqlite.aiosqlite",
        "uvicorn.lifespan.off",
        "uvicorn.loops.auto",
        "uvicorn.protocols.http.h11_impl",
        "uvicorn.protocols.websockets.websockets_sansio_impl",
    ),
    "relay": ("shore.relay", "encodings.idna", "websockets.asyncio.client"),
}


class NotRun(Exception):
    """A program does not run. One sentence."""


class Founded(msgspec.Struct, frozen=True):
    """What STATE/server/network.json says that concerns us: the network's name, and the ports."""

    name: str
    port: int = 443
    stun_port: int = 3478


class _FurtherRelay(msgspec.Struct, frozen=True):
    """What relay.json says that concerns us."""

    id: str
    server_socket: str | None = None
    port: int = 443
    stun_port: int = 3478


class Sockets(msgspec.Struct, frozen=True):
    """What a program is given, by the option that names it."""

    doors: tuple[tuple[str, socket.socket], ...]

    def words(self) -> Iterator[str]:
        """Options with the numbers of descriptors."""
        for option, door in self.doors:
            yield from (option, str(door.fileno()))

    def close(self) -> None:
        """Ours; the program and its keeper have their own."""
        for _, door in self.doors:
            door.close()


def founded() -> Founded | None:
    """What was founded on this machine, if anything. Raises NotRun, PermissionError."""
    path = state.root() / "server" / "network.json"
    try:
        return msgspec.json.decode(path.read_bytes(), type=Founded)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise NotRun(f"{path} is damaged") from None


def further_relay() -> Founded | None:
    """The relay that this machine joined a network as, if it did. Raises NotRun, PermissionError."""
    path = state.root() / "relay" / "relay.json"
    try:
        found = msgspec.json.decode(path.read_bytes(), type=_FurtherRelay)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise NotRun(f"{path} is damaged") from None
    # The first one is the server's neighbour.
    return Founded(found.id, found.port, found.stun_port) if found.server_socket is None else None


def is_kept(name: str) -> bool:
    """Whether a keeper sees to the program."""
    try:
        descriptor = os.open(_place(name) / "program.lock", os.O_RDWR | os.O_CLOEXEC)
    except (FileNotFoundError, PermissionError):
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def open_sockets(name: str, ports: Founded) -> Sockets:
    """All that the program listens on; a former one that nobody keeps is ended. Raises DoorShut, OSError."""
    _end_orphan(name)
    if name == "relay":
        streams, datagrams = open_doors(ports.port, ports.stun_port)
        named = [("--tls-fd", door) for door in streams] + [("--udp-fd", door) for door in datagrams]
        return Sockets(tuple(named))
    _make(name)
    unix = {"--control-fd": "control.sock", "--api-fd": "api.sock"}
    return Sockets(tuple((option, _listen(_place(name) / file)) for option, file in unix.items()))


def start(name: str, sockets: Sockets) -> IO[bytes]:
    """Start the program and its keeper; what is returned is for `wait`. Raises OSError."""
    _make(name)
    (_place(name) / "wanted").touch(mode=0o600)
    reader, writer = os.pipe()
    with (_place(name) / "errors").open("wb") as errors:
        subprocess.Popen(
            _words(name, sockets),
            env=keepers_environment(SHORE_ANSWER_FD=str(writer)),
            pass_fds=(writer, *(door.fileno() for _, door in sockets.doors)),
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            start_new_session=True,
        )
    os.close(writer)
    return os.fdopen(reader, "rb")


def wait(name: str, answers: IO[bytes]) -> None:
    """Return when the program serves. Raises NotRun."""
    with answers:
        if not answers.readline():
            raise NotRun(f"the {name} did not start{_last_words(name)}")


def become_keeper(name: str, sockets: Sockets) -> NoReturn:
    """Go on as the program's keeper, in this very process. Raises OSError."""
    _make(name)
    (_place(name) / "wanted").touch(mode=0o600)
    for _, door in sockets.doors:
        door.set_inheritable(True)
    words = _words(name, sockets)
    os.chdir("/")
    # The keeper is what the unit waits for, and tells it more than that it was executed.
    os.execve(words[0], words, environment())


def stop(name: str) -> bool:
    """End the program and its keeper. Returns whether it ran. Raises OSError."""
    wanted = _place(name) / "wanted"
    ran = is_kept(name)
    wanted.unlink(missing_ok=True)
    _end_orphan(name)
    deadline = time.monotonic() + GONE_WITHIN
    while is_kept(name) and time.monotonic() < deadline:
        time.sleep(0.02)
    shutil.rmtree(_place(name), ignore_errors=True)
    return ran


def remove(name: str) -> None:
    """Forget it and what was founded of it; it must be stopped."""
    shutil.rmtree(state.root() / name, ignore_errors=True)


def _end_orphan(name: str) -> None:
    """End the process that runs, which has a keeper only if `wanted` was taken away a moment ago."""
    try:
        process = msgspec.json.decode((_place(name) / "program").read_bytes(), type=Process)
    except (OSError, msgspec.DecodeError):
        return
    deadline = time.monotonic() + GONE_WITHIN
    if is_alive(process):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGTERM)
    while is_alive(process) and time.monotonic() < deadline:
        time.sleep(0.02)
    kill(process)


def _imported_early(name: str) -> tuple[str, ...]:
    # The server itself says what is missing.
    elsewhere = name == "server" and (state.root() / "server" / "database").exists()
    if elsewhere and importlib.util.find_spec("asyncpg") is not None:
        return (*IMPORTED_EARLY[name], "asyncpg", "sqlalchemy.dialects.postgresql.asyncpg")
    return IMPORTED_EARLY[name]


def _words(name: str, sockets: Sockets) -> list[str]:
    where = {
        "server": ("--state", str(state.root().absolute())),
        "relay": ("--config", str(state.root().absolute() / "relay" / "relay.json")),
    }
    return [
        *(sys.executable, "-S", "-m", "shore.node.program", str(_place(name).absolute())),
        *(program_user(), ",".join(_imported_early(name)), "serve", *where[name], *sockets.words()),
    ]


def _listen(path: Path) -> socket.socket:
    listener = runtime.bind_private(path)
    os.chown(path, *map(int, program_user().split(":")))
    listener.listen(BACKLOG)
    return listener


def _make(name: str) -> None:
    place = _place(name)
    runtime.make_root()
    place.mkdir(mode=0o711, exist_ok=True)
    place.chmod(0o711)


def _last_words(name: str) -> str:
    try:
        lines = (_place(name) / "errors").read_text(errors="replace").splitlines()
    except OSError:
        return ""
    said = [line.strip(" |+-") for line in lines if line.strip(" |+-")]
    return f": {said[-1]}" if said else ""


def _place(name: str) -> Path:
    return runtime.root() / name
