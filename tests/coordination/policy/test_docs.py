"""The examples of docs/policy.md are right, and do what the page says of them."""

import re
from pathlib import Path

import pytest

from shore.coordination.members import Member
from shore.coordination.policy import compile, trace

PAGE = (Path(__file__).parents[3] / "docs" / "policy.md").read_text()
EXAMPLES = re.findall(r"```hujson\n(.*?)```", PAGE, re.DOTALL)
MEMBERS = (
    Member(1, "alice", "alice@example.com", (), ("100.64.0.1",)),
    Member(2, "carol", "carol", (), ("100.64.0.2",)),
    Member(3, "phone", "carol", (), ("100.64.0.3",)),
    Member(4, "web", "owner", ("web",), ("100.64.0.4",)),
    Member(5, "database", "owner", ("database",), ("100.64.0.5",)),
    Member(6, "backup", "owner", (), ("100.64.0.7",)),
)


@pytest.mark.parametrize("members", [(), MEMBERS])
@pytest.mark.parametrize("example", EXAMPLES, ids=range(len(EXAMPLES)))
def test_each_example_is_right_and_passes_its_own_tests(example: str, members: tuple[Member, ...]) -> None:
    assert compile(example, members).notes == ()


@pytest.mark.parametrize(
    ("source", "destination", "port", "admitted"),
    [
        ("alice", "database", 5432, True),
        ("carol", "phone", 9, True),
        ("carol", "alice", 22, False),
        ("carol", "web", 443, True),
        ("carol", "web", 22, False),
        ("web", "database", 5432, True),
        ("database", "web", 443, False),
        ("backup", "web", 22, True),
    ],
)
def test_the_long_one_lets_in_whom_it_says(source: str, destination: str, port: int, admitted: bool) -> None:
    policy = compile(EXAMPLES[1], MEMBERS)
    assert trace(policy, MEMBERS, source, destination, port=port).admitted == admitted


def test_every_word_and_port_of_the_tables_is_known() -> None:
    destinations, ports = (
        re.findall(
            r"`([^` ]+)`", "".join(line.split("|")[1] for line in part.splitlines() if line.startswith("| `"))
        )
        for part in (section("### Whom a word means"), section("### Ports"))
    )
    defined = """
      "groups": {"group:admins": []}, "tagOwners": {"tag:web": []},
      "ipsets": {"ipset:few": ["100.64.0.0/24", "remove 100.64.0.9"]},
    """
    for word in (word for word in destinations if word != "hosts"):
        compile(f'{{{defined} "grants": [{{"src": ["*"], "dst": ["{word}"], "ip": ["*"]}}]}}')
    for port in ports:
        compile(f'{{"grants": [{{"src": ["*"], "dst": ["*"], "ip": ["{port}"]}}]}}')
    assert len(destinations) >= 11
    assert len(ports) >= 10


def section(title: str) -> str:
    return PAGE.split(title)[1].split("\n#")[0]
