"""A node of a mesh in a host, by its own commands; the one that founded the network is its hub."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec

from shore.io.process import Process, is_alive
from shore.lab.net import Host, LabFailed
from shore.model.status import Status, TunnelStatus


class Member:
    """One node; `down` leaves nothing of it, the server and the relay of a hub included."""

    def __init__(self, host: Host, name: str) -> None:
        self.host = host
        self.name = name
        # Paths of unix sockets are short, and users without rights go through here.
        self.directory = Path(tempfile.mkdtemp(prefix=f"shore-{os.getpid()}-", dir="/tmp"))
        self.directory.chmod(0o711)

    def shore(self, *words: str, check: bool = True, stdin: str | None = None) -> str:
        """The `shore` command on this node. Raises LabFailed."""
        done = self.run(*words, stdin=stdin)
        if check and done.returncode != 0:
            raise LabFailed(f"`shore {words[0]}` exited with {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def run(self, *words: str, stdin: str | None = None) -> "subprocess.CompletedProcess[str]":
        """The same with its exit code and all that it said."""
        return self._python("from shore.cli.main import main; main()", *words, stdin=stdin)

    def places(self) -> dict[str, str]:
        """Where its processes keep their files, as they are told."""
        own = {"SHORE_RUNTIME_DIR": "run", "SHORE_STATE_DIR": "state", "SHORE_UAPI_DIR": "uapi"}
        return {name: str(self.directory / place) for name, place in own.items()}

    def found(self) -> str:
        """Found a network here; the token that it prints."""
        return self.shore("up", "--new", "--name", self.name).split()[-1]

    def join(self, token: str) -> None:
        """Join the network of the token."""
        self.shore("up", "--join", "-", "--name", self.name, stdin=token)

    def address(self) -> str:
        """Its IPv4 address in the network."""
        return self.shore("ip").split()[0]

    def status(self) -> TunnelStatus:
        """Its tunnel."""
        return msgspec.json.decode(self.shore("status", "--json"), type=Status).tunnels[0]

    def log(self) -> str:
        """What was announced."""
        return self.shore("log", self.status().name, check=False)

    def program(self, name: str) -> Process | None:
        """The process of a hub's `server` or `relay`; None while it has none."""
        try:
            content = (self.directory / "run" / name / "program").read_bytes()
        except FileNotFoundError:
            return None
        process = msgspec.json.decode(content, type=Process)
        return process if is_alive(process) else None

    def signal_program(self, name: str, number: signal.Signals) -> None:
        """Send a signal to the process of a hub's `server` or `relay`. Raises LabFailed if it has none."""
        process = self.program(name)
        if process is None:
            raise LabFailed(f"no {name} runs on {self.name}")
        os.kill(process.pid, number)

    def stop_program(self, name: str) -> None:
        """Stop a hub's `server` or `relay` alone, keeper and all. Raises LabFailed."""
        done = self._python("import sys; from shore.io.programs import stop; stop(sys.argv[1])", name)
        if done.returncode != 0:
            raise LabFailed(f"the {name} was not stopped: {done.stderr.strip()}")

    def down(self) -> None:
        """Take down all that runs here."""
        try:
            self.shore("down", "--all", check=False)
            for program in ("server", "relay"):
                if (self.directory / "run" / program).exists():
                    self.shore(program, "stop", check=False)
            self.shore("cleanup", check=False)
        finally:
            # Also where a test's time is up while this is under way.
            shutil.rmtree(self.directory, ignore_errors=True)

    def _python(
        self, script: str, *words: str, stdin: str | None = None
    ) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            self.host.inside(sys.executable, "-c", script, *words),
            capture_output=True,
            text=True,
            input=stdin,
            check=False,
            env={**os.environ, **self.places()},
        )
