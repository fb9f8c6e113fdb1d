"""A simulated node: a real WebSocket to a real server, real signatures, and belief in whatever it hears.

It has no tunnel and checks nothing, so a thousand of them fit on one core. What comes once a node is ready is
stamped as it comes and read when nothing else comes, so that none is late because others are read.
"""

import asyncio
import base64
import contextlib
import os
import time
from collections import deque
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from shore.model.desired import Candidate
from shore.model.netmap import Head, Peer
from shore.wire import control, signing
from shore.wire.token import secret_hash

# Shorter than anything but a ping, which is answered as it comes.
SHORT = 64
READ_AT_ONCE = 8
IDLE_S = 0.002


class Crowd(msgspec.Struct):
    """What is common to many: what they heard and did not read yet, when each moved, and how long each peer
    waited to hear of it. With a `secret` strangers among them enrol."""

    secret: bytes | None = None
    unread: deque["Heard"] = msgspec.field(default_factory=deque)
    moved_at: dict[str, float] = {}
    waits: list[float] = []

    async def read(self) -> None:
        """Read what was heard, in the pauses, until cancelled; then all that is left."""
        try:
            while True:
                self._read_some()
                await asyncio.sleep(0 if self.unread else IDLE_S)
        finally:
            while self.unread:
                self._read_some()

    def _read_some(self) -> None:
        for _ in range(min(READ_AT_ONCE, len(self.unread))):
            heard = self.unread.popleft()
            heard.node.hear(heard.content, heard.at)


class Heard(msgspec.Struct, frozen=True):
    """A message, and when it came."""

    node: "Node"
    content: bytes
    at: float


class Node(asyncio.Protocol):
    """One node; `ready` once it holds a netmap and admissions."""

    def __init__(self, crowd: Crowd, number: int, node_key: bytes) -> None:
        self.crowd, self.number, self.node_key = crowd, number, node_key
        self.key = Ed25519PrivateKey.generate()
        self.held = (0, 0)
        self.ready: asyncio.Future[float]
        self.broken: list[str] = []
        self._gone: asyncio.Future[None]
        self._heard = bytearray()
        self._open = False
        self._nonce = b""
        self._transport: asyncio.Transport

    async def dial(self, path: Path) -> None:
        """Be ready. Who was not heard in time, or found the listener's queue full, dials again."""
        loop = asyncio.get_running_loop()
        self.ready = loop.create_future()
        while not self.ready.done():
            self._gone, self._open = loop.create_future(), False
            self._heard.clear()
            with contextlib.suppress(BlockingIOError):
                await loop.create_unix_connection(lambda: self, str(path))
                await asyncio.wait((self.ready, self._gone), return_when=asyncio.FIRST_COMPLETED)
                continue
            await asyncio.sleep(0.02)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        key = base64.b64encode(os.urandom(16)).decode()
        lines = (
            f"GET {control.PATH} HTTP/1.1", "Host: localhost", "Upgrade: websocket", "Connection: Upgrade",
            f"Sec-WebSocket-Key: {key}", "Sec-WebSocket-Version: 13",
            f"Sec-WebSocket-Protocol: {control.SUBPROTOCOL}", "", "",
        )  # fmt: skip
        transport.write("\r\n".join(lines).encode())

    def data_received(self, data: bytes) -> None:
        now = time.monotonic()
        self._heard += data
        if not self._open:
            head, end, rest = self._heard.partition(b"\r\n\r\n")
            if not end:
                return
            assert head.startswith(b"HTTP/1.1 101"), bytes(head)
            self._open, self._heard = True, bytearray(rest)
        while (frame := self._frame()) is not None:
            opcode, content = frame
            if opcode != 2:
                continue
            if self.ready.done() and len(content) > SHORT:
                self.crowd.unread.append(Heard(self, content, now))
            else:
                self.hear(content, now)

    def connection_lost(self, error: Exception | None) -> None:
        self.broken.append(str(error))
        self._gone.set_result(None)

    def cut(self) -> None:
        """The link is gone, without a word."""
        self._transport.abort()

    def tell(self, *endpoints: str) -> None:
        """Tell the server where this node is."""
        self._say(control.Whereabouts(tuple(Candidate(each, "host") for each in endpoints), ()))

    def hear(self, content: bytes, at: float) -> None:
        """Believe a message that came then."""
        match control.from_server(content):
            case control.Challenge() as challenge:
                self._greet(challenge)
            case control.StandingIs() as standing:
                self._stand(standing)
            case control.NetmapIs() as netmap:
                self._took(netmap.head.content)
            case control.Delta() as delta:
                self._took(delta.head.content)
                for record in delta.changed.values():
                    self._see(record, at)
            case control.Admissions() if not self.ready.done():
                self.ready.set_result(at)
            case control.Ping() as ping:
                self._say(control.Pong(ping.id))
            case control.Refused() as refused:
                self.broken.append(refused.reason)
            case _:
                pass

    def _frame(self) -> tuple[int, bytes] | None:
        """The next frame (RFC 6455, §5.2), which a server never masks."""
        heard = self._heard
        if len(heard) < 2:
            return None
        length, at = heard[1] & 127, 2
        if length >= 126:
            at += 2 if length == 126 else 8
            if len(heard) < at:
                return None
            length = int.from_bytes(heard[2:at])
        if len(heard) < at + length:
            return None
        opcode, content = heard[0] & 15, bytes(heard[at : at + length])
        del heard[: at + length]
        return opcode, content

    def _say(self, message: control.FromNode) -> None:
        content = control.encode(message)
        length = len(content)
        size = bytes([128 | length]) if length < 126 else b"\xfe" + length.to_bytes(2)
        # A mask of zeros leaves the content as it is.
        self._transport.write(b"\x82" + size + bytes(4) + content)

    def _greet(self, challenge: control.Challenge) -> None:
        self._nonce = challenge.nonce
        (pin,) = signing.named_keys(challenge.statements, challenge.root, None, "server", time.time())
        said = control.hello_content(self._nonce, pin, "node", control.VERSION)
        self._say(control.Hello(signing.public_of(self.key), signing.sign(self.key, signing.HELLO, said)))

    def _stand(self, message: control.StandingIs) -> None:
        if message.standing == "member":
            parts = (self.node_key, b"a" * 32, *self.held)
            said = control.present_content(self._nonce, *parts)
            self._say(control.Present(*parts, signing.sign(self.key, signing.PRESENT, said)))
        elif message.standing == "unknown" and self.crowd.secret is not None:
            secret, name = self.crowd.secret, f"node-{self.number}"
            said = control.enrol_content(self._nonce, secret_hash(secret), self.node_key, name)
            self._say(control.Enrol(secret, self.node_key, name, signing.sign(self.key, signing.ENROL, said)))

    def _took(self, content: bytes) -> None:
        head = msgspec.msgpack.decode(content, type=Head)
        self.held = head.epoch, head.version

    def _see(self, record: bytes, at: float) -> None:
        with contextlib.suppress(msgspec.ValidationError):
            for candidate in msgspec.msgpack.decode(record, type=Peer).candidates:
                began = self.crowd.moved_at.get(candidate.endpoint)
                if began is not None:
                    self.crowd.waits.append(at - began)
