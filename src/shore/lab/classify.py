"""What a NAT is, by measurement alone, with two servers outside (RFC 5780, in the words of RFC 4787).

The reflector stands at two addresses with two ports each. It answers a question with the source it saw, from
the corner the question names, after the silence it names. All sockets are this process's own, so nothing in
the measured hosts takes part.

    mapping    the same inner socket asks three corners: one outer port for all, one for each address, or one
               for each address and port
    filtering  it asks one corner and is answered by another: by the other address, by the other port, or only
               by the corner it asked
    burned     an uninvited datagram to a mapping, and then a hole punched towards its sender: moved or not
    lifetime   one inner socket for each silence; the longest that was answered, the shortest that was not
"""

import contextlib
import itertools
import select
import socket
import threading
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Literal, Self

import msgspec

from shore.lab.inside import datagram_socket
from shore.lab.nat import Kind
from shore.lab.net import Host

PORTS = (40001, 40002)
ANSWER_S = 0.3
POLICED_S = 2.0
TRIES = 3
_numbers = itertools.count(1)
Corner = tuple[int, int]
Dependence = Literal["independent", "address", "address-and-port"]


class Question(msgspec.Struct, frozen=True):
    """Answer from the corner (address, port) after so many seconds of silence."""

    number: int
    corner: Corner
    silence_s: float = 0.0


class Reply(msgspec.Struct, frozen=True):
    """The source that the reflector saw."""

    number: int
    host: str
    port: int


class NatFound(msgspec.Struct, frozen=True):
    """What was measured; `step` is the distance of consecutive outer ports where it stays the same."""

    reachable: bool
    translated: bool = False
    mapping: Dependence = "independent"
    filtering: Dependence = "independent"
    burned: bool = False
    step: int | None = None
    hairpin: bool = False

    def kind(self) -> Kind | None:
        """The kind that a NAT of these properties has; None if there is no name for it."""
        if not self.translated:
            return {"independent": "none", "address-and-port": "firewall"}.get(self.filtering)  # type: ignore[return-value]
        if self.mapping != "independent":
            return "symmetric" if self.step is None else "symmetric-sequential"
        if self.burned:
            return "burned"
        kinds: dict[Dependence, Kind] = {
            "independent": "full-cone",
            "address": "address-restricted",
            "address-and-port": "port-restricted",
        }
        return kinds[self.filtering]


class Reflector:
    """The two servers, while the block runs."""

    def __init__(self, host: Host, addresses: tuple[str, str]) -> None:
        self.addresses = addresses
        self._corners = {
            (a, p): datagram_socket(host, addresses[a], PORTS[p]) for a in (0, 1) for p in (0, 1)
        }
        self._waiting: list[tuple[float, Question, tuple[str, int]]] = []
        self._over, self._stop = socket.socketpair()
        self._thread = threading.Thread(target=self._answer, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.close()
        self._thread.join()
        self._over.close()
        for corner in self._corners.values():
            corner.close()

    def at(self, corner: Corner) -> tuple[str, int]:
        """Where to ask."""
        return self.addresses[corner[0]], PORTS[corner[1]]

    def send(self, corner: Corner, to: tuple[str, int]) -> None:
        """Something uninvited."""
        self._corners[corner].sendto(b"uninvited", to)

    def _answer(self) -> None:
        sockets = list(self._corners.values())
        while True:
            soonest = min((at for at, _, _ in self._waiting), default=time.monotonic() + 1)
            patience = max(0.0, soonest - time.monotonic())
            ready, _, _ = select.select([*sockets, self._over], [], [], patience)
            if self._over in ready:
                return
            for each in ready:
                asked, source = each.recvfrom(2048)
                with contextlib.suppress(msgspec.DecodeError):
                    question = msgspec.json.decode(asked, type=Question)
                    self._waiting.append((time.monotonic() + question.silence_s, question, source[:2]))
            now = time.monotonic()
            for _, question, source in [entry for entry in self._waiting if entry[0] <= now]:
                reply = Reply(question.number, *source)
                with contextlib.suppress(OSError):
                    self._corners[question.corner].sendto(msgspec.json.encode(reply), source)
            self._waiting = [entry for entry in self._waiting if entry[0] > now]


def classify(inside: Host, reflector: Reflector, *, source: str = "", device: str = "") -> NatFound:
    """Measure the NAT between a host, at one of its devices, and the reflector, in about two seconds."""
    with contextlib.ExitStack() as stack:

        def fresh() -> socket.socket:
            return stack.enter_context(datagram_socket(inside, source, device=device))

        first = fresh()
        seen = [_mapped(first, reflector, corner) for corner in ((0, 0), (0, 1), (1, 0))]
        if None in seen:
            return NatFound(reachable=False)
        one, port, address = (each for each in seen if each is not None)
        return NatFound(
            reachable=True,
            translated=one[1] != first.getsockname()[1] or not _is_own(inside, one[0]),
            mapping=_dependence(one == port, one == address),
            filtering=_filtering(fresh(), reflector),
            burned=_is_burned(fresh(), reflector),
            step=_step(one[1], port[1], address[1]),
            hairpin=_hairpins(fresh(), fresh(), reflector),
        )


def lifetime(
    inside: Host, reflector: Reflector, silences: list[float], *, device: str = ""
) -> tuple[float, float | None]:
    """The longest silence that a mapping outlived, 0.0 if none, and the shortest that it did not.

    All are tried at once; takes as long as the longest.
    """
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(datagram_socket(inside, device=device)) for _ in silences]
        for each, silence in zip(sockets, silences, strict=True):
            # A mapping that has seen an answer is a mapping in use.
            _ask(each, reflector, (0, 0), (0, 0))
            each.sendto(msgspec.json.encode(Question(0, (0, 0), silence)), reflector.at((0, 0)))
        time.sleep(max(silences) + ANSWER_S)
        outlived = [s for each, s in zip(sockets, silences, strict=True) if _pending(each)]
    return max(outlived, default=0.0), min((s for s in silences if s not in outlived), default=None)


