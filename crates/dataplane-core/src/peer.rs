//! One peer: its lanes, paths, timers and counts, and what it sends by itself.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_bytes::ByteArray;

use crate::desired::{self, LaneId};
use crate::engine::{DATA_OVERHEAD, INITIATION_LEN, Opened};
use crate::facts::{DropReason, Fact, PeerCounters};
use crate::flows::{Flows, Rate};
use crate::lane::Lane;
use crate::liveness::{Due, Liveness, Tidings, View};
use crate::outputs::Outputs;
use crate::path::{Paths, Proof};
use crate::plane::{PeerSlot, Source, padded_len};
use crate::probing::Probing;
use crate::reports::Losses;
use crate::second::{FIRST, SECOND, Second};
use crate::sizing::{Sizing, is_large};
use crate::stage::Stage;
use crate::time::Moment;
use crate::trials::Trials;

pub struct Peer {
    pub slot: PeerSlot,
    pub desired: desired::Peer,
    pub lane: Lane,
    /// Towards a Shore node.
    pub second: Option<Second>,
    pub paths: Paths,
    pub liveness: Liveness,
    /// Serial of the last `roamed` told about it.
    pub roamed: u64,
    pub probing: Probing,
    pub trials: Trials,
    pub rate: Rate,
    pub flows: Flows,
    pub sizing: Sizing,
    stage: Stage,
    pub losses: Losses,
    /// The last initiation, to be sent again as it is.
    initiation: Option<[u8; INITIATION_LEN]>,
    had_session: bool,
    /// When it has something to do, if that is before the next look after everything.
    pub due: Option<Moment>,
    /// Its counters as they were told last, ages left out.
    pub told: Option<PeerCounters>,
    /// Highest counter opened per session, by its lane and the low bits of our index.
    newest: [(u32, u64); 16],
    pub rx_bytes: u64,
    pub tx_bytes: u64,
    pub handshakes: u64,
    pub drops: BTreeMap<DropReason, u64>,
}

impl Peer {
    pub fn new(
        slot: PeerSlot,
        desired: desired::Peer,
        lane: Lane,
        first_piece: u32,
        now: Moment,
    ) -> Self {
        let mut paths = Paths::default();
        paths.advise(&desired.paths, now);
        let mut liveness = Liveness::default();
        if desired.renew > 0 {
            liveness.renew();
        }
        Self {
            slot,
            desired,
            lane,
            second: None,
            paths,
            liveness,
            roamed: 0,
            probing: Probing::default(),
            trials: Trials::default(),
            rate: Rate::default(),
            flows: Flows::default(),
            sizing: Sizing::new(first_piece, now),
            stage: Stage::default(),
            losses: Losses::default(),
            initiation: None,
            had_session: false,
            due: None,
            told: None,
            newest: [(0, 0); 16],
            rx_bytes: 0,
            tx_bytes: 0,
            handshakes: 0,
            drops: BTreeMap::new(),
        }
    }

    /// Takes over what the brain wants of it, keys and prefixes excepted.
    pub fn adopt(&mut self, desired: desired::Peer, seen: u64, outputs: &mut Outputs, now: Moment) {
        if self.roamed <= seen {
            let before = self.proved_mtu();
            self.paths.advise(&desired.paths, now);
            self.tell_senders(before, outputs, now);
        }
        if desired.renew > self.desired.renew {
            self.liveness.renew();
            self.paths.doubt(now);
        }
        if desired.prime > self.desired.prime {
            self.paths.open(now);
            self.prime(outputs, now);
        }
        let called = desired.prime > self.desired.prime && desired.poke > self.desired.poke;
        self.paths.poke(self.desired.poke, desired.poke);
        if called {
            self.paths.release();
        }
        self.desired = desired;
    }

    /// New keys: the handshake with the old ones is over.
    pub fn keys_changed(&mut self) {
        self.initiation = None;
        self.liveness.renew();
    }

    pub fn view(&self, now: Moment) -> View {
        let keepalive_s = u64::from(self.desired.keepalive_s);
        View {
            session: self.lane.session(now),
            wanted: self.desired.wanted || keepalive_s > 0,
            keepalive: (keepalive_s > 0).then_some(Duration::from_secs(keepalive_s)),
            has_path: self.paths.primary().is_some(),
        }
    }

    // Packets.

