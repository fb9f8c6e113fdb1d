"""`relay.json`: what a relay knows of itself and of whom it lets in, kept so that it starts without the
server.

Beside it lie `tls.key`, `tls.crt` and `machine.key` (32 bytes: the seed of an Ed25519 key, by which the
coordination server knows the relay). Bytes are base64 in JSON.
"""

import msgspec

from shore.model.netmap import Signed


class RelayConfig(msgspec.Struct, frozen=True):
    """`pin` names the TLS key, `root` the root key, `revoked` node keys that are out.

    `rate` is bytes a second and sender, 0 for no limit; `server_socket` is where every connection that is
    not a stream goes, None where no server runs beside this relay; `server_addresses` are where it is else.
    `port` and `stun_port` are what its keeper opens, where it is not the network's first.
    """

    id: str
    pin: bytes
    root: bytes
    network: bytes
    statements: tuple[Signed, ...]
    addresses: tuple[str, ...] = ()
    udp_addresses: tuple[str, ...] = ()
    server_socket: str | None = None
    server_addresses: tuple[str, ...] = ()
    revoked: tuple[bytes, ...] = ()
    rate: int = 0
    port: int = 443
    stun_port: int = 3478
