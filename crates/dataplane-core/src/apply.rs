//! From one desired state to the next: what is equal is not touched.
//!
//! Everything that can be wrong is found before anything is changed, so a refused state leaves the
//! plane as it was. Peers keep their slots, and with them sessions, paths and counts.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;

use ip_network::IpNetwork;

use crate::allowed_ips::{AllowedIps, prefix};
use crate::desired::{self, DesiredState, SocketId};
use crate::engine::{Identity, Key};
use crate::filter::{Filter, Rules};
use crate::lane::{Keying, Keys, Lane};
use crate::peer::Peer;
use crate::plane::{PeerSlot, Plane};
use crate::probe::{Acquaintance, HelloKey, Tag};
use crate::relay::{tag_at, tag_of};
use crate::second::{SECOND, Second};
use crate::spray::MOST_SOCKETS;
use crate::time::Moment;

impl Plane {
    /// Whole and idempotent. `seen` is the last fact serial the brain has read: paths of a peer that
    /// roamed later are older than the truth and not taken. On `Err` nothing changed.
    pub fn apply(&mut self, desired: DesiredState, seen: u64, now: Moment) -> Result<(), String> {
        check_paths(&desired)?;
        let identity = desired
            .interface
            .private_key
            .map(|key| self.engines.identity(&key));
        let slots = self.place(&desired, identity.as_deref())?;
        let allowed = AllowedIps::new(claims(&desired, &slots)?)?;
        let rules = self.rules(&desired)?;

        self.outputs.mtu = desired.interface.mtu;
        self.outputs.commons.peers = desired.peers.len();
        self.allowed = allowed;
        self.last_source = None;
        self.take_rules(rules, desired.filter.is_some());
        self.remove_missing(&slots);
        let private = desired.interface.private_key.map(|key| *key);
        self.outputs.probing = desired.interface.probing;
        self.take_identity(private, identity, now);
        for peer in desired.peers.iter().filter(|_| private.is_some()) {
            self.take_peer(slots[&*peer.public_key], peer, seen, now);
        }
        self.by_tag = tags(&self.peers);
        let sockets: HashSet<_> = ids(&desired).collect();
        self.desired = Some(desired);
        self.by_key = slots;
        for peer in self.peers.iter_mut().flatten() {
            if let Some(switch) = peer.paths.retain(|socket| sockets.contains(&socket), now) {
                peer.moved_off(switch, &mut self.outputs, now);
            }
            peer.pump(&mut self.outputs, now);
        }
        self.endpoints = self
            .peers
            .iter()
            .flatten()
            .filter_map(|peer| Some((peer.endpoint()?, peer.slot)))
            .collect();
        Ok(())
    }

    /// How relays name us; None without a private key.
    pub fn own_tag(&self) -> Option<Tag> {
        let (_, identity) = self.greetings.identity()?;
        Some(tag_of(&identity.public_key()))
    }

    /// A slot for each peer: its own if it has one, else a free one. None at all without a private key.
    fn place(
        &self,
        desired: &DesiredState,
        identity: Option<&dyn Identity>,
    ) -> Result<HashMap<Key, PeerSlot>, String> {
        let mut slots = HashMap::new();
        let Some(identity) = identity else {
            return Ok(slots);
        };
        let own = identity.public_key();
        let mut free = (0..)
            .map(PeerSlot)
            .filter(|slot| !matches!(self.peers.get(slot.0 as usize), Some(Some(_))));
        for peer in &desired.peers {
            if *peer.public_key == own {
                return Err("a peer has this tunnel's own public key".into());
            }
            let slot = self
                .by_key
                .get(&*peer.public_key)
                .copied()
                .or_else(|| free.next());
            let slot = slot.ok_or("too many peers")?;
            if slots.insert(*peer.public_key, slot).is_some() {
                return Err("a peer is listed twice".into());
            }
        }
        Ok(slots)
    }

    /// None where there are none, or those in force are to stay.
    fn rules(&self, desired: &DesiredState) -> Result<Option<Rules>, String> {
        let current = self.desired.as_ref().map(|current| &current.filter);
        if current == Some(&desired.filter) {
            return Ok(None);
        }
        desired.filter.as_deref().map(Rules::new).transpose()
    }

