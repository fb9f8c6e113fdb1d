"""What one way of a link does, by measurement: numbered datagrams from one end to the other, and one clock.

Between two hosts that hang on the link itself, both sockets are this process's own, so delay is that of one
way alone. Sizes around the asked MTU are tried with DF, and the kernel's error queue tells whether a router
spoke. A share is believed when it lies within four standard deviations.
"""

import contextlib
import math
import select
import socket
import statistics
import struct
import time

import msgspec

from shore.lab.inside import datagram_socket
from shore.lab.link import Ending, Link
from shore.lab.net import Host, LabFailed
from shore.lab.pinger import SO_TIMESTAMPNS, stamp

IP_MTU_DISCOVER, IPV6_MTU_DISCOVER, PMTUDISC_PROBE = 10, 23, 3
IP_RECVERR, IPV6_RECVERR = 11, 25
HEADERS = {socket.AF_INET: 28, socket.AF_INET6: 48}
# A number and the instant of sending, thrice, so that damage to one is seen and outvoted.
NUMBER, COPIES = struct.Struct("!Qd"), 3
FILL = 951
FRAME = 1 + NUMBER.size * COPIES + FILL + 42
ANY_BYTE = 0xFF
SETTLE_S = 0.3
LIMIT_S = 5.0


class WayFound(msgspec.Struct, frozen=True):
    """Shares of what was sent; delays in ms, least and greatest."""

    sent: int
    lost: float
    mean_burst: float
    duplicated: float
    reordered: float
    corrupted: float
    delay_ms: float
    jitter_ms: float


class SizeFound(msgspec.Struct, frozen=True):
    """Whether a packet of this size arrived, and what a router said of it."""

    size: int
    arrived: bool
    icmp_mtu: int | None