    pub fn stage(&mut self, packet: &[u8], outputs: &mut Outputs, now: Moment) {
        if self.paths.primary().is_none() {
            self.note_drop(DropReason::NoPath, 1, now);
            return;
        }
        let overflow = self.stage.push(packet, now);
        self.note_drop(DropReason::StageOverflow, overflow, now);
        self.liveness.staged(now);
        self.pump(outputs, now);
    }

    pub fn seal(
        &mut self,
        lane: LaneId,
        packet: &[u8],
        out: &mut [u8],
        now: Moment,
    ) -> Result<usize, DropReason> {
        let (lane, rate) = match &mut self.second {
            Some(second) if lane == SECOND => (&mut second.lane, &mut second.rate),
            _ => (&mut self.lane, &mut self.rate),
        };
        let len = lane.sealing().seal(packet, out, now)?;
        if packet.is_empty() {
            self.liveness.sent(now);
        } else {
            self.liveness.sent_data(now);
            rate.note(now);
            self.tx_bytes += packet.len() as u64;
        }
        Ok(len)
    }

    /// Opens a data message. What it proves is taken in, whatever becomes of the packet.
    pub fn open(
        &mut self,
        index: u32,
        source: Source,
        datagram: &[u8],
        out: &mut [u8],
        outputs: &mut Outputs,
        now: Moment,
    ) -> Result<(Opened, bool), DropReason> {
        let second = self.second.as_mut();
        let (lane, keying) = match self.lane.by_index(index >> 8) {
            Some(keying) => (FIRST, Some(keying)),
            None => (
                SECOND,
                second.and_then(|second| second.lane.by_index(index >> 8)),
            ),
        };
        let keying = keying.ok_or(DropReason::NoSession)?;
        let opened = keying.engine.open(datagram, out, now);
        if let Err(DropReason::Replayed | DropReason::TooOld) = opened
            && datagram.len() > DATA_OVERHEAD
        {
            let large = is_large(datagram.len(), source);
            self.paths.copy_from(source, large);
        }
        let opened = opened?;
        if opened.len == 0 {
            self.liveness.received(now);
        } else {
            self.wake_if_quiet(now);
            self.liveness.received_data(now);
            self.rx_bytes += opened.len as u64;
        }
        let newest = self.is_newest(lane, index, crate::engine::counter_of(datagram));
        if opened.len > 0 {
            let large = is_large(datagram.len(), source);
            self.paths.data_from(source, large, now);
        }
        let moved = newest && self.follow(source, Proof::Data, outputs, now);
        if opened.confirmed {
            match &mut self.second {
                Some(second) if lane == SECOND => second.lane.established(index >> 8, now),
                _ => {
                    self.established(index >> 8, false, outputs, now);
                    self.flush(outputs, now);
                }
            }
        }
        Ok((opened, moved))
    }

    // Handshakes.

    /// A response came; `confirmation` is the keepalive that confirms the session.
    pub fn answered(
        &mut self,
        index: u32,
        source: Source,
        confirmation: &[u8],
        outputs: &mut Outputs,
        now: Moment,
    ) -> bool {
        let moved = self.follow(source, Proof::Response, outputs, now);
        self.established(index, true, outputs, now);
        self.fulfil_wish(outputs, now);
        if self.stage.is_empty() {
            self.liveness.sent(now);
            self.transmit(confirmation, outputs, now);
        } else {
            self.flush(outputs, now);
        }
        moved
    }

    pub fn took_cookie(&mut self, now: Moment) {
        self.initiation = None;
        self.liveness.cookie(now);
    }

    fn established(&mut self, index: u32, initiator: bool, outputs: &mut Outputs, now: Moment) {
        self.lane.established(index, now);
        self.initiation = None;
        self.had_session = true;
        self.handshakes += 1;
        if let Some(known) = &mut self.probing.known {
            known.session_established(now);
        }
        let rtt = self
            .liveness
            .established(initiator, &mut outputs.chance, now);
        let rtt_ms = rtt.map(|rtt| rtt.as_secs_f64() * 1e3);
        outputs.reports.tell(
            Fact::SessionEstablished {
                public_key: self.key(),
                initiator,
                rtt_ms,
            },
            now,
        );
    }

    pub fn follow(
        &mut self,
        source: Source,
        proof: Proof,
        outputs: &mut Outputs,
        now: Moment,
    ) -> bool {
        let switch = self.paths.follow(source, proof, now);
        if let Some(switch) = switch {
            self.switched(switch, outputs, now);
        }
        switch.is_some()
    }

    // Time.

