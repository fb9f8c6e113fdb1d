"""Which peer is meant: by its public key, by the beginning of one, or by its `Name`.

A whole key or a name comes before the beginning of another key. Where none fits, or several do, the one
sentence says what there is.
"""

from collections.abc import Iterable

import msgspec

from shore.model.status import TunnelStatus

MOST_NAMED = 8


class Known(msgspec.Struct, frozen=True):
    """A peer of a tunnel."""

    tunnel: str
    public_key: str
    name: str | None = None

    @property
    def words(self) -> str:
        """What people call it."""
        return self.public_key if self.name is None else f"{self.name} ({self.public_key})"


class NotOne(Exception):
    """No peer fits, or several do. One sentence."""


def known(tunnels: Iterable[TunnelStatus]) -> list[Known]:
    """Every peer of these tunnels."""
    return [Known(tunnel.name, peer.public_key, peer.name) for tunnel in tunnels for peer in tunnel.peers]


def find(word: str, peers: list[Known]) -> Known:
    """The peer that `word` means. Raises NotOne."""
    exact = [peer for peer in peers if word in (peer.public_key, peer.name)]
    fitting = exact or [peer for peer in peers if word and peer.public_key.startswith(word)]
    if len(fitting) == 1:
        return fitting[0]
    if not fitting:
        there = f"there is {_listed(peers)}" if peers else "there are no peers at all"
        raise NotOne(f"no peer is called `{word}`: {there}")
    if len({peer.public_key for peer in fitting}) == 1:
        names = " and ".join(peer.tunnel for peer in fitting)
        raise NotOne(f"`{word}` is a peer of {names}: name the tunnel as well")
    raise NotOne(f"`{word}` may be {_listed(fitting, 'or')}: write more of its key")


def _listed(peers: list[Known], last: str = "and") -> str:
    words = [peer.words for peer in peers[:MOST_NAMED]]
    if len(peers) > MOST_NAMED:
        words.append(f"{len(peers) - MOST_NAMED} more")
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} {last} {words[-1]}"
