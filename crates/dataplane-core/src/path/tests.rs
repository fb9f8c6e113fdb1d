use super::*;
use crate::probe::message::{Echo, Probe, Report};

fn place(socket: SocketId, remote: &str) -> Source {
    Source {
        socket,
        remote: remote.parse().unwrap(),
    }
}

fn at(millis: u64) -> Moment {
    Moment::from_millis(millis)
}

fn advised(destinations: &[Source]) -> Vec<desired::Path> {
    let path = |(id, to): (usize, &Source)| desired::Path {
        id: id as PathId,
        kind: PathKind::Direct,
        socket: to.socket,
        remote: to.remote,
        metered: false,
        mtu: None,
        quiet_s: 15,
    };
    destinations.iter().enumerate().map(path).collect()
}

fn follow(paths: &mut Paths, source: Source, proof: Proof) -> bool {
    paths.follow(source, proof, at(0)).is_some()
}

mod foreign {
    use super::*;

    #[test]
    fn data_moves_the_remote_and_keeps_the_socket() {
        let mut paths = Paths::default();
        paths.advise(
            &advised(&[place(1, "192.0.2.1:1"), place(2, "192.0.2.1:1")]),
            at(0),
        );
        assert!(!follow(&mut paths, place(2, "192.0.2.1:1"), Proof::Data));
        assert!(follow(&mut paths, place(2, "192.0.2.1:1"), Proof::Response));
        assert!(follow(&mut paths, place(1, "192.0.2.7:7"), Proof::Data));
        assert_eq!(paths.primary(), Some(place(1, "192.0.2.7:7")));
    }

    #[test]
    fn the_same_advice_twice_leaves_a_learned_path_alone() {
        let mut paths = Paths::default();
        let advice = advised(&[place(1, "192.0.2.1:1")]);
        paths.advise(&advice, at(0));
        follow(&mut paths, place(1, "192.0.2.7:7"), Proof::Data);
        paths.advise(&advice, at(0));
        assert_eq!(paths.primary(), Some(place(1, "192.0.2.7:7")));
        paths.advise(&advised(&[place(1, "192.0.2.9:9")]), at(0));
        assert_eq!(paths.primary(), Some(place(1, "192.0.2.9:9")));
    }

    #[test]
    fn initiations_take_the_paths_in_turn() {
        let mut paths = Paths::default();
        assert_eq!(paths.in_turn(0), None);
        paths.advise(
            &advised(&[place(1, "192.0.2.1:1"), place(1, "192.0.2.2:2")]),
            at(0),
        );
        follow(&mut paths, place(1, "192.0.2.2:2"), Proof::Data);
        assert_eq!(paths.in_turn(0), Some(place(1, "192.0.2.2:2")));
        assert_eq!(paths.in_turn(1), Some(place(1, "192.0.2.1:1")));
    }
}

mod probed {
    use super::*;

    const A: &str = "192.0.2.1:1";
    const B: &str = "198.51.100.1:1";

    #[test]
    fn a_socket_that_goes_leaves_the_primary_path_to_one_that_has_answered() {
        let mut paths = Paths::default();
        let (unproved, gone, proved) = (place(1, A), place(2, A), place(1, B));
        paths.advise(&advised(&[unproved, gone, proved]), at(0));
        paths.begin_probing();
        paths.paths[1].health.proved(at(1));
        paths.paths[2].health.proved(at(1));
        paths.primary = 1;
        paths.retain(|socket| socket != 2, at(2));
        assert_eq!(paths.primary(), Some(proved));
    }

    #[test]
    fn a_socket_that_goes_leaves_no_data_to_a_place_that_never_answered() {
        let mut paths = Paths::default();
        paths.advise(&advised(&[place(2, B), place(1, A)]), at(0));
        paths.begin_probing();
        paths.paths[0].health.proved(at(1));
        paths.retain(|socket| socket != 2, at(2));
        assert_eq!(
            (paths.primary(), paths.carrier()),
            (Some(place(1, A)), None)
        );
        paths.paths[0].health.proved(at(3));
        assert_eq!(paths.carrier(), Some(place(1, A)));
    }

    #[test]
    fn the_same_remote_by_another_socket_is_no_stranger() {
        let mut paths = Paths::default();
        paths.advise(&advised(&[place(2, A), place(1, A)]), at(0));
        paths.begin_probing();
        paths.paths[0].health.proved(at(1));
        paths.retain(|socket| socket != 2, at(2));
        assert_eq!(paths.carrier(), Some(place(1, A)));
    }

    #[test]
    fn an_unproved_primary_path_yields_to_where_the_peer_is() {
        let mut paths = Paths::default();
        paths.advise(&advised(&[place(1, A)]), at(0));
        paths.begin_probing();
        assert!(follow(&mut paths, place(1, B), Proof::Data));
        assert_eq!(paths.primary(), Some(place(1, B)));
        assert!(!follow(&mut paths, place(1, B), Proof::Data));
    }

