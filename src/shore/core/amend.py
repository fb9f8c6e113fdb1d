"""Changes that a person makes to a running tunnel, apart from its file."""

import msgspec

from shore.model.config import PeerConfig, TunnelConfig, Uplink
from shore.model.desired import Redundancy


class PeerChange(msgspec.Struct, frozen=True):
    """What shall be different about one peer; None leaves a thing as it is."""

    public_key: bytes
    name: str | None = None
    redundancy: Redundancy | None = None


def amended(
    config: TunnelConfig, uplinks: tuple[Uplink, ...] | None, change: PeerChange | None
) -> TunnelConfig:
    """The configuration with the changes in it. Raises KeyError for a peer that it does not have."""
    if uplinks is not None:
        config = msgspec.structs.replace(config, uplinks=uplinks)
    if change is None:
        return config
    if all(peer.public_key != change.public_key for peer in config.peers):
        raise KeyError(change.public_key)
    peers = tuple(
        _changed(peer, change) if peer.public_key == change.public_key else peer for peer in config.peers
    )
    return msgspec.structs.replace(config, peers=peers)


def _changed(peer: PeerConfig, change: PeerChange) -> PeerConfig:
    return msgspec.structs.replace(
        peer,
        name=peer.name if change.name is None else change.name,
        redundancy=change.redundancy or peer.redundancy,
    )
