//! What is known of one way to a peer: round trips, jitter, loss each way, and whether data gets through.
//!
//! Everything comes from probes. A probe is answered, late, or lost; an echo carries what the other end
//! counted of our probes and of our data on this way, as it was when our probe passed. So loss is known
//! per direction, and data that the probes overtook is told from data that never came.
//!
//! Loss is that of the last 10 s, and of eight probes at least; one lost probe is news to the reflex, not
//! a percentage. Whether a path in use is *lossy* is for the brain to judge, from totals of data and probes. A
//! sparse path (100 data messages a second at most) that lost two messages within 2 s may be, and asks for
//! more probes for the next 2 s, as its own traffic would take long to tell.

use std::collections::VecDeque;
use std::time::Duration;

use crate::probe::message::{Echo, Probe, Report};
use crate::time::Moment;

#[derive(Default)]
pub struct Measure {
    /// Probes sent on this path.
    count: u32,
    waiting: VecDeque<Sent>,
    srtt: Option<Duration>,
    deviation: Duration,
    last_rtt: Option<Duration>,
    jitter: Duration,
    last_sent: Option<Moment>,
    /// Unanswered since the last answer.
    in_a_row: u32,
    /// What came in by this way.
    arrived: Report,
    received: Ratio,
    delivered: Ratio,
    probes: ProbeTotals,
    data_sent: DataCount,
    /// Data messages that the peer counted, as it said last.
    pub reported: u32,
    data: VecDeque<DataSample>,
    first: Option<DataSample>,
    keen_until: Moment,
}

/// Probes of which an echo has told, and how many of them had arrived by then.
#[derive(Clone, Copy, Default)]
struct ProbeTotals {
    sent: u32,
    arrived: u32,
    /// The newest probe that an echo answered, and what the peer had counted then.
    last: Option<(u32, u32)>,
}

impl ProbeTotals {
    /// Counts that make no sense (the peer counts anew, or together with another path of ours that looks the
    /// same from there) are no loss.
    fn note(&mut self, count: u32, reported: u32) {
        if let Some((before, reported_before)) = self.last {
            let sent = count.saturating_sub(before);
            self.sent = self.sent.wrapping_add(sent);
            let arrived = reported.wrapping_sub(reported_before).min(sent);
            self.arrived = self.arrived.wrapping_add(arrived);
        }
        self.last = Some((count, reported));
    }
}

/// Data messages, and those of them whose datagrams have more than 1200 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DataCount {
    pub all: u32,
    pub large: u32,
}

impl DataCount {
    pub fn small(self) -> u32 {
        self.all.wrapping_sub(self.large)
    }

    fn plus(self, other: Self) -> Self {
        Self {
            all: self.all.wrapping_add(other.all),
            large: self.large.wrapping_add(other.large),
        }
    }

    fn minus(self, other: Self) -> Self {
        Self {
            all: self.all.wrapping_sub(other.all),
            large: self.large.wrapping_sub(other.large),
        }
    }
}

struct Sent {
    transaction: u32,
    count: u32,
    at: Moment,
    data_sent: DataCount,
    late: bool,
}

#[derive(Clone, Copy)]
struct DataSample {
    at: Moment,
    sent: DataCount,
    arrived: DataCount,
    /// Probes that are lost.
    probes_lost: u32,
}

impl Measure {
    /// The probe to send now.
    pub fn probe(&mut self, transaction: u32, now: Moment) -> Probe {
        self.count += 1;
        self.last_sent = Some(now);
        self.waiting.push_back(Sent {
            transaction,
            count: self.count,
            at: now,
            data_sent: self.data_sent,
            late: false,
        });
        if self.waiting.len() > MOST_WAITING {
            self.waiting.pop_front();
        }
        Probe {
            transaction,
            count: self.count,
            sent_at: now.0.as_nanos() as u64,
            report: self.arrived,
            trial: None,
        }
    }

