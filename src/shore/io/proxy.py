"""Through an HTTP proxy to a relay, by CONNECT (RFC 9110 §9.3.6), where the daemon's environment names one.

`https_proxy` is where, `no_proxy` for whom not (hosts and domains, or `*`), each in small letters or
capitals, as curl has it. The proxy is spoken to in the clear and sees the relay's name; TLS to the relay
begins behind it, and with a pin no proxy can sit in between. Nothing comes after the proxy's answer until we
have spoken, so all that is read is its head.
"""

import asyncio
import base64
import os
import socket
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

MOST_HEAD = 8192
LIKE = "it should be like http://proxy.example:3128"
END = b"\r\n\r\n"


class Refused(Exception):
    """The proxy does not let us through. One sentence."""


class Proxy(NamedTuple):
    """Where it is; `credentials` are `user:password`, or empty."""

    host: str
    port: int
    credentials: str


def surroundings(chosen: str | None) -> Mapping[str, str]:
    """What the environment says of proxies, or in its place the one that a person chose for everything."""
    return os.environ if chosen is None else {"https_proxy": chosen}


def proxy_for(host: str, environment: Mapping[str, str]) -> Proxy | None:
    """The proxy by which a host is reached. Raises ValueError where it is none for us."""
    url = _either("https_proxy", environment)
    if not url or _is_exempt(host, _either("no_proxy", environment)):
        return None
    try:
        return parse_proxy(url)
    except ValueError:
        raise ValueError(f"https_proxy names no proxy: {LIKE}") from None


def parse_proxy(url: str) -> Proxy:
    """A proxy by its URL. Raises ValueError."""
    parts = urlsplit(url if "://" in url else f"http://{url}")
    if parts.scheme != "http" or not parts.hostname:
        raise ValueError(f"this is no proxy: {LIKE}")
    user = "" if parts.username is None else f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return Proxy(parts.hostname, parts.port or 80, user)


async def pass_through(opened: socket.socket, address: str, proxy: Proxy) -> None:
    """Have a socket that is connected to the proxy lead to `address`. Raises Refused, OSError."""
    lines = [f"CONNECT {address} HTTP/1.1", f"Host: {address}"]
    if proxy.credentials:
        encoded = base64.b64encode(proxy.credentials.encode()).decode()
        lines.append(f"Proxy-Authorization: Basic {encoded}")
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(opened, "\r\n".join(lines).encode() + END)
    head = b""
    while END not in head and len(head) < MOST_HEAD:
        more = await loop.sock_recv(opened, MOST_HEAD)
        if not more:
            raise Refused(f"the proxy {proxy.host} closed the connection")
        head += more
    version, _, status = head.partition(b"\r\n")[0].partition(b" ")
    if not version.startswith(b"HTTP/1.") or not status.startswith(b"2"):
        raise Refused(f"the proxy {proxy.host} refused: {status.decode(errors='replace') or 'no HTTP'}")


def _is_exempt(host: str, exempt: str) -> bool:
    names = [name.strip().strip("[]").lstrip(".").lower() for name in exempt.split(",")]
    return any(name == "*" or f".{host.lower()}".endswith(f".{name}") for name in names if name)


def _either(name: str, environment: Mapping[str, str]) -> str:
    return environment.get(name) or environment.get(name.upper(), "")
