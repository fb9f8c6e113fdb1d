"""Open the UDP sockets of a tunnel (DESIGN.md §5, "Sockets").

One unbound socket per family on the listen port. They share it with their successors by SO_REUSEPORT;
since that would also let two tunnels of one user share it in silence, the port is first tried alone.
Buffers are forced large: a data thread that is descheduled finds everything when it comes back.
"""

import errno
import socket

BUFFER = 7 << 20
IP_PKTINFO = 8
IP_MTU_DISCOVER, IPV6_MTU_DISCOVER = 10, 23
# DF clear, ICMP ignored: a foreign peer's path may fragment what does not fit.
PMTUDISC_OMIT = 5
SO_RCVBUFFORCE, SO_SNDBUFFORCE = 33, 32
SO_BINDTODEVICE = 25
SO_MARK = 36


class SocketFailed(Exception):
    """One sentence that names the cause and the next step."""


def open_sockets(
    port: int, *, mark: int = 0, fresh: bool = True, attempts: int = 16
) -> tuple[int, dict[int, socket.socket]]:
    """Open a socket per family on one port; 0 chooses one that both families have free.

    `fresh` insists that nobody else holds the port. A host without IPv6 gets IPv4 alone. Returns
    the port and the sockets by family (4, 6). Raises SocketFailed.
    """
    for attempt in range(attempts):
        sockets: dict[int, socket.socket] = {}
        chosen = port
        try:
            for family in (4, 6):
                try:
                    sockets[family] = open_socket(family, chosen, mark=mark, fresh=fresh)
                except OSError as error:
                    if family == 6 and error.errno in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
                        continue
                    raise
                chosen = sockets[family].getsockname()[1]
        except OSError as error:
            for opened in sockets.values():
                opened.close()
            if error.errno == errno.EADDRINUSE and port == 0 and attempt + 1 < attempts:
                continue
            raise SocketFailed(_reason(error, chosen)) from None
        return chosen, sockets
    raise AssertionError("the last attempt returns or raises")


def open_socket(
    family: int, port: int, *, mark: int = 0, device: str | None = None, fresh: bool = True
) -> socket.socket:
    """One socket; `device` binds it to an uplink. Raises OSError."""
    if fresh and port:
        with socket.socket(_family(family), socket.SOCK_DGRAM) as alone:
            if family == 6:
                alone.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            alone.bind(("", port))
    opened = socket.socket(_family(family), socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    try:
        _prepare(opened, family, mark, device)
        opened.bind(("", port))
    except OSError:
        opened.close()
        raise
    return opened


def set_mark(opened: socket.socket, mark: int) -> None:
    """Mark what the socket sends; takes effect for all duplicates at once."""
    opened.setsockopt(socket.SOL_SOCKET, SO_MARK, mark)


def local_of(opened: socket.socket | None, remote: str) -> str | None:
    """The address and port that the kernel would send from to `remote` by this socket; None if by none.

    Asked of a socket like it, as a connected one would hear nobody else.
    """
    if opened is None:
        return None
    host, _, port = remote.rpartition(":")
    try:
        with socket.socket(opened.family, socket.SOCK_DGRAM) as like:
            for option in (SO_MARK, SO_BINDTODEVICE):
                value = opened.getsockopt(socket.SOL_SOCKET, option, 16)
                if any(value):
                    like.setsockopt(socket.SOL_SOCKET, option, value)
            like.connect((host.strip("[]"), int(port)))
            address = like.getsockname()[0]
            own_port = opened.getsockname()[1]
    except (OSError, OverflowError, ValueError):
        return None
    return f"[{address}]:{own_port}" if ":" in address else f"{address}:{own_port}"


def own_end(opened: socket.socket) -> str | None:
    """The address and port that a connected socket sends from; None if it is not connected any more."""
    try:
        address, port = opened.getsockname()[:2]
    except OSError:
        return None
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _prepare(opened: socket.socket, family: int, mark: int, device: str | None) -> None:
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    if family == 6:
        opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        opened.setsockopt(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, PMTUDISC_OMIT)
    else:
        opened.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
        opened.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, PMTUDISC_OMIT)
    for forced, plain in ((SO_RCVBUFFORCE, socket.SO_RCVBUF), (SO_SNDBUFFORCE, socket.SO_SNDBUF)):
        try:
            opened.setsockopt(socket.SOL_SOCKET, forced, BUFFER)
        except PermissionError:
            opened.setsockopt(socket.SOL_SOCKET, plain, BUFFER)
    if mark:
        set_mark(opened, mark)
    if device is not None:
        opened.setsockopt(socket.SOL_SOCKET, SO_BINDTODEVICE, device.encode() + b"\0")


def _family(family: int) -> socket.AddressFamily:
    return socket.AF_INET if family == 4 else socket.AF_INET6


def _reason(error: OSError, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"UDP port {port} is in use: stop its owner (`ss -ulnp`) or choose another ListenPort"
    if error.errno in (errno.EPERM, errno.EACCES):
        return f"no right to open UDP port {port}: run as root"
    return f"opening UDP port {port} failed: {error.strerror}"
