//! What a peer does about probes and signals: greet, answer, probe, and draw the consequences.
//!
//! A *greeting* goes where a session was just made, and again where every path went silent: the peer may
//! have been restarted and lost our keys. With keys, every path is probed, and `Paths::decide` is asked after
//! each probe that is late and each echo; what it demands was done already and is only told here.
//!
//! A switch that is wished rather than needed must lose nothing. What is under way on the slower path
//! would fall out of the replay window if the newer packets overtook more than so many of it. So where the
//! rate and the difference in round trips allow that, a handshake is made over the new path first, and the
//! move waits for its session: the old session's window goes on taking what comes late.

use std::time::Duration;

use crate::commons::{Bucket, Commons, NEXT_TOKEN};
use crate::desired::{LaneId, Redundancy};
use crate::engine::Key;
use crate::facts::{DropReason, Fact};
use crate::outputs::Outputs;
use crate::overheard::Overheard;
use crate::path::{Cause, Switch};
use crate::peer::Peer;
use crate::plane::{Destination, Source};
use crate::probe::message::{Candidate, Echo, Message, Probe};
use crate::probe::{Acquaintance, Heard, HelloKey};
use crate::second::SECOND;
use crate::time::Moment;

/// One peer's part.
#[derive(Default)]
pub struct Probing {
    pub known: Option<Acquaintance>,
    transaction: u32,
    greetings: u32,
    /// The candidates that the peer was told last.
    told: Vec<Candidate>,
    repeat_at: Moment,
    wished: Option<Wish>,
    asked_to_initiate: Moment,
    /// What a firewall of ours may have kept from us.
    pub overheard: Option<Overheard>,
    /// Its own of the probes that all peers may send.
    pub share: Bucket,
    pub switches: u64,
}

#[derive(Clone, Copy)]
struct Wish {
    to: Destination,
    until: Moment,
}

impl Probing {
    /// Other keys, or none: whatever was known is forgotten.
    pub fn begin(&mut self, hello_key: Option<HelloKey>, own: &Key, peer: &Key) {
        self.known = hello_key.map(|key| Acquaintance::new(key, own, peer));
    }

    pub fn next_transaction(&mut self) -> u32 {
        self.transaction = self.transaction.wrapping_add(1);
        self.transaction
    }

    /// Where the next initiation should go instead of the primary path.
    pub fn wished(&self, now: Moment) -> Option<Destination> {
        self.wished
            .filter(|wish| now < wish.until)
            .map(|wish| wish.to)
    }

    /// The path that a fresh session allows to move to.
    pub fn take_wish(&mut self) -> Option<Destination> {
        self.wished.take().map(|wish| wish.to)
    }
}

impl Peer {
    // What comes.

    pub fn hear_hello(
        &mut self,
        source: Source,
        message: &[u8],
        outputs: &mut Outputs,
        now: Moment,
    ) -> Result<(), DropReason> {
        let index = outputs.commons.index_for(self.slot);
        let Commons { secrets, epoch, .. } = &mut outputs.commons;
        let known = self.probing.known.as_mut();
        let heard = known.and_then(|known| known.hello(message, index, secrets, *epoch, now));
        let Some(Heard::Welcome(welcome)) = heard else {
            outputs.commons.indices.remove(&index);
            return Err(DropReason::HandshakeRefused);
        };
        outputs.send(Some(self.slot), source, &*welcome);
        Ok(())
    }

    pub fn hear_welcome(
        &mut self,
        source: Source,
        message: &[u8],
        outputs: &mut Outputs,
        now: Moment,
    ) -> Result<(), DropReason> {
        let known = self.probing.known.as_mut();
        let heard = known.and_then(|known| known.welcome(message, now));
        let Some(Heard::Acquainted { restarted }) = heard else {
            return Err(DropReason::BadTag);
        };
        self.acquainted(restarted, outputs, now);
        // The source is a candidate like any other until it answers a probe.
        self.follow(source, crate::path::Proof::Data, outputs, now);
        Ok(())
    }

