//! Opening the NATs before us for a peer, without a word that reaches the NATs before it (`path::opening` says
//! when, and why). What is sent are probes that are of no path, for the case that the peer is nearer than that.

use crate::outputs::Outputs;
use crate::peer::Peer;
use crate::probe::message::{Message, Probe};
use crate::time::Moment;

impl Peer {
    /// Takes the steps that are due.
    pub fn prime(&mut self, outputs: &mut Outputs, now: Moment) {
        for (to, hops) in self.paths.openings(now) {
            for hops in hops {
                let probe = Probe::of_no_path(self.probing.next_transaction(), now);
                let known = self.probing.known.as_mut();
                let Some(sealed) =
                    known.and_then(|known| known.seal(&Message::Probe(probe).encode(0)))
                else {
                    return;
                };
                outputs.send_brief(self.slot, to, sealed, *hops);
            }
        }
    }
}
