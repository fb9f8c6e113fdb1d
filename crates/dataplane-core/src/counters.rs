//! A peer's numbers, as they answer the brain's question.

use std::net::SocketAddr;
use std::time::Duration;

use crate::facts::{PathCounters, PeerCounters};
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
}

fn of_path(path: &Path, primary: bool, now: Moment) -> PathCounters {
    let (sent, arrived) = path.measure.data_totals();
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
