"""Questions about names, as dialogues: what is asked, and what comes of it."""

import struct

import dns.flags
import dns.message
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shore.core.resolving import (
    Answer,
    AskUpstream,
    Decision,
    Directory,
    Ignore,
    failure,
    is_reply_to,
)
from shore.core.zones import reverse_domains
from shore.model.zone import Zone

LAPTOP = ("100.64.0.1", "fd12:3456:789a::1")
ZONE = Zone(
    "shore.internal",
    "fd12:3456:789a::/48",
    (("laptop.shore.internal", LAPTOP), ("nas.shore.internal", ("100.64.7.2",))),
)
DIRECTORY = Directory(ZONE)
REVERSE_V6 = "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.a.9.8.7.6.5.4.3.2.1.d.f.ip6.arpa"


def question(name: str, kind: str = "A", **words: object) -> bytes:
    return dns.message.make_query(name, kind, id=7, **words).to_wire()


def said(decision: Decision) -> dns.message.Message:
    assert isinstance(decision, Answer)
    return dns.message.from_wire(decision.reply)


def dialogue(name: str, kind: str = "A") -> tuple[str, list[str]]:
    """The code, and the records as `TYPE text`."""
    reply = said(DIRECTORY.decide(question(name, kind)))
    assert reply.id == 7
    assert reply.flags & dns.flags.AA
    records = [record for rrset in reply.answer for record in rrset]
    texts = [f"{dns.rdatatype.to_text(record.rdtype)} {record}" for record in records]
    return dns.rcode.to_text(reply.rcode()), texts


@pytest.mark.parametrize(
    ("name", "kind", "code", "records"),
    [
        ("laptop.shore.internal", "A", "NOERROR", ["A 100.64.0.1"]),
        ("LapTop.SHORE.internal", "A", "NOERROR", ["A 100.64.0.1"]),
        ("laptop.shore.internal", "AAAA", "NOERROR", ["AAAA fd12:3456:789a::1"]),
        ("laptop.shore.internal", "ANY", "NOERROR", ["A 100.64.0.1", "AAAA fd12:3456:789a::1"]),
        ("nas.shore.internal", "AAAA", "NOERROR", []),
        ("laptop.shore.internal", "MX", "NOERROR", []),
        ("shore.internal", "A", "NOERROR", []),
        ("gone.shore.internal", "A", "NXDOMAIN", []),
        ("www.laptop.shore.internal", "A", "NXDOMAIN", []),
        ("1.0.64.100.in-addr.arpa", "PTR", "NOERROR", ["PTR laptop.shore.internal."]),
        (REVERSE_V6, "PTR", "NOERROR", ["PTR laptop.shore.internal."]),
        ("9.9.127.100.in-addr.arpa", "PTR", "NXDOMAIN", []),
        ("64.100.in-addr.arpa", "PTR", "NOERROR", []),
        ("7.64.100.in-addr.arpa", "PTR", "NOERROR", []),
        ("8.64.100.in-addr.arpa", "PTR", "NXDOMAIN", []),
    ],
)
def test_what_is_ours_is_answered_here_whether_it_exists_or_not(
    name: str, kind: str, code: str, records: list[str]
) -> None:
    assert dialogue(name, kind) == (code, records)


@pytest.mark.parametrize(
    "name",
    [
        "example.com",
        "internal",
        "other.internal",
        "notshore.internal",
        "shore.internal.example.com",
        "1.0.63.100.in-addr.arpa",
        "1.0.128.100.in-addr.arpa",
        "a.9.8.8.6.5.4.3.2.1.d.f.ip6.arpa",
        ".",
    ],
)
def test_what_is_not_ours_is_asked_upstream(name: str) -> None:
    assert DIRECTORY.decide(question(name)) == AskUpstream()


def test_what_does_not_exist_is_unknown_for_seconds_only() -> None:
    reply = said(DIRECTORY.decide(question("gone.shore.internal")))
    (authority,) = reply.authority
    assert authority.name.to_text() == "shore.internal."
    assert (authority.rdtype, authority.ttl, authority[0].minimum) == (dns.rdatatype.SOA, 5, 5)
    assert dialogue("shore.internal", "SOA")[1] == [f"SOA {authority[0]}"]


def test_an_answer_repeats_the_letters_of_the_question() -> None:
    reply = said(DIRECTORY.decide(question("NaS.shore.internal")))
    assert reply.question[0].name.to_text() == reply.answer[0].name.to_text() == "NaS.shore.internal."


MANY = Directory(
    Zone(
        "shore.internal",
        ZONE.range_v6,
        (("many.shore.internal", tuple(f"100.64.1.{n}" for n in range(90))),),
    )
)


