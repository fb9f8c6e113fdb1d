"""The right to make namespaces: root has it, everybody else by a user namespace, as scripts/with-rights does.

The user namespace has a /run of its own, so the laboratories of two users never see each other.
"""

import os
import shutil
import subprocess
import sys
from typing import NoReturn

from shore.lab.net import LabFailed

TOOLS = {
    "ip": "iproute2",
    "nft": "nftables",
    "ping": "iputils-ping",
    "conntrack": "conntrack",
    "unshare": "util-linux",
    "sysctl": "procps",
}
INSIDE = "SHORE_LAB_INSIDE"
PREPARE = (
    "mount -t tmpfs tmpfs /run && mkdir -p /run/netns /run/lock /run/wireguard "
    '&& { [ ! -d /etc/netns ] || mount -t tmpfs tmpfs /etc/netns; } && ip link set lo up && exec "$@"'
)


def require_tools() -> None:
    """Raises LabFailed, which names what is missing and the command that installs it."""
    missing = {package for tool, package in TOOLS.items() if shutil.which(tool) is None}
    if missing:
        raise LabFailed(f"some tools are missing: apt install {' '.join(sorted(missing))}")


def obtain(words: list[str]) -> None:
    """Return if we may make namespaces; else start `python -m shore.lab` with these words where we may.

    Raises LabFailed where the system allows neither.
    """
    if os.geteuid() == 0 or os.environ.get(INSIDE):
        return
    if subprocess.run(["unshare", "-Urnm", "true"], capture_output=True, check=False).returncode != 0:
        raise LabFailed(
            "neither root nor allowed to make user namespaces: sysctl -w kernel.unprivileged_userns_clone=1"
        )
    _enter([sys.executable, "-m", "shore.lab", *words])


def _enter(command: list[str]) -> NoReturn:
    namespaces = ["unshare", "-Urnm", "--propagation", "private"]
    os.environ[INSIDE] = "1"
    os.execvp("unshare", [*namespaces, "sh", "-c", PREPARE, "shore-lab", *command])
