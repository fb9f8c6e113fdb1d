"""One peer as the heart sees it: where it may be, and how far its recovery has climbed.

The data plane retries, rotates and roams by itself. Here is what outlives a plane: the endpoints that
the configuration names, the one the peer last spoke from, the renewals asked for. The *ladder* climbs
while initiations go unanswered: ask for the names again, add a socket on a new port for this peer
alone, say that it is unreachable; and it is left by the first session.
"""

from collections.abc import Callable

from shore.core import timers
from shore.core.names import is_literal
from shore.model.config import PeerConfig
from shore.model.desired import Lane, Path, Peer, Socket

# A peer with an Endpoint must not idle out behind a NAT because its file is silent.
OWN_KEEPALIVE = 25

RUNGS = (
    ("resolving", timers.RESOLVE_AFTER),
    ("extra socket", timers.EXTRA_SOCKET_AFTER),
    ("unreachable", timers.UNREACHABLE_AFTER),
)


class PeerRecord:
    """What the heart knows of one peer."""

    def __init__(self, config: PeerConfig) -> None:
        self.config = config
        self.renew = 0
        self.had_session = False
        self.last_session: float | None = None
        self.roamed: tuple[int, str] | None = None
        self.extra: Socket | None = None
        self.silent_s = 0.0
        self.rung = 0
        self._path_ids: dict[tuple[int, str], int] = {}

    def keepalive(self) -> tuple[int, str]:
        """The interval in seconds, 0 for none, and why."""
        if self.config.keepalive_s is not None:
            return (
                self.config.keepalive_s,
                "configured" if self.config.keepalive_s else "off in the configuration",
            )
        if self.config.endpoints:
            return OWN_KEEPALIVE, "Shore's own: the peer has an Endpoint and no PersistentKeepalive"
        return 0, "none: the peer has no Endpoint"

    def names(self) -> set[str]:
        """Names that must be resolved for it."""
        return {endpoint.host for endpoint in self.config.endpoints if not is_literal(endpoint.host)}

    def reconfigure(self, config: PeerConfig) -> None:
        """Take another configuration; another endpoint is gone to at once."""
        moved = config.endpoints != self.config.endpoints
        self.config = config
        if moved and config.endpoints:
            self.roamed = None
            self.renew += 1

    def desired(self, sockets: dict[int, Socket], addresses: Callable[[str], tuple[str, ...]]) -> Peer:
        """Its part of the desired state; `sockets` by family."""
        keepalive_s, _ = self.keepalive()
        return Peer(
            public_key=self.config.public_key,
            preshared_key=self.config.preshared_key,
            allowed_ips=self.config.allowed_ips,
            keepalive_s=keepalive_s,
            wanted=bool(self.config.endpoints) or keepalive_s > 0,
            renew=self.renew,
            lanes=(Lane(0),),
            paths=self._paths(sockets, addresses),
        )

    def climbed(self, silent_s: float) -> list[str]:
        """Initiations have gone unanswered for so long. Returns the rungs that were reached."""
        self.silent_s = silent_s
        reached = []
        while self.rung < len(RUNGS) and silent_s >= RUNGS[self.rung][1]:
            reached.append(RUNGS[self.rung][0])
            self.rung += 1
        return reached

    def recovered(self, now: float) -> bool:
        """A session came up. Returns whether the ladder had been entered."""
        entered = self.rung > 0
        self.rung, self.silent_s = 0, 0.0
        self.had_session, self.last_session = True, now
        return entered

    @property
    def recovery(self) -> str | None:
        """The rung it stands on."""
        return RUNGS[self.rung - 1][0] if self.rung else None

    def _paths(
        self, sockets: dict[int, Socket], addresses: Callable[[str], tuple[str, ...]]
    ) -> tuple[Path, ...]:
        places: list[tuple[int, str]] = []
        open_ids = {socket.id for socket in sockets.values()} | ({self.extra.id} if self.extra else set())
        if self.roamed is not None and self.roamed[0] in open_ids:
            places.append(self.roamed)
        remotes = [
            (6 if ":" in address else 4, _remote(address, endpoint.port))
            for endpoint in self.config.endpoints
            for address in addresses(endpoint.host)
        ]
        places += [(sockets[family].id, remote) for family, remote in remotes if family in sockets]
        if self.extra is not None:
            known = [*remotes, *([(_family(self.roamed[1]), self.roamed[1])] if self.roamed else [])]
            places += [(self.extra.id, remote) for family, remote in known if family == self.extra.family]
        unique = list(dict.fromkeys(places))
        return tuple(Path(self._path_id(place), "direct", place[0], place[1]) for place in unique)

    def _path_id(self, place: tuple[int, str]) -> int:
        return self._path_ids.setdefault(place, len(self._path_ids) + 1)


def _remote(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _family(remote: str) -> int:
    return 6 if remote.startswith("[") else 4
