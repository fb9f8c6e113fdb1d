"""What people ask of a policy: who may, and what would change."""

import pytest

from shore.coordination.members import Member
from shore.coordination.policy import STARTER, Change, Unknown, compile, diff, trace

BOB = Member(1, "bob", "bob", (), ("100.64.0.1",))
WEB = Member(2, "web", "owner", ("web",), ("100.64.0.2",))
BOTH = (BOB, WEB)
STRICT = compile(
    """{
  "tagOwners": {"tag:web": []},
  "grants": [
    {"src": ["bob@"],
     "dst": ["tag:web"], "ip": ["tcp:80-90", "icmp:*"]},
  ],
}"""
)


def test_a_trace_names_the_line_that_lets_it_in() -> None:
    told = trace(STRICT, BOTH, "bob", "100.64.0.2", port=85)
    assert (told.admitted, told.line) == (True, 4)
    assert told.sentence == "line 4 lets bob reach web by tcp 85"
    assert told.words == '{"src":["bob@"],"dst":["tag:web"],"ip":["tcp:80-90","icmp:*"]}'


def test_or_says_that_none_does() -> None:
    assert trace(STRICT, BOTH, "bob", "web", port=91).sentence == "no line lets bob reach web by tcp 91"
    assert not trace(STRICT, BOTH, "bob", "web", port=85, protocol="udp").admitted
    assert not trace(STRICT, BOTH, "web", "bob", port=85).admitted
    assert trace(STRICT, BOTH, "bob", "web", port=0, protocol="icmp").admitted


@pytest.mark.parametrize(
    ("source", "port", "protocol", "sentence"),
    [
        ("bobb", 1, "tcp", "no member is called `bobb` or has that address: is it `bob`?"),
        ("100.64.0.9", 1, "tcp", "no member is called"),
        ("bob", 65536, "tcp", "65536 is no port"),
        ("bob", 1, "tpc", "`tpc` is no protocol"),
    ],
)
def test_what_is_not_there_cannot_be_traced(source: str, port: int, protocol: str, sentence: str) -> None:
    with pytest.raises(Unknown, match=sentence.split(":", maxsplit=1)[0].replace("`", ".")):
        trace(STRICT, BOTH, source, "web", port=port, protocol=protocol)


def test_an_address_behind_a_member_can_be_traced() -> None:
    router = Member(3, "router", "owner", (), ("100.64.0.3",), ("10.1.0.0/24", "10.1.0.0/28"))
    policy = compile('{"grants": [{"src": ["bob@"], "dst": ["10.1.0.0/25"], "ip": ["tcp:631"]}]}')
    members = (*BOTH, router)
    told = trace(policy, members, "bob", "10.1.0.9", port=631)
    assert (told.admitted, told.sentence) == (True, "line 1 lets bob reach 10.1.0.9 behind router by tcp 631")
    assert not trace(policy, members, "bob", "10.1.0.200", port=631).admitted
    assert not trace(policy, members, "bob", "router", port=631).admitted
    assert not trace(policy, members, "10.1.0.9", "bob", port=631).admitted


def test_a_difference_is_who_gains_and_loses_which_ports() -> None:
    starter = compile(STARTER)
    assert diff(starter, starter, BOTH) == ()
    assert diff(starter, STRICT, BOTH) == (
        Change("bob", "web", gained="", lost="every protocol"),
        Change("web", "bob", gained="", lost="every protocol"),
    )
    assert diff(compile("{}"), STRICT, BOTH) == (Change("bob", "web", gained="tcp 80-90, icmp", lost=""),)


def test_ports_that_others_cover_already_are_no_gain() -> None:
    wide = compile('{"grants": [{"src": ["bob@"], "dst": ["*"], "ip": ["tcp:80-90", "tcp:85"]}]}')
    narrow = compile('{"grants": [{"src": ["bob@"], "dst": ["*"], "ip": ["tcp:80-90"]}]}')
    assert diff(wide, narrow, BOTH) == ()