    pub fn hear_sealed(
        &mut self,
        source: Source,
        message: &[u8],
        outputs: &mut Outputs,
        now: Moment,
    ) -> Result<(), DropReason> {
        let known = self.probing.known.as_mut();
        let Some(Heard::Content {
            content,
            acquainted,
        }) = known.and_then(|known| known.open(message))
        else {
            return Err(DropReason::BadTag);
        };
        if let Some(restarted) = acquainted {
            self.acquainted(restarted, outputs, now);
        }
        match Message::decode(&content) {
            Some(Message::Probe(probe)) => match probe.trial {
                Some(hold_s) => self.hold(source, &probe, hold_s, outputs, now),
                None => self.echo(source, &probe, outputs, now),
            },
            Some(Message::Echo(echo)) => self.take_echo(&echo, outputs, now),
            Some(Message::Candidates(candidates)) => {
                let public_key = self.key();
                outputs.reports.tell(
                    Fact::Candidates {
                        public_key,
                        candidates,
                    },
                    now,
                );
            }
            Some(Message::Initiate) => self.liveness.session_lost(now),
            Some(Message::Lane { lane, message }) => {
                self.hear_lane((lane, &message), source, outputs, now)?;
            }
            None => {}
        }
        Ok(())
    }

    fn acquainted(&mut self, restarted: bool, outputs: &mut Outputs, now: Moment) {
        let known = self.paths.is_probed();
        self.paths.begin_probing();
        if restarted || !known {
            self.paths.open_new(now);
        }
        self.probing.told.clear();
        self.probing.greetings = 0;
        if restarted {
            self.liveness.renew();
        }
        outputs.reports.tell(
            Fact::Acquainted {
                public_key: self.key(),
                restarted,
            },
            now,
        );
    }

    fn echo(&mut self, source: Source, probe: &Probe, outputs: &mut Outputs, now: Moment) {
        let report = self.paths.probed_from(source, probe, now);
        let echo = Message::Echo(Echo {
            transaction: probe.transaction,
            held_us: 0,
            sent_at: probe.sent_at,
            report,
            observed: source.remote,
        });
        self.say(&echo, source, outputs);
    }

    fn take_echo(&mut self, echo: &Echo, outputs: &mut Outputs, now: Moment) {
        if self.trial_echoed(echo, outputs, now) {
            return;
        }
        if self.paths.answered(echo, now) {
            self.tell_swallowed(outputs, now);
            self.decide(outputs, now);
        } else {
            self.measured(echo.transaction, outputs, now);
        }
    }

    // What is due.

    /// Greets, probes and decides as far as it is time.
    pub fn probe(&mut self, outputs: &mut Outputs, now: Moment) {
        let Some(known) = &mut self.probing.known else {
            return;
        };
        known.tick(now);
        if known.deadline().is_some_and(|due| due <= now) {
            self.greet(outputs, now);
        }
        self.release_echoes(outputs, now);
        if self.paths.is_probed() {
            self.tell_learned(outputs, now);
            self.paths.overdue(now);
            self.decide(outputs, now);
        }
        let needed =
            self.lane.session(now).is_some() || self.view(now).wanted || self.paths.is_poked();
        let mut earliest = now + PAUSE;
        if needed && self.paths.is_probed() {
            self.prime(outputs, now);
            if !self.send_probes(outputs, now) {
                earliest = now + NEXT_TOKEN;
            }
            self.tell_candidates(outputs, now);
            self.try_mappings(outputs, now);
            self.answer_overheard(outputs, now);
            self.ask_to_initiate(outputs, now);
            self.follow_first(outputs, now);
        }
        let greeting = self.probing.known.as_ref().and_then(Acquaintance::deadline);
        let probing = self
            .paths
            .deadline(self.is_busy(now), now)
            .into_iter()
            .chain(self.paths.next_opening())
            .chain(self.probing.overheard.map(|heard| heard.due))
            .min()
            .filter(|_| needed)
            .map(|due| due.max(earliest));
        let soon = [outputs.soon, greeting, probing]
            .into_iter()
            .flatten()
            .min();
        outputs.soon = soon.map(|soon| soon.max(now + PAUSE));
    }

