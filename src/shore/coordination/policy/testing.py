"""The `tests` of a policy: whom each must let in and whom not, tried whenever the file is read.

A word stands for a member made for the test: `alice@` for a node of hers without tags, `tag:web` for a node
with that tag. An address or a host stands for the member that has it, so where no members are known such
a test cannot be run; where they are and none has it, nobody is there who could be let in by name.
"""

from collections.abc import Iterator

from shore.coordination.members import Member
from shore.coordination.policy.document import Value
from shore.coordination.policy.policy import Policy
from shore.coordination.policy.ports import LAST_PORT, protocol_of
from shore.coordination.policy.terms import Vocabulary, bare_tag
from shore.model.filter import Protocol


class _Unknown(Exception):
    """An address, and no members to look for it."""


def run(policy: Policy, tests: Value | None, words: Vocabulary, members: tuple[Member, ...]) -> Iterator[str]:
    """Notes of what could not be run. Raises PolicyError at what fails."""
    for test in tests.entries() if tests else ():
        try:
            _run(policy, test, words, members)
        except _Unknown as word:
            yield f"line {test.line}: this test was not run, as `{word}` is known only where members are"


def _run(policy: Policy, test: Value, words: Vocabulary, members: tuple[Member, ...]) -> None:
    fields = test.known_fields("src", "proto", "accept", "deny")
    if "src" not in fields or not {"accept", "deny"} & fields.keys():
        raise test.wrong("a test has a `src`, and destinations that it must `accept` or `deny`")
    protocol: Protocol | None = "tcp"
    if "proto" in fields:
        protocol = protocol_of(fields["proto"].text())
        if protocol is None:
            raise fields["proto"].wrong(f"`{fields['proto'].value}` is no protocol")
    assert protocol is not None
    sources = _members(fields["src"], fields["src"].text(), words, members)
    for verdict in ("accept", "deny"):
        for entry in fields[verdict].entries() if verdict in fields else ():
            word, _, port = entry.text().rpartition(":")
            destinations = _members(entry, word, words, members)
            at = _port(entry, port)
            for source, destination in ((s, d) for s in sources for d in destinations):
                line = policy.line_for(source, destination, protocol, at)
                if verdict == "accept" and line is None:
                    raise entry.wrong(
                        f"the test fails: no line lets {fields['src'].value} reach {entry.value}"
                    )
                if verdict == "deny" and line is not None:
                    raise entry.wrong(
                        f"the test fails: line {line.number} lets {fields['src'].value} reach {entry.value}"
                    )


def _members(entry: Value, word: str, words: Vocabulary, members: tuple[Member, ...]) -> list[Member]:
    if not word:
        raise entry.wrong(f"`{entry.value}` is no destination with a port, such as `tag:web:443`")
    selector = words.selector(entry, word, destination=True)
    match selector.kind:
        case "users":
            return [Member(0, "", user) for user in sorted(selector.names)]
        case "tag":
            return [Member(0, "", "", (bare_tag(word),))]
        case "networks":
            if not members:
                raise _Unknown(word)
            address = selector.networks[0].partition("/")[0] if selector.networks else ""
            there = [member for member in members if address in member.addresses]
            return there or [Member(0, "", "", ("",), (address,))]
        case _:
            raise entry.wrong(f"a test cannot speak of `{word}`: name a user, a tag, a host or an address")


def _port(entry: Value, written: str) -> int:
    if not (written.isascii() and written.isdecimal() and 0 <= int(written) <= LAST_PORT):
        raise entry.wrong(f"`{written}` is no port: a test tries one, such as `tag:web:443`")
    return int(written)
