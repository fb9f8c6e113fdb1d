"""A port mapped at a gateway: dialogues on virtual time."""

import struct

from shore.core.portmap import LIFETIME_S, PortMap
from shore.wire import natpmp, pcp

CLIENT = "192.168.1.2"
PORT = 51820
NONCE = bytes(range(12))
PUBLIC = "203.0.113.7"


class Gateway:
    """Speaks the protocols that it is told to, and may be restarted."""

    def __init__(self, *, speaks_pcp: bool = True, speaks_natpmp: bool = True, external: int = 40000) -> None:
        self.speaks_pcp = speaks_pcp
        self.speaks_natpmp = speaks_natpmp
        self.external = external
        self.started = 0.0
        self.lifetime = LIFETIME_S
        self.mapped: dict[int, int] = {}

    def answer(self, request: bytes, now: float) -> list[bytes]:
        epoch = int(now - self.started)
        if request[0] == pcp.VERSION:
            if not self.speaks_pcp:
                return [struct.pack("!BBHI", 0, 128 + request[1], 1, epoch)] if self.speaks_natpmp else []
            head = bytes([2, 0x80 | request[1], 0, 0])
            asked = int.from_bytes(request[4:8], "big")
            granted = min(asked, self.lifetime)
            answer = head + struct.pack("!II", granted, epoch) + bytes(12)
            if request[1] == pcp.MAP:
                internal, wish = struct.unpack("!HH", request[40:44])
                external = self._map(internal, wish, asked)
                address = bytes(10) + b"\xff\xff" + bytes([203, 0, 113, 7])
                answer += request[24:40] + struct.pack("!HH", internal, external) + address
            return [answer]
        if not self.speaks_natpmp:
            return []
        if request[1] == natpmp.ADDRESS:
            return [struct.pack("!BBHI", 0, 128, 0, epoch) + bytes([203, 0, 113, 7])]
        internal, wish, asked = struct.unpack("!HHI", request[4:12])
        external = self._map(internal, wish, asked)
        return [struct.pack("!BBHIHHI", 0, 129, 0, epoch, internal, external, min(asked, self.lifetime))]

    def restart(self, now: float) -> None:
        self.started = now
        self.mapped.clear()

    def _map(self, internal: int, wish: int, asked: int) -> int:
        if asked:
            self.mapped[internal] = self.external
        else:
            self.mapped.pop(internal, None)
        return self.external


def run(mapping: PortMap, gateway: Gateway, now: float, until: float) -> float:
    """Play both until then; returns the time."""
    while mapping.deadline <= until:
        now = max(now, mapping.deadline)
        deliver(mapping, gateway, mapping.wake(now), now)
    return until


def deliver(mapping: PortMap, gateway: Gateway, sent: list[bytes], now: float) -> None:
    while sent:
        answers = [answer for request in sent for answer in gateway.answer(request, now)]
        sent = [more for answer in answers for more in mapping.receive(answer, now)]


def test_pcp_grants_a_port_at_once() -> None:
    mapping, gateway = PortMap(CLIENT, PORT, NONCE), Gateway()
    run(mapping, gateway, 0, 0)
    assert mapping.granted is not None
    assert mapping.granted.endpoint == f"{PUBLIC}:40000"
    assert mapping.granted.protocol == "pcp"
    assert gateway.mapped == {PORT: 40000}


def test_a_router_that_knows_nat_pmp_only_is_understood() -> None:
    mapping, gateway = PortMap(CLIENT, PORT, NONCE), Gateway(speaks_pcp=False)
    run(mapping, gateway, 0, 1)
    assert mapping.granted is not None
    assert (mapping.granted.endpoint, mapping.granted.protocol) == (f"{PUBLIC}:40000", "nat-pmp")
    assert mapping.deadline > 1


def test_a_router_that_knows_neither_is_left_alone_after_three_tries() -> None:
    mapping, sent = PortMap(CLIENT, PORT, NONCE), []
    while mapping.deadline < 600:
        now = max(mapping.deadline, 0)
        sent += [(now, request[0]) for request in mapping.wake(now)]
    assert [at for at, _ in sent] == [0, 0, 0.25, 0.25, 0.75, 0.75]
    assert mapping.is_silent
    assert mapping.deadline == 1.75 + 600


def test_a_mapping_is_renewed_at_half_life_and_outlives_it() -> None:
    mapping, gateway = PortMap(CLIENT, PORT, NONCE), Gateway()
    now = run(mapping, gateway, 0, 10 * LIFETIME_S)
    assert mapping.granted is not None
    assert mapping.granted.until > now + LIFETIME_S / 2 - 2


def test_a_router_that_was_restarted_is_asked_anew_within_a_minute() -> None:
    for gateway in (Gateway(), Gateway(speaks_pcp=False)):
        mapping = PortMap(CLIENT, PORT, NONCE)
        now = run(mapping, gateway, 0, 1000)
        gateway.restart(now)
        now = run(mapping, gateway, now, now + 61)
        assert gateway.mapped == {PORT: 40000}


def test_a_mapping_that_is_not_renewed_is_no_candidate_after_its_life() -> None:
    mapping, gateway = PortMap(CLIENT, PORT, NONCE), Gateway()
    now = run(mapping, gateway, 0, 1)
    gateway.speaks_pcp = gateway.speaks_natpmp = False
    now = run(mapping, gateway, now, LIFETIME_S - 60)
    assert mapping.granted is not None
    run(mapping, gateway, now, 2 * LIFETIME_S)
    assert mapping.granted is None


def test_the_same_port_is_wished_for_again() -> None:
    mapping = PortMap(CLIENT, PORT, NONCE)
    run(mapping, Gateway(external=41234), 0, 0)
    other = Gateway(external=41234)
    other.restart(100)
    asked = [request for request in mapping.wake(4000) if request[1] == pcp.MAP]
    assert [struct.unpack("!HH", request[40:44]) for request in asked] == [(PORT, 41234)]


def test_what_is_given_back_is_gone() -> None:
    for gateway in (Gateway(), Gateway(speaks_pcp=False)):
        mapping = PortMap(CLIENT, PORT, NONCE)
        now = run(mapping, gateway, 0, 1)
        for request in mapping.give_back():
            gateway.answer(request, now)
        assert gateway.mapped == {}
        assert mapping.granted is None
        assert mapping.give_back() == []


def test_an_answer_with_another_nonce_or_port_is_nothing() -> None:
    mapping, gateway = PortMap(CLIENT, PORT, NONCE), Gateway()
    for request in mapping.wake(0):
        for answer in gateway.answer(request, 0):
            forged = answer.replace(NONCE, bytes(12)).replace(struct.pack("!H", PORT), b"\0\1")
            mapping.receive(forged, 0)
    assert mapping.granted is None


def test_a_pinhole_of_ipv6_is_asked_by_pcp_alone() -> None:
    mapping = PortMap("2001:db8::2", PORT, NONCE)
    assert [request[0] for request in mapping.wake(0)] == [pcp.VERSION]


def test_a_refusal_is_remembered_in_words() -> None:
    mapping = PortMap(CLIENT, PORT, NONCE)
    mapping.receive(struct.pack("!BBHI", 0, 129, 2, 5), 0)
    assert mapping.refusal == "it refuses: port mapping is switched off"