    fn greet(&mut self, outputs: &mut Outputs, now: Moment) {
        let Some(path) = self.paths.in_turn(self.probing.greetings) else {
            return;
        };
        self.probing.greetings += 1;
        let index = outputs.commons.index_for(self.slot);
        let Commons { secrets, epoch, .. } = &mut outputs.commons;
        let known = self.probing.known.as_mut();
        if let Some(hello) = known.and_then(|known| known.greet(index, secrets, *epoch, now)) {
            outputs.send(Some(self.slot), path, &hello);
        }
    }

    /// Returns whether the budget allowed all that are due.
    fn send_probes(&mut self, outputs: &mut Outputs, now: Moment) -> bool {
        let busy = self.is_busy(now);
        for _ in 0..MOST_AT_ONCE {
            let due = self.paths.deadline_of_probe(busy, now);
            if due.is_none_or(|due| due > now) {
                return true;
            }
            if !outputs.commons.may_probe(&mut self.probing.share, now) {
                return false;
            }
            let transaction = self.probing.next_transaction();
            let Some((to, probe)) = self.paths.probe(busy, transaction, now) else {
                return true;
            };
            self.say(&Message::Probe(probe), to, outputs);
        }
        true
    }

    fn decide(&mut self, outputs: &mut Outputs, now: Moment) {
        if let Some(switch) = self.paths.decide(now) {
            self.switched(switch, outputs, now);
        }
        if self.paths.is_silent(now)
            && let Some(known) = &mut self.probing.known
        {
            known.doubt(now);
        }
        let Some(to) = self.paths.wish(now) else {
            return;
        };
        let overtaken = f64::from(self.rate.per_second()) * self.paths.skew(to).as_secs_f64();
        if overtaken < MOST_OVERTAKEN {
            if let Some(switch) = self.paths.move_to(to, now) {
                self.switched(switch, outputs, now);
            }
        } else if self
            .probing
            .wished
            .is_none_or(|wish| now >= wish.until + WISH_AGAIN)
        {
            let until = now + WISH_FOR;
            self.probing.wished = Some(Wish { to, until });
            self.liveness.renew();
        }
    }

    /// The primary path is another one: say so, and let nothing older than this move it back.
    pub fn switched(&mut self, switch: Switch, outputs: &mut Outputs, now: Moment) {
        if switch.from != switch.to {
            self.probing.switches += 1;
        }
        let Destination { socket, remote } = switch.to;
        self.roamed = outputs.reports.tell(
            Fact::Roamed {
                public_key: self.key(),
                socket,
                remote,
                cause: switch.cause,
                left: switch.from.remote,
                left_socket: switch.from.socket,
            },
            now,
        );
    }

    /// A session came up that we initiated; what was wished can be done.
    pub fn fulfil_wish(&mut self, outputs: &mut Outputs, now: Moment) {
        if let Some(to) = self.probing.take_wish()
            && let Some(switch) = self.paths.move_to(to, now)
        {
            debug_assert_eq!(switch.cause, Cause::Advice);
            self.switched(switch, outputs, now);
        }
    }

    fn tell_learned(&mut self, outputs: &mut Outputs, now: Moment) {
        while let Some(Source { socket, remote }) = self.paths.take_learned() {
            let public_key = self.key();
            outputs.reports.tell(
                Fact::Learned {
                    public_key,
                    socket,
                    remote,
                },
                now,
            );
        }
    }

