"""What a node or relay may say of where it is: what nobody would probe or dial is left out at the door."""

import re
from collections.abc import Collection

from shore.core.candidates import ip_version, is_port, sound_ones
from shore.core.consent import unfit
from shore.model.netmap import NODE_RANGE_V4
from shore.wire import control

MOST_RELAYS = 4
MOST_PREFIXES = 32
MOST_ADDRESSES = 8
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")


def sound(said: control.Whereabouts, relays: Collection[str]) -> control.Whereabouts:
    """Endpoints that are probed at all, in the order of the node, and relays that there are."""
    homes = dict.fromkeys(relay for relay in said.relays if relay in relays)
    return control.Whereabouts(sound_ones(said.candidates), tuple(homes)[:MOST_RELAYS])


def fitting(prefixes: tuple[str, ...], range_v6: str) -> tuple[str, ...]:
    """Of what a node would lead to, what any node may, in the order of the node."""
    ranges = (NODE_RANGE_V4, range_v6)
    return tuple(dict.fromkeys(each for each in prefixes if unfit(each, ranges) is None))[:MOST_PREFIXES]


def is_address(text: str) -> bool:
    """Whether it is the `host:port` of a relay: a name, an IPv4 address, or an IPv6 address in brackets."""
    host, _, port = text.rpartition(":")
    return is_port(port) and (ip_version(host) is not None or _HOST.fullmatch(host) is not None)
