"""Where a tunnel keeps its files while it runs.

RUNTIME/                 0711  SHORE_RUNTIME_DIR, else /run/shore
RUNTIME/NAME.status      0660  status socket, group `shore`
RUNTIME/NAME/            0700
    brain.sock                 the local API
    dataplane.sock             the data plane listens here
    running.json         0600  the configuration in force; its presence means "somebody must see to it"
    brain.lock  keeper.lock    held while the process lives
    log.jsonl                  what was announced
    errors                     stderr of keeper and brain
"""

import fcntl
import grp
import os
import socket
from pathlib import Path
from typing import Literal

import msgspec

from shore.io.process import Process, is_alive
from shore.model.config import TunnelConfig

Phase = Literal["starting", "up", "leaving"]


class Running(msgspec.Struct, frozen=True):
    """The configuration in force, the port it was given where it asked for any, and its data plane.

    A tunnel that is not `up` when its brain dies is taken down by the next one.
    """

    config: TunnelConfig
    listen_port: int = 0
    confirm_by: float | None = None
    plane: Process | None = None
    phase: Phase = "up"


class Runtime:
    """The files of one tunnel."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.directory = root() / name
        self.brain_socket = self.directory / "brain.sock"
        self.status_socket = root() / f"{name}.status"
        self.log = self.directory / "log.jsonl"
        self.errors = self.directory / "errors"
        self.host_journal = self.directory / "host.json"
        self._running = self.directory / "running.json"

    def make(self) -> None:
        """Make the directories with their rights. Raises OSError."""
        make_root()
        self.directory.mkdir(mode=0o700, exist_ok=True)
        self.directory.chmod(0o700)

    def remove(self) -> None:
        """Remove every file of the tunnel."""
        self.status_socket.unlink(missing_ok=True)
        if self.directory.is_dir():
            for file in self.directory.iterdir():
                file.unlink(missing_ok=True)
            self.directory.rmdir()

    def read_running(self) -> Running | None:
        """The mirrored configuration; None if nothing of the tunnel is there."""
        try:
            return msgspec.json.decode(self._running.read_bytes(), type=Running)
        except (FileNotFoundError, NotADirectoryError):
            return None

    @property
    def is_left(self) -> bool:
        """Whether the tunnel shall run and has neither brain nor keeper, as after `systemctl stop`."""
        return os.path.exists(self._running) and not (self.is_held("brain") or self.is_held("keeper"))

    @property
    def has_plane(self) -> bool:
        """Whether the data plane of the last brain runs, with or without one."""
        running = self.read_running()
        return running is not None and running.plane is not None and is_alive(running.plane)

    def write_running(self, running: Running) -> None:
        """Mirror the configuration, whole or not at all."""
        new = self._running.with_suffix(".new")
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(msgspec.json.encode(running))
        new.replace(self._running)

    def hold(self, what: str) -> int | None:
        """Take the lock `brain` or `keeper` for as long as the descriptor lives; None if it is held."""
        descriptor = os.open(self.directory / f"{what}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        return descriptor

    def is_held(self, what: str) -> bool:
        """Whether the brain or the keeper lives."""
        try:
            descriptor = self.hold(what)
        except (FileNotFoundError, PermissionError):
            return False
        if descriptor is None:
            return True
        os.close(descriptor)
        return False


def root() -> Path:
    """The directory of all tunnels."""
    return Path(os.environ.get("SHORE_RUNTIME_DIR", "/run/shore"))


def make_root() -> None:
    """Make it with its rights. Raises OSError."""
    if not root().exists():
        root().mkdir(parents=True, exist_ok=True)
        root().chmod(0o711)


def is_programs(name: str) -> bool:
    """Whether the files of that name are a program's (`io.programs`) and no tunnel's, if we may look."""
    return os.path.exists(root() / name / "program.lock")


def tunnels() -> list[str]:
    """Names of the tunnels that have files here. Raises PermissionError where others may not look."""
    try:
        names = sorted(entry.name for entry in root().iterdir() if entry.is_dir())
        return [name for name in names if not is_programs(name)]
    except FileNotFoundError:
        return []


def bind_private(path: Path) -> socket.socket:
    """A unix socket bound to a path, for the owner alone from its first instant."""
    path.unlink(missing_ok=True)
    old = os.umask(0o177)
    try:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(path))
    finally:
        os.umask(old)
    return listener


def give_to_group(path: Path) -> None:
    """Let the group `shore` use a socket, where there is one."""
    try:
        os.chown(path, -1, grp.getgrnam("shore").gr_gid)
    except (KeyError, PermissionError):
        path.chmod(0o600)
        return
    path.chmod(0o660)
