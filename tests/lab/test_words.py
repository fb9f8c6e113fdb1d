"""What people are told of paths, by two real nodes with two links between them."""

import json
import os
import re
import signal
import subprocess
import time

import pytest

from shore.lab.ends import ShoreEnd, tunnel
from shore.lab.multipath import FIRST, INNER, SECOND, Twin, twin
from shore.lab.net import LabFailed, Net, until

pytestmark = [pytest.mark.lab]

NAMED = "#@ Name = far\n"
MOVES = ("dead", "peer_moved")


def asked(end: ShoreEnd, *words: str) -> dict[str, object]:
    told: dict[str, object] = json.loads(end.shore(*words, "--json"))
    return told


def by_remote(told: dict[str, object]) -> dict[str, dict[str, object]]:
    paths = told["paths"]
    assert isinstance(paths, list)
    return {path["remote"]: path for path in paths}


def history(end: ShoreEnd, *words: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in end.shore("history", *words, "--json").splitlines()]


def uplink(pair: Twin) -> str | None:
    primary = pair.primary()
    return primary.uplink if primary else None


def test_paths_ping_why_and_history_of_a_path_that_dies() -> None:
    with twin("words", delay_ms=10, second_delay_ms=30, own=NAMED) as pair:
        key = pair.peer().public_key
        until(lambda: uplink(pair) == "eth0", 30)
        places_and_round_trips(pair)
        status = pair.a.shore("status")
        assert f"peer far ({key}): connected" in status
        assert "    direct via eth0 to " in status
        assert "; 3 standbys" in status, "IPv6 counts"
        with pytest.raises(LabFailed, match=r"no peer is called `near`: there is far \("):
            pair.a.shore("paths", "near")
        a_dead_link_is_explained(pair)
        nothing_answers(pair)
        pair.a.shore("down", "wg0")
        assert any(change["cause"] in MOVES for change in history(pair.a, key))


def places_and_round_trips(pair: Twin) -> None:
    listed = by_remote(asked(pair.a, "paths", "far"))
    pings = by_remote(asked(pair.a, "ping", "far", "-c", "3"))
    for remote, local, link, least in (
        (FIRST, "10.99.1.1:51820", "eth0", 20.0),
        (SECOND, "10.99.2.1:51820", "eth1", 60.0),
    ):
        assert (listed[remote]["local"], listed[remote]["uplink"]) == (local, link)
        assert listed[remote]["observed"] == local
        rtts = pings[remote]["rtt_ms"]
        assert isinstance(rtts, list)
        assert len(rtts) == 3
        assert all(rtt is not None and least <= rtt < least + 40 for rtt in rtts), rtts
    assert {path["uplink"] for path in pings.values() if path["primary"]} == {"eth0"}


def a_dead_link_is_explained(pair: Twin) -> None:
    with subprocess.Popen(
        pair.lab["a"].inside("ping", "-i", "0.1", INNER), stdout=subprocess.DEVNULL
    ) as flow:
        time.sleep(2)
        pair.one.change(loss=1.0)
        until(lambda: uplink(pair) == "eth1", 5)
        flow.kill()
    told = asked(pair.a, "why", "far")
    # Either end may be the first to notice, and the other one follows.
    assert re.search("via eth1 .*taken because: (no answer any more|.* no more) from ", str(told["now"]))
    others = told["others"]
    assert isinstance(others, list)
    assert all(
        each["why"].startswith(("dead for ", "no probe was answered", "in doubt for "))
        for each in others
        if each["path"]["uplink"] == "eth0"
    ), others
    assert told["suggestion"] is None
    os.kill(pair.a.brain_pid(), signal.SIGKILL)
    until(lambda: "brain attached" in pair.a.log(), 10)
    numbers = [change["numbers"] for change in history(pair.a, "far") if change["cause"] in MOVES][-1]
    assert isinstance(numbers, dict)
    assert numbers["to_rtt_ms"] >= 60 > numbers["from_rtt_ms"] >= 20
    pings = by_remote(asked(pair.a, "ping", "far", "-c", "1"))
    assert (pings[FIRST]["rtt_ms"], pings[SECOND]["lost"]) == ([None], 0.0)
    time.sleep(1)
    assert history(pair.a, "far", "--since", "1s") == []


def nothing_answers(pair: Twin) -> None:
    pair.two.change(loss=1.0)
    with pytest.raises(LabFailed, match=r"exited with 5: shore: far \(.*\) did not answer"):
        pair.a.shore("ping", "far", "-c", "2")
    until(lambda: not pair.peer().connected, 10)
    assert "is UDP blocked on the way" in pair.a.shore("why", "far")


def test_what_is_set_is_in_force_until_the_file_is_read_again() -> None:
    with twin("set", own=NAMED) as pair:
        plane = pair.a.plane_pid()
        said = pair.a.shore("set", "wg0", "far", "redundancy=always")
        assert "`shore reload wg0` brings back what the file says" in said
        assert pair.peer().redundancy == "always"
        pair.a.shore("set", "wg0", "uplinks=eth1")
        until(lambda: uplink(pair) == "eth1", 10)
        assert pair.lab["a"].reaches(INNER, pings=3)
        pair.a.shore("reload", str(pair.a.conf))
        assert pair.peer().redundancy == "auto"
        until(lambda: {path.uplink for path in pair.peer().paths if path.id} == {"eth0", "eth1"}, 10)
        assert pair.a.plane_pid() == plane


def test_plain_wireguard_is_asked_through_the_tunnel() -> None:
    with Net() as net, tunnel(net, ShoreEnd, "wireguard-go") as (end, _):
        key = end.status().peers[0].public_key
        told = asked(end, "ping", key[:6], "-c", "2")
        assert told["by"] == "icmp"
        (line,) = by_remote(told).values()
        assert (line["remote"], line["lost"]) == (INNER, 0.0)
        assert "plain WireGuard" in end.shore("paths", key)
        assert "it has not answered our hello" in end.shore("why", key)