def passed_rate(
    inside: Host, outside: Host, target: tuple[str, int], offered: float, *, device: str = ""
) -> float:
    """Datagrams a second that arrive of so many that are offered, one way, over two seconds."""
    with datagram_socket(inside, device=device) as sender, datagram_socket(outside, *target) as listener:
        began, arrived = time.monotonic(), 0
        for number in range(int(offered * POLICED_S)):
            sender.sendto(b"rate", target)
            arrived += len(list(_arrivals(listener, began + (number + 1) / offered - time.monotonic())))
        arrived += len(list(_arrivals(listener, ANSWER_S)))
    return arrived / POLICED_S


def _mapped(asker: socket.socket, reflector: Reflector, corner: Corner) -> tuple[str, int] | None:
    reply = _ask(asker, reflector, corner, corner)
    return None if reply is None else (reply.host, reply.port)


def _ask(asker: socket.socket, reflector: Reflector, corner: Corner, answer: Corner) -> Reply | None:
    """Ask a corner to be answered by a corner; None if no answer comes to any of some tries."""
    for _ in range(TRIES):
        number = next(_numbers)
        asker.sendto(msgspec.json.encode(Question(number, answer)), reflector.at(corner))
        for datagram in _arrivals(asker, ANSWER_S):
            with contextlib.suppress(msgspec.DecodeError):
                reply = msgspec.json.decode(datagram, type=Reply)
                if reply.number == number:
                    return reply
    return None


def _arrivals(listener: socket.socket, within_s: float) -> Iterator[bytes]:
    deadline = time.monotonic() + within_s
    while (left := deadline - time.monotonic()) > 0 and select.select([listener], [], [], left)[0]:
        with contextlib.suppress(OSError):
            yield listener.recv(2048)


def _pending(listener: socket.socket) -> bool:
    return bool(select.select([listener], [], [], 0)[0])


def _dependence(same_for_port: bool, same_for_address: bool) -> Dependence:
    if same_for_port and same_for_address:
        return "independent"
    return "address" if same_for_port else "address-and-port"


def _filtering(asker: socket.socket, reflector: Reflector) -> Dependence:
    if _ask(asker, reflector, (0, 0), (1, 0)):
        return "independent"
    return "address" if _ask(asker, reflector, (0, 0), (0, 1)) else "address-and-port"


def _is_burned(asker: socket.socket, reflector: Reflector) -> bool:
    """Whether an uninvited datagram moves the hole that is punched after it."""
    first = _mapped(asker, reflector, (0, 0))
    if first is None:
        return False
    reflector.send((1, 1), first)
    time.sleep(0.05)
    other = _mapped(asker, reflector, (1, 0))
    punched = _mapped(asker, reflector, (1, 1))
    return other == first and punched != first


def _step(one: int, two: int, three: int) -> int | None:
    return two - one if two - one == three - two != 0 else None


def _hairpins(asker: socket.socket, other: socket.socket, reflector: Reflector) -> bool:
    met = _mapped(other, reflector, (0, 0))
    if met is None:
        return False
    for _ in range(TRIES):
        asker.sendto(b"hairpin", met)
        if b"hairpin" in _arrivals(other, ANSWER_S):
            return True
    return False


def _is_own(host: Host, address: str) -> bool:
    return f" {address}/" in host.ip("address show")
