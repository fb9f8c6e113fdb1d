"""`shore` as a stranger uses it: up, twice, wrong, killed, down; and nothing left behind."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from shore.lab.ends import PORT, ShoreEnd, StockEnd, sides
from shore.lab.net import LabFailed, Net, until
from shore.model.keys import key_text

pytestmark = [pytest.mark.lab]


@pytest.fixture
def net() -> Iterator[Net]:
    with Net() as made:
        yield made


@pytest.fixture
def end(net: Net) -> Iterator[ShoreEnd]:
    ours, theirs = sides(f"192.0.2.2:{PORT}")
    peer = StockEnd(net.b, theirs, "wireguard-go")
    peer.up()
    shore = ShoreEnd(net.a, ours)
    yield shore
    shore.down()
    peer.down()


def host_state(net: Net) -> str:
    shown = ("ip address", "ip route show table all", "ip -6 route show table all", "ip rule")
    return "\n".join(net.a.run(*command.split()) for command in (*shown, "nft list ruleset"))


def test_up_carries_packets_and_down_leaves_nothing(net: Net, end: ShoreEnd) -> None:
    before = host_state(net)
    end.up()
    assert net.a.reaches("10.8.0.2", pings=3)
    status = end.status()
    assert (status.state, status.listen_port, status.mtu) == ("up", PORT, 1420)
    assert status.peers[0].connected
    assert status.peers[0].keepalive_s == 25
    assert "transfer:" in end.shore("show")
    end.shore("down", "wg0")
    assert host_state(net) == before
    assert end.shore("status").strip() == "no tunnel is up"


def test_up_returns_though_no_peer_answers(net: Net) -> None:
    ours, _ = sides("192.0.2.99:1")
    end = ShoreEnd(net.a, ours)
    try:
        end.up()
        assert not end.status().peers[0].connected
    finally:
        end.down()


def test_a_second_up_is_refused_and_harms_nothing(net: Net, end: ShoreEnd) -> None:
    end.up()
    with pytest.raises(LabFailed, match="up already"):
        end.up()
    assert net.a.reaches("10.8.0.2", pings=3)


def test_down_of_what_is_not_running_is_code_3(end: ShoreEnd) -> None:
    with pytest.raises(LabFailed, match="exited with 3"):
        end.shore("down", "wg0")


def test_up_and_down_again_and_again(net: Net, end: ShoreEnd) -> None:
    for _ in range(3):
        end.up()
        assert net.a.reaches("10.8.0.2", pings=3)
        end.shore("down", "wg0")


@pytest.mark.parametrize(
    ("extra", "part"),
    [
        ("PostUp = exit 7\n", "exited with 7"),
        ("PostUp = echo no luck; false\n", "no luck"),
        ("ListenPort = 40000\n", "already given"),
        ("Table = nowhere\n", "routing table"),
    ],
)
def test_a_start_that_fails_is_one_sentence_and_leaves_nothing(net: Net, extra: str, part: str) -> None:
    ours, _ = sides(f"192.0.2.2:{PORT}")
    before = host_state(net)
    end = ShoreEnd(net.a, ours, extra=extra)
    try:
        with pytest.raises(LabFailed, match=part):
            end.up()
        assert host_state(net) == before
        assert end.shore("status").strip() == "no tunnel is up"
    finally:
        end.down()


def test_a_port_in_use_is_named_and_leaves_nothing(net: Net, end: ShoreEnd) -> None:
    squat = (
        "import socket,time; s=socket.socket(2,2); s.bind(('',51820)); print(1,flush=True); time.sleep(60)"
    )
    with subprocess.Popen(net.a.inside("python3", "-c", squat), stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        owner.stdout.readline()
        before = host_state(net)
        with pytest.raises(LabFailed, match="UDP port 51820 is in use"):
            end.up()
        assert host_state(net) == before
        owner.kill()


def test_a_device_of_somebody_else_is_not_touched(net: Net, end: ShoreEnd) -> None:
    net.a.ip("tuntap add wg0 mode tun")
    with pytest.raises(LabFailed, match="not Shore's"):
        end.up()
    assert "wg0" in net.a.ip("link show wg0")


def test_what_kill_9_left_behind_is_cleaned_up(net: Net, end: ShoreEnd) -> None:
    before = host_state(net)
    end.up()
    assert end.shore("cleanup").strip() == "nothing is left over"
    brain, plane = end.brain_pid(), end.plane_pid()
    for process in (parent_of(brain), brain, plane):
        os.kill(process, signal.SIGKILL)
    assert "wg0" in net.a.ip("link show wg0"), "the device stays, so nothing leaves in the clear"
    assert end.shore("cleanup").strip() == "wg0: removed"
    assert host_state(net) == before


def test_a_deleted_device_means_down(net: Net, end: ShoreEnd) -> None:
    end.up()
    net.a.ip("link delete wg0")
    until(lambda: end.shore("status").strip() == "no tunnel is up", 10)


def test_the_keeper_is_replaced_and_still_keeps(net: Net, end: ShoreEnd) -> None:
    end.up()
    brain = end.brain_pid()
    keeper = parent_of(brain)
    os.kill(keeper, signal.SIGKILL)
    time.sleep(2)
    os.kill(brain, signal.SIGKILL)
    until(lambda: end.shore("status", "wg0", check=False) != "" and end.brain_pid() != brain, 10)
    assert net.a.reaches("10.8.0.2", pings=3)


def test_reload_changes_what_changed_and_keeps_the_session(net: Net, end: ShoreEnd) -> None:
    end.up()
    assert net.a.reaches("10.8.0.2", pings=3)
    plane, age = end.plane_pid(), end.status().peers[0].session_age_s
    conf = end.conf.read_text()
    end.conf.write_text(conf.replace("= 10.8.0.2\n", "= 10.8.0.2, 10.99.0.0/24\n"))
    end.shore("reload", str(end.conf))
    assert "10.99.0.0/24 proto 83" in net.a.ip("route show dev wg0")
    status = end.status()
    assert status.dataplane_pid == plane
    assert (status.peers[0].session_age_s or 0) >= (age or 0)
    end.conf.write_text(conf)
    end.shore("reload", str(end.conf))
    assert "10.99.0.0" not in net.a.ip("route show dev wg0")
    assert net.a.reaches("10.8.0.2", pings=3)


def test_an_unconfirmed_up_undoes_itself(net: Net, end: ShoreEnd) -> None:
    before = host_state(net)
    end.shore("up", str(end.conf), "--confirm", "2s")
    until(lambda: end.shore("status").strip() == "no tunnel is up", 10)
    assert host_state(net) == before
    end.shore("up", str(end.conf), "--confirm", "2s")
    end.shore("confirm", "wg0")
    time.sleep(3)
    assert net.a.reaches("10.8.0.2", pings=3)


def test_the_log_says_what_happened_and_why(net: Net, end: ShoreEnd) -> None:
    end.up()
    assert net.a.reaches("10.8.0.2", pings=3)
    end.kill()
    until(lambda: "data plane replaced: " in end.log(), 10)
    assert "there is a new session" in end.shore("rekey", end.status().peers[0].public_key)
    assert "session renewed" in end.log()


def test_show_says_what_wg_shows(net: Net, end: ShoreEnd) -> None:
    end.up()
    assert net.a.reaches("10.8.0.2", pings=3)
    place = "/var/run/wireguard"
    at_ours = f"mkdir -p {place}; mount --bind {end.uapi} {place}; exec wg show wg0"
    theirs = net.a.run("unshare", "-m", "sh", "-c", at_ours).splitlines()
    ours = end.shore("show", "wg0").splitlines()
    moving = ("latest handshake: ", "transfer: ")
    for shown in (theirs, ours):
        assert [word for word in moving if any(line.strip().startswith(word) for line in shown)] == [*moving]
    assert still(ours, moving) == still(theirs, moving)


def still(lines: list[str], moving: tuple[str, ...]) -> list[str]:
    return [line for line in lines if not line.strip().startswith(moving)]


def test_log_and_status_go_on_telling_until_interrupted(net: Net, end: ShoreEnd) -> None:
    end.up()
    with end.start("log", "wg0", "-f") as log, end.start("status", "--json", "--watch") as watch:
        assert log.stdout is not None
        assert watch.stdout is not None
        assert "data plane started" in log.stdout.readline()
        end.kill()
        assert any("data plane replaced" in line for line in iter(log.stdout.readline, ""))
        seen = [line for line in (watch.stdout.readline() for _ in range(200)) if '"name"' in line]
        assert len(seen) >= 2
        for telling in (log, watch):
            telling.send_signal(signal.SIGINT)
            telling.communicate(timeout=10)


def test_the_status_socket_tells_how_it_is_and_nothing_else(net: Net, end: ShoreEnd) -> None:
    end.conf.write_text(end.conf.read_text().replace("[Peer]", "PostUp = echo hidden words\n[Peer]"))
    end.up()
    path = end.conf.parent / "run" / "wg0.status"
    assert path.stat().st_mode & 0o117 == 0
    said = asked(path, b'{"do":"status"}')
    assert b'"is":"status"' in said
    secrets = (key_text(end.side.private_key), end.side.private_key.hex(), "hidden words", str(end.conf))
    assert [secret for secret in secrets if secret.encode() in said] == []
    for other in (b'{"do":"down"}', b'{"do":"confirm"}', b'{"do":"renew","public_key":""}'):
        assert b"answers `status` only" in asked(path, other)
    assert asked(path, b"nonsense") == b""
    assert end.status().state == "up"


def asked(path: Path, line: bytes) -> bytes:
    with socket.socket(socket.AF_UNIX) as stream:
        stream.settimeout(5)
        stream.connect(str(path))
        stream.sendall(line + b"\n")
        return stream.makefile("rb").readline()


def test_a_peer_that_does_not_answer_is_code_5(net: Net) -> None:
    ours, _ = sides("192.0.2.99:1")
    end = ShoreEnd(net.a, ours)
    try:
        end.up()
        with pytest.raises(LabFailed, match="exited with 5"):
            end.shore("rekey", end.status().peers[0].public_key)
    finally:
        end.down()


def test_foreground_stays_and_takes_down_when_it_is_told_to_go(net: Net, end: ShoreEnd) -> None:
    with end.start("up", str(end.conf), "--foreground") as staying:
        until(lambda: "wg0" in end.shore("status"), 10)
        assert net.a.reaches("10.8.0.2", pings=3)
        assert staying.poll() is None
        staying.terminate()
        assert staying.wait(10) == 0
    assert end.shore("status").strip() == "no tunnel is up"


def parent_of(pid: int) -> int:
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        return int(file.read().rpartition(")")[2].split()[1])
