"""The two ends of a tunnel: Shore from a `wg0.conf`, or another implementation set up by `wg`."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

import msgspec

from shore import _native
from shore.lab.net import Host, LabFailed, Net
from shore.model.keys import key_text
from shore.model.status import Status, TunnelStatus

PORT = 51820
DEVICE = "wg0"
SHORE = "shore"
STOCK = ("wireguard-go", "wireguard", "boringtun-cli", "gotatun")


class Side(msgspec.Struct, frozen=True):
    """What one end is told: its key and inner address, and its peer; without `endpoint` it waits.

    `others` are further endpoints, and `own` is lines of Shore's own for the peer.
    """

    private_key: bytes
    address: str
    peer_key: bytes
    peer_address: str
    endpoint: str | None = None
    keepalive_s: int | None = None
    listen_port: int = PORT
    preshared_key: bytes | None = None
    others: tuple[str, ...] = ()
    own: str = ""


class End(Protocol):
    """One end of a tunnel in its host."""

    host: Host

    def up(self) -> None:
        """Bring it up; it may be called again after `kill`."""

    def down(self) -> None:
        """End its processes, whatever state they are in."""

    def kill(self) -> None:
        """SIGKILL what carries packets."""

    def freeze(self) -> None:
        """SIGSTOP what carries packets."""


Made = TypeVar("Made", bound=End)


def sides(
    endpoint: str | None, *, back: str | None = None, keepalive_s: int | None = None
) -> tuple[Side, Side]:
    """Fresh keys for a and b; a knows `endpoint`, b knows `back`."""
    mine, theirs = os.urandom(32), os.urandom(32)
    a = Side(mine, "10.8.0.1", _native.public_key(theirs), "10.8.0.2", endpoint, keepalive_s)
    b = Side(theirs, "10.8.0.2", _native.public_key(mine), "10.8.0.1", back)
    return a, b


def program(name: str) -> str:
    """Where a stock implementation is. Raises LabFailed with how to get it."""
    if name == "wireguard-go":
        found = shutil.which(name)
        if found is None:
            raise LabFailed("wireguard-go is missing: apt install wireguard-go")
        return found
    root = Path(os.environ.get("SHORE_PEERS", Path.home() / ".cache/shore/peers"))
    built = root / "bin" / name
    if not built.exists():
        raise LabFailed(f"{built} is missing: scripts/peers {name}")
    return str(built)


class StockEnd:
    """An implementation that makes a device and takes its configuration from `wg`."""

    def __init__(self, host: Host, side: Side, name: str) -> None:
        self.host = host
        self.side = side
        self.name = name
        self._uapi = Path("/var/run/wireguard") / f"{self.device}.sock"
        self._pid: int | None = None

    @property
    def device(self) -> str:
        # The UAPI directory is shared by all namespaces, so the name must be our own.
        _, process, number, name = self.host.namespace.split("-")
        return f"wg{process}{number}{name}"[:15]

    def up(self) -> None:
        self.host.ip(f"link delete {self.device}", check=False)
        self._uapi.unlink(missing_ok=True)
        self._start()
        self._configure()
        self.host.ip(f"address add {self.side.address}/24 dev {self.device}")
        self.host.ip(f"link set {self.device} mtu 1420 up")

    def down(self) -> None:
        if self._pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
            self._pid = None
        self._uapi.unlink(missing_ok=True)

    def kill(self) -> None:
        self.down()

    def freeze(self) -> None:
        if self._pid is not None:
            os.kill(self._pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT after `freeze`."""
        if self._pid is not None:
            os.kill(self._pid, signal.SIGCONT)

    def pids(self) -> list[int]:
        """Its processes."""
        return [] if self._pid is None else [self._pid]

    def latest_handshake(self) -> int:
        """Unix time of the latest handshake, 0 if never."""
        words = self.host.run("wg", "show", self.device, "latest-handshakes").split()
        return int(words[1]) if len(words) > 1 else 0

    def _start(self) -> None:
        # These two give up root for the user who logged in, and there may be none.
        flags = ["--disable-drop-privileges", "-f"] if self.name in ("boringtun-cli", "gotatun") else ["-f"]
        process = subprocess.Popen(
            self.host.inside(program(self.name), *flags, self.device),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._pid = process.pid
        _REAPED.append(process)
        for _ in range(100):
            if self._uapi.exists():
                return
            time.sleep(0.02)
        raise LabFailed(f"{self.name} did not make {self._uapi}")

    def _configure(self) -> None:
        side = self.side
        conf = f"[Interface]\nPrivateKey={key_text(side.private_key)}\nListenPort={side.listen_port}\n"
        conf += _peer_section(side)
        with tempfile.NamedTemporaryFile("w") as file:
            file.write(conf)
            file.flush()
            self.host.run("wg", "setconf", self.device, file.name)


class ShoreEnd:
    """Shore, from a file, by its own command."""

    def __init__(self, host: Host, side: Side, *, extra: str = "", name: str = DEVICE) -> None:
        self.host = host
        self.side = side
        self.name = name
        self._directory = Path(tempfile.mkdtemp(prefix=f"shore-lab-{os.getpid()}-"))
        self.conf = self._directory / f"{name}.conf"
        self.uapi = self._directory / "uapi"
        lines = f"[Interface]\nPrivateKey = {key_text(side.private_key)}\nAddress = {side.address}/24\n"
        lines += f"ListenPort = {side.listen_port}\n{extra}" + _peer_section(side)
        self.conf.write_text(lines + side.own)
        self.conf.chmod(0o600)

    def up(self) -> None:
        self.shore("up", str(self.conf))

    def down(self) -> None:
        if self._directory.exists():
            self.shore("down", self.name, check=False)
            self.shore("cleanup", check=False)
            shutil.rmtree(self._directory, ignore_errors=True)

    def kill(self) -> None:
        os.kill(self.plane_pid(), signal.SIGKILL)

    def freeze(self) -> None:
        os.kill(self.plane_pid(), signal.SIGSTOP)

    def shore(self, *words: str, check: bool = True) -> str:
        """The `shore` command on this end."""
        with self.start(*words) as process:
            output, errors = process.communicate()
        done = subprocess.CompletedProcess(words, process.returncode, output, errors)
        if check and done.returncode != 0:
            raise LabFailed(f"`shore {' '.join(words)}` exited with {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def start(self, *words: str, under: Sequence[str] = ()) -> "subprocess.Popen[str]":
        """The `shore` command on this end, not waited for; `under` is a command that runs commands."""
        return self.begin(*under, sys.executable, "-c", "from shore.cli.main import main; main()", *words)

    def begin(self, *command: str) -> "subprocess.Popen[str]":
        """Any command on this end that looks for Shore's files where they are."""
        own = {"SHORE_RUNTIME_DIR": "run", "SHORE_STATE_DIR": "state", "SHORE_UAPI_DIR": "uapi"}
        environment = {**os.environ, **{name: str(self._directory / path) for name, path in own.items()}}
        return subprocess.Popen(
            self.host.inside(*command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def status(self) -> TunnelStatus:
        """Its one tunnel."""
        return msgspec.json.decode(self.shore("status", "--json"), type=Status).tunnels[0]

    def plane_pid(self) -> int:
        """The data plane's process."""
        return self.status().dataplane_pid or 0

    def brain_pid(self) -> int:
        """The brain's process."""
        return self.status().brain_pid

    def keeper_pid(self) -> int:
        """The keeper's process."""
        stat = Path(f"/proc/{self.brain_pid()}/stat").read_text()
        return int(stat.rpartition(")")[2].split()[1])

    def pids(self) -> list[int]:
        """Its processes."""
        return [self.plane_pid(), self.brain_pid(), self.keeper_pid()]

    def latest_handshake(self) -> int:
        """Unix time of the latest handshake, 0 if never."""
        age = self.status().peers[0].last_handshake_age_s
        return 0 if age is None else round(time.time() - age)

    def log(self) -> str:
        """What was announced."""
        return self.shore("log", self.name, check=False)


def end_of(make: str, host: Host, side: Side, extra: str = "") -> ShoreEnd | StockEnd:
    """What `make` names, in a host; `extra` are lines of Shore's own for its interface."""
    return ShoreEnd(host, side, extra=extra) if make == SHORE else StockEnd(host, side, make)


@contextlib.contextmanager
def tunnel(
    net: Net,
    make: Callable[[Host, Side], Made],
    peer: str,
    *,
    keepalive_s: int | None = None,
    waits: bool = False,
) -> Iterator[tuple[Made, StockEnd]]:
    """What `make` makes at a, with b's endpoint, and a stock peer at b that waits to be greeted; both up.

    With `waits` it is the other way round.
    """
    forward, back = f"{net.address_of_b}:{PORT}", f"{net.address_of_a}:{PORT}"
    ours, theirs = sides(None if waits else forward, back=back if waits else None, keepalive_s=keepalive_s)
    end, stock = make(net.a, ours), StockEnd(net.b, theirs, peer)
    try:
        stock.up()
        end.up()
        yield end, stock
    finally:
        end.down()
        stock.down()


# Kept, so that nobody complains about processes that are killed by their id.
_REAPED: list[subprocess.Popen[bytes]] = []


def _peer_section(side: Side) -> str:
    lines = f"[Peer]\nPublicKey = {key_text(side.peer_key)}\nAllowedIPs = {side.peer_address}\n"
    if side.preshared_key is not None:
        lines += f"PresharedKey = {key_text(side.preshared_key)}\n"
    if side.endpoint:
        lines += f"Endpoint = {side.endpoint}\n"
    lines += "".join(f"Endpoint = {other}\n" for other in side.others)
    if side.keepalive_s is not None:
        lines += f"PersistentKeepalive = {side.keepalive_s}\n"
    return lines