    /// The peer's probe came this way. Returns what an echo reports.
    pub fn arrived(&mut self, probe: &Probe, now: Moment) -> Report {
        if probe.count == 0 {
            return self.arrived;
        }
        // A count that falls is a peer that began anew.
        if probe.count < self.arrived.highest / 2 {
            self.arrived.probes = 0;
            self.arrived.highest = 0;
            self.received = Ratio::default();
        }
        self.arrived.probes = self.arrived.probes.wrapping_add(1);
        self.arrived.highest = self.arrived.highest.max(probe.count);
        self.received
            .note(self.arrived.highest, self.arrived.probes, now);
        self.arrived
    }

    pub fn data_arrived(&mut self, large: bool) {
        self.arrived.data = self.arrived.data.wrapping_add(1);
        self.arrived.large = self.arrived.large.wrapping_add(u32::from(large));
    }

    pub fn data_sent(&mut self, large: bool) {
        self.data_sent = self.data_sent.plus(DataCount {
            all: 1,
            large: u32::from(large),
        });
    }

    /// An echo of a probe of this path. False if it answers none that waits.
    pub fn answered(&mut self, echo: &Echo, now: Moment) -> bool {
        let Some(place) = self
            .waiting
            .iter()
            .position(|sent| sent.transaction == echo.transaction)
        else {
            return false;
        };
        let Some(sent) = self.waiting.remove(place) else {
            return false;
        };
        self.waiting.retain(|other| other.at > sent.at);
        self.in_a_row = 0;
        let held = Duration::from_micros(u64::from(echo.held_us));
        self.round_trip(now.since(sent.at).saturating_sub(held));
        if self.delivered.arrived() >= echo.report.probes {
            // The peer counts anew, or together with another path of ours that looks the same from there.
            self.delivered = Ratio::default();
        }
        self.delivered.note(sent.count, echo.report.probes, now);
        self.probes.note(sent.count, echo.report.probes);
        self.reported = echo.report.data;
        let sample = DataSample {
            at: now,
            sent: sent.data_sent,
            probes_lost: self.probes.sent.wrapping_sub(self.probes.arrived),
            arrived: DataCount {
                all: echo.report.data,
                large: echo.report.large,
            },
        };
        // A count that falls is a peer that began anew, or echoes out of order; neither is loss.
        let gained = |last: &DataSample| sample.arrived.all.wrapping_sub(last.arrived.all);
        if self
            .data
            .back()
            .is_some_and(|last| gained(last) > u32::MAX / 2)
        {
            self.forget_data();
        }
        self.first.get_or_insert(sample);
        self.data.push_back(sample);
        if self.data.len() > MOST_SAMPLES {
            self.data.pop_front();
        }
        if self.is_losing(now) {
            self.keen_until = now + KEEN_FOR;
        }
        true
    }

    /// Whether a sparse path has lost messages, lately and more than one.
    fn is_losing(&self, now: Moment) -> bool {
        let (Some(newest), Some(oldest)) = (
            self.data.back(),
            self.data
                .iter()
                .find(|sample| now.since(sample.at) <= KEEN_FOR),
        ) else {
            return false;
        };
        let sent = newest.sent.minus(oldest.sent).all;
        let arrived = newest.arrived.minus(oldest.arrived).all;
        let probes = newest.probes_lost.wrapping_sub(oldest.probes_lost);
        sent <= SPARSE && sent.saturating_sub(arrived).wrapping_add(probes) >= SOME
    }

    /// Whether it may be losing more than it should, and more probes would soon tell.
    pub fn is_keen(&self, now: Moment) -> bool {
        now < self.keen_until
    }

    /// Probes of which an echo has told, and how many of them the peer counted.
    pub fn probe_totals(&self) -> (u32, u32) {
        (self.probes.sent, self.probes.arrived)
    }

