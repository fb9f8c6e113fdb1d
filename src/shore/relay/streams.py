"""The streams of a relay: who is in, who must leave, and what is written when.

The native module forwards; here is what that must not decide. A stream begins with an upgrade, has 5 s to
prove who it is, and ends when nothing was heard for 20 s, when a write makes no progress for 2 s, when its
admission ends or its node is revoked, or when another stream of the same node replaces it. All that a turn
of the loop made ready is written once, at its end; a stream whose socket is full gets nothing, so that what
waits for it grows old in its own queues.
"""

import asyncio
import itertools
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import msgspec

from shore._native import RelayStreams, TlsServer
from shore.model.netmap import Admission
from shore.model.relay import RelayConfig
from shore.relay.admission import Gate, NotAdmitted
from shore.relay.counts import Counts, Labels
from shore.relay.room import Room
from shore.wire import relay

PROVE_S = 5.0
DEAD_S = 20.0
STUCK_S = 2.0
SWEEP_S = 0.5
TICKET_S = 120.0
GOAWAY_MS = 1500
Forward = Callable[[bytes, bytes, bytes], bool]


@dataclass(eq=False)
class Stream:
    """One stream, from its upgrade on."""

    id: int
    transport: asyncio.Transport
    room: Room
    exporter: bytes
    observed: str
    opened: float
    heard: float
    full_since: float | None = None
    full_size: int = 0
    admission: Admission | None = None
    tag: bytes = b""
    ticket: bytes = field(default_factory=lambda: os.urandom(32))


