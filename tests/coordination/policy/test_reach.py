"""Rules and peers: both ends know each other, and no rule says more than the lines do."""

import ipaddress
import time
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from shore.coordination.members import Member
from shore.coordination.policy import STARTER, Policy, compile
from shore.coordination.policy.ports import cover

WORDS = [
    "*",
    "autogroup:member",
    "autogroup:tagged",
    "a@",
    "group:g",
    "tag:x",
    "tag:y",
    "ipset:few",
    "ipset:one",
]
DEFINED = """
 "groups": {"group:g": ["a", "b"]}, "tagOwners": {"tag:x": [], "tag:y": []},
 "ipsets": {"ipset:few": ["10.0.0.0/30", "fd00::/126"], "ipset:one": ["10.0.0.2", "fd00::2"]},
"""


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    words = st.lists(st.sampled_from(WORDS), min_size=1, max_size=3)
    destinations = st.lists(st.sampled_from([*WORDS, "autogroup:self"]), min_size=1, max_size=3)
    ports = st.lists(st.sampled_from(["*", "22", "tcp:20-30", "udp:*"]), min_size=1, max_size=2)
    grants = [
        f'{{"src": {list(src)!r}, "dst": {list(dst)!r}, "ip": {list(ip)!r}}}'.replace("'", '"')
        for src, dst, ip in draw(st.lists(st.tuples(words, destinations, ports), max_size=4))
    ]
    return compile(f'{{{DEFINED} "grants": [{", ".join(grants)}]}}')


@st.composite
def some_members(draw: st.DrawFn) -> tuple[Member, ...]:
    one = st.tuples(st.sampled_from("abc"), st.sampled_from([(), ("tag:x",), ("y",), ("x", "tag:y")]))
    drawn = enumerate(draw(st.lists(one, max_size=6)))
    return tuple(Member(n, f"n{n}", user, tags, (f"10.0.0.{n}", f"fd00::{n}")) for n, (user, tags) in drawn)


def admits(policy: Policy, members: tuple[Member, ...], source: Member, node: Member, port: int) -> bool:
    """What the node's data plane does with a SYN."""

    def holds(prefixes: tuple[str, ...], address: str) -> bool:
        one = ipaddress.ip_address(address)
        return any(one in ipaddress.ip_network(prefix) for prefix in prefixes)

    return any(
        holds(rule.sources, from_) and holds(rule.destinations, to) and cover(rule.ports, "tcp", port)
        for rule in policy.rules_for(node, members)
        for from_, to in zip(source.addresses, node.addresses, strict=True)
    )


@given(policies(), some_members())
def test_rules_and_peers_follow_from_the_lines(policy: Policy, members: tuple[Member, ...]) -> None:
    for node in members:
        peers = set()
        for other in members:
            if other.id == node.id:
                continue
            expected = policy.line_for(other, node, "tcp", 22) is not None
            assert admits(policy, members, other, node, 22) == expected
            ways = ((other, node), (node, other))
            if any(line.lets(*way) for line in policy.lines for way in ways):
                peers.add(other.id)
        assert policy.peers_of(node, members) == peers


@given(policies(), some_members(), st.randoms())
def test_the_order_of_members_changes_nothing(
    policy: Policy, members: tuple[Member, ...], random: Random
) -> None:
    shuffled = list(members)
    random.shuffle(shuffled)
    for node in members:
        assert policy.rules_for(node, members) == policy.rules_for(node, tuple(shuffled))


def test_a_rule_for_everybody_stays_as_it_is_when_members_come() -> None:
    first = Member(1, "a", "a", (), ("10.0.0.1",))
    second = Member(2, "b", "b", (), ("10.0.0.2",))
    policy = compile(STARTER)
    assert policy.rules_for(first, (first,)) == policy.rules_for(first, (first, second))


def test_lines_between_the_same_ends_make_one_rule() -> None:
    node = Member(1, "a", "a", (), ("10.0.0.1",))
    line = '{"src": ["a@"], "dst": ["a@"], "ip": ["tcp:1"]}'
    (rule,) = compile(f'{{"grants": [{line}, {line.replace("tcp:1", "udp:2")}]}}').rules_for(node, (node,))
    assert len(rule.ports) == 2


