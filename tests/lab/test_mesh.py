"""Two nodes of a mesh: from a token to a ping, without the server, after a restart, and out again."""

import errno
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from shore.lab.net import Host, LabFailed, NatNet, Net, until
from shore.model.keys import parse_key
from shore.model.status import LinkStatus, Status, TunnelStatus

pytestmark = [pytest.mark.lab]
SERVER_PORT = 4443


class MeshEnd:
    """A node in a host, by its own command."""

    def __init__(self, host: Host, directory: Path, name: str) -> None:
        self.host = host
        self.name = name
        self.directory = directory / name
        self.directory.mkdir()

    def shore(self, *words: str, check: bool = True, stdin: str | None = None) -> str:
        done = subprocess.run(
            self.host.inside(sys.executable, "-c", "from shore.cli.main import main; main()", *words),
            capture_output=True,
            text=True,
            input=stdin,
            check=False,
            env=self.environment(),
        )
        if check and done.returncode != 0:
            raise LabFailed(f"`shore {' '.join(words)}` exited with {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def environment(self) -> dict[str, str]:
        places = {"SHORE_RUNTIME_DIR": "run", "SHORE_STATE_DIR": "state", "SHORE_UAPI_DIR": "uapi"}
        return {**os.environ, **{name: str(self.directory / path) for name, path in places.items()}}

    def join(self, token: str) -> None:
        self.shore("up", "--join", "-", "--name", self.name, "--timeout", "20s", stdin=token)

    def status(self) -> TunnelStatus:
        return msgspec.json.decode(self.shore("status", "--json"), type=Status).tunnels[0]

    def server(self) -> LinkStatus:
        return next(link for link in self.status().links if link.kind == "server")

    def address(self) -> str:
        return self.shore("ip").split()[0]

    def down(self) -> None:
        self.shore("down", check=False)
        self.shore("cleanup", check=False)


class Mesh:
    """Hosts a and b, and a server in b."""

    def __init__(self, net: Net, directory: Path) -> None:
        self.net = net
        self._directory = directory
        for host in net.hosts:
            host.resolve_by("192.0.2.53")
        self.hub = MeshEnd(net.b, directory, "hub")
        self.laptop = MeshEnd(net.a, directory, "laptop")
        self.token = self.start_server()

    def start_server(self) -> str:
        words = ("-m", "tests.io.control_server", str(self._directory), "192.0.2.2", str(SERVER_PORT))
        self._server = subprocess.Popen(
            self.net.b.inside(sys.executable, *words),
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        assert self._server.stdout is not None
        return self._server.stdout.readline().strip()

    def stop_server(self) -> None:
        self._server.kill()
        self._server.wait()

    def end(self) -> None:
        self.hub.down()
        self.laptop.down()
        self.stop_server()


@pytest.fixture(params=[Net])
def mesh(request: pytest.FixtureRequest) -> Iterator[Mesh]:
    # Paths of unix sockets are short.
    directory = Path("/tmp") / f"shore-mesh-{os.getpid()}"
    directory.mkdir()
    with request.param() as net:
        made = Mesh(net, directory)
        try:
            yield made
        finally:
            made.end()
            shutil.rmtree(directory)


@pytest.mark.parametrize("mesh", [Net, NatNet], indirect=True, ids=["same wire", "behind a NAT"])
def test_a_token_is_enough_to_reach_a_peer_and_the_server_is_not_needed_for_it(mesh: Mesh) -> None:
    for end in (mesh.hub, mesh.laptop):
        end.join(mesh.token)
        assert end.server().state == "up"
    assert f"server 192.0.2.2:{SERVER_PORT}: up for" in mesh.laptop.shore("status")
    hub = mesh.laptop.shore("ip", "hub").strip()
    assert hub == mesh.hub.address() == "100.64.0.1"
    until(lambda: mesh.net.a.reaches(hub, pings=1, within_s=1), within_s=10)
    peer = mesh.laptop.status().peers[0]
    assert (peer.name, peer.addresses) == ("hub", (hub,))
    assert "hub" in mesh.laptop.shore("peers")
    for name in ("hub.shore.internal", "hub"):
        until(lambda name=name: mesh.net.a.reaches(name), within_s=5)
    resolvers = mesh.net.a.run("cat", "/etc/resolv.conf")
    assert "nameserver 100.64.0.2\nnameserver 192.0.2.53\n" in resolvers

    mesh.stop_server()
    until(lambda: mesh.laptop.server().state == "down", within_s=5)
    assert mesh.net.a.reaches(hub, pings=5, within_s=5)
    mesh.laptop.shore("down")
    assert mesh.net.a.run("cat", "/etc/resolv.conf") == "nameserver 192.0.2.53\n"
    assert "shore0" not in mesh.net.a.ip("link show")
    mesh.laptop.shore("up")
    until(lambda: mesh.net.a.reaches(hub, pings=1, within_s=1), within_s=10)


def test_a_brain_that_dies_holds_the_link_again_and_no_packet_is_lost(mesh: Mesh) -> None:
    for end in (mesh.hub, mesh.laptop):
        end.join(mesh.token)
    hub = mesh.hub.address()
    until(lambda: mesh.net.a.reaches(hub, pings=1, within_s=1), within_s=10)
    brain = mesh.laptop.status().brain_pid
    os.kill(brain, signal.SIGKILL)
    assert mesh.net.a.reaches(hub, pings=10, within_s=4)
    until(lambda: mesh.laptop.status().brain_pid != brain, within_s=5)
    until(lambda: mesh.laptop.server().state == "up", within_s=10)


def test_names_need_no_server_and_are_there_again_with_the_next_brain(mesh: Mesh) -> None:
    for end in (mesh.hub, mesh.laptop):
        end.join(mesh.token)
    hub = mesh.hub.address()
    until(lambda: _resolved(mesh, "hub") == hub, within_s=5)
    mesh.stop_server()
    assert "hub.shore.internal" in mesh.net.a.run("getent", "hosts", hub)
    assert _resolved(mesh, "nobody.shore.internal") == ""
    os.kill(mesh.laptop.status().brain_pid, signal.SIGKILL)
    until(lambda: _resolved(mesh, "hub.shore.internal") == hub, within_s=5)
    mesh.laptop.shore("down")
    assert _resolved(mesh, "hub.shore.internal") == ""
    mesh.laptop.shore("up")
    until(lambda: _resolved(mesh, "hub.shore.internal") == hub, within_s=5)


def test_peers_of_a_network_are_not_for_wg_set_nor_for_people_to_name(mesh: Mesh) -> None:
    for end in (mesh.hub, mesh.laptop):
        end.join(mesh.token)
    with pytest.raises(LabFailed, match="names are the network's"):
        mesh.laptop.shore("set", "shore0", "hub", "name=other")
    mesh.laptop.shore("set", "shore0", "hub", "redundancy=always")
    key = parse_key(mesh.laptop.status().peers[0].public_key).hex()
    with socket.socket(socket.AF_UNIX) as uapi:
        uapi.connect(str(mesh.laptop.directory / "uapi/shore0.sock"))
        uapi.sendall(f"set=1\npublic_key={key}\nremove=true\n\n".encode())
        assert uapi.recv(100) == f"errno={errno.EPERM}\n\n".encode()
    assert [(peer.name, peer.redundancy) for peer in mesh.laptop.status().peers] == [("hub", "always")]


@pytest.mark.slow
def test_a_prefix_beyond_a_peers_addresses_needs_consent(mesh: Mesh) -> None:
    for end in (mesh.hub, mesh.laptop):
        end.join(mesh.token)
    own = (f"{mesh.hub.address()}/32",)
    until(lambda: _allowed(mesh) == own, within_s=5)
    mesh.laptop.shore("accept", "10.9.0.0/16")
    until(lambda: _allowed(mesh) == (*own, "10.9.7.0/24"), within_s=5)
    os.kill(mesh.laptop.status().brain_pid, signal.SIGKILL)
    until(lambda: mesh.laptop.server().state == "up", within_s=10)
    assert _allowed(mesh) == (*own, "10.9.7.0/24")
    mesh.laptop.shore("accept", "--withdraw", "10.9.0.0/16")
    until(lambda: _allowed(mesh) == own, within_s=5)


def test_logout_forgets_the_keys_and_a_second_join_is_another_machine(mesh: Mesh) -> None:
    mesh.laptop.join(mesh.token)
    with pytest.raises(LabFailed, match="in a network already"):
        mesh.laptop.join(mesh.token)
    assert mesh.laptop.shore("logout").strip() == "this machine left the network and forgot its keys"
    assert not (mesh.laptop.directory / "state" / "node").exists()
    assert "shore0" not in mesh.net.a.ip("link show")
    with pytest.raises(LabFailed, match="has joined no network"):
        mesh.laptop.shore("up")


def test_a_token_is_in_no_process_list(mesh: Mesh) -> None:
    mesh.stop_server()
    words = ("-c", "from shore.cli.main import main; main()", "up", "--join", mesh.token, "--timeout", "4s")
    with subprocess.Popen(
        mesh.net.a.inside(sys.executable, *words),
        env=mesh.laptop.environment(),
        stderr=subprocess.PIPE,
        text=True,
    ) as joining:
        until(lambda: "--join-file" in _everything_running(mesh.net.a), within_s=5)
        assert mesh.token not in _everything_running(mesh.net.a)
        assert joining.wait() == 124
        assert joining.stderr is not None
        assert "no server of this network" in joining.stderr.read()
    assert not (mesh.laptop.directory / "state" / "node").exists()


def _allowed(mesh: Mesh) -> tuple[str, ...]:
    return next((peer.allowed_ips for peer in mesh.laptop.status().peers), ())


def _resolved(mesh: Mesh, name: str) -> str:
    """The address that a program at a finds; nothing where it finds none."""
    return mesh.net.a.run("getent", "ahostsv4", name, check=False).partition(" ")[0]


def _everything_running(host: Host) -> str:
    pids = host.ip(f"netns pids {host.namespace}").split()
    return "\n".join(_words(pid) for pid in pids)


def _words(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace").replace("\0", " ")
    except OSError:
        return ""
