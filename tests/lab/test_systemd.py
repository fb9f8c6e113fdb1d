"""Shore as a unit of a real systemd: the unit is the brain, and whatever happens to it moves no packet."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from shore.lab.ends import PORT, StockEnd, sides
from shore.lab.net import LabFailed, Net, until
from shore.lab.pinger import Pinger
from shore.lab.systemd import Systemd, UnitEnd

pytestmark = [pytest.mark.lab]

HOOKS = "PostUp = sleep 1; touch /run/was-up\nPostDown = touch /run/was-down\n"


@pytest.fixture(scope="module")
def net() -> Iterator[Net]:
    with Net() as made:
        yield made


@pytest.fixture(scope="module")
def machine(net: Net) -> Iterator[Systemd]:
    with ExitStack() as stack:
        try:
            booted = stack.enter_context(Systemd(net.a))
        except (LabFailed, OSError) as error:
            pytest.skip(f"LAB SKIPPED: no systemd of our own can run here: {error}")
        yield booted


@pytest.fixture
def end(net: Net, machine: Systemd) -> Iterator[UnitEnd]:
    ours, theirs = sides(f"192.0.2.2:{PORT}")
    peer = StockEnd(net.b, theirs, "wireguard-go")
    peer.up()
    shore = UnitEnd(machine, ours, extra=HOOKS)
    machine.run("rm", "-f", "/run/was-up", "/run/was-down")
    yield shore
    shore.down()
    machine.run("systemctl", "stop", shore.unit)
    machine.run("systemctl", "reset-failed", shore.unit, check=False)
    peer.down()


def host_state(net: Net) -> str:
    shown = ("ip address", "ip route show table all", "ip -6 route show table all", "ip rule")
    return "\n".join(net.a.run(*command.split()) for command in (*shown, "nft list ruleset"))


def has(machine: Systemd, path: str) -> bool:
    return "yes" in machine.run("bash", "-c", f"[ ! -e {path} ] || echo yes")


def loses_nothing(net: Net, end: UnitEnd, hit: Callable[[], object], *, brain_within: float) -> None:
    """Hit the unit while pings run: none is lost, the data plane stays, another brain comes."""
    assert net.a.reaches("10.8.0.2", pings=3)
    plane, brain = end.plane_pid(), end.brain_pid()
    pinger = Pinger(net.a, "10.8.0.2")
    time.sleep(1)
    hit()
    until(
        lambda: "brain" in end.shore("status", "wg0", check=False) and end.brain_pid() != brain, brain_within
    )
    time.sleep(1)
    pings = pinger.stop()
    assert (pings.lost(), end.plane_pid()) == (0, plane)
    assert len(pings.sent) >= 40
    assert end.machine.ask(end.unit, "ActiveState") == "active"


def test_the_unit_is_started_once_the_tunnel_is_configured(net: Net, end: UnitEnd) -> None:
    end.machine.run("systemctl", "start", "--no-block", end.unit)
    until(lambda: end.machine.ask(end.unit, "ActiveState") == "activating", 5)
    assert not has(end.machine, "/run/was-up")
    end.up()
    assert has(end.machine, "/run/was-up")
    assert net.a.reaches("10.8.0.2", pings=3)
    assert end.machine.ask(end.unit, "MainPID") == str(end.brain_pid())
    assert len(end.machine.scopes()) == 1
    assert "shore.node.keeper" not in end.machine.run("ps", "-eo", "args")


def test_a_killed_brain_is_started_again_and_no_ping_is_lost(net: Net, end: UnitEnd) -> None:
    end.up()
    loses_nothing(net, end, lambda: end.signal("KILL", end.brain_pid()), brain_within=15)
    assert end.machine.ask(end.unit, "NRestarts") == "1"


@pytest.mark.slow
def test_a_brain_that_was_killed_with_its_data_plane_is_back_within_two_seconds(
    net: Net, end: UnitEnd
) -> None:
    end.up()
    assert net.a.reaches("10.8.0.2", pings=3)
    plane, brain = end.plane_pid(), end.brain_pid()
    pinger = Pinger(net.a, "10.8.0.2")
    time.sleep(1)
    at = time.monotonic()
    end.machine.run("kill", "-KILL", str(plane), str(brain))
    time.sleep(6)
    gap = pinger.stop().gap(at)
    print(f"under systemd, brain and data plane killed: gap {gap} s")
    assert gap is not None
    assert gap <= 2.0, end.log()


def test_a_frozen_brain_is_replaced_by_the_watchdog_and_no_ping_is_lost(net: Net, end: UnitEnd) -> None:
    end.up()
    loses_nothing(net, end, lambda: end.signal("STOP", end.brain_pid()), brain_within=30)


def test_a_restart_of_the_unit_loses_no_ping(net: Net, end: UnitEnd) -> None:
    end.up()
    loses_nothing(net, end, lambda: end.machine.run("systemctl", "restart", end.unit), brain_within=5)


def test_a_stopped_unit_leaves_the_data_plane_and_says_so(net: Net, end: UnitEnd) -> None:
    end.up()
    assert net.a.reaches("10.8.0.2", pings=3)
    plane = end.plane_pid()
    end.machine.run("systemctl", "stop", end.unit)
    assert net.a.reaches("10.8.0.2", pings=3)
    with pytest.raises(LabFailed, match=r"exited with 3: .*wg0 has no brain: `systemctl start shore@wg0`"):
        end.shore("status", "wg0")
    assert "its data plane runs" in end.shore("cleanup")
    with pytest.raises(LabFailed, match=r"exited with 1: .*up without a brain"):
        end.shore("up", "wg0")
    end.up()
    assert end.plane_pid() == plane


def test_down_ends_the_unit_and_leaves_nothing(net: Net, end: UnitEnd) -> None:
    before = host_state(net)
    end.up()
    end.shore("down", "wg0")
    until(lambda: end.machine.ask(end.unit, "ActiveState") == "inactive", 5)
    assert has(end.machine, "/run/was-down")
    assert end.machine.scopes() == []
    assert host_state(net) == before


def test_down_ends_a_tunnel_whose_unit_was_stopped(net: Net, end: UnitEnd) -> None:
    before = host_state(net)
    end.up()
    end.machine.run("systemctl", "stop", end.unit)
    end.shore("down", "wg0")
    assert has(end.machine, "/run/was-down")
    assert end.machine.scopes() == []
    assert host_state(net) == before


def test_a_replaced_data_plane_has_a_scope_of_its_own_too(net: Net, end: UnitEnd) -> None:
    end.up()
    assert net.a.reaches("10.8.0.2", pings=3)
    first, scopes = end.plane_pid(), end.machine.scopes()
    end.signal("KILL", first)
    until(lambda: end.status().dataplane_pid not in (None, first), 5)
    second = end.plane_pid()
    assert net.a.reaches("10.8.0.2", pings=5)
    until(lambda: len(end.machine.scopes()) == 1, 5)
    assert end.machine.scopes() != scopes
    end.machine.run("systemctl", "restart", end.unit)
    assert end.plane_pid() == second


def test_reload_reads_the_file(net: Net, end: UnitEnd) -> None:
    end.up()
    plane = end.plane_pid()
    wider = end.conf.read_text().replace("= 10.8.0.2\n", "= 10.8.0.2, 10.99.0.0/24\n")
    end.machine.write("/etc/wireguard/wg0.conf", wider)
    end.machine.run("systemctl", "reload", end.unit)
    assert "10.99.0.0/24" in net.a.ip("route show dev wg0")
    assert end.machine.ask(end.unit, "ActiveState") == "active"
    assert end.plane_pid() == plane


def test_the_unit_leaves_hooks_full_tunnels_and_the_data_thread_what_they_need(end: UnitEnd) -> None:
    hooks = "PostUp = ip netns add of-a-hook\nPostDown = ip netns delete of-a-hook\n[Peer]"
    whole = end.conf.read_text().replace("[Peer]", hooks).replace("IPs = 10.8.0.2", "IPs = 0.0.0.0/0")
    end.machine.write("/etc/wireguard/wg0.conf", whole)
    end.up()
    assert has(end.machine, "/run/netns/of-a-hook"), "what a hook mounts is seen by the host"
    assert end.status().offload["realtime"] is True
    assert end.host.reaches("10.8.0.2", pings=3)
    rights = end.machine.run("grep", "CapBnd", f"/proc/{end.plane_pid()}/status")
    assert int(rights.split()[1], 16) == 0


def test_a_wrong_file_fails_once_with_its_sentence(end: UnitEnd) -> None:
    end.machine.write("/etc/wireguard/wg0.conf", "[Interface]\nPrivateKy = 1\n")
    with pytest.raises(LabFailed):
        end.up()
    time.sleep(2)
    assert end.machine.ask(end.unit, "ActiveState") == "failed"
    assert (end.machine.ask(end.unit, "NRestarts"), end.machine.ask(end.unit, "ExecMainStatus")) == (
        "0",
        "78",
    )


def test_a_machine_that_goes_down_takes_the_tunnel_down_in_order(net: Net, end: UnitEnd) -> None:
    before = host_state(net)
    end.up()
    end.machine.run("systemctl", "start", "shutdown.target")
    assert has(end.machine, "/run/was-down")
    assert end.machine.scopes() == []
    assert host_state(net) == before