class Surveyor:
    """A socket at each end of a way."""

    def __init__(self, hosts: tuple[Host, Host], ends: tuple[Ending, Ending], family: int = 4) -> None:
        """The first end sends. Raises LabFailed where an end has no address of the family."""
        source, target = (_address(end, family) for end in ends)
        self._sender = datagram_socket(hosts[0], source, device=ends[0].device)
        self._listener = datagram_socket(hosts[1], target, device=ends[1].device)
        self._target = self._listener.getsockname()[:2]
        six = family == 6
        level = socket.IPPROTO_IPV6 if six else socket.IPPROTO_IP
        self._sender.setsockopt(level, IPV6_MTU_DISCOVER if six else IP_MTU_DISCOVER, PMTUDISC_PROBE)
        self._sender.setsockopt(level, IPV6_RECVERR if six else IP_RECVERR, 1)
        # Stamped by the kernel: a surveyor that waits for a CPU is no slow link.
        self._listener.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self._headers = HEADERS[self._sender.family]
        self._listener.setblocking(False)

    def close(self) -> None:
        """Close both."""
        self._sender.close()
        self._listener.close()

    def stream(self, count: int, rate: float, first: int = ANY_BYTE) -> WayFound:
        """Send so many datagrams at an even pace, all with this first byte, and judge what arrives."""
        arrived: list[tuple[int, float, bool]] = []
        began = time.monotonic()
        for number in range(count):
            due = began + number / rate
            while (left := due - time.monotonic()) > 0:
                if select.select([self._listener], [], [], left)[0]:
                    self._collect(arrived)
            # Sent late, the next ones are as well: in a burst they would queue for a rate.
            began += max(0.0, time.monotonic() - due - 1 / rate)
            self._send(bytes([first]) + NUMBER.pack(number, time.time()) * COPIES + bytes(FILL))
        last = time.monotonic()
        while time.monotonic() < last + LIMIT_S:
            if not select.select([self._listener], [], [], SETTLE_S + _spread(arrived))[0]:
                break
            self._collect(arrived)
        return judged(count, arrived)

    def size(self, size: int) -> SizeFound:
        """Send one packet of this size, DF set, and see; tried three times."""
        said: int | None = None
        for _ in range(3):
            self._send(bytes(size - self._headers))
            if select.select([self._listener], [], [], SETTLE_S)[0]:
                self._listener.recv(65536)
                return SizeFound(size, True, said)
            said = self._error_queue() or said
        return SizeFound(size, False, said)

    def rate_mbit(self, rate_mbit: float) -> float:
        """Send at so many Mbit/s for half a second; what arrives, in Mbit/s of frames."""
        body = bytes(1400 - self._headers)
        gap = (1400 + 14) * 8 / (rate_mbit * 1e6)
        stamps: list[float] = []
        began = time.monotonic()
        for number in range(int(0.5 / gap)):
            while time.monotonic() < began + number * gap:
                if select.select([self._listener], [], [], 0)[0]:
                    self._listener.recv(2048)
                    stamps.append(time.monotonic())
            self._send(body)
        while select.select([self._listener], [], [], SETTLE_S)[0]:
            self._listener.recv(2048)
            stamps.append(time.monotonic())
        tail = stamps[len(stamps) // 4 :]
        return (len(tail) - 1) * (1400 + 14) * 8 / (tail[-1] - tail[0]) / 1e6 if len(tail) > 2 else 0.0

    def _send(self, body: bytes) -> None:
        with contextlib.suppress(OSError):
            self._sender.sendto(body, self._target)

    def _collect(self, arrived: list[tuple[int, float, bool]]) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                datagram, control, _, _ = self._listener.recvmsg(2048, 64)
                copies = [datagram[1 + n * NUMBER.size :][: NUMBER.size] for n in range(COPIES)]
                voted = max(copies, key=copies.count)
                number, sent = NUMBER.unpack(voted)
                intact = copies.count(voted) == COPIES and not any(datagram[1 + NUMBER.size * COPIES :])
                arrived.append((number, stamp(control) - sent, intact))

    def _error_queue(self) -> int | None:
        """The MTU that a router told us, if one did."""
        with contextlib.suppress(BlockingIOError):
            _, control, _, _ = self._sender.recvmsg(2048, 512, socket.MSG_ERRQUEUE | socket.MSG_DONTWAIT)
            for _, kind, content in control:
                if kind in (IP_RECVERR, IPV6_RECVERR):
                    return int(struct.unpack("=IBBBBII", content[:16])[5])
        return None


def judged(count: int, arrived: list[tuple[int, float, bool]]) -> WayFound:
    """What became of so many datagrams, of which (number, delay in s, undamaged) arrived, in that order."""
    numbers = [number for number, _, _ in arrived if number < count]
    seen = set(numbers)
    first = list(dict.fromkeys(numbers))
    behind = sum(1 for number, most in zip(first, _greatest_before(first), strict=True) if number < most)
    delays = [delay for number, delay, whole in arrived if whole and 0 <= delay < LIMIT_S] or [math.inf]
    gone = count - len(seen)
    bursts = sum(1 for n in range(count) if n not in seen and (n == 0 or n - 1 in seen))
    return WayFound(
        sent=count,
        lost=gone / count,
        mean_burst=gone / bursts if bursts else 0.0,
        duplicated=(len(numbers) - len(seen)) / count,
        reordered=behind / count,
        corrupted=sum(1 for _, _, whole in arrived if not whole) / count,
        delay_ms=min(delays) * 1000,
        jitter_ms=(statistics.quantiles(delays, n=100)[97] - min(delays)) * 1000 if len(delays) > 1 else 0.0,
    )


def survey(link: Link, hosts: dict[str, Host], toward: str, family: int = 4) -> Surveyor:
    """A surveyor of the way of a link that leads to a host. Raises LabFailed."""
    one, other = link.ends if link.ends[1].host == toward else link.ends[::-1]
    return Surveyor((hosts[one.host], hosts[other.host]), (one, other), family)


def _address(end: Ending, family: int) -> str:
    for address in end.addresses:
        if (":" in address) == (family == 6):
            return address.partition("/")[0]
    raise LabFailed(f"{end.host} has no IPv{family} address at {end.device}")


def _greatest_before(numbers: list[int]) -> list[int]:
    greatest, most = [], -1
    for number in numbers:
        greatest.append(most)
        most = max(most, number)
    return greatest


def _spread(arrived: list[tuple[int, float, bool]]) -> float:
    return max((delay for _, delay, whole in arrived[-50:] if whole and 0 <= delay < LIMIT_S), default=1.0)
