"""What is remembered of a peer: each change, why it was made, and the numbers behind it."""

import msgspec


class Change(msgspec.Struct, frozen=True):
    """`at` in seconds of the Unix epoch; `numbers` and `cause` as `shore.core.changes` names them."""

    at: float
    what: str
    why: str
    numbers: dict[str, float] = {}
    cause: str = ""