    #[test]
    fn an_unproved_primary_path_yields_to_the_first_that_answers() {
        let mut paths = Paths::default();
        paths.advise(&advised(&[place(1, A), place(1, B)]), at(0));
        paths.begin_probing();
        assert_eq!(paths.decide(at(1)), None);
        paths.paths[1].health.proved(at(2));
        assert_eq!(paths.decide(at(2)).unwrap().to, place(1, B));
    }

    #[test]
    fn of_paths_that_died_before_the_one_that_brings_data_is_taken() {
        let mut paths = Paths::default();
        let (first, second, third) = (place(1, A), place(2, A), place(1, B));
        paths.advise(&advised(&[first, second, third]), at(0));
        paths.begin_probing();
        for path in &mut paths.paths {
            path.health.proved(at(1));
            path.health.late(1, at(2));
            path.health.late(3, at(3));
        }
        paths.paths[1].health.proved(at(4));
        paths.paths[2].health.proved(at(4));
        follow(&mut paths, third, Proof::Data);
        assert_eq!(paths.decide(at(5)).unwrap().to, third);
    }

    #[test]
    fn a_deaf_path_is_left_for_the_one_that_brings_data() {
        let mut paths = Paths::default();
        let (deaf, same, brings) = (place(1, A), place(2, A), place(1, B));
        paths.advise(&advised(&[deaf, same, brings]), at(0));
        paths.begin_probing();
        for path in &mut paths.paths {
            path.health.proved(at(1));
        }
        paths.paths[2].health.late(1, at(2));
        paths.paths[2].health.late(3, at(3));
        paths.paths[2].health.proved(at(4));
        paths.follow(brings, Proof::Data, at(4));
        paths.paths[0].health.deaf(at(5));
        paths.deaf = true;
        paths.paths[1].health.proved(at(5));
        assert_eq!(paths.decide(at(5)).unwrap().to, brings);
    }

    #[test]
    fn of_held_paths_one_that_was_deaf_is_taken_last() {
        let mut paths = Paths::default();
        let (deaf, was_deaf, died) = (place(1, A), place(2, A), place(1, B));
        paths.advise(&advised(&[deaf, was_deaf, died]), at(0));
        paths.begin_probing();
        paths.paths[0].health.proved(at(1));
        paths.paths[1].health.proved(at(1));
        paths.paths[1].health.deaf(at(2));
        paths.paths[2].health.late(3, at(2));
        paths.paths[2].health.proved(at(3));
        paths.paths[1].health.proved(at(4));
        paths.paths[0].health.deaf(at(4));
        paths.deaf = true;
        assert_eq!(paths.decide(at(4)).unwrap().to, died);
    }

    #[test]
    fn a_path_that_is_advised_no_more_is_left_once_another_lives() {
        let mut paths = Paths::default();
        paths.advise(&advised(&[place(1, A)]), at(0));
        paths.begin_probing();
        paths.paths[0].health.proved(at(1));
        paths.advise(&advised(&[place(2, A), place(3, A)]), at(2));
        assert_eq!(paths.primary(), Some(place(1, A)));
        assert_eq!(paths.wish(at(3)), None);
        paths.paths[1].health.proved(at(4));
        assert_eq!(paths.wish(at(5)), Some(place(3, A)));
        paths.move_to(place(3, A), at(5)).unwrap();
        assert_eq!(paths.primary(), Some(place(3, A)));
        assert_eq!(paths.iter().count(), 2);
    }

    /// Two paths over socket 1, A before B, and which of them answer after 20 ms.
    struct Table {
        paths: Paths,
        now: u64,
        transaction: u32,
        answers: fn(SocketAddr, u64) -> bool,
        data: fn(SocketAddr) -> bool,
        reported: std::collections::BTreeMap<SocketAddr, u32>,
        waiting: Vec<(u64, Destination, Probe)>,
        switches: Vec<(u64, Switch)>,
        probes: usize,
    }

    fn table(answers: fn(SocketAddr, u64) -> bool) -> Table {
        let mut paths = Paths::default();
        paths.advise(&advised(&[place(1, A), place(1, B)]), at(0));
        paths.begin_probing();
        Table {
            paths,
            now: 1000,
            transaction: 0,
            answers,
            data: |_| true,
            reported: Default::default(),
            waiting: Vec::new(),
            switches: Vec::new(),
            probes: 0,
        }
    }

    impl Table {
        fn run(&mut self, millis: u64, busy: bool) {
            for _ in 0..millis {
                self.step(busy);
            }
        }

