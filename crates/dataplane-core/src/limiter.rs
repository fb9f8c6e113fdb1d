//! The door in front of handshakes: what a stranger may cost us.
//!
//! An initiation costs us a Diffie-Hellman before we know who sent it, and mac1 is no secret. So each
//! initiation with a right mac1 is judged by where it comes from:
//!
//! * A peer's own endpoint has a bucket of its own, which no other source can empty.
//! * Any other address (IPv4, or IPv6 /64) may greet a few times a second, as long as the *calm* pool
//!   lasts. Greetings that turn out to be from a peer give their token back, so the pool is emptied by
//!   strangers only.
//! * When it is empty, or too many addresses greet at once to be told apart, the sender must first prove
//!   its address: it gets a cookie reply, smaller than its initiation. Those who proved it have buckets
//!   that those who did not cannot touch. A single address that floods gets cookie replies per port,
//!   so that a peer behind the same NAT still gets its own.
//!
//! All tables are bounded. A table that is full forgets the sources that have been quiet.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use crate::time::Moment;

/// What to do with an initiation whose mac1 is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Take it; it drew on the calm pool.
    Calm,
    /// Take it if mac2 proves its source, else send a cookie reply.
    Prove,
    /// Take it.
    Known,
}

pub struct Limiter {
    calm: Bucket,
    known: Buckets<SocketAddr>,
    sources: Buckets<IpAddr>,
    proven: Buckets<IpAddr>,
    cookies: Buckets<SocketAddr>,
    responses: Buckets<u32>,
    stray: Bucket,
}

impl Limiter {
    pub fn new(now: Moment) -> Self {
        Self {
            calm: Bucket::full(CALM, now),
            known: Buckets::new(KNOWN),
            sources: Buckets::new(SOURCE),
            proven: Buckets::new(PROVEN),
            cookies: Buckets::new(COOKIES),
            responses: Buckets::new(RESPONSES),
            stray: Bucket::full(STRAY, now),
        }
    }

    /// `endpoint`: whether `remote` is where one of our peers is.
    pub fn admit(&mut self, remote: SocketAddr, endpoint: bool, now: Moment) -> Admission {
        if endpoint && self.known.take(remote, now) == Some(true) {
            return Admission::Known;
        }
        let allowed = self.sources.take(prefix(remote.ip()), now);
        if allowed == Some(true) && self.calm.take(CALM, now) {
            return Admission::Calm;
        }
        Admission::Prove
    }

    /// A `Calm` greeting was from a peer after all.
    pub fn welcome(&mut self) {
        self.calm.give(CALM);
    }

    /// Whether a source that proved its address may greet now.
    pub fn admit_proven(&mut self, remote: SocketAddr, now: Moment) -> bool {
        self.proven.take(prefix(remote.ip()), now) == Some(true)
    }

    /// Whether a cookie reply may go there now.
    pub fn may_answer(&mut self, remote: SocketAddr, now: Moment) -> bool {
        self.cookies.take(remote, now) != Some(false)
    }

    /// Whether another response may be tried on the engine of this index.
    pub fn admit_response(&mut self, index: u32, now: Moment) -> bool {
        self.responses.take(index, now) == Some(true)
    }

    /// Whether a data message of an unknown session may be looked into.
    pub fn admit_stray(&mut self, now: Moment) -> bool {
        self.stray.take(STRAY, now)
    }
}

/// A refill per second, and how much can be saved up.
#[derive(Clone, Copy)]
pub(crate) struct Rate {
    pub per_second: f64,
    pub burst: f64,
}

pub(crate) struct Bucket {
    tokens: f64,
    at: Moment,
}

impl Bucket {
    pub fn full(rate: Rate, now: Moment) -> Self {
        Self {
            tokens: rate.burst,
            at: now,
        }
    }

    pub fn take(&mut self, rate: Rate, now: Moment) -> bool {
        self.refill(rate, now);
        let enough = self.tokens >= 1.0;
        if enough {
            self.tokens -= 1.0;
        }
        enough
    }

    fn give(&mut self, rate: Rate) {
        self.tokens = (self.tokens + 1.0).min(rate.burst);
    }

    fn refill(&mut self, rate: Rate, now: Moment) {
        let earned = now.since(self.at).as_secs_f64() * rate.per_second;
        self.tokens = (self.tokens + earned).min(rate.burst);
        self.at = self.at.max(now);
    }
}

