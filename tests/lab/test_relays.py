"""A second relay, by the command that a token for one prints; and what becomes of pings when a relay goes."""

import signal
import time
from collections.abc import Iterator

import pytest

from shore.core.candidates import host_of
from shore.lab.net import RoutedNet, until
from shore.lab.relays import FIRST, SECOND, TwoRelays

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]
# A start of Python with all that a relay needs, on a busy machine.
STARTS_WITHIN_S = 5.0


@pytest.fixture
def relays() -> Iterator[TwoRelays]:
    with RoutedNet() as net:
        for host in net.hosts:
            host.resolve_by("192.0.2.53")
        made = TwoRelays(net)
        try:
            yield made
        finally:
            made.end()


def test_a_machine_becomes_a_second_relay_and_either_takes_over_when_the_other_dies(
    relays: TwoRelays,
) -> None:
    relays.add_second()
    until(lambda: relays.hold(FIRST, SECOND), within_s=10)
    until(relays.lives_by_both, within_s=15)
    used = relays.owner(relays.primary())
    at, pings = relays.pinged(lambda: relays.kill(used), 6)
    gap = pings.gap(at)
    print(f"relay killed: gap {gap} s, {pings.lost()} lost")
    assert gap is not None
    assert gap <= 2, relays.laptop.shore("log", "shore0")


@pytest.mark.slow
def test_a_relay_that_is_restarted_politely_is_left_before_it_goes_and_no_ping_is_lost(
    relays: TwoRelays,
) -> None:
    relays.add_second()
    until(lambda: relays.hold(FIRST, SECOND), within_s=15)
    until(relays.lives_by_both, within_s=30)
    used = relays.primary()
    owner = relays.owner(used)
    before = owner.program("relay")
    assert before is not None
    _, pings = relays.pinged(lambda: owner.signal_program("relay", signal.SIGTERM), 12)
    print(f"relay restarted politely: {pings.lost()} of {len(pings.sent)} lost")
    assert pings.lost() == 0, relays.laptop.shore("log", "shore0")
    said = relays.laptop.shore("log", "shore0")
    assert f"relay {used} leaves" in said
    until(lambda: owner.program("relay") not in (None, before), within_s=STARTS_WITHIN_S)
    until(lambda: relays.hold(FIRST, SECOND), within_s=15)


@pytest.mark.slow
def test_a_second_relay_stops_starts_and_is_revoked(relays: TwoRelays) -> None:
    relays.add_second()
    until(lambda: relays.hold(FIRST, SECOND), within_s=15)

    assert "relay second: running" in relays.second.shore("relay", "status")
    again = relays.second.run("relay", "--join", "-", stdin=relays.hub.shore("invite", "--relay").split()[-1])
    assert (again.returncode, again.stderr) == (
        1,
        "shore: this machine is a relay already: `shore relay start` starts it\n",
    )
    relays.second.shore("relay", "stop")
    assert relays.second.program("relay") is None
    assert relays.second.run("relay", "status").returncode == 3
    relays.second.shore("relay", "start")
    until(lambda: relays.hold(FIRST, SECOND), within_s=15)

    relays.hub.shore("nodes", "revoke", "second")
    until(lambda: relays.hold(FIRST), within_s=5)
    assert relays.laptop.host.reaches(relays.address, within_s=2)


@pytest.mark.slow
def test_a_link_that_swallows_everything_is_left_for_the_other_relay(relays: TwoRelays) -> None:
    relays.add_second()
    until(lambda: relays.hold(FIRST, SECOND), within_s=10)
    until(relays.lives_by_both, within_s=30)
    used = relays.primary()
    at, pings = relays.pinged(lambda: relays.swallow(used), 10)
    gap = pings.gap(at)
    print(f"half-open: gap {gap} s, {pings.lost()} lost")
    assert gap is not None
    assert gap <= 5, relays.laptop.shore("log", "shore0")
    hosts = {host_of(relay or "") for relay in (used, relays.primary())}
    assert hosts == {host_of(FIRST), host_of(SECOND)}


@pytest.mark.slow
def test_an_only_relay_that_was_killed_is_used_again_when_it_is_back(relays: TwoRelays) -> None:
    before = relays.hub.program("relay")
    at, pings = relays.pinged(lambda: relays.kill(relays.hub), 20)
    after = relays.hub.program("relay")
    assert after not in (None, before)
    gap = pings.gap(at)
    print(f"only relay killed: gap {gap} s from its death, {pings.lost()} lost")
    assert gap is not None
    assert gap <= 5 + STARTS_WITHIN_S, relays.laptop.shore("log", "shore0")
    until(lambda: relays.hold(FIRST), within_s=10)


@pytest.mark.slow
def test_the_server_is_linked_again_after_the_death_of_its_relay_and_its_own_death_loses_nothing(
    relays: TwoRelays,
) -> None:
    relays.add_second()
    until(relays.lives_by_both, within_s=20)
    killed = time.monotonic()
    relays.kill(relays.hub)
    until(lambda: relays.server_linked_at() > killed, within_s=20)
    took = relays.server_linked_at() - killed
    print(f"server's link back {took} s after the relay's death")
    assert took <= 5 + STARTS_WITHIN_S, relays.laptop.shore("log", "shore0")

    at, pings = relays.pinged(lambda: relays.hub.signal_program("server", signal.SIGKILL), 10)
    print(f"server killed: {pings.lost()} lost")
    assert pings.lost() == 0
    until(lambda: relays.server_linked_at() > at, within_s=20)
