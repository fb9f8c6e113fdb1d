"""What one way of a link does to the packets on it, as one frozen value.

A fault is a change of this value at an instant. Everything is off by default. Shares are between 0 and 1,
sizes are of the IP packet. Neighbour discovery (ARP, and its ICMPv6 kind) always passes at once: what fails
here lies beyond the first hop, as it does outside, and a black hole must not be told to the sender by the
kernel's own "no such neighbour". A cable that is pulled is another thing (`Link.unplug`).
"""

from typing import Self

import msgspec

MTU_LEAST = 68
WIREGUARD_DATA = 4


class ImpossibleImpairment(ValueError):
    """An impairment that cannot be; says why in one sentence."""


class Impairment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The state of one way of a link.

    burst           mean length of a run of losses (Gilbert); 0 is independent losses
    reorder         share of packets held back by `reorder_ms`, so that others overtake them
    corrupt         share with one bit flipped after the headers; a UDP checksum is made to fit
    queue_ms        how much may wait for `rate_mbit` before the tail is dropped
    mtu, icmp       a router's: larger packets are fragmented where IPv4 allows it, else dropped, with an ICMP
                    "too big" sent or swallowed
    drop_larger     packets above this size vanish, fragmentable or not
    drop_type       UDP datagrams that begin with this byte vanish (4 is WireGuard's data)
    flap_*_s        up for so long, then a black hole for so long, for ever
    """

    delay_ms: float = 0.0
    jitter_ms: float = 0.0
    loss: float = 0.0
    burst: float = 0.0
    reorder: float = 0.0
    reorder_ms: float = 10.0
    duplicate: float = 0.0
    corrupt: float = 0.0
    rate_mbit: float | None = None
    queue_ms: float = 100.0
    mtu: int | None = None
    icmp: bool = True
    black_hole: bool = False
    drop_larger: int | None = None
    drop_type: int | None = None
    flap_up_s: float = 0.0
    flap_down_s: float = 0.0

    def __post_init__(self) -> None:
        for name in ("loss", "reorder", "duplicate", "corrupt"):
            share = getattr(self, name)
            if not 0.0 <= share <= 1.0:
                raise ImpossibleImpairment(f"{name} = {share} is no share between 0 and 1")
        for name in ("delay_ms", "jitter_ms", "reorder_ms", "queue_ms", "flap_up_s", "flap_down_s"):
            if getattr(self, name) < 0:
                raise ImpossibleImpairment(f"{name} = {getattr(self, name)} is negative")
        if self.burst and (self.burst < 1.0 or self.loss >= 1.0):
            raise ImpossibleImpairment(
                "burst is the mean length of a run of losses, 1 or more, below loss = 1"
            )
        if self.rate_mbit is not None and self.rate_mbit <= 0:
            raise ImpossibleImpairment(
                "rate_mbit must be more than 0; a link that carries nothing is black_hole"
            )
        if self.mtu is not None and self.mtu < MTU_LEAST:
            raise ImpossibleImpairment(f"mtu = {self.mtu} is below {MTU_LEAST}, the least of IPv4")
        if self.drop_type is not None and not 0 <= self.drop_type <= 255:
            raise ImpossibleImpairment(f"drop_type = {self.drop_type} is no byte")
        if bool(self.flap_up_s) != bool(self.flap_down_s):
            raise ImpossibleImpairment("a flap needs both flap_up_s and flap_down_s")

    def changed(self, **fields: object) -> Self:
        """The same with other fields. Raises ImpossibleImpairment, also for a field that there is not."""
        unknown = [name for name in fields if name not in self.__struct_fields__]
        if unknown:
            raise ImpossibleImpairment(f"there is no impairment `{unknown[0]}`")
        return msgspec.structs.replace(self, **fields)

    def needs_a_wire(self) -> list[str]:
        """The fields in use that the kernel's own links cannot do."""
        plain = Impairment()
        kernel = ("loss", "black_hole", "drop_larger", "drop_type", "rate_mbit", "queue_ms", "icmp")
        return [
            name
            for name in self.__struct_fields__
            if name not in kernel and getattr(self, name) != getattr(plain, name)
        ] + (["burst"] if self.burst and not self.loss else [])


CLEAR = Impairment()
