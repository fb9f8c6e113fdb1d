//! Two Shore nodes with two paths between them.

use std::net::SocketAddr;

use shore_dataplane_core::desired::{Path, PathKind, Socket, SocketId};
use shore_dataplane_core::engine::model::public_key;

use super::{SOCKET, Wire, desired, outer, peer, private};

pub const SECOND_SOCKET: SocketId = 2;

/// The second uplink's address of a node.
pub fn second(n: u8) -> SocketAddr {
    format!("198.51.100.{n}:51820").parse().unwrap()
}

/// Nodes 1 and 2, each with two uplinks; a path along each.
pub fn two_paths() -> Wire {
    let mut wire = Wire::new();
    for (n, other) in [(1, 2), (2, 1)] {
        let mut state = desired(
            private(n),
            vec![peer(
                public_key(&private(other)),
                &format!("10.0.0.{other}/32"),
                None,
            )],
        );
        state.interface.probing = true;
        state.sockets.push(Socket {
            id: SECOND_SOCKET,
            family: 4,
            uplink: Some("eth1".into()),
        });
        state.peers[0].wanted = n == 1;
        state.peers[0].paths = vec![
            path(1, SOCKET, outer(other)),
            path(2, SECOND_SOCKET, second(other)),
        ];
        let models = Box::new(wire.models.clone());
        let node = wire.join_with(models, n, state);
        wire.nodes[node].others.push((SECOND_SOCKET, second(n)));
    }
    wire
}

pub fn path(id: u32, socket: SocketId, remote: SocketAddr) -> Path {
    Path {
        id,
        kind: PathKind::Direct,
        socket,
        remote,
        metered: false,
        mtu: None,
        quiet_s: 15,
    }
}