struct Buckets<K> {
    rate: Rate,
    table: HashMap<K, Bucket>,
    swept: Moment,
}

impl<K: Hash + Eq> Buckets<K> {
    fn new(rate: Rate) -> Self {
        Self {
            rate,
            table: HashMap::new(),
            swept: Moment::default(),
        }
    }

    /// `None`: the table is full and does not know the key.
    fn take(&mut self, key: K, now: Moment) -> Option<bool> {
        if let Some(bucket) = self.table.get_mut(&key) {
            return Some(bucket.take(self.rate, now));
        }
        if self.table.len() >= CAPACITY && !self.sweep(now) {
            return None;
        }
        let mut bucket = Bucket::full(self.rate, now);
        let taken = bucket.take(self.rate, now);
        self.table.insert(key, bucket);
        Some(taken)
    }

    /// Forgets the quiet ones, at most once a second; whether there is room now.
    fn sweep(&mut self, now: Moment) -> bool {
        if now.since(self.swept).as_secs() < 1 {
            return false;
        }
        self.swept = now;
        let rate = self.rate;
        self.table.retain(|_, bucket| {
            bucket.refill(rate, now);
            bucket.tokens < rate.burst
        });
        self.table.len() < CAPACITY
    }
}

fn prefix(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(),
    }
}

const CAPACITY: usize = 4096;
const CALM: Rate = Rate {
    per_second: 20.0,
    burst: 40.0,
};
const KNOWN: Rate = Rate {
    per_second: 5.0,
    burst: 10.0,
};
const SOURCE: Rate = Rate {
    per_second: 10.0,
    burst: 10.0,
};
const PROVEN: Rate = Rate {
    per_second: 10.0,
    burst: 10.0,
};
const COOKIES: Rate = Rate {
    per_second: 5.0,
    burst: 5.0,
};
const RESPONSES: Rate = Rate {
    per_second: 20.0,
    burst: 20.0,
};
const STRAY: Rate = Rate {
    per_second: 10.0,
    burst: 10.0,
};

#[cfg(test)]
mod tests {
    use super::*;

    fn remote(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_flood_from_one_address_leaves_the_calm_pool_to_others() {
        let mut limiter = Limiter::new(Moment::default());
        let flood = remote("192.0.2.1:1000");
        let verdicts: Vec<_> = (0..1000)
            .map(|_| limiter.admit(flood, false, Moment::default()))
            .collect();
        assert_eq!(
            verdicts
                .iter()
                .filter(|verdict| **verdict == Admission::Calm)
                .count(),
            10
        );
        assert_eq!(
            limiter.admit(remote("192.0.2.2:1000"), false, Moment::default()),
            Admission::Calm
        );
    }

    #[test]
    fn a_flood_from_everywhere_makes_strangers_prove_their_address_and_spares_peers() {
        let mut limiter = Limiter::new(Moment::default());
        for n in 0..60_000_u32 {
            let source = SocketAddr::new(IpAddr::V4((0x0A00_0000 + n).into()), 7);
            limiter.admit(source, false, Moment::default());
        }
        let stranger = remote("198.51.100.1:5");
        assert_eq!(
            limiter.admit(stranger, false, Moment::default()),
            Admission::Prove
        );
        assert!(limiter.admit_proven(stranger, Moment::default()));
        assert_eq!(
            limiter.admit(remote("192.0.2.9:5"), true, Moment::default()),
            Admission::Known
        );
    }

    #[test]
    fn an_ipv6_network_is_one_source() {
        let mut limiter = Limiter::new(Moment::default());
        for n in 0..10 {
            limiter.admit(
                remote(&format!("[2001:db8::{n}]:1")),
                false,
                Moment::default(),
            );
        }
        assert_eq!(
            limiter.admit(remote("[2001:db8::ffff]:1"), false, Moment::default()),
            Admission::Prove
        );
    }

    #[test]
    fn greetings_of_peers_do_not_empty_the_calm_pool() {
        let mut limiter = Limiter::new(Moment::default());
        for n in 0..1000_u32 {
            let source = SocketAddr::new(IpAddr::V4((0x0A00_0000 + n).into()), 7);
            assert_eq!(
                limiter.admit(source, false, Moment::default()),
                Admission::Calm
            );
            limiter.welcome();
        }
    }
}