    fn take_rules(&mut self, rules: Option<Rules>, wanted: bool) {
        match (rules, &mut self.filter) {
            (Some(rules), Some(filter)) => filter.obey(rules),
            (Some(rules), none) => *none = Some(Filter::new(rules)),
            (None, filter) => {
                filter.take_if(|_| !wanted);
            }
        }
    }

    fn remove_missing(&mut self, slots: &HashMap<Key, PeerSlot>) {
        for place in &mut self.peers {
            place.take_if(|peer| !slots.contains_key(&*peer.desired.public_key));
        }
        let peers = &self.peers;
        self.by_index
            .retain(|_, slot| peers[slot.0 as usize].is_some());
    }

    fn take_identity(
        &mut self,
        private: Option<Key>,
        identity: Option<Box<dyn Identity>>,
        now: Moment,
    ) {
        let current = self.greetings.identity().map(|(private, _)| private);
        match private.zip(identity) {
            None => self.greetings.forget_identities(),
            Some((private, _)) if current == Some(private) => {}
            Some((private, identity)) => self.greetings.become_identity(private, identity, now),
        }
    }

    fn take_peer(&mut self, slot: PeerSlot, desired: &desired::Peer, seen: u64, now: Moment) {
        let place = slot.0 as usize;
        if self.peers.len() <= place {
            self.peers.resize_with(place + 1, || None);
        }
        let Some(mut peer) = self.peers[place].take() else {
            self.peers[place] = self.make_peer(slot, desired, now);
            return;
        };
        let changed = self.keys(desired) != Some(peer.lane.wanted_keys());
        if changed && let Some(keying) = self.keying(slot, desired, now) {
            peer.lane.change(keying, now);
            if let Some(second) = &mut peer.second
                && let Some(keying) = self.keying(slot, desired, now)
            {
                second.lane.change(keying, now);
            }
            peer.keys_changed();
            self.introduce(&mut peer);
        }
        if peer.second.is_none() {
            peer.second = self.second(slot, desired, now);
        }
        peer.adopt(desired.clone(), seen, &mut self.outputs, now);
        self.peers[place] = Some(peer);
    }

    fn make_peer(&mut self, slot: PeerSlot, desired: &desired::Peer, now: Moment) -> Option<Peer> {
        let keying = self.keying(slot, desired, now)?;
        let lane = Lane::new(keying);
        let first_piece = u32::from_le_bytes(self.outputs.commons.secrets.bytes());
        let mut peer = Peer::new(slot, desired.clone(), lane, first_piece, now);
        peer.second = self.second(slot, desired, now);
        self.introduce(&mut peer);
        Some(peer)
    }

    /// With new keys come new hello and probe keys.
    fn introduce(&self, peer: &mut Peer) {
        let Some((_, identity)) = self.greetings.identity() else {
            return;
        };
        let key = *peer.key();
        let keys = peer.lane.wanted_keys();
        let hello_key = self
            .outputs
            .probing
            .then(|| HelloKey::new(&identity.shared_secret(&key), keys.preshared.as_ref()))
            .flatten();
        peer.paths.end_probing();
        peer.probing.begin(hello_key, &identity.public_key(), &key);
    }

    /// The second lane, where the brain names it.
    fn second(&mut self, slot: PeerSlot, desired: &desired::Peer, now: Moment) -> Option<Second> {
        let named = desired.lanes.iter().any(|lane| lane.id == SECOND);
        let keying = named.then(|| self.keying(slot, desired, now))??;
        Some(Second::new(keying))
    }

    fn keys(&self, desired: &desired::Peer) -> Option<Keys> {
        let (private, _) = self.greetings.identity()?;
        let preshared = desired.preshared_key.map(|key| *key);
        Some(Keys { private, preshared })
    }

    /// An engine with an index that names this peer.
    fn keying(&mut self, slot: PeerSlot, desired: &desired::Peer, now: Moment) -> Option<Keying> {
        let keys = self.keys(desired)?;
        let index = self.free_index();
        let (_, identity) = self.greetings.identity()?;
        let preshared = keys.preshared.as_ref();
        let engine = identity.engine(&desired.public_key, preshared, index, now);
        self.by_index.insert(index, slot);
        Some(Keying {
            keys,
            index,
            engine,
        })
    }

