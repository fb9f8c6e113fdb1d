"""The sockets of a simulated machine, as its kernel sees them: by which uplink each sends, which one listens.

Both follow from the sockets, from those that are in force, and from the uplinks. They are asked for with each
datagram and change seldom, so answers are kept until any of these is another one.
"""

from dataclasses import dataclass
from typing import Literal

from tests.sim.network import Uplink


@dataclass
class Opened:
    """A socket of the shell's."""

    id: int
    family: Literal[4, 6]
    port: int
    uplink: str | None


class Doors:
    """One machine's; `uplinks` in the order of their default routes."""

    def __init__(self, uplinks: list[Uplink]) -> None:
        self._uplinks = uplinks
        self._sockets: dict[int, Opened] = {}
        self._in_force: frozenset[int] = frozenset()
        self._version = -1
        self._exits: dict[int, tuple[Uplink, int] | None] = {}
        self._listeners: dict[tuple[str, int, int], int | None] = {}

    @property
    def sockets(self) -> dict[int, Opened]:
        """The open ones, oldest first; not to be changed but by `hold` and `open`."""
        return self._sockets

    def hold(self, sockets: dict[int, Opened]) -> None:
        """These are open, and no others."""
        self._sockets, self._version = sockets, -1

    def open(self, socket: Opened) -> None:
        """One more."""
        self._sockets[socket.id] = socket
        self._version = -1

    def enforce(self, sockets: frozenset[int]) -> None:
        """The data plane reads these."""
        self._in_force, self._version = sockets, -1

    def exit(self, number: int) -> tuple[Uplink, int] | None:
        """The uplink that the kernel sends by, and the port; None where it refuses."""
        if self._version != Uplink.version:
            self._look_again()
        if number not in self._exits:
            self._exits[number] = self._find_exit(number)
        return self._exits[number]

    def listener(self, uplink: Uplink, port: int, family: int) -> int | None:
        """The socket that the kernel picks: a bound one before an unbound one, the newest of equals."""
        if self._version != Uplink.version:
            self._look_again()
        key = (uplink.name, port, family)
        if key not in self._listeners:
            self._listeners[key] = self._find_listener(*key)
        return self._listeners[key]

    def _look_again(self) -> None:
        self._version = Uplink.version
        self._exits, self._listeners = {}, {}

    def _find_exit(self, number: int) -> tuple[Uplink, int] | None:
        one = self._sockets.get(number)
        if one is None:
            return None
        for uplink in self._uplinks:
            bound = one.uplink is None or one.uplink == uplink.name
            if not uplink.down and bound and uplink.has(one.family):
                return uplink, one.port
        return None

    def _find_listener(self, name: str, port: int, family: int) -> int | None:
        unbound = None
        for number in reversed(self._sockets):
            one = self._sockets[number]
            if one.port == port and one.family == family and number in self._in_force:
                if one.uplink == name:
                    return number
                if one.uplink is None and unbound is None:
                    unbound = number
        return unbound
