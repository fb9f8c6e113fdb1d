"""What Shore tells systemd, and what it asks of it.

Under systemd a unit restarts the brain, and no keeper is needed. The brain tells the unit how it is, by
datagrams as in sd_notify(3): that the tunnel is configured, and each second that it lives. A data plane that
such a brain starts goes into a scope of its own, so that whatever becomes of the unit is nothing to it.
"""

import contextlib
import os
import socket
import subprocess
from collections.abc import MutableMapping

ANSWERS_WITHIN = 2.0


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


def is_asked_for(environment: MutableMapping[str, str] = os.environ) -> bool:
    """Whether a unit of `Type=notify` started this process."""
    return "NOTIFY_SOCKET" in environment


def in_scope(device: str, generation: int) -> list[str]:
    """The words before a command that put its process into a scope of its own.

    The scope stops after the unit of the tunnel when the machine goes down. Its name is new each time:
    systemd may still know the scope of a data plane that was replaced a moment ago.
    """
    return [
        *("systemd-run", "--scope", "--collect", "--quiet"),
        *("--unit", f"shore-dataplane-{device}-{generation}.scope"),
        *("--description", f"Data plane of the Shore tunnel {device}"),
        *("--property", f"Before=shore@{device}.service"),
        "--",
    ]


def machine_goes_down() -> bool:
    """Whether systemd is stopping everything. Blocks for 2 s at most."""
    try:
        asked = subprocess.run(
            ["systemctl", "is-system-running"],
            capture_output=True,
            text=True,
            timeout=ANSWERS_WITHIN,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return asked.stdout.strip() == "stopping"
