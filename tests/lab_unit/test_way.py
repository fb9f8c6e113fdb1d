"""One way of a wire on virtual time: each impairment alone does what it says and nothing else."""

import itertools

import pytest

from shore.lab import frames
from shore.lab.impairment import Impairment, ImpossibleImpairment
from shore.lab.way import Way

MACS = bytes(6) + bytes(5) + b"\1"


def udp4(size: int, *, df: bool = False, first: int = 0, number: int = 0) -> bytes:
    body = bytes([first]) + number.to_bytes(4, "big")
    body += bytes(size - 28 - len(body))
    header = bytearray(bytes.fromhex("450000000000000040110000c0000201c0000202"))
    header[2:4] = size.to_bytes(2, "big")
    header[6] = 0x40 if df else 0
    header[10:12] = frames.checksum(bytes(header)).to_bytes(2, "big")
    return (
        MACS
        + b"\x08\0"
        + bytes(header)
        + bytes.fromhex("14eb14eb")
        + (size - 20).to_bytes(2, "big")
        + b"\1\1"
        + body
    )


def udp6(size: int) -> bytes:
    addresses = bytes.fromhex("20010db8" + "0" * 23 + "1" + "20010db8" + "0" * 23 + "2")
    udp = bytes.fromhex("14eb14eb") + (size - 40).to_bytes(2, "big") + b"\0\0" + bytes(size - 48)
    return MACS + b"\x86\xdd" + b"\x60\0\0\0" + (size - 40).to_bytes(2, "big") + b"\x11\x40" + addresses + udp


def sent_through(
    impairment: Impairment, count: int, *, gap: float = 0.001, seed: int = 7
) -> list[tuple[float, bytes]]:
    way = Way(seed)
    way.change(impairment, 0.0)
    for number in range(count):
        way.admit(udp4(100, number=number), number * gap)
    arrived = []
    while (due := way.deadline()) is not None:
        arrived += [(due, frame) for frame in way.due(due)]
    return arrived


def numbers(arrived: list[tuple[float, bytes]]) -> list[int]:
    return [int.from_bytes(frame[43:47], "big") for _, frame in arrived]


def test_a_clear_way_passes_at_once_and_in_order() -> None:
    arrived = sent_through(Impairment(), 50)
    assert numbers(arrived) == list(range(50))
    assert [due for due, _ in arrived] == [number * 0.001 for number in range(50)]


def test_delay_is_exact_and_jitter_keeps_the_order() -> None:
    arrived = sent_through(Impairment(delay_ms=30, jitter_ms=20), 500)
    assert numbers(arrived) == list(range(500))
    delays = [due - number * 0.001 for number, (due, _) in enumerate(arrived)]
    assert min(delays) >= 0.030
    assert max(delays) <= 0.050
    assert max(delays) - min(delays) > 0.01


def test_random_loss_is_near_its_share_and_the_same_for_the_same_seed() -> None:
    arrived = sent_through(Impairment(loss=0.2), 10_000)
    assert 0.18 < 1 - len(arrived) / 10_000 < 0.22
    assert numbers(arrived) == numbers(sent_through(Impairment(loss=0.2), 10_000))
    assert numbers(arrived) != numbers(sent_through(Impairment(loss=0.2), 10_000, seed=8))


def test_bursty_loss_has_the_same_share_in_longer_runs() -> None:
    def runs(impairment: Impairment) -> tuple[float, float]:
        passed = set(numbers(sent_through(impairment, 20_000)))
        lost = [number not in passed for number in range(20_000)]
        starts = sum(1 for n, gone in enumerate(lost) if gone and (n == 0 or not lost[n - 1]))
        return sum(lost) / 20_000, sum(lost) / starts

    share, length = runs(Impairment(loss=0.1, burst=8))
    assert 0.08 < share < 0.12
    assert 6.5 < length < 9.5
    assert runs(Impairment(loss=0.1))[1] < 1.3


def test_reorder_lets_its_share_fall_behind_and_loses_nothing() -> None:
    seen = numbers(sent_through(Impairment(delay_ms=5, reorder=0.1, reorder_ms=3.5), 2_000))
    assert sorted(seen) == list(range(2_000))
    overtaken = sum(1 for n in range(1, 2_000) if seen[n] < seen[n - 1])
    assert 140 < overtaken < 260


def test_duplicates_come_twice() -> None:
    seen = numbers(sent_through(Impairment(duplicate=0.1), 2_000))
    assert 150 < len(seen) - 2_000 < 250
    assert sorted(set(seen)) == list(range(2_000))


