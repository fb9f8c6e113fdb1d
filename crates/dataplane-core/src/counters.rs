//! A peer's numbers: what was lost, and everything as it answers the brain's question.

use std::net::SocketAddr;
use std::time::Duration;

use crate::facts::{DropReason, PathCounters, PeerCounters};
use crate::path::Path;
use crate::peer::Peer;
use crate::time::Moment;

impl Peer {
    pub fn endpoint(&self) -> Option<SocketAddr> {
        self.paths.primary().map(|path| path.remote)
    }

    pub fn counters(&self, now: Moment) -> PeerCounters {
        let session = self.lane.session(now);
        let age = |at: Moment| now.since(at).as_secs_f64();
        // No path answers: a session that nothing was asked of proves nothing.
        let silent = self.paths.is_probed() && self.paths.is_silent(now);
        let trusted = session.filter(|_| !silent);
        PeerCounters {
            public_key: self.key(),
            endpoint: self.endpoint(),
            socket: self.paths.primary().map(|path| path.socket),
            connected: self.liveness.connected(trusted, now),
            last_received_age_s: self.liveness.last_received().map(age),
            last_handshake_age_s: self.liveness.last_handshake().map(age),
            session_age_s: session.map(|session| age(session.established)),
            handshake_rtt_ms: self.liveness.rtt().map(millis),
            unanswered_s: self
                .liveness
                .waiting(now)
                .map(|waited| waited.as_secs_f64()),
            rx_bytes: self.rx_bytes,
            tx_bytes: self.tx_bytes,
            handshakes: self.handshakes,
            probed: self.paths.is_probed(),
            switches: self.probing.switches,
            primary_age_s: age(self.paths.primary_since()),
            lanes: self.lane_counters(now),
            paths: self
                .paths
                .iter()
                .map(|(path, primary)| of_path(path, primary, now))
                .collect(),
            drops: self.drops.clone(),
        }
    }

    pub fn note_drop(&mut self, reason: DropReason, count: u64, now: Moment) {
        if count == 0 {
            return;
        }
        *self.drops.entry(reason).or_default() += count;
        // A peer that is silent has no session for reasons of its own.
        let silent = self
            .liveness
            .last_received()
            .is_none_or(|at| now.since(at) > SILENT);
        let for_want_of_session = matches!(
            reason,
            DropReason::StageExpired | DropReason::StageOverflow | DropReason::NoSession
        );
        if !(silent && for_want_of_session) {
            self.losses.note(reason, count, now);
        }
    }

    /// Its counters to be told; with `changed`, none where nothing but ages is different from the last time.
    pub fn tell_counters(&mut self, changed: bool, now: Moment) -> Option<PeerCounters> {
        let counters = self.counters(now);
        let before = self.told.replace(counters.clone().without_ages());
        (!changed || before != self.told).then_some(counters)
    }
}

impl PeerCounters {
    /// Ages are what passes by itself; whether there is one at all is not.
    fn without_ages(mut self) -> Self {
        let ages = [
            &mut self.last_received_age_s,
            &mut self.last_handshake_age_s,
            &mut self.session_age_s,
            &mut self.unanswered_s,
        ];
        let of_paths = self
            .paths
            .iter_mut()
            .flat_map(|path| [&mut path.proof_age_s, &mut path.hold_s]);
        for age in ages.into_iter().chain(of_paths) {
            *age = age.map(|_| 0.0);
        }
        for path in &mut self.paths {
            path.state_age_s = 0.0;
        }
        for lane in &mut self.lanes {
            lane.session_age_s = 0.0;
        }
        self.primary_age_s = 0.0;
        self
    }
}

fn of_path(path: &Path, primary: bool, now: Moment) -> PathCounters {
    let (sent, arrived) = path.measure.data_totals();
    let (probes_sent, probes_arrived) = path.measure.probe_totals();
    let asked = path.asked.newest();
    PathCounters {
        id: path.id,
        kind: path.kind,
        socket: path.destination.socket,
        remote: path.destination.remote,
        primary,
        state: path.state(now),
        state_age_s: now.since(path.since()).as_secs_f64(),
        rtt_ms: path.measure.rtt().map(millis),
        jitter_ms: path.measure.jitter().map(millis),
        loss_tx: path.measure.loss_sent(),
        loss_rx: path.measure.loss_received(),
        data_sent: sent.all,
        data_arrived: arrived.all,
        large_sent: sent.large,
        large_arrived: arrived.large,
        probes_sent,
        probes_arrived,
        proof_age_s: path.proof().map(|at| now.since(at).as_secs_f64()),
        hold_s: path.hold_left(now).map(|left| left.as_secs_f64()),
        poke: asked.map(|(poke, _)| poke),
        poke_rtt_ms: asked.and_then(|(_, rtt)| rtt).map(millis),
        observed: path.observed,
    }
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

const SILENT: Duration = Duration::from_secs(5);
