"""Two hosts, two disjoint links, changed while they carry pings: what was asked is what is measured."""

import contextlib
import itertools
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from shore.lab import pinger as pinging
from shore.lab.laboratory import Laboratory
from shore.lab.leftovers import sweep
from shore.lab.link import Ending, Link
from shore.lab.net import LabFailed
from shore.lab.pinger import Echoes, Pinger, Pings

pytestmark = [pytest.mark.lab]


def pings(lab: Laboratory, address: str, seconds: float = 1.0, rate: float = 50) -> Pings:
    pinger = Pinger(lab["a"], address, rate)
    time.sleep(seconds + 0.3)
    return pinger.stop()


def two_paths(lab: Laboratory) -> tuple[Link, Link]:
    lab.host("a"), lab.host("b")
    return lab.path("one", "a", "b"), lab.path("two", "a", "b")


def test_two_disjoint_paths_are_impaired_each_for_itself() -> None:
    with Laboratory() as lab:
        one, two = two_paths(lab)
        one.change(delay_ms=20)
        two.change(loss=0.3)
        near, far = pings(lab, "10.99.1.2"), pings(lab, "10.99.2.2", 4)
        assert near.lost() == 0
        assert 0.040 <= near.usual_rtt() < 0.050
        assert far.usual_rtt() < 0.010
        # Lost on either way: 1 - 0.7² = 0.51.
        assert 0.38 < far.lost() / len(far.sent) < 0.64
        six = pings(lab, "fd99:1::2")
        assert 0.040 <= six.usual_rtt() < 0.050


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_a_pinger_kept_from_sending_is_no_slow_tunnel(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = pinging._request

    def late(number: int, six: bool) -> bytes:
        time.sleep(0.05)
        return made(number, six)

    monkeypatch.setattr(pinging, "_request", late)
    with contextlib.closing(Echoes(address)) as echoes:
        echoes.send()
        deadline = time.monotonic() + 2
        while echoes.sent[0][1] is None and time.monotonic() < deadline:
            echoes.receive()
        ((_, rtt),) = echoes.sent
    assert rtt is not None
    assert 0 < rtt < 0.01


def test_a_change_takes_effect_while_packets_flow() -> None:
    with Laboratory() as lab:
        one, _ = two_paths(lab)
        pinger = Pinger(lab["a"], "10.99.1.2", 50)
        time.sleep(0.8)
        began = time.monotonic()
        one.change(delay_ms=150)
        time.sleep(1)
        one.change(delay_ms=0)
        time.sleep(0.5)
        slow = [rtt for at, rtt in pinger.stop().sent if began + 0.05 < at < began + 0.8]
        assert slow
        assert all(rtt is not None and 0.3 <= rtt < 0.33 for rtt in slow)


@pytest.mark.parametrize("toward", ["a", "b"])
def test_a_one_way_black_hole_swallows_one_way_only(toward: str) -> None:
    with Laboratory() as lab:
        one, _ = two_paths(lab)
        assert lab["a"].reaches("10.99.1.2")
        one.change(toward=toward, black_hole=True)
        before = received(lab, "b"), received(lab, "a")
        lab["a"].run("ping", "-c", "5", "-i", "0.1", "-W", "1", "10.99.1.2", check=False)
        after = received(lab, "b"), received(lab, "a")
        # What arrives in b are requests; nothing arrives in a, because none was answered or no answer passes.
        assert (after[0] - before[0] >= 5) == (toward == "a")
        assert after[1] - before[1] == 0
        one.change(toward=toward, black_hole=False)
        assert lab["a"].reaches("10.99.1.2")


def received(lab: Laboratory, host: str) -> int:
    listed = lab[host].run("nstat", "-asz", "IcmpInMsgs").split()
    return int(listed[listed.index("IcmpInMsgs") + 1])


def test_a_replugged_uplink_has_a_new_ifindex_and_works() -> None:
    with Laboratory() as lab:
        one, _ = two_paths(lab)
        before = lab["a"].ip("-o link show eth0").split(":")[0]
        one.unplug("a")
        assert "eth0" not in lab["a"].ip("-o link")
        assert lab["a"].reaches("10.99.2.2")
        one.plug("a")
        assert lab["a"].ip("-o link show eth0").split(":")[0] != before
        assert lab["a"].reaches("10.99.1.2")


def test_a_wire_carries_jumbo_frames_and_no_more() -> None:
    with Laboratory() as lab:
        lab.host("a"), lab.host("b")
        lab.path("one", "a", "b", mtu=9000)

        def passes(size: int) -> bool:
            words = f"ping -c 1 -W 1 -M do -s {size - 28} 10.99.1.2"
            return " 0% packet loss" in lab["a"].run(*words.split(), check=False)

        assert passes(9000)
        assert not passes(9001)


@pytest.mark.slow
def test_a_wire_carries_300_mbit_of_datagrams_with_a_delay() -> None:
    with Laboratory() as lab:
        one, _ = two_paths(lab)
        one.change(delay_ms=20)
        sent = bulk(lab, "10.99.1.2", "300M")
        assert sent > 3 * 26_000
        entered, arrived = packets(lab, "a", "TX"), packets(lab, "b", "RX")
        assert entered[1] == 0, "the queue in front of the wire overflowed"
        assert arrived[0] >= sent


def bulk(lab: Laboratory, address: str, rate: str) -> int:
    """Send datagrams of 1,400 octets for 3 s; how many. A receiver's full buffer is no loss of the wire."""
    server = subprocess.Popen(lab["b"].inside("iperf3", "-s", "-1"), stdout=subprocess.DEVNULL)
    try:
        time.sleep(0.5)
        said = lab["a"].run(*f"iperf3 -c {address} -u -l 1400 -b {rate} -t 3".split())
    finally:
        server.kill()
        server.wait()
    return int(next(line for line in said.splitlines() if "sender" in line).split()[-3].split("/")[1])


def packets(lab: Laboratory, host: str, way: str) -> tuple[int, int]:
    """Packets and drops that a host's eth0 counted."""
    lines = lab[host].ip("-s link show eth0").splitlines()
    values = next(
        after for line, after in itertools.pairwise(lines) if line.strip().startswith(f"{way}:")
    ).split()
    return int(values[1]), int(values[3])


def fail_with_a_packet_lost() -> None:
    with Laboratory("fails") as lab:
        one, _ = two_paths(lab)
        one.change(toward="b", drop_larger=500)
        lab["a"].run("ping", "-c", "1", "-s", "600", "-W", "1", "10.99.1.2", check=False)
        raise LabFailed("as planned")


def test_a_failure_keeps_captures_and_the_diary_and_says_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHORE_LAB_DIR", str(tmp_path))
    with pytest.raises(LabFailed, match="as planned") as caught:
        fail_with_a_packet_lost()
    (kept,) = tmp_path.iterdir()
    assert caught.value.__notes__ == [f"kept: {kept}"]
    assert "as planned" in (kept / "diary.jsonl").read_text()
    shown = [
        "tshark",
        "-r",
        str(kept / "one.pcapng"),
        "-Y",
        "icmp",
        "-T",
        "fields",
        "-e",
        "frame.interface_name",
    ]
    lines = subprocess.run(shown, capture_output=True, text=True, check=True).stdout.split()
    assert lines == ["a-eth0"], "the request is seen where it entered, not where it never arrived"


def test_a_cable_does_what_the_kernel_does_exactly_and_refuses_the_rest() -> None:
    with Laboratory() as lab:
        lab.host("a"), lab.host("b")
        cable = lab.path("one", "a", "b", cable=True)
        cable.change(loss=0.3)
        seen = pings(lab, "10.99.1.2", 4)
        assert 0.38 < seen.lost() / len(seen.sent) < 0.64
        cable.change(loss=0.0, drop_larger=700)
        assert lab["a"].reaches("10.99.1.2")
        big = lab["a"].run("ping", "-c", "2", "-i", "0.1", "-s", "800", "-W", "1", "10.99.1.2", check=False)
        assert "100% packet loss" in big
        with pytest.raises(ValueError, match="cannot do `delay_ms`: make it a wire"):
            cable.change(delay_ms=5)


def test_a_recorded_cable_keeps_what_passed_before_and_after_it_was_pulled(tmp_path: Path) -> None:
    with Laboratory() as lab:
        lab.host("a"), lab.host("b")
        ends = (Ending("a", "eth0", ("192.0.2.1/24",)), Ending("b", "eth0", ("192.0.2.2/24",)))
        cable = lab.link("one", *ends, cable=True, record=True)
        assert lab["a"].reaches("192.0.2.2", pings=2)
        cable.unplug("b")
        cable.plug("b")
        cable.change(toward="b", black_hole=True)
        assert not lab["a"].reaches("192.0.2.2", within_s=1)
        cable.dump(tmp_path / "one.pcapng")
    shown = ["tshark", "-r", str(tmp_path / "one.pcapng"), "-Y", "icmp.type == 8", "-T", "fields"]
    shown += ["-e", "frame.interface_name"]
    seen = subprocess.run(shown, capture_output=True, text=True, check=True).stdout.split()
    # Packet sockets look before the filter of the ingress does.
    assert (seen.count("a-eth0"), seen.count("b-eth0")) == (3, 3)


def test_what_a_repeated_act_raises_comes_to_light() -> None:
    def act() -> None:
        raise LabFailed("no more")

    lab = Laboratory()
    with pytest.raises(LabFailed, match="no more"), lab.every(5, act):
        time.sleep(0.1)


def test_leftovers_of_a_dead_laboratory_are_removed_by_the_next() -> None:
    words = "from shore.lab.laboratory import Laboratory as L; import os, signal\n"
    words += "l = L().__enter__(); l.host('a'); l.host('b'); l.path('p', 'a', 'b'); l['a'].run('true')\n"
    words += "from shore.lab.ends import ShoreEnd, sides; ShoreEnd(l['a'], sides(None)[0])\n"
    words += "import subprocess; subprocess.Popen(l['a'].inside('sleep', '60'), stdout=2)\n"
    words += "print(os.getpid(), flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    dead = subprocess.run([sys.executable, "-c", words], stdout=subprocess.PIPE, text=True, check=False)
    files = f"shore-lab-{dead.stdout.strip()}-*"
    assert len(list(Path(tempfile.gettempdir()).glob(files))) == 1
    removed = sweep()
    assert [name.split("-")[3] for name in removed if name.split("-")[1] == dead.stdout.strip()] == ["a", "b"]
    listed = subprocess.run(["ip", "netns"], capture_output=True, text=True, check=True).stdout
    assert f"shore-{dead.stdout.strip()}-" not in listed
    assert list(Path(tempfile.gettempdir()).glob(files)) == []
    assert sweep() == []