    fn tell_candidates(&mut self, outputs: &mut Outputs, now: Moment) {
        let candidates = &self.desired.candidates;
        let changed = self.probing.told != *candidates;
        if candidates.is_empty() || !(changed || now >= self.probing.repeat_at) {
            return;
        }
        let Some(primary) = self.paths.primary() else {
            return;
        };
        if changed {
            self.paths.hold_back(now);
        }
        self.probing.told.clone_from(candidates);
        self.probing.repeat_at = now + if changed { REPEAT_SOON } else { REPEAT };
        let message = Message::Candidates(candidates.clone());
        self.say(&message, primary, outputs);
    }

    /// Our initiations are unanswered while probes are: our clock may be behind, theirs is not.
    fn ask_to_initiate(&mut self, outputs: &mut Outputs, now: Moment) {
        let refused = self.liveness.initiations() >= REFUSED_AFTER;
        if refused
            && now.since(self.probing.asked_to_initiate) >= ASK_INTERVAL
            && let Some(path) = self.paths.proven(now)
        {
            self.probing.asked_to_initiate = now;
            self.say(&Message::Initiate, path, outputs);
        }
    }

    pub fn say(&mut self, message: &Message, to: Destination, outputs: &mut Outputs) {
        let known = self.probing.known.as_mut();
        if let Some(sealed) = known.and_then(|known| known.seal(&message.encode(0))) {
            outputs.send(Some(self.slot), to, &sealed);
        }
    }

    fn is_busy(&self, now: Moment) -> bool {
        self.liveness
            .last_data()
            .is_some_and(|at| now.since(at) < BUSY_FOR)
    }

    /// Before data is sent or taken in: the first after a quiet time finds paths of which all is old news.
    pub fn wake_if_quiet(&mut self, now: Moment) {
        if !self.is_busy(now) {
            self.paths.wake(now);
        }
    }

    /// Whether a packet to a Shore peer is of a sparse flow; counts it.
    pub fn is_sparse(&mut self, packet: &[u8], now: Moment) -> bool {
        self.paths.is_probed() && self.flows.is_sparse(packet, now)
    }

    /// Where a copy of a packet goes that is sealed by this lane, if it needs one.
    pub fn copies_to(&self, sparse: bool, lane: LaneId, now: Moment) -> Option<Destination> {
        if !self.paths.is_probed() || self.desired.redundancy == Redundancy::Off {
            return None;
        }
        let always = match self.desired.redundancy {
            Redundancy::Always => true,
            Redundancy::Interactive => sparse,
            Redundancy::Auto | Redundancy::Off => false,
        };
        let wanted = always || self.paths.is_doubtful(now);
        let to = self.paths.copies_to(now).filter(|_| wanted)?;
        // A sparse flow that must share lane 0 is copied whatever that does to bulk.
        let rate = match &self.second {
            Some(second) if lane == SECOND => &second.rate,
            _ if sparse => return Some(to),
            _ => &self.rate,
        };
        let behind = f64::from(rate.per_second()) * self.paths.skew(to).as_secs_f64();
        (behind < MOST_OVERTAKEN && (sparse || !self.paths.is_metered(to))).then_some(to)
    }
}

const MOST_AT_ONCE: usize = 8;
/// Data within so long makes a peer busy.
const BUSY_FOR: Duration = Duration::from_secs(2);
/// Packets that may be overtaken: BoringTun's window is 1,024.
const MOST_OVERTAKEN: f64 = 900.0;
const WISH_FOR: Duration = Duration::from_secs(2);
const WISH_AGAIN: Duration = Duration::from_secs(5);
const REPEAT_SOON: Duration = Duration::from_secs(1);
const REPEAT: Duration = Duration::from_secs(60);
const REFUSED_AFTER: u32 = 2;
const ASK_INTERVAL: Duration = Duration::from_secs(1);
/// Something that is due and was not allowed is tried again after a moment.
const PAUSE: Duration = Duration::from_millis(1);