    fn free_index(&mut self) -> u32 {
        loop {
            let index = (self.outputs.chance.draw() >> 40) as u32;
            if !self.by_index.contains_key(&index) {
                return index;
            }
        }
    }
}

fn tags(peers: &[Option<Peer>]) -> HashMap<Tag, PeerSlot> {
    let known = peers.iter().flatten().filter_map(|peer| {
        let known = peer.probing.known.as_ref();
        Some((known.map(Acquaintance::their_tag)?, peer.slot))
    });
    known.collect()
}

/// Everything that a path may begin at.
fn ids(desired: &DesiredState) -> impl Iterator<Item = SocketId> {
    let sockets = desired.sockets.iter().map(|socket| socket.id);
    sockets.chain(relayed(desired))
}

/// Everything that a relayed path may begin at.
fn relayed(desired: &DesiredState) -> impl Iterator<Item = SocketId> {
    let links = desired.links.iter().map(|link| link.id);
    links.chain(desired.bindings.iter().map(|binding| binding.id))
}

fn check_paths(desired: &DesiredState) -> Result<(), String> {
    let leads = |id: SocketId, remote: SocketAddr| {
        let fits =
            |socket: &desired::Socket| socket.id == id && (socket.family == 4) == remote.is_ipv4();
        desired.sockets.iter().any(fits)
    };
    for path in desired.peers.iter().flat_map(|peer| &peer.paths) {
        if !ids(desired).any(|id| id == path.socket) {
            return Err(format!(
                "path {} names socket {}, which is not there",
                path.id, path.socket
            ));
        }
        let by_relay = relayed(desired).any(|id| id == path.socket);
        let places = by_relay == tag_at(path.remote).is_some();
        if !places || !(by_relay || leads(path.socket, path.remote)) {
            return Err(format!(
                "path {} leads to {} by a socket of the other family",
                path.id, path.remote
            ));
        }
    }
    for binding in &desired.bindings {
        if !leads(binding.socket, binding.server) {
            let server = binding.server;
            return Err(format!(
                "the relay's address {server} has no socket that leads to it"
            ));
        }
    }
    for trial in desired.peers.iter().flat_map(|peer| &peer.trials) {
        if !leads(trial.socket, trial.remote) {
            let (number, remote) = (trial.number, trial.remote);
            return Err(format!(
                "trial {number} has no socket that leads to {remote}"
            ));
        }
    }
    check_guesses(desired, leads)?;
    for query in &desired.stun {
        if !leads(query.socket, query.server) {
            let server = query.server;
            return Err(format!(
                "the STUN server {server} has no socket that leads to it"
            ));
        }
    }
    Ok(())
}

fn check_guesses(
    desired: &DesiredState,
    leads: impl Fn(SocketId, SocketAddr) -> bool,
) -> Result<(), String> {
    for spray in desired.peers.iter().filter_map(|peer| peer.spray.as_ref()) {
        let (number, address) = (spray.number, spray.address);
        if !leads(spray.socket, SocketAddr::new(address, 1)) {
            return Err(format!(
                "spray {number} has no socket that leads to {address}"
            ));
        }
    }
    for fan in desired.peers.iter().filter_map(|peer| peer.fan.as_ref()) {
        let (number, remote) = (fan.number, fan.remote);
        if fan.sockets.len() > MOST_SOCKETS {
            return Err(format!("fan {number} has more than {MOST_SOCKETS} sockets"));
        }
        if !fan.sockets.iter().all(|socket| leads(*socket, remote)) {
            return Err(format!(
                "fan {number} has a socket that does not lead to {remote}"
            ));
        }
    }
    Ok(())
}

fn claims(
    desired: &DesiredState,
    slots: &HashMap<Key, PeerSlot>,
) -> Result<impl Iterator<Item = (IpNetwork, PeerSlot)> + use<>, String> {
    let mut claims = Vec::new();
    for peer in &desired.peers {
        for text in &peer.allowed_ips {
            let network = prefix(text)?;
            claims.extend(slots.get(&*peer.public_key).map(|slot| (network, *slot)));
        }
    }
    Ok(claims.into_iter())
}