def test_rate_spaces_frames_and_drops_the_tail_of_the_queue() -> None:
    frame = len(udp4(100)) * 8
    arrived = sent_through(Impairment(rate_mbit=1, queue_ms=10), 100, gap=0.0)
    spaced = [b - a for (a, _), (b, _) in itertools.pairwise(arrived)]
    assert all(abs(gap - frame / 1e6) < 1e-9 for gap in spaced)
    assert len(arrived) == int(0.010 / (frame / 1e6)) + 1


def test_a_flap_is_up_then_down_for_ever() -> None:
    way = Way(1)
    way.change(Impairment(flap_up_s=2, flap_down_s=3), 100.0)
    for second in range(20):
        way.admit(udp4(100, number=second), 100.5 + second)
    arrived = [(0.0, frame) for frame in way.due(1000.0)]
    assert numbers(arrived) == [second for second in range(20) if second % 5 < 2]


def test_filters_drop_by_type_and_by_size_only() -> None:
    way = Way(1)
    way.change(Impairment(drop_type=4, drop_larger=500), 0.0)
    for frame in (udp4(100, first=4), udp4(100, first=1), udp4(501), udp4(500), udp6(501)):
        way.admit(frame, 0.0)
    assert way.due(0.0) == [udp4(100, first=1), udp4(500)]
    assert way.tally == {"type": 1, "larger": 2, "passed": 2}


def test_neighbour_discovery_passes_a_black_hole_at_once() -> None:
    arp = MACS + b"\x08\x06" + bytes(28)
    solicitation = MACS + b"\x86\xdd" + b"\x60\0\0\0\0\x18\x3a\xff" + bytes(32) + b"\x87" + bytes(23)
    echo = solicitation[:54] + b"\x80" + solicitation[55:]
    way = Way(1)
    way.change(Impairment(black_hole=True), 0.0)
    for frame in (arp, solicitation, echo):
        way.admit(frame, 0.0)
    assert way.due(0.0) == [arp, solicitation]


def test_a_smaller_mtu_fragments_what_may_be_and_tells_the_others() -> None:
    way = Way(1)
    way.change(Impairment(mtu=1280), 0.0)
    way.admit(udp4(1400), 0.0)
    first, second = way.due(0.0)
    assert frames.packet_size(first) <= 1280
    assert first[34 : 34 + frames.packet_size(first) - 20] + second[34:] == udp4(1400)[34:]
    assert frames.checksum(first[14:34]) == frames.checksum(second[14:34]) == 0
    assert (first[20] & 0x20, second[20] & 0x20) == (0x20, 0)
    for frame, kind, quoted in ((udp4(1400, df=True), (3, 4), 42), (udp6(1400), (2, 0), 62)):
        way.admit(frame, 0.0)
        assert way.due(0.0) == []
        answer = way.bounced.pop()
        at = quoted - 8
        assert answer[:12] == frame[6:12] + frame[:6]
        assert (answer[at], answer[at + 1]) == kind
        assert int.from_bytes(answer[at + 4 : at + 8], "big") == 1280
        assert answer[quoted : quoted + 40] == frame[14:54]


def test_icmp_can_be_swallowed() -> None:
    way = Way(1)
    way.change(Impairment(mtu=1280, icmp=False), 0.0)
    way.admit(udp4(1400, df=True), 0.0)
    assert (way.due(0.0), way.bounced, way.tally) == ([], [], {"too big": 1})


@pytest.mark.parametrize("frame", [udp4(200), udp6(200)], ids=["v4", "v6"])
def test_corruption_flips_one_payload_bit_that_the_checksum_does_not_betray(frame: bytes) -> None:
    for chance in (0.0, 0.37, 0.999):
        changed = frames.corrupted(frame, chance)
        at = frames.udp_at(frame) + 8
        flipped = sum((a ^ b).bit_count() for a, b in zip(frame[at:], changed[at:], strict=True))
        assert flipped == 1
        assert changed[: at - 2] == frame[: at - 2]
        if frame[12:14] == frames.IPV4:
            assert changed[at - 2 : at] == b"\0\0"
        else:
            pseudo = frame[22:54] + (160).to_bytes(4, "big") + b"\0\0\0\x11"
            assert frames.checksum(pseudo + changed[at - 8 :]) == 0


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"loss": 1.5}, "loss = 1.5 is no share between 0 and 1"),
        ({"delay_ms": -1}, "delay_ms = -1 is negative"),
        ({"mtu": 20}, "mtu = 20 is below 68"),
        ({"rate_mbit": 0}, "rate_mbit must be more than 0"),
        ({"flap_up_s": 1}, "a flap needs both"),
        ({"wetness": 1}, "there is no impairment `wetness`"),
    ],
)
def test_what_cannot_be_is_refused_in_one_sentence(fields: dict[str, object], why: str) -> None:
    with pytest.raises(ImpossibleImpairment, match=why):
        Impairment().changed(**fields)
