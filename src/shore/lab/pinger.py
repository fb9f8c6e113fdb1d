"""`python -m shore.lab.pinger ADDRESS RATE`: echo requests at an even pace, each judged by its own reply.

Prints one JSON line when it is ended by SIGINT or SIGTERM: a list of [sent, rtt], both in seconds, `sent` of
CLOCK_MONOTONIC and `rtt` null where no reply came. A late reply is kept with its true age. Replies are
stamped by the kernel, as `ping` does it: a pinger that waits for a CPU is no slow tunnel. Told to end, it
sends no more, and waits for the replies that may still come.
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
    six = ":" in address
    family = socket.AF_INET6 if six else socket.AF_INET
    protocol = socket.IPPROTO_ICMPV6 if six else socket.IPPROTO_ICMP
    raw = socket.socket(family, socket.SOCK_RAW, protocol)
    raw.setblocking(False)
    raw.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    selector = selectors.DefaultSelector()
    selector.register(raw, selectors.EVENT_READ)
    print(flush=True)
    sent: list[list[float | None]] = []
    stamps: list[float] = []
    start = time.monotonic()
    while not stopped:
        due = start + len(sent) / rate
        wait = due - time.monotonic()
        if wait <= 0:
            sent.append([time.monotonic(), None])
            stamps.append(time.time())
            with contextlib.suppress(OSError):
                raw.sendto(_request(len(sent) - 1, six), (address, 0))
        elif selector.select(wait):
            _receive(raw, sent, stamps, six)
    end = time.monotonic() + LINGER
    while _is_awaited(sent, end) and selector.select(max(0.0, end - time.monotonic())):
        _receive(raw, sent, stamps, six)
    print(json.dumps(sent))
    return 0


def _is_awaited(sent: list[list[float | None]], end: float) -> bool:
    """Whether a ping of the last second has no reply yet, and there is time."""
    recent = [rtt for at, rtt in sent[-100:] if at is not None and at > end - 2 * LINGER]
    return time.monotonic() < end and None in recent


def _request(number: int, six: bool) -> bytes:
    body = struct.pack("!HH", os.getpid() & 0xFFFF, number & 0xFFFF) + struct.pack("!Q", number) + bytes(40)
    header = struct.pack("!BBH", 128 if six else 8, 0, 0)
    if six:
        return header + body
    total = sum(struct.unpack(f"!{len(header + body) // 2}H", header + body))
    total = (total & 0xFFFF) + (total >> 16)
    total = (total & 0xFFFF) + (total >> 16)
    return struct.pack("!BBH", 8, 0, ~total & 0xFFFF) + body


def _receive(raw: socket.socket, sent: list[list[float | None]], stamps: list[float], six: bool) -> None:
    packet, control, _, _ = raw.recvmsg(2048, 64)
    reply = packet if six else packet[(packet[0] & 15) * 4 :]
    if len(reply) < 16 or reply[0] != (129 if six else 0):
        return
    identity, _, number = struct.unpack("!HHQ", reply[4:16])
    if identity == os.getpid() & 0xFFFF and number < len(sent) and sent[number][1] is None:
        sent[number][1] = stamp(control) - stamps[number]


def stamp(control: list[tuple[int, int, bytes]]) -> float:
    """When the kernel received it, in Unix time; now, if it does not say."""
    for level, kind, content in control:
        if (level, kind) == (socket.SOL_SOCKET, SO_TIMESTAMPNS):
            seconds, nanoseconds = struct.unpack("qq", content[:16])
            return float(seconds + nanoseconds / 1e9)
    return time.time()


if __name__ == "__main__":
    sys.exit(main())
