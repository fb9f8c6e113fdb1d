"""What the heart is told at the start, and wants kept over a restart: how far the handshakes of a key were
stamped (`core.stamps`), with the wall clock that stamps them, and what NATs remember (`core.keepalive`).
"""

import time
from collections.abc import Callable

from shore import _native
from shore.core import events
from shore.io import state
from shore.model.config import TunnelConfig
from shore.model.links import Lifetime


class Stamping:
    """The stamps of one tunnel's key, on disk."""

    def __init__(self, tell: Callable[[events.Event], None], announce: Callable[[str, str], None]) -> None:
        self._tell = tell
        self._announce = announce
        self._private_key: bytes | None = None
        self._public_key: bytes | None = None
        self._failed = False

    def use(self, config: TunnelConfig) -> None:
        """This configuration comes into force: tell what is known of its key, if it is another one."""
        if config.private_key is None or config.private_key == self._private_key:
            return
        # The last word about the key that goes.
        self.read_clock()
        if self._private_key is None:
            self._tell(events.LifetimesRemembered(state.read_lifetimes()))
        self._private_key, self._public_key = config.private_key, _native.public_key(config.private_key)
        self._tell(events.StampRemembered(state.read_stamp(self._public_key)))
        self.read_clock()

    def read_clock(self) -> None:
        """Tell what the wall clock says now."""
        self._tell(events.ClockRead(time.time()))

    def keep(self, stamp: float) -> None:
        """Carry out KeepStamp."""
        public_key = self._public_key
        if public_key is None:
            return
        self._keep(lambda: state.write_stamp(public_key, stamp))

    def keep_lifetime(self, lifetime: Lifetime) -> None:
        """Carry out KeepLifetime."""
        self._keep(lambda: state.write_lifetime(lifetime))

    def _keep(self, write: Callable[[], None]) -> None:
        """A disk that takes nothing is announced once."""
        try:
            write()
        except OSError as error:
            if not self._failed:
                self._announce("state not kept", f"{error.filename}: {(error.strerror or '').lower()}")
            self._failed = True
        else:
            self._failed = False
