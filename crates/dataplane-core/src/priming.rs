//! Opening the NATs before us for a peer, without a word that reaches the NATs before it.
//!
//! Some NATs take what comes from outside before anything went there from inside for a flow of their own, and
//! give the flow that follows from inside another port: the hole is then where nobody looks for it. So both ends
//! first send datagrams that die on the way: two hops open a NAT that is the first one, three and four a chain
//! of two or three. They are probes that are of no path, for the case that the peer is nearer than that.

use crate::outputs::Outputs;
use crate::peer::Peer;
use crate::probe::message::{Message, Probe, Report};
use crate::time::Moment;

impl Peer {
    /// To every place that has not answered; the brain asks for it seldom enough.
    pub fn prime(&mut self, outputs: &mut Outputs, now: Moment) {
        for to in self.paths.unproven(now) {
            for hops in HOPS {
                let probe = Probe {
                    transaction: self.probing.next_transaction(),
                    count: 0,
                    sent_at: now.0.as_nanos() as u64,
                    report: Report::default(),
                    trial: None,
                };
                let known = self.probing.known.as_mut();
                let Some(sealed) =
                    known.and_then(|known| known.seal(&Message::Probe(probe).encode(0)))
                else {
                    return;
                };
                outputs.send_brief(self.slot, to, sealed, hops);
            }
        }
    }
}

const HOPS: [u8; 3] = [2, 3, 4];
