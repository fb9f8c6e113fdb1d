"""The sockets that the brain opened and keeps duplicates of, by the ids that the data plane knows them by.

Each opening becomes an event, whether it worked or not. An id is never used again.
"""

import socket
from collections.abc import Iterable

from shore.core import actions as do
from shore.core import events
from shore.io.ears import open_ear
from shore.io.sockets import SocketFailed, local_of, open_socket, open_sockets, own_end, set_mark
from shore.model.desired import Socket


class Openings:
    """Open sockets by id."""

    def __init__(self) -> None:
        self.sockets: dict[int, socket.socket] = {}
        self.links: dict[int, socket.socket] = {}
        self._last = 0
        # By family; None where we may have none.
        self._ears: dict[int, socket.socket | None] = {}

    def open(
        self, action: do.OpenSockets, *, held: int, former: int
    ) -> events.SocketsOpened | events.SocketsFailed:
        """The unbound ones. `held` is the port that we have, `former` one that we would like back."""
        ours = action.port != 0 and action.port == held
        port = action.port or former
        try:
            try:
                port, opened = open_sockets(port, mark=action.mark, fresh=not ours)
            except SocketFailed:
                if action.port or not port:
                    raise
                port, opened = open_sockets(0, mark=action.mark)
        except SocketFailed as error:
            return events.SocketsFailed(str(error))
        made = tuple(Socket(self._add(one), 4 if family == 4 else 6) for family, one in opened.items())
        return events.SocketsOpened(port, made)

    def open_extra(self, action: do.OpenExtraSocket) -> events.ExtraSocketOpened | events.SocketsFailed:
        """One on a port of its own, for one peer."""
        try:
            opened = open_socket(action.family, 0, mark=action.mark)
        except OSError as error:
            return events.SocketsFailed(str(error.strerror))
        extra = Socket(self._add(opened), 4 if action.family == 4 else 6)
        return events.ExtraSocketOpened(action.public_key, extra)

    def open_uplink(
        self, action: do.OpenUplinkSocket
    ) -> events.UplinkSocketOpened | events.UplinkSocketFailed:
        """One on the listen port, bound to an uplink."""
        name, _, family = action.way
        try:
            opened = open_socket(family, action.port, mark=action.mark, device=name, fresh=False)
        except OSError as error:
            return events.UplinkSocketFailed(action.way, str(error.strerror))
        return events.UplinkSocketOpened(action.way, Socket(self._add(opened), family, name))

    def open_trial(self, action: do.OpenTrialSocket) -> events.TrialSocketOpened | events.TrialSocketFailed:
        """One on a port of its own, for trials by an exit."""
        uplink, family = action.exit
        try:
            opened = open_socket(family, 0, mark=action.mark, device=uplink)
        except OSError as error:
            return events.TrialSocketFailed(action.exit, str(error.strerror))
        return events.TrialSocketOpened(action.exit, Socket(self._add(opened), family))

    def adopt(self, number: int, descriptor: int) -> None:
        """One that a running plane held."""
        self.sockets[number] = socket.socket(fileno=descriptor)
        self._last = max(self._last, number)

    def add_link(self, opened: socket.socket) -> int:
        """A connected one that is to become a link."""
        self._last += 1
        self.links[self._last] = opened
        return self._last

    def adopt_links(self, numbers: Iterable[int]) -> None:
        """Those that a running plane made streams of: their ids are taken."""
        self._last = max([self._last, *numbers])

    def close_link(self, number: int) -> None:
        """One that no desired state names any more."""
        opened = self.links.pop(number, None)
        if opened is not None:
            opened.close()

    def local_of(self, number: int, remote: str) -> str | None:
        """Where the kernel would send from to `remote` by one of them; None if that is not known."""
        if number in self.links:
            return own_end(self.links[number])
        return local_of(self.sockets.get(number), remote)

    def mark(self, mark: int) -> None:
        """Mark what all of them send."""
        for opened in (*self.sockets.values(), *self.links.values()):
            set_mark(opened, mark)

    def ears(self, *, wanted: bool) -> dict[str, int]:
        """Descriptors of what hears probes before a firewall does, by name; opened or closed as is wanted."""
        if not wanted:
            self._close_ears()
            return {}
        for family in (4, 6):
            if family not in self._ears:
                self._ears[family] = open_ear(family)
        return {f"ear:{family}": ear.fileno() for family, ear in self._ears.items() if ear is not None}

    def _close_ears(self) -> None:
        for ear in self._ears.values():
            if ear is not None:
                ear.close()
        self._ears.clear()

    def close(self, number: int) -> None:
        """One that no desired state names any more."""
        opened = self.sockets.pop(number, None)
        if opened is not None:
            opened.close()

    def close_all(self) -> None:
        """The tunnel is going down."""
        for number in list(self.sockets):
            self.close(number)
        for number in list(self.links):
            self.close_link(number)
        self._close_ears()

    def _add(self, opened: socket.socket) -> int:
        self._last += 1
        self.sockets[self._last] = opened
        return self._last
