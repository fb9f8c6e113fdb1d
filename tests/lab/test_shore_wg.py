"""`shore-wg` in the place of wireguard-go: `wg`, wg-quick, other namespaces, and the way down."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from shore.lab.ends import PORT, ShoreEnd, StockEnd, sides
from shore.lab.net import Host, Net, run, until
from shore.model.keys import key_text

pytestmark = [pytest.mark.lab]
UAPI = Path("/var/run/wireguard")


@pytest.fixture
def net() -> Iterator[Net]:
    with Net() as made:
        yield made


@pytest.fixture
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A name of our own, for the directory of UAPI sockets is everybody's; and `shore-wg` on the PATH."""
    monkeypatch.setenv("SHORE_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("SHORE_STATE_DIR", str(tmp_path / "state"))
    command = tmp_path / "shore-wg"
    command.write_text(f"#!{sys.executable}\nfrom shore.cli.shore_wg import main\nmain()\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    name = f"sh{os.getpid()}"
    yield name
    (UAPI / f"{name}.sock").unlink(missing_ok=True)


def test_it_is_ready_when_it_returns_and_takes_everything_from_wg(net: Net, device: str) -> None:
    ours, theirs = sides("192.0.2.2:51820")
    peer = StockEnd(net.b, theirs, "wireguard-go")
    peer.up()
    try:
        net.a.run("shore-wg", device)
        net.a.run("wg", "set", device, "private-key", "/dev/stdin", stdin=key_text(ours.private_key))
        them = key_text(ours.peer_key)
        net.a.run(
            "wg", "set", device, "peer", them, "allowed-ips", "10.8.0.2/32", "endpoint", "192.0.2.2:51820"
        )
        net.a.ip(f"address add 10.8.0.1/24 dev {device}")
        net.a.ip(f"link set {device} mtu 1400 up")
        assert net.a.reaches("10.8.0.2", pings=2)
        shown = net.a.run("wg", "show", device)
        assert "endpoint: 192.0.2.2:51820" in shown
        assert "latest handshake: " in shown
        assert "transfer: " in shown
    finally:
        net.a.ip(f"link delete {device}")
        peer.down()
    until(lambda: not (UAPI / f"{device}.sock").exists(), 5)


def test_a_deleted_socket_means_down(net: Net, device: str) -> None:
    net.a.run("shore-wg", device)
    (UAPI / f"{device}.sock").unlink()
    until(lambda: device not in net.a.ip("link show"), 5)


def test_the_device_may_move_while_its_sockets_stay_where_it_was_born(net: Net, device: str) -> None:
    inner = Host("inner")
    inner.make()
    ours, theirs = sides("192.0.2.2:51820")
    peer = StockEnd(net.b, theirs, "wireguard-go")
    peer.up()
    try:
        net.a.run("shore-wg", device)
        net.a.ip(f"link set {device} netns {inner.namespace}")
        them = key_text(ours.peer_key)
        net.a.run("wg", "set", device, "private-key", "/dev/stdin", stdin=key_text(ours.private_key))
        net.a.run(
            "wg", "set", device, "peer", them, "allowed-ips", "10.8.0.2/32", "endpoint", "192.0.2.2:51820"
        )
        inner.ip(f"address add 10.8.0.1/24 dev {device}")
        inner.ip(f"link set {device} up")
        time.sleep(1.5)
        assert inner.reaches("10.8.0.2", pings=2)
        inner.ip(f"link delete {device}")
        until(lambda: not (UAPI / f"{device}.sock").exists(), 5)
    finally:
        inner.remove()
        peer.down()


def test_wg_quick_runs_on_it_unchanged(net: Net, device: str, tmp_path: Path) -> None:
    ours, theirs = sides("192.0.2.2:51820")
    peer = StockEnd(net.b, theirs, "wireguard-go")
    peer.up()
    conf = tmp_path / f"{device}.conf"
    conf.write_text(
        f"[Interface]\nPrivateKey = {key_text(ours.private_key)}\nAddress = 10.8.0.1/24\n"
        f"[Peer]\nPublicKey = {key_text(ours.peer_key)}\nAllowedIPs = 10.8.0.2/32\n"
        "Endpoint = 192.0.2.2:51820\n"
    )
    conf.chmod(0o600)
    quick = ["env", "WG_QUICK_USERSPACE_IMPLEMENTATION=shore-wg", "wg-quick"]
    try:
        for _ in range(2):
            net.a.run(*quick, "up", str(conf))
            assert net.a.reaches("10.8.0.2", pings=2)
            net.a.run(*quick, "down", str(conf))
    finally:
        net.a.ip(f"link delete {device}", check=False)
        peer.down()


def test_what_kill_9_left_of_it_is_cleaned_up_and_it_starts_anew(net: Net, device: str) -> None:
    cleanup = (sys.executable, "-c", "from shore.cli.main import main; main()", "cleanup")
    net.a.run("shore-wg", device)
    net.a.ip(f"link set {device} up")
    # The keeper first, so that nobody is replaced meanwhile.
    for pid in sorted(map(int, run("ip", "netns", "pids", net.a.namespace).split())):
        os.kill(pid, signal.SIGKILL)
    assert device in net.a.ip("link show"), "the device stays, so nothing leaves in the clear"
    until(lambda: net.a.run(*cleanup).strip() == f"{device}: removed", 5)
    assert device not in net.a.ip("link show")
    net.a.run("shore-wg", device)
    assert f"interface: {device}" in net.a.run("wg", "show", device)
    net.a.ip(f"link delete {device}")
    until(lambda: not (UAPI / f"{device}.sock").exists(), 5)


def test_setconf_replaces_and_addconf_adds(net: Net, device: str, tmp_path: Path) -> None:
    ours, theirs = sides("192.0.2.2:51820")
    peer = StockEnd(net.b, theirs, "wireguard-go")
    peer.up()
    other, key = key_text(os.urandom(32)), key_text(ours.private_key)
    whole, more = tmp_path / "whole.conf", tmp_path / "more.conf"
    whole.write_text(
        f"[Interface]\nPrivateKey = {key}\nFwMark = 0x7\n[Peer]\nPublicKey = {key_text(ours.peer_key)}\n"
        f"AllowedIPs = 10.8.0.2/32\nEndpoint = {ours.endpoint}\n"
    )
    more.write_text(f"[Peer]\nPublicKey = {other}\nAllowedIPs = 10.77.0.0/24\nPersistentKeepalive = 9\n")
    try:
        net.a.run("shore-wg", device)
        net.a.run("wg", "setconf", device, str(more))
        net.a.run("wg", "setconf", device, str(whole))
        net.a.ip(f"address add 10.8.0.1/24 dev {device}")
        net.a.ip(f"link set {device} up")
        assert net.a.reaches("10.8.0.2", pings=2)
        assert net.a.run("wg", "show", device, "peers").split() == [key_text(ours.peer_key)]
        net.a.run("wg", "addconf", device, str(more))
        shown = net.a.run("wg", "showconf", device)
        for part in (key, "FwMark = 0x7", key_text(ours.peer_key), other, "PersistentKeepalive = 9"):
            assert part in shown
        assert net.a.reaches("10.8.0.2", pings=2)
    finally:
        net.a.ip(f"link delete {device}", check=False)
        peer.down()
    until(lambda: not (UAPI / f"{device}.sock").exists(), 5)


def test_wg_set_and_syncconf_work_on_a_tunnel_from_a_file_and_outlive_the_brain(
    net: Net, tmp_path: Path
) -> None:
    ours, theirs = sides("192.0.2.2:51820")
    peer = StockEnd(net.b, theirs, "wireguard-go")
    peer.up()
    end = ShoreEnd(net.a, ours)
    # `wg` knows one directory only: give it ours in a mount namespace of its own.
    at_ours = f'mkdir -p {UAPI} && mount --bind {end.uapi} {UAPI} && exec "$@"'
    wg = ["unshare", "-m", "bash", "-c", at_ours, "wg", "wg"]
    try:
        end.up()
        assert net.a.reaches("10.8.0.2", pings=2)
        more = key_text(os.urandom(32))
        net.a.run(*wg, "set", "wg0", "peer", more, "allowed-ips", "10.77.0.0/24")
        assert "10.77.0.0/24" in net.a.ip("route show dev wg0")
        brain = end.brain_pid()
        os.kill(brain, 9)
        until(lambda: end.shore("status", "wg0", check=False) != "" and end.brain_pid() != brain, 10)
        assert more in net.a.run(*wg, "show", "wg0", "peers")
        stripped = tmp_path / "stripped.conf"
        stripped.write_text(
            f"[Interface]\nPrivateKey = {key_text(ours.private_key)}\nListenPort = {PORT}\n"
            f"[Peer]\nPublicKey = {key_text(ours.peer_key)}\nAllowedIPs = 10.8.0.2/32\n"
            "Endpoint = 192.0.2.2:51820\n"
        )
        net.a.run(*wg, "syncconf", "wg0", str(stripped))
        assert more not in net.a.run(*wg, "show", "wg0", "peers")
        assert end.status().peers[0].keepalive_s == 25
        assert net.a.reaches("10.8.0.2", pings=2)
    finally:
        end.down()
        peer.down()


def test_with_f_it_stays_until_it_is_told_to_go(net: Net, device: str) -> None:
    assert shutil.which("shore-wg") is not None
    with subprocess.Popen(net.a.inside("shore-wg", "-f", device)) as staying:
        until((UAPI / f"{device}.sock").exists, 5)
        assert staying.poll() is None
        staying.terminate()
        assert staying.wait(10) == 0
    assert device not in net.a.ip("link show")
