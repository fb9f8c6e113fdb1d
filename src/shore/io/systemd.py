"""What Shore asks of systemd (what it tells it: `io.notify`).

Under systemd a unit restarts the brain, and no keeper is needed. A data plane that such a brain starts goes
into a scope of its own, so that whatever becomes of the unit is nothing to it.
"""

import os
import subprocess
from collections.abc import MutableMapping

ANSWERS_WITHIN = 2.0


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
