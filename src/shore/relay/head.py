"""The request head of a new connection: is it the upgrade to a stream?

Everything else is spliced as it came, so this reads no more than it must: nothing that it could
misunderstand is acted upon.
"""

from shore.wire import relay

MOST_HEAD = 16384
END = b"\r\n\r\n"

UPGRADED = (
    f"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: {relay.UPGRADE}\r\n\r\n".encode()
)


def refusal(status: str, sentence: str) -> bytes:
    """A whole answer of one sentence, after which the connection ends."""
    body = (sentence + "\n").encode()
    head = f"HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\n"
    return head.encode() + f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body


def is_upgrade(head: bytes) -> bool:
    """Whether this whole head asks for a stream, exactly as the page has it."""
    try:
        request, *lines = head.decode("ascii").split("\r\n")
    except UnicodeDecodeError:
        return False
    if request != f"GET {relay.PATH} HTTP/1.1":
        return False
    fields: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or name != name.strip() or name.lower() in fields:
            return False
        fields[name.lower()] = value.strip().lower()
    connection = [word.strip() for word in fields.get("connection", "").split(",")]
    without_body = fields.get("content-length", "0") == "0" and "transfer-encoding" not in fields
    return "upgrade" in connection and fields.get("upgrade") == relay.UPGRADE and without_body