    pub fn tick(&mut self, outputs: &mut Outputs, now: Moment) {
        let expired = self.stage.expire(now);
        self.note_drop(DropReason::StageExpired, expired, now);
        self.pump(outputs, now);
        self.lane.tick(now);
        if let Some(second) = &mut self.second {
            second.lane.tick(now);
        }
        if self.had_session && self.lane.session(now).is_none() {
            self.had_session = false;
            outputs.reports.tell(
                Fact::SessionExpired {
                    public_key: self.key(),
                },
                now,
            );
            self.pump(outputs, now);
        }
        self.tell(outputs, now);
    }

    /// Does what is due.
    pub fn pump(&mut self, outputs: &mut Outputs, now: Moment) {
        let of_all = outputs.soon.take();
        outputs.put_off |= of_all.is_some() && of_all == self.due;
        let view = self.view(now);
        match self.liveness.due(&view, now) {
            Due::Nothing => {}
            Due::Keepalive => {
                let mut message = [0; DATA_OVERHEAD];
                if self.seal(FIRST, &[], &mut message, now).is_ok() {
                    self.transmit(&message, outputs, now);
                }
            }
            Due::Initiate { fresh } => self.initiate(fresh, outputs, now),
        }
        outputs.soon = self.liveness.deadline(&view);
        self.probe(outputs, now);
        self.due = outputs.soon;
        outputs.soon = [of_all, self.due].into_iter().flatten().min();
    }

    fn initiate(&mut self, fresh: bool, outputs: &mut Outputs, now: Moment) {
        let in_turn = self.paths.in_turn(self.liveness.initiations());
        let path = self.probing.wished(now).or(in_turn);
        if fresh || self.initiation.is_none() {
            self.initiation = self.lane.greeting().engine.initiate(now);
        }
        self.liveness.initiated(&mut outputs.chance, now);
        if let (Some(message), Some(path)) = (self.initiation, path)
            && !outputs.send(Some(self.slot), path, &message)
        {
            self.note_drop(DropReason::SendQueue, 1, now);
        }
    }

    fn tell(&mut self, outputs: &mut Outputs, now: Moment) {
        let public_key = self.key();
        while let Some(tidings) = self.liveness.tidings(now) {
            let fact = match tidings {
                Tidings::OneWay => Fact::OneWay { public_key },
                Tidings::Unanswered {
                    waited,
                    initiations,
                } => Fact::Unanswered {
                    public_key,
                    for_s: waited.as_secs_f64(),
                    initiations,
                },
            };
            outputs.reports.tell(fact, now);
        }
        if !self.losses.is_empty() {
            for fact in self
                .losses
                .due(Some(public_key), self.liveness.last_received(), now)
            {
                outputs.reports.tell(fact, now);
            }
        }
    }

    fn flush(&mut self, outputs: &mut Outputs, now: Moment) {
        let expired = self.stage.expire(now);
        self.note_drop(DropReason::StageExpired, expired, now);
        while let Some(mut packet) = self.stage.pop() {
            packet.resize(padded_len(packet.len(), outputs.mtu), 0);
            let mut message = vec![0; packet.len() + DATA_OVERHEAD];
            match self.seal(FIRST, &packet, &mut message, now) {
                Ok(_) => self.transmit(&message, outputs, now),
                Err(reason) => self.note_drop(reason, 1, now),
            }
        }
    }

    pub fn transmit(&mut self, message: &[u8], outputs: &mut Outputs, now: Moment) {
        let Some(path) = self.paths.primary() else {
            self.note_drop(DropReason::NoPath, 1, now);
            return;
        };
        let copy = self.copies_to(true, FIRST, now);
        // A keepalive is no data: the peer does not count it, and would seem never to have had it.
        if message.len() > DATA_OVERHEAD {
            self.paths.sent_data(is_large(message.len(), path), copy);
        }
        for path in [Some(path), copy].into_iter().flatten() {
            if !outputs.send(Some(self.slot), path, message) {
                self.note_drop(DropReason::SendQueue, 1, now);
            }
        }
    }

    pub fn key(&self) -> ByteArray<32> {
        self.desired.public_key
    }

    /// Whether a message is the newest of its session, so that a straggler moves nothing.
    fn is_newest(&mut self, lane: LaneId, index: u32, counter: u64) -> bool {
        let newest = &mut self.newest[usize::from(lane % 2) * 8 + index as usize % 8];
        let newer = newest.0 != index || counter > newest.1;
        if newer {
            *newest = (index, counter);
        }
        newer
    }
}
