"""Where we may be, and by which ways a Shore peer may be reached.

*Ours* are told to every Shore peer: the addresses of the uplinks with the listen port, the ports that
gateways granted us, and what STUN servers and peers say that we look like from there. *Theirs* are the
endpoints of the file, what they told us, and where they spoke from. Each pair of a socket and an endpoint of
its family is a path; there are eight at most, and those that have answered come first. A symmetric NAT shows
another port to each of our sockets and after each of its reboots, so of the ports at one address only the
newest few that we learnt are kept: the eight are for different ways.
"""

import ipaddress
from collections.abc import Collection, Iterable
from functools import lru_cache

from shore.core.sockets import Sockets
from shore.model.desired import Candidate
from shore.model.facts import PeerCounters
from shore.model.links import Family, Link

MOST_PATHS = 8
MOST_CANDIDATES = 8
LONGEST_ENDPOINT = 64
MOST_PORTS = 2
Place = tuple[int, str]


def own_candidates(
    links: tuple[Link, ...],
    port: int,
    counters: Iterable[PeerCounters],
    mapped: Iterable[str] = (),
    granted: Iterable[str] = (),
) -> tuple[Candidate, ...]:
    """What to tell peers: hosts, then what gateways `granted`, then `mapped`, which STUN servers say."""
    if not port:
        return ()
    hosts = [
        Candidate(endpoint(address, port), "host")
        for link in links
        if link.up
        for address in link.addresses
        if _is_offered(address)
    ]
    known = {candidate.endpoint for candidate in hosts}
    held = [each for each in granted if each not in known and _is_offered(host_of(each))]
    gateways = [Candidate(each, "port_mapped") for each in held]
    known |= set(held)
    servers = [Candidate(seen, "server_reflexive") for seen in sorted(set(mapped) - known)]
    known |= set(mapped)
    seen = {
        path.observed
        for peer in counters
        for path in peer.paths
        if path.kind == "direct"
        and path.observed is not None
        and path.observed not in known
        and path.state == "live"
    }
    reflexive = [Candidate(observed, "peer_reflexive") for observed in sorted(seen)]
    return tuple((hosts + gateways + servers + reflexive)[:MOST_CANDIDATES])


def places(
    sockets: Sockets,
    spoken: list[Place],
    configured: list[str],
    told: list[str],
    open_ids: set[int],
) -> tuple[Place, ...]:
    """Paths of a Shore peer: the places that it spoke from, newest first, then each pair that could work,
    with the endpoints of the file before those that it told.

    Where uplinks have sockets of their own the unbound one is none: it leaves by one of them, and two paths
    that look the same to the peer spoil each other's counts. A place is as good from another socket where its
    own is gone, and better than a candidate that nobody has proved.
    """
    usable = open_ids - {
        unbound.id for family, unbound in sockets.unbound.items() if unbound not in sockets.of_family(family)
    }
    known = [place for place in spoken if place[0] in usable]
    elsewhere = [remote for number, remote in spoken if number not in usable]
    heard, ours = few_ports([*known, *_pairs(sockets, elsewhere)]), _pairs(sockets, configured)
    found = [*heard, *ours, *few_ports(_pairs(sockets, told), heard)]
    return tuple(dict.fromkeys(found))[:MOST_PATHS]


def few_ports(found: Iterable[Place], beside: Collection[Place] = ()) -> tuple[Place, ...]:
    """Without doubles, and with at most the first few ports of an address by each socket.

    Ports `beside` count as well, but leave room for one: a NAT may have moved it there just now.
    """
    ports: dict[tuple[int, str], int] = {}
    for place in beside:
        way = _way(place)
        ports[way] = min(ports.get(way, 0) + 1, MOST_PORTS - 1)
    kept = []
    for place in dict.fromkeys(found):
        way = _way(place)
        count = ports[way] = ports.get(way, 0) + (place not in beside)
        if count <= MOST_PORTS:
            kept.append(place)
    return tuple(kept)


def _way(place: Place) -> tuple[int, str]:
    return place[0], place[1].rpartition(":")[0]


def _pairs(sockets: Sockets, remotes: list[str]) -> list[Place]:
    by_family = {4: sockets.of_family(4), 6: sockets.of_family(6)}
    return [(socket.id, remote) for remote in remotes for socket in by_family[family_of(remote)]]


def endpoint(address: str, port: int) -> str:
    """An address and a port in one string, as the plane writes them."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def family_of(remote: str) -> Family:
    """4 or 6."""
    return 6 if remote.startswith("[") else 4


def sound_ones(candidates: Iterable[Candidate]) -> tuple[Candidate, ...]:
    """Of what a peer says of itself, what may be probed at all, in its order; eight at most."""
    return tuple(dict.fromkeys(one for one in candidates if is_sound(one)))[:MOST_CANDIDATES]


def is_sound(candidate: Candidate) -> bool:
    """Whether it is an address and port that a peer probes."""
    host, _, port = candidate.endpoint.rpartition(":")
    return (
        len(candidate.endpoint) <= LONGEST_ENDPOINT
        and is_port(port)
        and ip_version(host) is not None
        and is_told(candidate, set())
    )


def is_port(port: str) -> bool:
    """Whether it is written as a port, without a sign or more zeros than fit."""
    return port.isascii() and port.isdecimal() and len(port) <= 5 and 0 < int(port) < 65536


def ip_version(host: str) -> int | None:
    """4, or 6 for an address in brackets; None if it is neither, or has a zone."""
    if "%" in host:
        return None
    bracketed = host.startswith("[") and host.endswith("]")
    try:
        version = ipaddress.ip_address(host[1:-1] if bracketed else host).version
    except ValueError:
        return None
    return version if bracketed == (version == 6) else None


def is_told(candidate: Candidate, own: set[str]) -> bool:
    """Whether a peer's candidate may be probed: nothing local to us, and nothing that is ourselves."""
    return candidate.endpoint not in own and _is_offered(host_of(candidate.endpoint))


def host_of(remote: str) -> str:
    """The address of an endpoint, without brackets and port."""
    return remote.rpartition(":")[0].strip("[]")


@lru_cache(1024)
def _is_offered(address: str) -> bool:
    ip = ipaddress.ip_address(address.partition("%")[0])
    return not (ip.is_loopback or ip.is_link_local or ip.is_multicast or ip.is_unspecified)