        fn step(&mut self, busy: bool) {
            self.now += 1;
            let now = at(self.now);
            self.paths.overdue(now);
            if let Some(switch) = self.paths.decide(now) {
                self.switches.push((self.now, switch));
            }
            if busy && self.now.is_multiple_of(50) {
                self.paths.sent_data(false, None);
                let primary = self.paths.primary().unwrap().remote;
                if (self.data)(primary) {
                    *self.reported.entry(primary).or_default() += 1;
                }
            }
            while let Some((to, probe)) = self.paths.probe(busy, self.transaction, now) {
                self.transaction += 1;
                self.probes += 1;
                self.waiting.push((self.now + 20, to, probe));
            }
            let (due, later) = std::mem::take(&mut self.waiting)
                .into_iter()
                .partition(|(at, ..)| *at <= self.now);
            self.waiting = later;
            let due: Vec<(u64, Destination, Probe)> = due;
            for (_, to, probe) in due {
                if (self.answers)(to.remote, self.now) {
                    self.echo(to, &probe);
                }
            }
        }

        fn echo(&mut self, to: Destination, probe: &Probe) {
            let echo = Echo {
                transaction: probe.transaction,
                held_us: 0,
                sent_at: probe.sent_at,
                report: Report {
                    probes: probe.count,
                    highest: probe.count,
                    data: self.reported.get(&to.remote).copied().unwrap_or(0),
                    large: 0,
                },
                observed: "203.0.113.1:1".parse().unwrap(),
            };
            self.paths.answered(&echo, at(self.now));
        }

        fn remote(&self) -> SocketAddr {
            self.paths.primary().unwrap().remote
        }
    }

    #[test]
    fn a_dead_primary_path_is_left_within_half_a_second_and_doubted_before() {
        let mut table = table(|remote, now| now < 5000 || remote == B.parse().unwrap());
        table.run(4000, true);
        assert!(!table.paths.is_doubtful(at(table.now)));
        let mut doubted = None;
        while table.switches.is_empty() {
            table.step(true);
            if doubted.is_none() && table.paths.is_doubtful(at(table.now)) {
                doubted = Some(table.now);
            }
        }
        let (when, switch) = table.switches[0];
        assert_eq!((switch.to, switch.cause), (place(1, B), Cause::Dead));
        assert!(doubted.unwrap() - 5000 <= 260, "{doubted:?}");
        assert!(when - 5000 <= 500, "{when}");
    }

    #[test]
    fn a_path_that_comes_back_is_wished_for_only_after_its_hold() {
        let mut table =
            table(|remote, now| remote == B.parse().unwrap() || !(5000..8000).contains(&now));
        table.run(7000, true);
        assert_eq!(table.remote(), B.parse().unwrap());
        table.run(4000, true);
        assert_eq!(table.paths.wish(at(table.now)), None);
        table.run(7000, true);
        assert_eq!(table.paths.wish(at(table.now)), Some(place(1, A)));
        table.paths.move_to(place(1, A), at(table.now)).unwrap();
        assert_eq!(table.remote(), A.parse().unwrap());
    }

    #[test]
    fn an_only_path_is_kept_dead_or_alive() {
        let mut table = table(|_, now| now < 5000);
        table.run(20_000, true);
        assert!(table.switches.is_empty());
        assert!(table.paths.is_doubtful(at(table.now)));
    }

    #[test]
    fn probes_that_pass_do_not_excuse_data_that_does_not() {
        let mut table = table(|_, _| true);
        table.run(4000, true);
        table.data = |remote| remote == B.parse().unwrap();
        let before = table.now;
        table.run(2000, true);
        let (when, switch) = table.switches[0];
        assert_eq!((switch.to, switch.cause), (place(1, B), Cause::Deaf));
        assert!(when - before <= 1500, "{}", when - before);
        table.run(30_000, true);
        assert_eq!(table.switches.len(), 1);
    }

    #[test]
    fn nothing_moves_on_arrival_and_the_peer_is_followed_once_an_echo_came() {
        let mut table = table(|remote, now| now < 5000 || remote.port() == 9);
        table.run(3000, true);
        let moved = place(1, "192.0.2.1:9");
        table.paths.follow(moved, Proof::Data, at(table.now));
        table.run(500, true);
        assert!(table.switches.is_empty());
        let before = table.now;
        while table.switches.is_empty() {
            table.step(true);
        }
        let (when, switch) = table.switches[0];
        assert_eq!((switch.to, switch.cause), (moved, Cause::PeerMoved));
        assert!(when - before.max(5000) <= 500);
    }

    #[test]
    fn a_quiet_pair_of_paths_costs_a_few_probes_a_minute() {
        let mut table = table(|_, _| true);
        table.run(1000, false);
        let before = table.probes;
        table.run(60_000, false);
        assert!(table.probes - before <= 8, "{}", table.probes - before);
    }

    #[test]
    fn loss_is_not_death_where_nothing_is_better() {
        let mut table = table(|_, now| now % 5 != 0);
        table.run(60_000, true);
        assert!(table.switches.len() <= 2, "{:?}", table.switches);
    }
}