@pytest.mark.parametrize(("edns", "payload"), [(-1, 0), (0, 0), (0, 512), (0, 1232), (0, 65535)])
def test_what_does_not_fit_a_datagram_is_cut_and_comes_by_stream(edns: int, payload: int) -> None:
    asked = question("many.shore.internal", use_edns=edns, payload=payload)
    decision = MANY.decide(asked)
    assert isinstance(decision, Answer)
    assert len(decision.reply) <= max(512, min(payload, 1232))
    assert said(decision).flags & dns.flags.TC
    whole = said(MANY.decide(asked, stream=True))
    assert not whole.flags & dns.flags.TC
    assert len(whole.answer[0]) == 90


def test_a_larger_datagram_is_used_where_the_asker_takes_it() -> None:
    directory = Directory(
        Zone(
            "shore.internal",
            ZONE.range_v6,
            (("few.shore.internal", tuple(f"100.64.1.{n}" for n in range(50))),),
        )
    )
    assert said(directory.decide(question("few.shore.internal"))).flags & dns.flags.TC
    reply = said(directory.decide(question("few.shore.internal", use_edns=0, payload=4096)))
    assert not reply.flags & dns.flags.TC
    assert (reply.edns, reply.payload, len(reply.answer[0])) == (0, 1232, 50)


def test_later_versions_of_edns_are_named_as_unknown() -> None:
    assert said(DIRECTORY.decide(question("nas.shore.internal", use_edns=1))).rcode() == dns.rcode.BADVERS


def test_another_class_is_refused() -> None:
    asked = question("nas.shore.internal", rdclass=dns.rdataclass.CH)
    assert said(DIRECTORY.decide(asked)).rcode() == dns.rcode.REFUSED


def test_what_is_no_question_gets_no_answer() -> None:
    asked = question("nas.shore.internal")
    decision = DIRECTORY.decide(asked)
    assert isinstance(decision, Answer)
    assert DIRECTORY.decide(decision.reply) == Ignore()
    assert DIRECTORY.decide(asked[:11]) == Ignore()


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        (struct.pack("!6H", 7, 0x0100, 1, 0, 0, 0), dns.rcode.FORMERR),
        (struct.pack("!6H", 7, 0x0100, 0, 0, 0, 0), dns.rcode.FORMERR),
        (struct.pack("!6H", 7, 0x0100, 1, 0, 0, 0) + b"\xc0\x0c\0\1\0\1", dns.rcode.FORMERR),
        (struct.pack("!6H", 7, 0x2800, 0, 0, 0, 0), dns.rcode.NOTIMP),
        (question("nas.shore.internal") + b"trailing", dns.rcode.FORMERR),
    ],
)
def test_a_question_that_cannot_be_read_gets_a_header(asked: bytes, code: dns.rcode.Rcode) -> None:
    reply = said(DIRECTORY.decide(asked))
    assert (reply.id, reply.rcode(), reply.question) == (7, code, [])
    assert reply.flags & dns.flags.RD == dns.message.from_wire(failure(asked, code)).flags & dns.flags.RD


headers = st.binary(max_size=12)
likely = st.sampled_from([question("nas.shore.internal"), question("example.com", use_edns=0)])


@given(
    st.one_of(
        st.binary(max_size=300), st.builds(lambda head, rest: head + rest[len(head) :], headers, likely)
    )
)
def test_nothing_that_may_come_breaks_it_and_no_answer_is_a_question(hostile: bytes) -> None:
    for stream in (False, True):
        decision = DIRECTORY.decide(hostile, stream=stream)
        if isinstance(decision, Answer):
            assert decision.reply[:2] == hostile[:2]
            assert decision.reply[2] & 0x80
            assert len(decision.reply) <= 1232
        elif isinstance(decision, AskUpstream):
            assert not is_reply_to(hostile, hostile)


@given(likely, st.integers(0, 40), st.integers(1, 255))
def test_a_question_with_one_byte_changed_breaks_nothing(asked: bytes, place: int, change: int) -> None:
    hostile = bytearray(asked)
    hostile[place % len(hostile)] ^= change
    DIRECTORY.decide(bytes(hostile))


def test_an_answer_from_upstream_must_be_to_what_was_asked() -> None:
    asked = question("example.com")
    reply = dns.message.make_response(dns.message.from_wire(asked)).to_wire()
    assert is_reply_to(asked, reply)
    assert is_reply_to(asked, failure(asked, dns.rcode.SERVFAIL))
    assert not is_reply_to(asked, reply[:11])
    assert not is_reply_to(asked, b"\0\1" + reply[2:])
    assert not is_reply_to(asked, reply.replace(b"example", b"Example"))
    assert not is_reply_to(asked, asked)
    assert not is_reply_to(asked, failure(asked, dns.rcode.NOERROR))


def test_the_networks_addresses_turned_round_are_65_domains() -> None:
    domains = reverse_domains(ZONE)
    assert domains[:2] == ("64.100.in-addr.arpa", "65.100.in-addr.arpa")
    assert domains[-2:] == ("127.100.in-addr.arpa", "a.9.8.7.6.5.4.3.2.1.d.f.ip6.arpa")
    assert len(domains) == 65