    /// Probes that became late by now; each is told once.
    pub fn overdue(&mut self, now: Moment) -> u32 {
        let limit = self.patience();
        let mut count = 0;
        for sent in &mut self.waiting {
            if !sent.late && now.since(sent.at) >= limit {
                sent.late = true;
                count += 1;
            }
        }
        self.in_a_row += count;
        self.waiting
            .retain(|sent| now.since(sent.at) < FORGET_AFTER);
        count
    }

    /// When the next probe becomes late.
    pub fn overdue_at(&self) -> Option<Moment> {
        let limit = self.patience();
        let sent = self.waiting.iter().find(|sent| !sent.late)?;
        Some(sent.at + limit)
    }

    /// How long an answer may take.
    pub fn patience(&self) -> Duration {
        match self.srtt {
            Some(srtt) => (srtt + 4 * self.deviation + MARGIN).clamp(LEAST_PATIENCE, MOST_PATIENCE),
            None => FIRST_PATIENCE,
        }
    }

    /// Probes unanswered since the last answer.
    pub fn in_a_row(&self) -> u32 {
        self.in_a_row
    }

    pub fn last_sent(&self) -> Option<Moment> {
        self.last_sent
    }

    pub fn rtt(&self) -> Option<Duration> {
        self.srtt
    }

    pub fn jitter(&self) -> Option<Duration> {
        self.srtt.map(|_| self.jitter)
    }

    /// The share of our probes that did not get there, 0 to 1.
    pub fn loss_sent(&self) -> Option<f64> {
        self.delivered.loss()
    }

    /// The share of the peer's probes that did not get here.
    pub fn loss_received(&self) -> Option<f64> {
        self.received.loss()
    }

    /// Data messages sent, and how many of them the peer counted, over the newest samples that span
    /// `time` or more.
    pub fn data_delivered(&self, time: Duration, now: Moment) -> Option<(DataCount, DataCount)> {
        let newest = self.data.back()?;
        let oldest = self
            .data
            .iter()
            .rev()
            .find(|sample| now.since(sample.at) >= time)?;
        Some((
            newest.sent.minus(oldest.sent),
            newest.arrived.minus(oldest.arrived),
        ))
    }

    /// How many large data messages never came, where an echo says that of most that left since the echo before:
    /// these, or if none came at all, those since the last one that did. The probe left behind them and came.
    pub fn swallowed(&self) -> u32 {
        let mut samples = self.data.iter().rev();
        let (Some(newest), Some(before)) = (samples.next(), samples.next()) else {
            return 0;
        };
        let sent = newest.sent.minus(before.sent).large;
        let came = newest.arrived.minus(before.arrived).large;
        if sent <= came.saturating_mul(2) {
            return 0;
        }
        if came > 0 {
            return sent - came;
        }
        let none_came = |sample: &&DataSample| sample.arrived.large == newest.arrived.large;
        let since = samples.take_while(none_came).last().unwrap_or(before);
        newest.sent.minus(since.sent).large
    }

    /// Data samples count from here: the path is used anew.
    pub fn forget_data(&mut self) {
        self.data.clear();
        self.first = None;
    }

    /// Data messages sent since then, and how many of them the peer counted.
    pub fn data_totals(&self) -> (DataCount, DataCount) {
        let (Some(first), Some(newest)) = (self.first, self.data.back()) else {
            return Default::default();
        };
        (
            newest.sent.minus(first.sent),
            newest.arrived.minus(first.arrived),
        )
    }

    fn round_trip(&mut self, rtt: Duration) {
        if let Some(last) = self.last_rtt.replace(rtt) {
            let change = rtt.abs_diff(last);
            self.jitter = (self.jitter * 15 + change) / 16;
        }
        // RFC 6298, with the faster gains that probes at a known rate allow.
        match self.srtt {
            None => {
                self.srtt = Some(rtt);
                self.deviation = rtt / 4;
            }
            Some(srtt) => {
                self.deviation = (self.deviation * 3 + srtt.abs_diff(rtt)) / 4;
                self.srtt = Some((srtt * 7 + rtt) / 8);
            }
        }
    }
}

