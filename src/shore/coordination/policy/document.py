"""A policy file as values that know where they stand, so that each complaint can say it."""

import re
from difflib import get_close_matches
from typing import Any

import msgspec

from shore.coordination.policy import jwcc
from shore.wire.policy import Complaint

MOST_BYTES = 1 << 20
MOST_WORDS = 200
_AT_BYTE = re.compile(r"\(byte (\d+)\)")


class PolicyError(Exception):
    """What is wrong, where, and what would be right: one sentence. Lines and columns count from 1."""

    def __init__(self, line: int, column: int, sentence: str) -> None:
        super().__init__(f"line {line}, column {column}: {sentence}")
        self.line = line
        self.column = column
        self.sentence = sentence

    @property
    def complaint(self) -> Complaint:
        """The same for whoever sent the file."""
        return Complaint(self.sentence, self.line, self.column)


class Value:
    """A value of the file and its place."""

    def __init__(self, text: bytes, places: dict[jwcc.Path, int], path: jwcc.Path, value: Any) -> None:
        self.value = value
        self._text = text
        self._places = places
        self._path = path

    @property
    def line(self) -> int:
        """Where it stands."""
        return position(self._text, self._offset)[0]

    @property
    def words(self) -> str:
        """What it says, on one line that is not too long."""
        said = msgspec.json.encode(self.value).decode()
        return said if len(said) <= MOST_WORDS else f"{said[: MOST_WORDS - 1]}…"

    def wrong(self, sentence: str) -> PolicyError:
        """The error that stands here."""
        return PolicyError(*position(self._text, self._offset), sentence)

    def text(self) -> str:
        """It must be a string, and not an empty one."""
        if not isinstance(self.value, str) or not self.value:
            raise self.wrong("a string belongs here")
        return self.value

    def entries(self) -> list["Value"]:
        """It must be an array."""
        if not isinstance(self.value, list):
            raise self.wrong("an array belongs here, such as [ ... ]")
        return [self._inner(number, value) for number, value in enumerate(self.value)]

    def fields(self) -> dict[str, "Value"]:
        """It must be an object."""
        if not isinstance(self.value, dict):
            raise self.wrong("an object belongs here, such as { ... }")
        return {key: self._inner(key, value) for key, value in self.value.items()}

    def known_fields(self, *known: str) -> dict[str, "Value"]:
        """It must be an object with no other keys than these."""
        fields = self.fields()
        for key, value in fields.items():
            if key not in known:
                raise value.wrong(f"`{key}` is not known here{meant(key, known)}")
        return fields

    def _inner(self, key: str | int, value: Any) -> "Value":
        return Value(self._text, self._places, (*self._path, key), value)

    @property
    def _offset(self) -> int:
        return self._places[self._path]


def read(text: str) -> Value:
    """The whole file. A file without a value is an empty object. Raises PolicyError."""
    written = text.encode("utf-8", "replace")
    if len(written) > MOST_BYTES:
        raise PolicyError(1, 1, f"a policy has at most {MOST_BYTES} bytes, and this has {len(written)}")
    try:
        json = jwcc.plain(written.replace(b"\xef\xbb\xbf", b"   ", 1) if text[:1] == "\ufeff" else written)
    except jwcc.Unterminated as error:
        raise PolicyError(*position(written, error.offset), "this comment has no end: */") from None
    if not json.strip():
        return Value(written, {(): 0}, (), {})
    try:
        value = msgspec.json.decode(json)
        return Value(written, jwcc.places(json), (), value)
    except msgspec.DecodeError as error:
        raise _malformed(written, json, str(error)) from None
    except RecursionError:
        raise PolicyError(1, 1, "this is nested too deeply") from None
    except KeyError as error:
        path, offset = error.args
        raise PolicyError(*position(written, offset), f"`{path[-1]}` is here twice") from None


def position(text: bytes, offset: int) -> tuple[int, int]:
    """Line and column, in characters."""
    start = text.rfind(b"\n", 0, offset) + 1
    return text.count(b"\n", 0, offset) + 1, len(text[start:offset].decode("utf-8", "replace")) + 1


def meant(word: str, known: tuple[str, ...]) -> str:
    """What may have been meant: the close of a sentence, or nothing."""
    close = get_close_matches(word, known, 1)
    return f": is it `{close[0]}`?" if close else f": there is {listed(known)}" if known else ""


def listed(words: tuple[str, ...]) -> str:
    """`a`, `b` and `c`."""
    quoted = [f"`{word}`" for word in words]
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} and {quoted[-1]}"


def _malformed(text: bytes, json: bytes, complaint: str) -> PolicyError:
    at = _AT_BYTE.search(complaint)
    offset = min(int(at[1]), len(text)) if at else len(json.rstrip())
    reason = complaint.removeprefix("JSON is malformed: ").split(" (byte")[0]
    if "truncated" in complaint:
        reason = "the file ends before its last bracket is closed"
    return PolicyError(*position(text, offset), f"this is no JSON: {reason}")
