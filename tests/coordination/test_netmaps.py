"""Netmaps: who is concerned by what, and that a delta makes of the old the new."""

import time
from collections.abc import Mapping

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from shore.coordination.members import Member
from shore.coordination.netmaps import Change, Netmaps, Node
from shore.coordination.policy import STARTER, compile
from shore.coordination.records import KEPT
from shore.model.desired import Candidate
from shore.model.netmap import LEASE_S, Names, Peer, Relay, Server
from shore.wire.signing import digest

NOW = 1_000_000.0
APART = '{"grants": [{"src": ["*"], "dst": ["tag:hub"], "ip": ["*"]}], "tagOwners": {"tag:hub": []}}'


def node(number: int, *tags: str) -> Node:
    addresses = (f"100.64.0.{number}", f"fd01::{number}")
    member = Member(number, f"node-{number}", "owner", tags, addresses)
    return Node(member, bytes([number] * 32), bytes([number + 100] * 32))


def netmaps(*nodes: Node, policy: str = STARTER) -> Netmaps:
    made = Netmaps(compile(policy), (Names("shore.internal", "fd01::/48"), Server((), ())), 0)
    for each in nodes:
        put(made, each)
    made.settle(NOW)
    return made


def put(made: Netmaps, *nodes: Node) -> None:
    for each in nodes:
        made.put(each)
        made.watch(each.member.id)


def peer_of(made: Netmaps, holder: int, held: int) -> Peer:
    return msgspec.msgpack.decode(
        made.latest(holder).records[f"peer:{bytes([held + 100] * 32).hex()}"], type=Peer
    )


def applied(records: Mapping[str, bytes], change: Change) -> dict[str, bytes]:
    return {key: value for key, value in {**records, **change.changed}.items() if key not in change.removed}


def test_a_node_that_moved_concerns_those_that_hold_it() -> None:
    hub, one, two = node(1, "tag:hub"), node(2), node(3)
    made = netmaps(hub, one, two, policy=APART)
    made.put(msgspec.structs.replace(one, candidates=(Candidate("192.0.2.1:1", "host"),)))
    assert made.settle(NOW) == (1,)
    assert peer_of(made, 1, 2).candidates == (Candidate("192.0.2.1:1", "host"),)
    assert made.hold_each_other(1, 2)
    assert not made.hold_each_other(2, 3)


def test_many_changes_of_a_burst_are_one_version() -> None:
    made = netmaps(node(1), node(2))
    version = made.latest(1).version
    for port in range(1, 10):
        made.put(msgspec.structs.replace(node(2), candidates=(Candidate(f"192.0.2.1:{port}", "host"),)))
    assert made.settle(NOW) == (1,)
    change = made.since(1, version)
    assert change is not None
    assert len(change.changed) == 1


def test_what_was_said_before_changes_nothing() -> None:
    made = netmaps(node(1), node(2))
    made.put(node(2))
    made.renew()
    assert made.settle(NOW) == ()


def test_leases_are_renewed_daily_and_end_with_the_key() -> None:
    made = netmaps(node(1), msgspec.structs.replace(node(2), expires_at=NOW + 60))
    assert peer_of(made, 1, 2).lease_until == NOW + 60
    until = peer_of(made, 2, 1).lease_until
    assert NOW + LEASE_S - 86400 <= until <= NOW + LEASE_S
    made.renew()
    assert made.settle(NOW + 86400) == (2,)
    assert peer_of(made, 2, 1).lease_until == until + 86400


def test_who_is_removed_is_gone_from_the_netmaps_of_others() -> None:
    made = netmaps(node(1), node(2), node(3))
    made.remove(3)
    assert made.settle(NOW) == (1, 2)
    assert f"peer:{bytes([103] * 32).hex()}" not in made.latest(1).records
    assert made.node(3) is None


def test_a_version_too_old_or_unknown_gets_the_whole() -> None:
    made = netmaps(node(1), node(2))
    first = made.latest(1).version
    for port in range(1, KEPT + 2):
        made.put(msgspec.structs.replace(node(2), candidates=(Candidate(f"192.0.2.1:{port}", "host"),)))
        made.settle(NOW)
    assert made.since(1, first) is None
    assert made.since(1, 10**6) is None
    assert made.since(1, 0) is None


STEPS = st.lists(st.tuples(st.integers(1, 5), st.integers(0, 4)), max_size=30)


