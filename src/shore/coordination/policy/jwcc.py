"""JSON with commas and comments (JWCC, which Tailscale calls HuJSON), made plain JSON of equal length.

Comments and commas before a closing bracket become spaces, newlines stay. So an offset in the plain text is
one in what people wrote, and every complaint can name line and column.
"""

import re

import msgspec

_TOKEN = re.compile(
    rb"""
      (?P<string>  "(?:[^"\\\n]|\\.)*"? )
    | (?P<comment> //[^\n]* | /\*.*?(?:\*/|\Z) )
    | (?P<comma>   , )
    | (?P<close>   [\]}] )
    | (?P<open>    [\[{] )
    | (?P<other>   [^\s,\[\]{}"/]+ | / )
    """,
    re.VERBOSE | re.DOTALL,
)
_JSON_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s{}\[\],:"]+', re.DOTALL)

Path = tuple[str | int, ...]


class Unterminated(Exception):
    """A comment that has no end."""

    def __init__(self, offset: int) -> None:
        super().__init__(offset)
        self.offset = offset


def plain(text: bytes) -> bytes:
    """The same text as JSON. What is no JWCC becomes no JSON. Raises Unterminated."""
    out = bytearray(text)
    comma: int | None = None
    before = ""
    for token in _TOKEN.finditer(text):
        kind, start, end = token.lastgroup, token.start(), token.end()
        if kind == "comment":
            if text.startswith(b"/*", start) and (end - start < 4 or not text.endswith(b"*/", start, end)):
                raise Unterminated(start)
            out[start:end] = re.sub(rb"[^\r\n]", b" ", text[start:end])
            continue
        if kind == "close" and comma is not None:
            out[comma] = ord(" ")
        # A comma may be left over after a value only.
        comma = start if kind == "comma" and before in ("string", "other", "close") else None
        before = kind or ""
    return bytes(out)


def places(json: bytes) -> dict[Path, int]:
    """Where each value of a JSON text begins; a value in an object is where its key is.

    Raises KeyError with the path and the offset of a key that is there twice. The text must be right.
    """
    found: dict[Path, int] = {(): 0}
    path: list[str | int] = []
    expects_key = False
    for token in _JSON_TOKEN.finditer(json):
        word, start = token[0], token.start()
        if expects_key and word.startswith(b'"'):
            path[-1] = _text(word)
            if tuple(path) in found:
                raise KeyError(tuple(path), start)
            found[tuple(path)] = start
            expects_key = False
        elif word == b",":
            expects_key = _next(path)
        elif word in (b"{", b"["):
            found.setdefault(tuple(path), start)
            path.append("" if word == b"{" else 0)
            expects_key = word == b"{"
        elif word in (b"}", b"]"):
            path.pop()
            expects_key = False
        elif word != b":":
            found.setdefault(tuple(path), start)
    return found


def _next(path: list[str | int]) -> bool:
    """After a comma: counts up in an array. True in an object, where a key comes next."""
    place = path[-1]
    if isinstance(place, int):
        path[-1] = place + 1
        return False
    return True


def _text(word: bytes) -> str:
    return str(msgspec.json.decode(word))