ROUTER = Member(1, "router", "a", (), ("100.64.0.1",), ("10.1.0.0/24", "fd77::/64"))
LAPTOP = Member(2, "laptop", "b", (), ("100.64.0.2",))
SITE = (ROUTER, LAPTOP)


def to_router(src: str, dst: str) -> tuple[str, ...]:
    """What of the router, and behind it, may be reached by a line."""
    policy = compile(f'{{"grants": [{{"src": ["{src}"], "dst": ["{dst}"], "ip": ["*"]}}]}}')
    rules = policy.rules_for(ROUTER, SITE)
    assert policy.peers_of(LAPTOP, SITE) == ({1} if rules else set())
    return tuple(each for rule in rules for each in rule.destinations)


def test_what_is_behind_a_member_is_reached_as_far_as_a_line_names_it() -> None:
    assert to_router("b@", "*") == ("10.1.0.0/24", "100.64.0.1/32", "fd77::/64")
    assert to_router("b@", "10.1.0.5") == ("10.1.0.5/32",)
    assert to_router("b@", "10.0.0.0/8") == ("10.1.0.0/24",)
    assert to_router("b@", "a@") == ("100.64.0.1/32",)
    assert to_router("b@", "100.64.0.0/10") == ("100.64.0.1/32",)
    assert to_router("b@", "10.2.0.0/24") == ()


def test_the_internet_is_reached_by_who_leads_to_a_default_route_and_nothing_private_with_it() -> None:
    exit_ = Member(1, "exit", "a", (), ("100.64.0.1",), ("0.0.0.0/0", "::/0"))
    policy = compile('{"grants": [{"src": ["b@"], "dst": ["autogroup:internet"], "ip": ["*"]}]}')
    (rule,) = policy.rules_for(exit_, (exit_, LAPTOP))
    networks = [ipaddress.ip_network(each) for each in rule.destinations]
    there = {
        each for each in ("8.8.8.8", "2001:db8::1", "192.168.1.1", "100.64.0.1", "10.0.0.1", "fd01::1")
        if any(ipaddress.ip_address(each) in network for network in networks)
    }  # fmt: skip
    assert there == {"8.8.8.8", "2001:db8::1"}
    assert policy.peers_of(LAPTOP, (exit_, LAPTOP)) == {1}
    assert policy.rules_for(ROUTER, SITE) == ()


def test_who_is_behind_a_member_comes_in_where_a_line_names_its_prefix_and_not_as_everybody() -> None:
    everybody = ("100.64.0.0/10", "fd00:1::/48")
    reach = compile(STARTER).reach(SITE, everybody)
    (rule,) = reach.rules_for(LAPTOP)
    assert rule.sources == everybody
    policy = compile('{"grants": [{"src": ["*", "10.1.0.0/16"], "dst": ["b@"], "ip": ["*"]}]}')
    (rule,) = policy.reach(SITE, everybody).rules_for(LAPTOP)
    assert rule.sources == ("10.1.0.0/16", *everybody)
    policy = compile('{"grants": [{"src": ["10.1.0.0/16"], "dst": ["b@"], "ip": ["*"]}]}')
    (rule,) = policy.rules_for(LAPTOP, SITE)
    assert rule.sources == ("10.1.0.0/16",)
    assert policy.peers_of(LAPTOP, SITE) == {1}
    assert policy.rules_for(ROUTER, SITE) == ()


def test_a_thousand_members_are_no_work() -> None:
    members = tuple(
        Member(n, f"n{n}", f"u{n % 50}", ("x",) if n % 10 == 0 else (), (f"10.0.{n // 250}.{n % 250}",))
        for n in range(1000)
    )
    policy = compile(
        '{"tagOwners": {"tag:x": []}, "grants": ['
        '{"src": ["autogroup:member"], "dst": ["tag:x"], "ip": ["443"]},'
        '{"src": ["autogroup:member"], "dst": ["autogroup:self"], "ip": ["*"]}]}'
    )
    began = time.process_time()
    for node in members:
        policy.rules_for(node, members)
        policy.peers_of(node, members)
    assert time.process_time() - began < 2
