"""What a node or relay may say of where it is: what nobody would probe or dial is left out at the door."""

import ipaddress
import re
from collections.abc import Collection

from shore.core.candidates import is_told
from shore.core.consent import unfit
from shore.model.desired import Candidate
from shore.model.netmap import NODE_RANGE_V4
from shore.wire import control

MOST_CANDIDATES = 8
MOST_RELAYS = 4
MOST_PREFIXES = 32
MOST_ADDRESSES = 8
LONGEST = 64
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")


def sound(said: control.Whereabouts, relays: Collection[str]) -> control.Whereabouts:
    """Endpoints that are probed at all, in the order of the node, and relays that there are."""
    candidates = dict.fromkeys(c for c in said.candidates if is_sound(c))
    homes = dict.fromkeys(relay for relay in said.relays if relay in relays)
    return control.Whereabouts(tuple(candidates)[:MOST_CANDIDATES], tuple(homes)[:MOST_RELAYS])


def fitting(prefixes: tuple[str, ...], range_v6: str) -> tuple[str, ...]:
    """Of what a node would lead to, what any node may, in the order of the node."""
    ranges = (NODE_RANGE_V4, range_v6)
    return tuple(dict.fromkeys(each for each in prefixes if unfit(each, ranges) is None))[:MOST_PREFIXES]


def is_sound(candidate: Candidate) -> bool:
    """Whether it is an address and port that a peer probes."""
    host, _, port = candidate.endpoint.rpartition(":")
    return (
        len(candidate.endpoint) <= LONGEST
        and _is_port(port)
        and _version(host) is not None
        and is_told(candidate, set())
    )


def is_address(text: str) -> bool:
    """Whether it is the `host:port` of a relay: a name, an IPv4 address, or an IPv6 address in brackets."""
    host, _, port = text.rpartition(":")
    return _is_port(port) and (_version(host) is not None or _HOST.fullmatch(host) is not None)


def _is_port(port: str) -> bool:
    return port.isascii() and port.isdecimal() and len(port) <= 5 and 0 < int(port) < 65536


def _version(host: str) -> int | None:
    if "%" in host:
        return None
    bracketed = host.startswith("[") and host.endswith("]")
    try:
        version = ipaddress.ip_address(host[1:-1] if bracketed else host).version
    except ValueError:
        return None
    return version if bracketed == (version == 6) else None
