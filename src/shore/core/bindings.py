"""The UDP sides of relays: where we are bound there, and the paths that are by them.

A relay that let a link of ours in says where its UDP side is, and the link's ticket lets us bind an address
there (docs/protocol/relay.md). The plane does that and says when the relay forwards to us; only then is a
peer's place offered by it, before the same place by the stream, for a stream delivers everything, late if
need be. Where UDP is blocked nobody is ever bound and nothing is lost but a small datagram each half minute.

A binding is the relay's and not the link's: when another link to the relay comes up, it goes on with that
one's ticket, and with its paths. It ends when the relay is not known any more, or when neither the relay's
UDP side nor a link is there. It leaves by the unbound socket, as links do by the kernel's own choice.
"""

from collections.abc import Collection

from shore.core.candidates import family_of, host_of
from shore.core.sockets import Sockets
from shore.model.desired import Binding

# Ids of bindings are those of links with this bit: no link or socket has it.
OF_BINDING = 1 << 31


class Bindings:
    """One for each relay that has a UDP side, as far as our sockets lead there."""

    def __init__(self) -> None:
        self._of: dict[str, Binding] = {}
        self._bound: set[int] = set()

    def linked(self, relay: str, link: int, name: str, udp: tuple[str, ...], sockets: Sockets) -> None:
        """A link to this relay is up, and `udp` are its addresses; `name` is the host that was dialled."""
        ways = [(sockets.unbound.get(family_of(server)), server) for server in udp]
        open_ways = [(socket.id, server) for socket, server in ways if socket is not None]
        if not open_ways:
            self._of.pop(relay, None)
            return
        socket, server = next((way for way in open_ways if host_of(way[1]) == name), open_ways[0])
        known = self._of.get(relay)
        number = link | OF_BINDING if known is None else known.id
        self._of[relay] = Binding(number, link, socket, server)

    def follow(self, sockets: Sockets) -> None:
        """Sockets were opened anew: bindings leave by those from now on."""
        for relay, binding in list(self._of.items()):
            socket = sockets.unbound.get(family_of(binding.server))
            if socket is None:
                self._end(relay)
            elif socket.id != binding.socket:
                self._of[relay] = Binding(binding.id, binding.link, socket.id, binding.server)

    def adopt(self, bindings: tuple[Binding, ...], relays: dict[int, str]) -> None:
        """Those that a running plane holds, by what the links are to; it will not say again who is bound."""
        for binding in bindings:
            if binding.link in relays:
                self._of[relays[binding.link]] = binding
                self._bound.add(binding.id)

    def told(self, number: int, *, bound: bool) -> None:
        """The plane says whether a relay forwards to us."""
        if bound:
            self._bound.add(number)
        else:
            self._bound.discard(number)

    def keep(self, known: Collection[str], linked: Collection[str]) -> None:
        """Only relays that are known, and those without a link only while they forward to us."""
        for relay, binding in list(self._of.items()):
            if relay not in known or (relay not in linked and binding.id not in self._bound):
                self._end(relay)

    def forget(self) -> None:
        """The plane is gone, and what it had bound."""
        self._of.clear()
        self._bound.clear()

    def wishes(self) -> tuple[Binding, ...]:
        """The plane's part."""
        return tuple(self._of.values())

    def by(self, relay: str) -> list[int]:
        """The binding by which packets can go, where there is one."""
        binding = self._of.get(relay)
        return [binding.id] if binding is not None and binding.id in self._bound else []

    def of(self, number: int) -> Binding | None:
        """The binding of this id."""
        return next((binding for binding in self._of.values() if binding.id == number), None)

    def addresses(self) -> dict[int, str]:
        """Where each is bound."""
        return {binding.id: binding.server for binding in self._of.values()}

    def over_ipv6(self) -> frozenset[int]:
        """Those whose datagrams have the longer header."""
        return frozenset(each.id for each in self._of.values() if family_of(each.server) == 6)

    def outcome(self) -> object:
        """What peers' parts stand on."""
        return tuple(self._of.values()), frozenset(self._bound)

    def _end(self, relay: str) -> None:
        self._bound.discard(self._of.pop(relay).id)
