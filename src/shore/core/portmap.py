"""One port of ours, mapped at the default gateway, as long as we want it (RFC 6886, RFC 6887).

Only the gateway of an uplink is ever asked: whoever else answers in a network is not the way out. PCP is
asked first, and with it whether NAT-PMP is spoken; what grants a mapping first is kept to. IPv6 has PCP only:
there it opens the firewall. A gateway that knows neither is left to UPnP (`io.portmap`).

    looking    asked up to three times; then at rest for ten minutes
    held       renewed at half life; the gateway's epoch is read once a minute, and one that is younger than
               it should be has forgotten us: we ask anew at once, for the same port outside
    lost       not renewed in its life: the mapping is no candidate any more, and we look again

A nonce is drawn by the caller and stays for the life of this object, as the gateway lets nobody else renew.
"""

from typing import Literal

import msgspec

from shore.core.timers import PORTMAP_AGAIN, PORTMAP_CHECK, PORTMAP_TRIES
from shore.wire import natpmp, pcp

LIFETIME_S = 7200
# RFC 6886 §3.6: a clock that is wrong by an eighth is a bad clock, and not yet a restart.
EPOCH_SLACK_S = 2.0
# A gateway that grants seconds would have us ask all day.
SHORTEST_S = 120
Protocol = Literal["pcp", "nat-pmp"]


class Granted(msgspec.Struct, frozen=True):
    """Where the port is seen from outside, by which protocol, and until when."""

    endpoint: str
    protocol: Protocol
    until: float


class PortMap:
    """Feed answers of the gateway, send what comes back to it, and wake at `deadline`."""

    def __init__(self, client: str, port: int, nonce: bytes) -> None:
        """`client` is the address of ours that the gateway sees us by."""
        self.granted: Granted | None = None
        self.refusal: str | None = None
        self._client = client
        self._port = port
        self._nonce = nonce
        self._tries = 0
        self._resting = False
        self._wish = port
        self._address: str | None = None
        self._epoch: tuple[int, float] | None = None
        self._renew_at = 0.0
        self._next: float = float("-inf")

    @property
    def deadline(self) -> float:
        """When to `wake`."""
        return self._next

    @property
    def is_silent(self) -> bool:
        """Whether the gateway was asked in full and granted nothing."""
        return self._resting and self.granted is None

    def wake(self, now: float) -> list[bytes]:
        """Ask what is due to be asked."""
        if now < self._next:
            return []
        if self.granted is not None and now >= self.granted.until:
            self.granted, self._tries = None, 0
        if self.granted is not None and now < self._renew_at:
            self._next = min(now + PORTMAP_CHECK, self._renew_at)
            return [self._check()]
        if self._tries == len(PORTMAP_TRIES):
            return self._rest(now)
        self._resting = False
        self._next = now + PORTMAP_TRIES[self._tries]
        self._tries += 1
        return self._ask()

    def receive(self, answer: bytes, now: float) -> list[bytes]:
        """Take a datagram of the gateway; what is not understood is nothing."""
        match natpmp.read(answer) or pcp.read(answer):
            case pcp.Mapped(nonce, self._port, external, address, lifetime, epoch) if nonce == self._nonce:
                return self._take(Granted(_endpoint(address, external), "pcp", now + lifetime), epoch, now)
            case natpmp.Mapped(self._port, external, lifetime, epoch) if self._address is not None:
                endpoint = _endpoint(self._address, external)
                return self._take(Granted(endpoint, "nat-pmp", now + lifetime), epoch, now)
            case natpmp.Address(address, epoch):
                return self._learn_address(address, epoch, now)
            case pcp.Announced(epoch):
                return self._look_at(epoch, now)
            case natpmp.Denied(reason=reason) | pcp.Denied(reason=reason):
                self.refusal = reason
        return []

    def give_back(self) -> list[bytes]:
        """What takes the mapping back: nobody needs it any more."""
        granted, self.granted = self.granted, None
        if granted is None:
            return []
        if granted.protocol == "pcp":
            return [pcp.ask_mapping(self._client, self._nonce, self._port, 0, 0)]
        return [natpmp.ask_mapping(self._port, 0, 0)]

    def _ask(self) -> list[bytes]:
        by = None if self.granted is None else self.granted.protocol
        asked = []
        if by != "nat-pmp":
            asked.append(pcp.ask_mapping(self._client, self._nonce, self._port, self._wish, LIFETIME_S))
        if ":" not in self._client and by != "pcp":
            if self._address is not None and (by == "nat-pmp" or self._tries > 1):
                asked.append(natpmp.ask_mapping(self._port, self._wish, LIFETIME_S))
            else:
                asked.append(natpmp.ask_address())
        return asked

    def _check(self) -> bytes:
        """A question that costs the gateway nothing and shows its epoch."""
        if self.granted is not None and self.granted.protocol == "nat-pmp":
            return natpmp.ask_address()
        return pcp.ask_announce(self._client)

    def _rest(self, now: float) -> list[bytes]:
        self._tries, self._resting = 0, True
        self._next = now + PORTMAP_AGAIN
        if self.granted is not None:
            # Still ours until it runs out; the next tries are at half of what is left.
            self._next = now + (self.granted.until - now) / 2
            self._renew_at = self._next
        return []

    def _take(self, granted: Granted, epoch: int, now: float) -> list[bytes]:
        lifetime = granted.until - now
        if lifetime < SHORTEST_S:
            self.refusal = f"it grants a port for {lifetime:.0f} s only"
            return []
        self.granted, self.refusal = granted, None
        self._wish = int(granted.endpoint.rpartition(":")[2])
        self._tries, self._resting = 0, False
        self._epoch = epoch, now
        self._renew_at = now + lifetime / 2
        self._next = min(now + PORTMAP_CHECK, self._renew_at)
        return []

    def _learn_address(self, address: str, epoch: int, now: float) -> list[bytes]:
        moved = self._address not in (None, address)
        self._address = address
        if moved and self.granted is not None and self.granted.protocol == "nat-pmp":
            self._epoch = None
            return self._ask_anew(now)
        return self._look_at(epoch, now)

    def _look_at(self, epoch: int, now: float) -> list[bytes]:
        """RFC 6886 §3.6: has the gateway forgotten what it granted?"""
        known, self._epoch = self._epoch, (epoch, now)
        if self.granted is None or known is None:
            return []
        least = known[0] + (now - known[1]) * 7 / 8 - EPOCH_SLACK_S
        return self._ask_anew(now) if epoch < least else []

    def _ask_anew(self, now: float) -> list[bytes]:
        self._renew_at, self._tries = now, 1
        self._next = now + PORTMAP_TRIES[0]
        return self._ask()


def _endpoint(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