@settings(deadline=None)
@given(STEPS)
def test_deltas_lead_where_the_whole_is(steps: list[tuple[int, int]]) -> None:
    made = netmaps(node(1))
    held = made.latest(1)
    for number, what in steps:
        if what == 0 and number != 1:
            made.remove(number)
        elif what == 1:
            made.govern(compile(STARTER if number % 2 else APART))
        else:
            moved = (Candidate(f"192.0.2.{what}:1", "host"),)
            put(made, msgspec.structs.replace(node(number), candidates=moved, online=bool(what % 2)))
        made.settle(NOW)
        change, latest = made.since(1, held.version), made.latest(1)
        assert change is not None
        assert change.from_digest == held.digest
        assert applied(held.records, change) == latest.records
        assert digest(latest.records) == latest.digest
        assert latest.version >= held.version
        held = latest


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(1, 5), st.integers(0, 7), st.booleans()), max_size=30))
def test_what_was_built_by_changes_is_what_is_built_at_once(steps: list[tuple[int, int, bool]]) -> None:
    made, policy, there = netmaps(), STARTER, dict[int, Node]()
    for number, what, settled in steps:
        if what == 0:
            made.remove(number)
            there.pop(number, None)
        elif what == 1:
            policy = STARTER if number % 2 else APART
            made.govern(compile(policy))
        elif what == 2:
            relay = Relay(f"relay-{number}", bytes(32), (f"192.0.2.{number}:443",))
            made.offer([relay])
        elif what == 7:
            made.unwatch(number)
        else:
            there[number] = msgspec.structs.replace(
                node(number, *["tag:hub"] * (what == 3)),
                node_key=bytes([number + 10 * what] * 32),
                online=bool(what % 2),
            )
            put(made, there[number])
        if settled:
            made.settle(NOW)
    for number in there:
        made.watch(number)
    made.settle(NOW)
    fresh = netmaps(*there.values(), policy=policy)
    relays = {f"relay:relay-{number}" for number in range(1, 6)}
    for number in there:
        built = made.latest(number)
        own = {key: value for key, value in built.records.items() if key not in relays}
        assert own == fresh.latest(number).records
        assert len(built.records) - len(own) <= 1
        assert built.digest == digest(built.records)
        assert made.by_key(there[number].node_key) == number


def test_who_nobody_waits_for_is_not_built_and_gets_all_that_changed_when_he_comes() -> None:
    made = netmaps(node(1), node(2), node(3))
    held = made.latest(1)
    made.unwatch(1)
    made.put(msgspec.structs.replace(node(2), online=True))
    made.remove(3)
    assert made.settle(NOW) == (2,)
    assert made.latest(1) == held
    made.watch(1)
    assert made.settle(NOW) == (1,)
    change = made.since(1, held.version)
    assert change is not None
    assert (list(change.changed), change.removed) == ([f"peer:{'66' * 32}"], (f"peer:{'67' * 32}",))
    assert applied(held.records, change) == made.latest(1).records


def test_who_comes_or_goes_concerns_those_that_may_see_it_and_nobody_else() -> None:
    made = netmaps(node(1, "tag:hub"), node(2), node(3), policy=APART)
    put(made, node(4))
    assert set(made.concerned()) == {1, 4}
    made.settle(NOW)
    made.remove(4)
    assert made.concerned() == (1,)


def test_who_came_and_went_within_a_burst_was_never_there() -> None:
    made = netmaps(node(1))
    put(made, node(2))
    made.remove(2)
    assert made.settle(NOW) == ()


def test_rules_follow_the_members_that_they_name() -> None:
    policy = '{"grants": [{"src": ["autogroup:member"], "dst": ["*"], "ip": ["*"]}]}'
    made = netmaps(node(1), node(2), policy=policy)
    for step in (lambda: put(made, node(3)), lambda: made.remove(2), lambda: put(made, node(3, "tag:hub"))):
        step()
        made.settle(NOW)
        there = [member.id for member in made.members]
        fresh = netmaps(*(made.node(number) for number in there), policy=policy)
        assert made.latest(1).records == fresh.latest(1).records


def test_a_thousand_that_reach_each_other_are_no_work() -> None:
    made = netmaps()
    made.put_all(wide(number) for number in range(1000))
    for number in range(1000):
        made.watch(number)
    made.settle(NOW)
    began = time.process_time()
    for port in range(5):
        moved = (Candidate(f"192.0.2.1:{port + 1}", "host"),)
        made.put(msgspec.structs.replace(wide(port), candidates=moved))
        assert len(made.settle(NOW)) == 999
    made.put(wide(1000))
    assert len(made.settle(NOW)) == 1000
    assert time.process_time() - began < 3


def wide(number: int) -> Node:
    addresses = (f"100.64.{number >> 8}.{number & 255}", f"fd01::{number:x}")
    key = number.to_bytes(32, "big")
    return Node(Member(number, f"node-{number}", "owner", (), addresses), key, key)