class Streams:
    """All of them. `forward` takes (source tag, destination tag, datagram) for bound addresses."""

    def __init__(self, config: RelayConfig, counts: Counts) -> None:
        self.gate = Gate(config)
        self.forward: Forward = lambda _source, _destination, _datagram: False
        self.native = RelayStreams()
        self.counts = counts
        self._streams: dict[int, Stream] = {}
        self._by_tag: dict[bytes, Stream] = {}
        self._leaving: dict[bytes, tuple[bytes, float]] = {}
        self._ids = itertools.count(1)
        self._loop = asyncio.get_running_loop()
        self._flushing = False

    def open(self, transport: asyncio.Transport, tls: TlsServer, observed: str) -> Stream:
        """The upgrade was answered; `tls` is taken over."""
        now = self._loop.time()
        stream = Stream(next(self._ids), transport, Room(transport), tls.exporter(), observed, now, now)
        self.native.open(stream.id, tls)
        self._streams[stream.id] = stream
        return stream

    def received(self, stream: Stream, ciphertext: bytes) -> None:
        """Bytes that came on it."""
        now = self._loop.time()
        stream.heard = now
        try:
            words, datagrams = self.native.receive(stream.id, ciphertext, now)
        except ConnectionError as error:
            self.end(stream, "closed" if "closed" in str(error) else "broken")
            return
        for kind, content in words:
            if kind == relay.PROVE and stream.id in self._streams:
                self._prove(stream, content)
            elif kind == relay.WHERE and stream.admission is not None:
                self._vouch(stream, content)
        for source, destination, datagram in datagrams:
            self.forward(source, destination, datagram)
        self.flush_soon()

    def flush_soon(self) -> None:
        """Write at the end of this turn what is ready."""
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def paused(self, stream: Stream) -> None:
        """The socket is full."""
        stream.full_since = self._loop.time()
        stream.full_size = stream.room.full()

    def resumed(self, stream: Stream) -> None:
        """The socket takes more."""
        stream.full_since = None
        stream.room.free()
        self._write(stream)

    def end(self, stream: Stream, reason: str) -> None:
        """Write what waits, and close."""
        if self._streams.pop(stream.id, None) is None:
            return
        self.counts.count("closed_total", reason=reason)
        stream.room.close()
        if reason in {"stuck", "dead"}:
            stream.transport.abort()
        else:
            stream.transport.write(self.native.end(stream.id))
            stream.transport.close()
            self._loop.call_later(STUCK_S, stream.transport.abort)
        if self._by_tag.get(stream.tag) is stream:
            del self._by_tag[stream.tag]
            if reason != "revoked":
                self._leaving[stream.tag] = (stream.ticket, self._loop.time() + TICKET_S)
        self.native.close(stream.id)

    def ticket(self, tag: bytes) -> bytes | None:
        """The key of this node's UDP messages, while its stream lives and 120 s more."""
        if (stream := self._by_tag.get(tag)) is not None:
            return stream.ticket
        ticket, until = self._leaving.get(tag, (None, 0.0))
        return ticket if self._loop.time() < until else None

    def learn(self, config: RelayConfig) -> None:
        """Judge by this from now on: who is out leaves at once."""
        self.gate = Gate(config)
        self._expel()

    def sweep(self) -> None:
        """End what has had its time; to be called every SWEEP_S."""
        now = self._loop.time()
        for stream in list(self._streams.values()):
            if now - stream.heard > DEAD_S:
                self.end(stream, "dead")
            elif stream.admission is None and now - stream.opened > PROVE_S:
                self._refuse(stream, NotAdmitted("late", "nothing was proved within 5 s"))
            elif stream.full_since is not None and self._is_stuck(stream, now):
                self.end(stream, "stuck")
        self._leaving = {tag: kept for tag, kept in self._leaving.items() if now < kept[1]}
        self._expel()

    def goaway(self) -> None:
        """Ask everybody to move."""
        for stream in self._streams.values():
            self.native.say(stream.id, relay.GOAWAY, GOAWAY_MS.to_bytes(4, "big"))
        self.flush_soon()

    def close(self) -> None:
        """End them all."""
        for stream in list(self._streams.values()):
            self.end(stream, "restart")

    def measured(self) -> dict[tuple[str, Labels], int]:
        """What the native module counts, and how many there are."""
        counted = dict(self.native.counters())
        measured: dict[tuple[str, Labels], int] = {("streams_admitted", ()): len(self._by_tag)}
        for name, value in counted.items():
            word, _, what = name.partition("_")
            if word == "dropped":
                measured["dropped_total", (("reason", what),)] = value
            else:
                measured[f"{what}_total", (("direction", word),)] = value
        return measured

    def _is_stuck(self, stream: Stream, now: float) -> bool:
        """Whether what is not sent has not become less for STUCK_S."""
        size = stream.room.held()
        if size < stream.full_size:
            stream.full_since, stream.full_size = now, size
        return stream.full_since is not None and now - stream.full_since > STUCK_S

    def _prove(self, stream: Stream, content: bytes) -> None:
        try:
            admission = self.gate.judge(content, stream.exporter, time.time())
            tag = relay.tag_of(admission.node_key)
            before = self._by_tag.get(tag)
            other = before is not None and before.admission is not None
            if stream.admission is not None and stream.admission.node_key != admission.node_key:
                raise NotAdmitted("node", "this stream is another node's")
            if other and before and before.admission and before.admission.node_key != admission.node_key:
                raise NotAdmitted("tag", "another node here has the same tag")
        except NotAdmitted as error:
            self._refuse(stream, error)
            return
        self._admit(stream, admission, tag, before)

    def _vouch(self, stream: Stream, tag: bytes) -> None:
        """Say from where the node of this tag speaks to us; nothing where it does not."""
        if (asked := self._by_tag.get(tag)) is not None:
            self.native.say(stream.id, relay.SEEN, relay.seen(tag, asked.observed))

    def _admit(self, stream: Stream, admission: Admission, tag: bytes, before: Stream | None) -> None:
        config = self.gate.config
        stream.admission, stream.tag = admission, tag
        self._by_tag[tag] = stream
        self.native.admit(stream.id, tag, config.rate)
        if before is not None and before is not stream:
            self._say_refused(before, "another stream of this node has replaced this one")
            self.end(before, "replaced")
        self._leaving.pop(tag, None)
        welcome = relay.Welcome(stream.observed, stream.ticket, config.rate, config.udp_addresses)
        self.native.say(stream.id, relay.WELCOME, msgspec.msgpack.encode(welcome))

    def _refuse(self, stream: Stream, error: NotAdmitted) -> None:
        self.counts.count("refused_total", reason=error.code)
        self._say_refused(stream, str(error))
        self.end(stream, "refused")

    def _say_refused(self, stream: Stream, sentence: str) -> None:
        self.native.say(stream.id, relay.REFUSED, sentence.encode())

    def _expel(self) -> None:
        now = time.time()
        for stream in list(self._by_tag.values()):
            if stream.admission is None or self.gate.stands(stream.admission, now):
                continue
            revoked = stream.admission.node_key in self.gate.config.revoked
            self._say_refused(stream, "this node was revoked" if revoked else "the admission has expired")
            self.end(stream, "revoked" if revoked else "expired")
        for node_key in self.gate.config.revoked:
            self._leaving.pop(relay.tag_of(node_key), None)

    def _flush(self) -> None:
        self._flushing = False
        for id_ in self.native.ready():
            if (stream := self._streams.get(id_)) is not None:
                self._write(stream)

    def _write(self, stream: Stream) -> None:
        while stream.full_since is None and stream.id in self._streams:
            ciphertext = self.native.take(stream.id, stream.room.little)
            if not ciphertext:
                return
            stream.transport.write(ciphertext)
            if not self.native.waits(stream.id):
                return
            if stream.full_since is None and stream.room.held() >= stream.room.little:
                self.paused(stream)
                stream.room.wait(partial(self.resumed, stream))
