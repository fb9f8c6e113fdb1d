"""`python -m shore.lab.pinger ADDRESS RATE`: echo requests at an even pace, each judged by its own reply.

Prints one JSON line when it is ended by SIGINT or SIGTERM: a list of [sent, rtt], both in seconds, `sent` of
CLOCK_MONOTONIC and `rtt` null where no reply came. A late reply is kept with its true age. The kernel
stamps a request as it enters the device, and its reply as it arrives: a pinger that waits for a CPU, before
its request is out or after the reply is in, is no slow tunnel. Told to end, it sends no more, and waits for
the replies that may still come.
"""

import contextlib
import json
import os
import selectors
import signal
import socket
import struct
import subprocess
import sys
import time

import msgspec

from shore.lab.net import Host, LabFailed

GRACE = 0.25
LINGER = 1.0
SO_TIMESTAMPNS = 35
SO_TIMESTAMPING = 37
TX_SOFTWARE, SOFTWARE = 1 << 1, 1 << 4


class Pings(msgspec.Struct, frozen=True):
    """What became of each ping, in the order of sending."""

    sent: tuple[tuple[float, float | None], ...]

    def usual_rtt(self) -> float:
        """The median of the answered ones, 0.0 if there is none."""
        answered = sorted(rtt for _, rtt in self.sent if rtt is not None)
        return answered[len(answered) // 2] if answered else 0.0

    def lost(self) -> int:
        """How many got no reply within the usual RTT and 250 ms."""
        limit = self.usual_rtt() + GRACE
        return sum(1 for _, rtt in self.sent if rtt is None or rtt > limit)

    def overtaken(self) -> int:
        """How many replies came after the reply to a later ping."""
        behind, newest = 0, float("-inf")
        for arrived in (at + rtt for at, rtt in self.sent if rtt is not None):
            behind += arrived < newest
            newest = max(newest, arrived)
        return behind

    def first_reply(self, since: float) -> float | None:
        """Seconds from `since` until the first reply; None if there was none."""
        replies = [at + rtt - since for at, rtt in self.sent if rtt is not None and at + rtt >= since]
        return min(replies, default=None)

    def last_loss(self, since: float) -> float | None:
        """Seconds from `since` until the last ping that was lost was sent; None if none was."""
        limit = self.usual_rtt() + GRACE
        return max((at - since for at, rtt in self.sent if rtt is None or rtt > limit), default=None)

    def gap(self, since: float) -> float | None:
        """Seconds from `since` until replies came again; None if none came.

        The first reply after the last loss counts; 0.0 where nothing was lost.
        """
        limit = self.usual_rtt() + GRACE
        after = [(at, rtt) for at, rtt in self.sent if at >= since]
        last_loss = max((i for i, (_, rtt) in enumerate(after) if rtt is None or rtt > limit), default=None)
        if last_loss is None:
            return 0.0
        if last_loss + 1 == len(after):
            return None
        at, rtt = after[last_loss + 1]
        return at + (rtt or 0.0) - since


class Pinger:
    """A pinger in a host, at work when this is made; use `stop` to have its word. Raises LabFailed."""

    def __init__(self, host: Host, address: str, rate: float = 20.0) -> None:
        self._process = subprocess.Popen(
            host.inside(sys.executable, "-m", "shore.lab.pinger", address, str(rate)),
            stdout=subprocess.PIPE,
        )
        assert self._process.stdout is not None
        # Told to end before it listens to that, it would end without a word.
        if not self._process.stdout.readline():
            raise LabFailed(f"the pinger in {host.name} did not start")

    def end(self) -> None:
        """End it, whatever state it is in."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.communicate()

    def stop(self) -> Pings:
        """End it and collect. Raises msgspec.DecodeError if it died before."""
        self._process.send_signal(signal.SIGTERM)
        output, _ = self._process.communicate(timeout=10)
        return Pings(msgspec.json.decode(output, type=tuple[tuple[float, float | None], ...]))


def main() -> int:
    """Ping until told to stop."""
    address, rate = sys.argv[1], float(sys.argv[2])
    stopped: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda got, _: stopped.append(got))
    echoes = Echoes(address)
    selector = selectors.DefaultSelector()
    selector.register(echoes.raw, selectors.EVENT_READ)
    print(flush=True)
    start = time.monotonic()
    while not stopped:
        due = start + len(echoes.sent) / rate
        wait = due - time.monotonic()
        if wait <= 0:
            echoes.send()
        elif selector.select(wait):
            echoes.receive()
    end = time.monotonic() + LINGER
    while echoes.are_awaited(end) and selector.select(max(0.0, end - time.monotonic())):
        echoes.receive()
    echoes.close()
    print(json.dumps(echoes.sent))
    return 0


class Echoes:
    """The requests to an address, and what became of them. Raises PermissionError without CAP_NET_RAW."""

    def __init__(self, address: str) -> None:
        self.sent: list[list[float | None]] = []
        self._address = address
        self._six = ":" in address
        family = socket.AF_INET6 if self._six else socket.AF_INET
        protocol = socket.IPPROTO_ICMPV6 if self._six else socket.IPPROTO_ICMP
        self.raw = socket.socket(family, socket.SOCK_RAW, protocol)
        self.raw.setblocking(False)
        self.raw.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self.raw.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPING, TX_SOFTWARE | SOFTWARE)
        self._stamps: list[float] = []

    def close(self) -> None:
        """Free the socket."""
        self.raw.close()

    def send(self) -> None:
        """Send the next one."""
        self.sent.append([time.monotonic(), None])
        # Until the kernel says better.
        self._stamps.append(time.time())
        with contextlib.suppress(OSError):
            self.raw.sendto(_request(len(self.sent) - 1, self._six), (self._address, 0))

    def receive(self) -> None:
        """Take the stamps of requests, then a reply if there is one."""
        with contextlib.suppress(BlockingIOError):
            while True:
                looped, control, _, _ = self.raw.recvmsg(2048, 512, socket.MSG_ERRQUEUE)
                at, number = _stamp(control, SO_TIMESTAMPING), _number(looped[-REQUEST:], REQUEST_TYPES)
                if at is not None and number is not None and number < len(self.sent):
                    self._stamps[number] = at
        with contextlib.suppress(BlockingIOError):
            packet, control, _, _ = self.raw.recvmsg(2048, 512)
            number = _number(packet if self._six else packet[(packet[0] & 15) * 4 :], REPLY_TYPES)
            if number is not None and number < len(self.sent) and self.sent[number][1] is None:
                self.sent[number][1] = stamp(control) - self._stamps[number]

    def are_awaited(self, end: float) -> bool:
        """Whether a ping of the last second has no reply yet, and there is time."""
        recent = [rtt for at, rtt in self.sent[-100:] if at is not None and at > end - 2 * LINGER]
        return time.monotonic() < end and None in recent


REQUEST = 56
REQUEST_TYPES, REPLY_TYPES = (8, 128), (0, 129)


def _request(number: int, six: bool) -> bytes:
    body = struct.pack("!HH", os.getpid() & 0xFFFF, number & 0xFFFF) + struct.pack("!Q", number)
    body += bytes(REQUEST - 4 - len(body))
    header = struct.pack("!BBH", 128 if six else 8, 0, 0)
    if six:
        return header + body
    total = sum(struct.unpack(f"!{len(header + body) // 2}H", header + body))
    total = (total & 0xFFFF) + (total >> 16)
    total = (total & 0xFFFF) + (total >> 16)
    return struct.pack("!BBH", 8, 0, ~total & 0xFFFF) + body


def _number(message: bytes, types: tuple[int, int]) -> int | None:
    """Which of our pings an ICMP message belongs to, if it is of these types."""
    if len(message) < 16 or message[0] not in types:
        return None
    identity, _, number = struct.unpack("!HHQ", message[4:16])
    return number if identity == os.getpid() & 0xFFFF else None


def stamp(control: list[tuple[int, int, bytes]]) -> float:
    """When the kernel received it, in Unix time; now, if it does not say."""
    at = _stamp(control, SO_TIMESTAMPNS)
    return time.time() if at is None else at


def _stamp(control: list[tuple[int, int, bytes]], wanted: int) -> float | None:
    for level, kind, content in control:
        if (level, kind) == (socket.SOL_SOCKET, wanted):
            seconds, nanoseconds = struct.unpack("qq", content[:16])
            return float(seconds + nanoseconds / 1e9)
    return None


if __name__ == "__main__":
    sys.exit(main())
