"""`python -m shore.lab.pinger ADDRESS RATE`: echo requests at an even pace, each judged by its own reply.

Prints one JSON line when it is ended by SIGINT or SIGTERM: a list of [sent, rtt], both in seconds, `sent` of
CLOCK_MONOTONIC and `rtt` null where no reply came. A late reply is kept with its true age.
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

from shore.lab.net import Host

GRACE = 0.25
LINGER = 0.3


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
    """A pinger in a host; use `stop` to have its word."""

    def __init__(self, host: Host, address: str, rate: float = 20.0) -> None:
        self._process = subprocess.Popen(
            host.inside(sys.executable, "-m", "shore.lab.pinger", address, str(rate)),
            stdout=subprocess.PIPE,
        )

    def stop(self) -> Pings:
        """End it and collect. Raises msgspec.DecodeError if it died before."""
        time.sleep(LINGER)
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
    selector = selectors.DefaultSelector()
    selector.register(raw, selectors.EVENT_READ)
    sent: list[list[float | None]] = []
    start = time.monotonic()
    while not stopped:
        due = start + len(sent) / rate
        wait = due - time.monotonic()
        if wait <= 0:
            now = time.monotonic()
            with contextlib.suppress(OSError):
                raw.sendto(_request(len(sent), six), (address, 0))
            sent.append([now, None])
        elif selector.select(wait):
            _receive(raw, sent, six)
    print(json.dumps(sent))
    return 0


def _request(number: int, six: bool) -> bytes:
    body = struct.pack("!HH", os.getpid() & 0xFFFF, number & 0xFFFF) + struct.pack("!Q", number) + bytes(40)
    header = struct.pack("!BBH", 128 if six else 8, 0, 0)
    if six:
        return header + body
    total = sum(struct.unpack(f"!{len(header + body) // 2}H", header + body))
    total = (total & 0xFFFF) + (total >> 16)
    total = (total & 0xFFFF) + (total >> 16)
    return struct.pack("!BBH", 8, 0, ~total & 0xFFFF) + body


def _receive(raw: socket.socket, sent: list[list[float | None]], six: bool) -> None:
    now = time.monotonic()
    packet = raw.recv(2048)
    reply = packet if six else packet[(packet[0] & 15) * 4 :]
    if len(reply) < 16 or reply[0] != (129 if six else 0):
        return
    identity, _, number = struct.unpack("!HHQ", reply[4:16])
    if identity == os.getpid() & 0xFFFF and number < len(sent) and sent[number][1] is None:
        sent[number][1] = now - (sent[number][0] or 0.0)


if __name__ == "__main__":
    sys.exit(main())
