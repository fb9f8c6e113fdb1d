"""What is said about policies over the server's REST API (docs/policy.md, "For scripts").

    GET  /api/v1/policy                          -> PolicyText
    PUT  /api/v1/policy        PolicyText        -> Checked: it is in force
    POST /api/v1/policy/check  PolicyText        -> Checked: nothing changed
    POST /api/v1/policy/diff   PolicyText        -> Changes, against what is in force
    POST /api/v1/policy/trace  Question          -> Trace

What cannot be done is an answer of 4xx with a `Refusal`; a file that is wrong has 422 and its place.
"""

import msgspec

ROUTE = "/api/v1/policy"


class PolicyText(msgspec.Struct, frozen=True):
    """A policy file."""

    text: str


class Checked(msgspec.Struct, frozen=True):
    """The file is right. `notes` say what of it has no effect."""

    notes: tuple[str, ...] = ()


class Change(msgspec.Struct, frozen=True):
    """From one member to another, by name: ports in words, empty where nothing was gained (or lost)."""

    source: str
    destination: str
    gained: str
    lost: str


class Changes(msgspec.Struct, frozen=True):
    """What another file would change for the members that are there."""

    changes: tuple[Change, ...]
    notes: tuple[str, ...] = ()


class Question(msgspec.Struct, frozen=True):
    """May one member, by name or address, reach another?"""

    source: str
    destination: str
    port: int
    protocol: str = "tcp"


class Trace(msgspec.Struct, frozen=True):
    """`line` and `words` are those of the rule that lets it in."""

    admitted: bool
    sentence: str
    line: int | None = None
    words: str | None = None


class Complaint(msgspec.Struct, frozen=True):
    """What is wrong, and where if it is in the file."""

    sentence: str
    line: int | None = None
    column: int | None = None


class Refusal(msgspec.Struct, frozen=True):
    """As FastAPI words it."""

    detail: Complaint | str
