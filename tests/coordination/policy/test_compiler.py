"""What a policy file says, and what is said of a wrong one."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shore.coordination.members import Member
from shore.coordination.policy import STARTER, PolicyError, compile
from shore.coordination.policy.reach import MEMBERS
from shore.model.filter import Ports, Rule

ALICE = Member(1, "laptop", "alice@example.com", (), ("100.64.0.1",))
PHONE = Member(2, "phone", "alice@example.com", (), ("100.64.0.2", "fd00::2"))
BOB = Member(3, "bob", "bob", (), ("100.64.0.3",))
WEB = Member(4, "web", "owner", ("tag:web",), ("100.64.0.4",))
DB = Member(5, "db", "alice@example.com", ("db",), ("100.64.0.5",))
ALL = (ALICE, PHONE, BOB, WEB, DB)

NAMES = """
  "groups": {"group:dev": ["alice@example.com", "bob@"]},
  "tagOwners": {"tag:web": ["group:dev"], "tag:db": []},
  "hosts": {"database": "100.64.0.5", "office": "100.64.0.0/30"},
  "ipsets": {"ipset:most": ["100.64.0.0/29", "remove database"]},
"""


def grant(src: str, dst: str, ip: str) -> str:
    return f'{{{NAMES} "grants": [{{"src": ["{src}"], "dst": ["{dst}"], "ip": ["{ip}"]}}],}}'


def reached(text: str) -> set[tuple[str, str]]:
    """Pairs of names of which the first may reach the second at some port."""
    policy = compile(text, ALL)
    return {
        (source.name, destination.name)
        for source in ALL
        for destination in ALL
        if any(line.lets(source, destination) for line in policy.lines)
    }


def to_all(*sources: str) -> set[tuple[str, str]]:
    return {(source, member.name) for source in sources for member in ALL}


@pytest.mark.parametrize(
    ("src", "sources"),
    [
        ("*", ("laptop", "phone", "bob", "web", "db")),
        ("autogroup:member", ("laptop", "phone", "bob")),
        ("autogroup:tagged", ("web", "db")),
        ("alice@example.com", ("laptop", "phone")),
        ("bob@", ("bob",)),
        ("group:dev", ("laptop", "phone", "bob")),
        ("tag:web", ("web",)),
        ("tag:db", ("db",)),
        ("database", ("db",)),
        ("office", ("laptop", "phone", "bob")),
        ("100.64.0.4", ("web",)),
        ("fd00::/64", ("phone",)),
        ("ipset:most", ("laptop", "phone", "bob", "web")),
    ],
)
def test_each_word_means_its_members(src: str, sources: tuple[str, ...]) -> None:
    assert reached(grant(src, "*", "*")) == to_all(*sources)
    assert reached(grant("*", src, "*")) == {(b, a) for a, b in to_all(*sources)}


def test_self_is_the_nodes_of_the_same_user_without_tags() -> None:
    assert reached(grant("group:dev", "autogroup:self", "*")) == {
        *((a, b) for a in ("laptop", "phone") for b in ("laptop", "phone")),
        ("bob", "bob"),
    }


@pytest.mark.parametrize(
    "text", ["", "{}", "// nothing\n", '{"grants": []}', grant("*", "autogroup:internet", "*")]
)
def test_there_is_no_default(text: str) -> None:
    policy = compile(text, ALL)
    assert all(policy.rules_for(member, ALL) == () for member in ALL)
    assert all(policy.peers_of(member, ALL) == set() for member in ALL)
    assert policy.notes


def test_what_a_new_network_begins_with_lets_members_reach_each_other() -> None:
    policy = compile(STARTER, ALL)
    assert policy.notes == ()
    assert policy.rules_for(BOB, ALL) == (Rule(MEMBERS, ("100.64.0.3/32",), (Ports(),)),)
    assert policy.peers_of(BOB, ALL) == {1, 2, 4, 5}


@pytest.mark.parametrize(
    ("ip", "ports"),
    [
        ("*", (Ports(),)),
        ("tcp:*", (Ports("tcp"),)),
        ("tcp:22", (Ports("tcp", 22, 22),)),
        ("udp:53,60-70", (Ports("udp", 53, 53), Ports("udp", 60, 70))),
        ("22", (Ports("tcp", 22, 22), Ports("udp", 22, 22), Ports("icmp"))),
        ("icmp:*", (Ports("icmp"),)),
        ("gre:*", (Ports(47),)),
        ("6:80", (Ports("tcp", 80, 80),)),
        ("sctp:7", (Ports(132, 7, 7),)),
        ("99:*", (Ports(99),)),
    ],
)
def test_ports_are_written_as_in_tailscales_language(ip: str, ports: tuple[Ports, ...]) -> None:
    (rule,) = compile(grant("bob@", "tag:web", ip)).rules_for(WEB, ALL)
    assert rule == Rule(("100.64.0.3/32",), ("100.64.0.4/32",), ports)


def test_acls_give_each_destination_its_ports() -> None:
    policy = compile(
        f'{{{NAMES} "acls": [{{"action": "accept", "src": ["group:dev"],'
        ' "dst": ["tag:web:80,443", "database:5432", "[fd00::2]:22"], "proto": "tcp"}]}',
        ALL,
    )
    sources = ("100.64.0.1/32", "100.64.0.2/31", "fd00::2/128")
    web = (Ports("tcp", 80, 80), Ports("tcp", 443, 443))
    assert policy.rules_for(WEB, ALL) == (Rule(sources, ("100.64.0.4/32",), web),)
    assert policy.rules_for(DB, ALL) == (Rule(sources, ("100.64.0.5/32",), (Ports("tcp", 5432, 5432),)),)
    assert policy.rules_for(PHONE, ALL) == (Rule(sources, ("fd00::2/128",), (Ports("tcp", 22, 22),)),)
    assert policy.rules_for(BOB, ALL) == ()


WRONG = [
    ('{\n  "grants": [}', 2, 14, "this is no JSON"),
    ('{"grants": [', 1, 13, "the file ends before"),
    ("{} /* ", 1, 4, "has no end"),
    ('{"acls": [],\n "acls": []}', 2, 2, "`acls` is here twice"),
    ("[]", 1, 1, "an object belongs here"),
    ('{"grants": {}}', 1, 2, "an array belongs here"),
    ('{"grants": [{"src": ["*"], "dst": ["*"]}]}', 1, 13, 'lacks `ip`, such as "ip": ["tcp:443"]'),
    ('{"grants": [{"scr": ["*"]}]}', 1, 14, "`scr` is not known here: is it `src`?"),
    (grant("group:dve", "*", "*"), 6, 22, "`group:dve` is not in `groups`: is it `group:dev`?"),
    (grant("tag:new", "*", "*"), 6, 22, "`tag:new` is not in `tagOwners`"),
    (grant("autogroup:self", "*", "*"), 6, 22, "can be a destination only"),
    (grant("autogroup:admin", "*", "*"), 6, 22, "`autogroup:admin` is not supported"),
    (grant("alice", "*", "*"), 6, 22, "user (`alice@`)"),
    (grant("10.0.0.0/33", "*", "*"), 6, 22, "`10.0.0.0/33` is no host"),
    (grant("*", "*", "tcp"), 6, 49, "write `tcp:*`"),
    (grant("*", "*", "443-80"), 6, 49, "`443-80` is no port"),
    (grant("*", "*", "tcp:65536"), 6, 49, "`65536` is no port"),
    (grant("*", "*", "icmp:8"), 6, 49, "`icmp` has no ports"),
    (grant("*", "*", "tpc:8"), 6, 49, "`tpc` is no protocol"),
    ('{"acls": [{"action": "deny"}]}', 1, 12, "there is `accept` only"),
    ('{"acls": [{"action": "accept", "src": ["*"], "dst": ["10.0.0.1"]}]}', 1, 54, "write `10.0.0.1:*`"),
    ('{"grants": [{"src": ["*"], "dst": ["*"], "ip": ["*"], "via": []}]}', 1, 55, "`via` is not supported"),
    ('{"grants": [{"src": ["*"], "dst": ["*"], "ip": ["*"], "srcPosture": []}]}', 1, 55, "more would be let"),
    ('{"groups": {"dev": []}}', 1, 13, "`group:dev`"),
    ('{"groups": {"group:a": ["group:b"]}}', 1, 25, "users only"),
    ('{"hosts": {"a": "b"}}', 1, 12, "`b` is no address"),
    ('{"tagOwners": {"tag:a": ["group:b"]}}', 1, 26, "`group:b` is not in `groups`"),
    ('{"grants": [{"src": [1], "dst": [], "ip": []}]}', 1, 22, "a string belongs here"),
    ('{"ü": /* ü */ [}', 1, 16, "this is no JSON"),
]


@pytest.mark.parametrize(("text", "line", "column", "sentence"), WRONG, ids=[case[3] for case in WRONG])
def test_what_is_wrong_is_said_with_its_place(text: str, line: int, column: int, sentence: str) -> None:
    with pytest.raises(PolicyError) as caught:
        compile(text)
    assert sentence in caught.value.sentence
    assert (caught.value.line, caught.value.column) == (line, column)


def test_what_is_not_supported_is_noted_by_its_line() -> None:
    text = '{"ssh": [],\n"sshTests": [],\n"grant": [], "grants": [{"src": ["*"], "dst": ["*"], "app": {}}]}'
    assert compile(text).notes == (
        "line 1: `ssh` is not supported and has no effect",
        "line 2: `sshTests` is not supported and has no effect",
        "line 3: `grant` is not supported and has no effect: is it `grants`?",
        "line 3: `app` is not supported and has no effect",
        "no line lets anybody in: nobody may reach anybody",
    )


def with_test(src: str, verdict: str, dst: str, proto: str = "tcp") -> str:
    rules = '"grants": [{"src": ["group:dev"], "dst": ["tag:db"], "ip": ["tcp:5432"]}],'
    test = f'{{"src": "{src}", "proto": "{proto}", "{verdict}": ["{dst}"]}}'
    return f'{{{NAMES}{rules}\n"tests": [{test}]}}'


@pytest.mark.parametrize("members", [(), ALL])
@pytest.mark.parametrize(
    ("src", "dst", "proto", "admitted"),
    [
        ("bob@", "tag:db:5432", "tcp", True),
        ("group:dev", "tag:db:5432", "tcp", True),
        ("bob@", "tag:db:5433", "tcp", False),
        ("bob@", "tag:db:5432", "udp", False),
        ("carol@", "tag:db:5432", "tcp", False),
        ("tag:web", "tag:db:5432", "tcp", False),
    ],
)
def test_tests_run_whenever_the_file_is_read(
    src: str, dst: str, proto: str, admitted: bool, members: tuple[Member, ...]
) -> None:
    right, wrong = ("accept", "deny") if admitted else ("deny", "accept")
    assert compile(with_test(src, right, dst, proto), members).notes == ()
    with pytest.raises(PolicyError, match=r"line 7, column .*: the test fails"):
        compile(with_test(src, wrong, dst, proto), members)


def test_a_test_of_an_address_needs_the_members() -> None:
    text = with_test("100.64.0.3", "accept", "database:5432")
    assert compile(text, ALL).notes == ()
    assert "known only where members are" in compile(text).notes[0]
    with pytest.raises(PolicyError, match="the test fails: no line lets"):
        compile(with_test("100.64.0.9", "accept", "database:5432"), ALL)


@given(st.text(max_size=80) | st.text('{}[],":/*\\ a1\n@', max_size=60))
def test_no_text_does_more_than_be_refused(text: str) -> None:
    with contextlib.suppress(PolicyError):
        compile(text, ALL)


def test_nesting_without_end_is_refused() -> None:
    with pytest.raises(PolicyError, match="nested too deeply"):
        compile("[" * 100_000)
