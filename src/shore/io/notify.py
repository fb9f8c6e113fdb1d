"""What Shore tells systemd, by datagrams as in sd_notify(3).

A brain tells its unit that the tunnel is configured, and each second that it lives; the keeper of a network's
server or relay, that the program serves. Keepers live long and import little, so this does too.
"""

import contextlib
import socket
from collections.abc import MutableMapping


class Unit:
    """The unit of systemd that this process is the main process of, if there is one."""

    def __init__(self, environment: MutableMapping[str, str]) -> None:
        """Take what systemd left in the environment; our children are not the unit's main process."""
        path = environment.pop("NOTIFY_SOCKET", "")
        watchdog_us = int(environment.pop("WATCHDOG_USEC", "0"))
        environment.pop("WATCHDOG_PID", None)
        self._address = "\0" + path[1:] if path.startswith("@") else path
        self.watchdog_s = watchdog_us / 1e6 if path else 0.0

    @property
    def exists(self) -> bool:
        """Whether systemd started us and waits for our word."""
        return bool(self._address)

    def say(self, *assignments: str) -> None:
        """Tell `READY=1` and the like; a systemd that does not listen is no fault of the tunnel."""
        if not self._address:
            return
        teller = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        with teller, contextlib.suppress(OSError):
            teller.sendto("\n".join(assignments).encode(), self._address)
