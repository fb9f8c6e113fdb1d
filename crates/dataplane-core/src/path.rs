//! The ways to one peer, and which of them is primary.
//!
//! The brain's list is advice in order of preference. Proof overrules it: what the peer authenticated
//! from elsewhere is followed, and a path that answers an initiation becomes the primary path. A place
//! nobody advised is *learned*; there is one learned path at most, and it goes with the next advice.
//!
//! Data moves the primary path to another remote, never to another socket of ours: the socket is the
//! brain's choice of uplink, and which one a datagram enters by says nothing about the way back. A
//! response does, as it answers an initiation that left by that very socket.

use crate::desired::{self, PathId, PathKind, SocketId};
use crate::plane::{Destination, Source};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Path {
    /// Absent for a learned path.
    pub id: Option<PathId>,
    pub kind: PathKind,
    pub destination: Destination,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    Data,
    Response,
}

#[derive(Default)]
pub struct Paths {
    advice: Vec<desired::Path>,
    paths: Vec<Path>,
    primary: usize,
}

impl Paths {
    pub fn advise(&mut self, advice: &[desired::Path]) {
        if self.advice == advice {
            return;
        }
        let same_favourite = self.advice.first() == advice.first();
        let kept = self.primary().filter(|_| same_favourite);
        self.advice = advice.to_vec();
        self.paths = advice.iter().map(Path::from).collect();
        self.primary = kept.and_then(|kept| self.position(kept)).unwrap_or(0);
    }

    /// Drops paths whose socket is gone.
    pub fn retain(&mut self, is_open: impl Fn(SocketId) -> bool) {
        let primary = self.primary();
        self.paths.retain(|path| is_open(path.destination.socket));
        self.primary = primary
            .and_then(|primary| self.position(primary))
            .unwrap_or(0);
    }

    pub fn primary(&self) -> Option<Destination> {
        self.paths.get(self.primary).map(|path| path.destination)
    }

    /// Where the `n`-th initiation in a row goes: the primary path first, then the others in turn.
    pub fn in_turn(&self, n: u32) -> Option<Destination> {
        let count = self.paths.len();
        let place = (self.primary + n as usize).checked_rem(count)?;
        Some(self.paths[place].destination)
    }

    /// The peer proved that it is at `source`. Returns whether the primary path moved.
    pub fn follow(&mut self, source: Source, proof: Proof) -> bool {
        let Some(primary) = self.primary() else {
            self.learn(source);
            return true;
        };
        if primary == source || (proof == Proof::Data && primary.remote == source.remote) {
            return false;
        }
        match self.position(source) {
            Some(place) => self.primary = place,
            None if primary.remote == source.remote => return false,
            None => self.learn(source),
        }
        true
    }

    fn learn(&mut self, source: Source) {
        self.paths.retain(|path| path.id.is_some());
        self.paths.insert(
            0,
            Path {
                id: None,
                kind: PathKind::Direct,
                destination: source,
            },
        );
        self.primary = 0;
    }

    fn position(&self, destination: Destination) -> Option<usize> {
        self.paths
            .iter()
            .position(|path| path.destination == destination)
    }
}

impl From<&desired::Path> for Path {
    fn from(path: &desired::Path) -> Self {
        let destination = Destination {
            socket: path.socket,
            remote: path.remote,
        };
        Self {
            id: Some(path.id),
            kind: path.kind,
            destination,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(socket: SocketId, remote: &str) -> Source {
        Source {
            socket,
            remote: remote.parse().unwrap(),
        }
    }

    fn advised(destinations: &[Source]) -> Vec<desired::Path> {
        let path = |(id, to): (usize, &Source)| desired::Path {
            id: id as PathId,
            kind: PathKind::Direct,
            socket: to.socket,
            remote: to.remote,
        };
        destinations.iter().enumerate().map(path).collect()
    }

    #[test]
    fn data_moves_the_remote_and_keeps_the_socket() {
        let mut paths = Paths::default();
        paths.advise(&advised(&[at(1, "192.0.2.1:1"), at(2, "192.0.2.1:1")]));
        assert!(!paths.follow(at(2, "192.0.2.1:1"), Proof::Data));
        assert!(paths.follow(at(2, "192.0.2.1:1"), Proof::Response));
        assert!(paths.follow(at(1, "192.0.2.7:7"), Proof::Data));
        assert_eq!(paths.primary(), Some(at(1, "192.0.2.7:7")));
    }

    #[test]
    fn the_same_advice_twice_leaves_a_learned_path_alone() {
        let mut paths = Paths::default();
        let advice = advised(&[at(1, "192.0.2.1:1")]);
        paths.advise(&advice);
        paths.follow(at(1, "192.0.2.7:7"), Proof::Data);
        paths.advise(&advice);
        assert_eq!(paths.primary(), Some(at(1, "192.0.2.7:7")));
        paths.advise(&advised(&[at(1, "192.0.2.9:9")]));
        assert_eq!(paths.primary(), Some(at(1, "192.0.2.9:9")));
    }

    #[test]
    fn initiations_take_the_paths_in_turn() {
        let mut paths = Paths::default();
        assert_eq!(paths.in_turn(0), None);
        paths.advise(&advised(&[at(1, "192.0.2.1:1"), at(1, "192.0.2.2:2")]));
        paths.follow(at(1, "192.0.2.2:2"), Proof::Data);
        assert_eq!(paths.in_turn(0), Some(at(1, "192.0.2.2:2")));
        assert_eq!(paths.in_turn(1), Some(at(1, "192.0.2.1:1")));
    }
}
