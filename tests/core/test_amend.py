"""Changes to what is in force, apart from the file."""

import pytest

from shore.core.amend import PeerChange, amended
from shore.model.config import PeerConfig, TunnelConfig, Uplink

PEER, OTHER = PeerConfig(b"\2" * 32, name="office"), PeerConfig(b"\3" * 32)
CONFIG = TunnelConfig("wg0", b"\1" * 32, peers=(PEER, OTHER))


def test_one_thing_of_one_peer_is_changed_and_nothing_else() -> None:
    changed = amended(CONFIG, None, PeerChange(PEER.public_key, redundancy="interactive"))
    assert changed.peers == (PeerConfig(b"\2" * 32, name="office", redundancy="interactive"), OTHER)
    named = amended(changed, None, PeerChange(PEER.public_key, name="home"))
    assert (named.peers[0].name, named.peers[0].redundancy) == ("home", "interactive")
    assert amended(CONFIG, None, None) == CONFIG


def test_uplinks_are_the_tunnels() -> None:
    uplinks = (Uplink("eth0"), Uplink("wwan0", True))
    assert amended(CONFIG, uplinks, None).uplinks == uplinks


def test_a_peer_that_is_not_there_is_not_made() -> None:
    with pytest.raises(KeyError):
        amended(CONFIG, None, PeerChange(b"\4" * 32, name="nobody"))