/// A share of what was sent that arrived, over a window of time.
#[derive(Default)]
struct Ratio {
    samples: VecDeque<(Moment, u32, u32)>,
}

impl Ratio {
    fn note(&mut self, sent: u32, arrived: u32, now: Moment) {
        self.samples.push_back((now, sent, arrived));
        while self.samples.len() > MOST_SAMPLES
            || self
                .samples
                .front()
                .is_some_and(|(at, ..)| now.since(*at) > WINDOW && self.samples.len() > 2)
        {
            self.samples.pop_front();
        }
    }

    fn arrived(&self) -> u32 {
        self.samples.back().map_or(0, |(_, _, arrived)| *arrived)
    }

    fn loss(&self) -> Option<f64> {
        let (_, sent_first, arrived_first) = self.samples.front()?;
        let (_, sent, arrived) = self.samples.back()?;
        let sent = sent.saturating_sub(*sent_first);
        let arrived = arrived.saturating_sub(*arrived_first).min(sent);
        (sent >= LEAST_SAMPLE).then(|| f64::from(sent - arrived) / f64::from(sent))
    }
}

const MARGIN: Duration = Duration::from_millis(50);
const LEAST_PATIENCE: Duration = Duration::from_millis(100);
const MOST_PATIENCE: Duration = Duration::from_secs(2);
const FIRST_PATIENCE: Duration = Duration::from_secs(1);
const FORGET_AFTER: Duration = Duration::from_secs(10);
const WINDOW: Duration = Duration::from_secs(10);
const LEAST_SAMPLE: u32 = 8;
/// For how long losses are remembered, how many data messages a sparse path carries in that time, and how many
/// losses are more than one.
const KEEN_FOR: Duration = Duration::from_secs(2);
const SPARSE: u32 = 200;
const SOME: u32 = 2;
const MOST_WAITING: usize = 64;
const MOST_SAMPLES: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Moment {
        Moment::from_millis(millis)
    }

    fn echo(probe: &Probe, report: Report) -> Echo {
        Echo {
            transaction: probe.transaction,
            held_us: 0,
            sent_at: probe.sent_at,
            report,
            observed: "192.0.2.1:1".parse().unwrap(),
        }
    }

    #[test]
    fn loss_is_told_per_direction() {
        let (mut a, mut b) = (Measure::default(), Measure::default());
        for n in 0..100u64 {
            let probe = a.probe(n as u32, at(n * 100));
            // One in four is lost on the way there, one in ten of the echoes on the way back.
            if n % 4 == 3 {
                continue;
            }
            let report = b.arrived(&probe, at(n * 100 + 10));
            if n % 10 != 9 {
                assert!(a.answered(&echo(&probe, report), at(n * 100 + 20)));
            }
        }
        let (there, back) = (a.loss_sent().unwrap(), b.loss_received().unwrap());
        assert!((0.2..0.3).contains(&there), "{there}");
        assert!((0.2..0.3).contains(&back), "{back}");
    }

    #[test]
    fn an_answer_after_all_ends_the_row_and_teaches_patience() {
        let mut path = Measure::default();
        for n in 0..10 {
            let probe = path.probe(n, at(u64::from(n) * 100));
            path.answered(
                &echo(&probe, Report::default()),
                at(u64::from(n) * 100 + 10),
            );
        }
        assert_eq!(path.patience(), LEAST_PATIENCE);
        let late = path.probe(99, at(2000));
        assert_eq!(path.overdue(at(2099)), 0);
        assert_eq!(path.overdue(at(2100)), 1);
        assert_eq!((path.overdue(at(2200)), path.in_a_row()), (0, 1));
        assert!(path.answered(&echo(&late, Report::default()), at(2310)));
        assert_eq!(path.in_a_row(), 0);
        assert!(path.patience() > Duration::from_millis(200));
        assert!(!path.answered(&echo(&late, Report::default()), at(2320)));
    }

    #[test]
    fn data_that_never_came_is_told_from_data_under_way() {
        let mut path = Measure::default();
        for n in 0..20u64 {
            let probe = path.probe(n as u32, at(n * 100));
            (0..10).for_each(|_| path.data_sent(false));
            let report = Report {
                data: 7,
                ..Report::default()
            };
            path.answered(&echo(&probe, report), at(n * 100 + 10));
        }
        let (sent, arrived) = path
            .data_delivered(Duration::from_secs(1), at(1910))
            .unwrap();
        assert!(
            sent.small() >= 90 && arrived.all == 0,
            "{sent:?} {arrived:?}"
        );
    }

    #[test]
    fn data_is_counted_anew_when_the_peer_counts_anew() {
        let mut path = Measure::default();
        for (n, data) in [(0, 500), (1, 510), (2, 3), (3, 13)] {
            let probe = path.probe(n, at(u64::from(n) * 100));
            (0..10).for_each(|_| path.data_sent(false));
            let report = Report {
                data,
                ..Report::default()
            };
            path.answered(&echo(&probe, report), at(u64::from(n) * 100 + 10));
        }
        let (sent, arrived) = path.data_totals();
        assert_eq!((sent.all, arrived.all), (10, 10));
    }

    #[test]
    fn a_sparse_path_that_loses_more_than_one_message_asks_for_more_probes_for_a_while() {
        for (lost_every, is_keen) in [(1000, false), (50, false), (10, true)] {
            let (mut a, mut b) = (Measure::default(), Measure::default());
            let mut data = 0;
            for n in 0..20u64 {
                let probe = a.probe(n as u32, at(n * 100));
                for message in 0..3 {
                    a.data_sent(false);
                    data += u32::from((n * 3 + message) % lost_every != lost_every - 1);
                }
                let report = b.arrived(&probe, at(n * 100 + 10));
                a.answered(&echo(&probe, Report { data, ..report }), at(n * 100 + 20));
            }
            assert_eq!(a.is_keen(at(2000)), is_keen, "{lost_every}");
            assert!(!a.is_keen(at(4000)));
        }
    }

    #[test]
    fn a_busy_path_needs_no_more_probes() {
        let (mut a, mut b) = (Measure::default(), Measure::default());
        for n in 0..40u64 {
            let probe = a.probe(n as u32, at(n * 100));
            (0..40).for_each(|_| a.data_sent(false));
            let data = n as u32 * 36;
            let report = b.arrived(&probe, at(n * 100 + 10));
            a.answered(&echo(&probe, Report { data, ..report }), at(n * 100 + 20));
        }
        assert!(!a.is_keen(at(4000)));
    }

    #[test]
    fn lost_probes_are_counted_and_echoes_that_are_lost_are_none() {
        let (mut a, mut b) = (Measure::default(), Measure::default());
        for n in 0..101u64 {
            let probe = a.probe(n as u32, at(n * 100));
            if n % 10 == 5 {
                continue;
            }
            let report = b.arrived(&probe, at(n * 100 + 10));
            if n % 10 != 7 {
                a.answered(&echo(&probe, report), at(n * 100 + 20));
            }
        }
        assert_eq!(a.probe_totals(), (100, 90));
    }

    #[test]
    fn two_paths_that_look_the_same_to_the_peer_are_no_loss() {
        let (mut a, mut twin, mut b) = <(Measure, Measure, Measure)>::default();
        for n in 0..100u64 {
            let (path, transaction) = if n % 4 == 3 {
                (&mut twin, 1000 + n as u32)
            } else {
                (&mut a, n as u32)
            };
            let probe = path.probe(transaction, at(n * 100));
            let report = b.arrived(&probe, at(n * 100 + 10));
            assert!(path.answered(&echo(&probe, report), at(n * 100 + 20)));
        }
        assert_eq!(a.loss_sent().unwrap_or_default(), 0.0);
        assert_eq!(twin.loss_sent().unwrap_or_default(), 0.0);
        let (sent, arrived) = a.probe_totals();
        assert_eq!((sent, arrived), (sent, sent));
    }
}
