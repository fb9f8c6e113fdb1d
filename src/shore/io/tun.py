"""Open the TUN device, with every offload the kernel has.

The device is persistent: it outlives the processes, so its routes go on pointing at it and nothing
meant for the tunnel leaves in the clear. A device that Shore did not make is never touched; our own is
known by its device group. An alias would read better, but adds a line to `ip link` that scripts trip over.
"""

import errno
import fcntl
import os
import struct
import subprocess
from pathlib import Path

TUNSETIFF = 0x400454CA
TUNSETPERSIST = 0x400454CB
TUNSETOFFLOAD = 0x400454D0
TUNGETIFF = 0x800454D2
IFF_TUN, IFF_NO_PI, IFF_VNET_HDR = 0x1, 0x1000, 0x4000
# checksums + TSO4 + TSO6 + ECN with USO4 + USO6, without USO, and checksums alone.
OFFLOADS = (0x6F, 0x0F, 0x01, 0)
# "SHOR"
GROUP = 0x53484F52
# One read is one send: 44 segments of 1,452 bytes fit a UDP datagram's 65,507.
MOST_SEGMENTS = 44
QUEUE_LENGTH = 1000


class TunFailed(Exception):
    """One sentence that names the cause and the next step."""


def open_tun(name: str, *, offload: bool = True) -> int:
    """Make the device `name`, or open our own again. Returns its descriptor. Raises TunFailed."""
    exists = has_device(name)
    if exists and not is_ours(name):
        raise TunFailed(f"a device called {name} exists and is not Shore's: choose another name")
    try:
        fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise TunFailed("/dev/net/tun is missing: load the module with `modprobe tun`") from None
    except PermissionError:
        raise TunFailed("no right to open /dev/net/tun: run as root") from None
    try:
        _attach(fd, name, offload)
        if not exists:
            fcntl.ioctl(fd, TUNSETPERSIST, 1)
            _set_up(name)
    except OSError as error:
        os.close(fd)
        raise TunFailed(_reason(error, name)) from None
    except TunFailed:
        os.close(fd)
        raise
    return fd


def has_device(name: str) -> bool:
    """Whether our network namespace has a device of this name, whoever made it."""
    return Path(f"/sys/class/net/{name}").exists()


def is_ours(name: str) -> bool:
    """Whether Shore made the device."""
    try:
        return int(Path(f"/sys/class/net/{name}/netdev_group").read_text()) == GROUP
    except OSError:
        return False


def is_alive(fd: int) -> bool:
    """Whether the device behind the descriptor still exists, in whichever network namespace."""
    try:
        fcntl.ioctl(fd, TUNGETIFF, bytearray(40))
    except OSError:
        return False
    return True


def read_mtu(name: str) -> int | None:
    """The device's MTU as its owner set it; None if it is not in our network namespace."""
    try:
        return int(Path(f"/sys/class/net/{name}/mtu").read_text())
    except (OSError, ValueError):
        return None


def delete_tun(name: str) -> None:
    """Remove our own device; nothing happens if there is none."""
    if is_ours(name):
        subprocess.run(["ip", "link", "delete", "dev", name], capture_output=True, check=False)


def _attach(fd: int, name: str, offload: bool) -> None:
    flags = IFF_TUN | IFF_NO_PI | (IFF_VNET_HDR if offload else 0)
    request = struct.pack("16sH22x", name.encode(), flags)
    fcntl.ioctl(fd, TUNSETIFF, request)
    if not offload:
        return
    for features in OFFLOADS:
        try:
            fcntl.ioctl(fd, TUNSETOFFLOAD, features)
        except OSError:
            continue
        return


def _set_up(name: str) -> None:
    """What must be set while the device is down."""
    words = ["gso_max_segs", str(MOST_SEGMENTS), "txqueuelen", str(QUEUE_LENGTH), "group", str(GROUP)]
    # Without this the kernel solicits routers through the tunnel.
    words += ["addrgenmode", "none"]
    command = ["ip", "link", "set", "dev", name, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise TunFailed(f"setting up {name} failed: {done.stderr.strip()}")


def _reason(error: OSError, name: str) -> str:
    if error.errno == errno.EPERM:
        return f"no right to make the device {name}: run as root"
    if error.errno == errno.EBUSY:
        return f"the device {name} is in use by another process"
    return f"making the device {name} failed: {error.strerror}"
