"""Sockets in another network namespace, held by this process.

A namespace belongs to a thread, and a socket stays in the one it was made in. So a thread goes there, makes
the socket, and ends; one process then measures between two hosts with one clock.
"""

import ctypes
import os
import socket
import threading
from collections.abc import Callable
from typing import TypeVar

from shore.lab.net import Host

CLONE_NEWNET = 0x40000000
Made = TypeVar("Made")


def enter(namespace: str) -> None:
    """Move this thread to a network namespace. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
    try:
        if libc.setns(descriptor, CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), f"cannot enter {namespace}")
    finally:
        os.close(descriptor)


def in_host(host: Host, make: Callable[[], Made]) -> Made:
    """What `make` returns in that host. Raises OSError, and what `make` raises."""
    made: list[Made] = []
    failed: list[BaseException] = []

    def there() -> None:
        try:
            enter(host.namespace)
            made.append(make())
        except OSError as error:
            failed.append(error)

    thread = threading.Thread(target=there)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return made[0]


def datagram_socket(host: Host, address: str = "", port: int = 0, *, device: str = "") -> socket.socket:
    """A bound UDP socket in a host; its family is the address's, IPv4 without one.

    With a device it takes that uplink, whatever the host's routes prefer.
    """

    def make() -> socket.socket:
        made = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        if device:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
        made.bind((address, port))
        return made

    return in_host(host, make)
