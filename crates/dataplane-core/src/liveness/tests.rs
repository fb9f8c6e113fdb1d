//! A deadline that has passed and brings nothing would have the data thread spin: whatever happened to a
//! peer, and whether it has a path or a session, asking what is due moves the deadline into the future.

use std::time::Duration;

use proptest::prelude::*;

use super::{Due, Liveness, View};
use crate::chance::Chance;
use crate::engine::Session;
use crate::time::Moment;

#[derive(Clone, Copy, Debug)]
enum Step {
    SentData,
    Staged,
    Received,
    ReceivedData,
    Responded,
    Established(bool),
    Renew,
    PathGone(bool),
    SessionGone,
    Unwanted(bool),
    Pass(u32),
}

fn step() -> impl Strategy<Value = Step> {
    use Step::{
        Established, Pass, PathGone, Received, ReceivedData, Renew, Responded, SentData,
        SessionGone, Staged, Unwanted,
    };
    prop_oneof![
        Just(SentData),
        Just(Staged),
        Just(Received),
        Just(ReceivedData),
        Just(Responded),
        any::<bool>().prop_map(Established),
        Just(Renew),
        any::<bool>().prop_map(PathGone),
        Just(SessionGone),
        any::<bool>().prop_map(Unwanted),
        (0u32..40_000).prop_map(Pass),
        (0u32..40_000).prop_map(Pass),
    ]
}

/// Does what is due until nothing is, as a peer does; returns when to ask again.
fn pump(liveness: &mut Liveness, view: &View, chance: &mut Chance, now: Moment) -> Option<Moment> {
    for _ in 0..4 {
        match liveness.due(view, now) {
            Due::Nothing => {}
            Due::Keepalive => liveness.sent(now),
            Due::Initiate { .. } => liveness.initiated(chance, now),
        }
        if liveness.deadline(view).is_none_or(|due| due > now) {
            break;
        }
    }
    liveness.deadline(view)
}

fn view() -> View {
    View {
        session: None,
        wanted: true,
        keepalive: Some(Duration::from_secs(25)),
        has_path: true,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn what_is_due_is_done_and_no_deadline_stays_behind(
        steps in proptest::collection::vec(step(), 1..30),
    ) {
        let mut liveness = Liveness::default();
        let mut chance = Chance::new(1);
        let mut view = view();
        let mut now = Moment::from_millis(1_000);
        for step in steps {
            match step {
                Step::SentData => liveness.sent_data(now),
                Step::Staged => liveness.staged(now),
                Step::Received => liveness.received(now),
                Step::ReceivedData => liveness.received_data(now),
                Step::Responded => liveness.responded(now),
                Step::Established(initiator) => {
                    liveness.established(initiator, &mut chance, now);
                    view.session = Some(Session {
                        established: now,
                        initiator,
                        messages: 0,
                        unsettled: false,
                    });
                }
                Step::Renew => liveness.renew(),
                Step::PathGone(gone) => view.has_path = !gone,
                Step::SessionGone => view.session = None,
                Step::Unwanted(unwanted) => view.wanted = !unwanted,
                Step::Pass(millis) => now = now + Duration::from_millis(u64::from(millis)),
            }
            let due = pump(&mut liveness, &view, &mut chance, now);
            prop_assert!(due.is_none_or(|due| due > now), "{step:?} leaves {due:?} at {now:?}");
        }
    }
}

#[test]
fn a_peer_without_a_path_owes_no_keepalive() {
    let mut liveness = Liveness::default();
    let mut chance = Chance::new(1);
    let mut view = view();
    let began = Moment::from_millis(1_000);
    view.session = Some(Session {
        established: began,
        initiator: true,
        messages: 0,
        unsettled: false,
    });
    liveness.established(true, &mut chance, began);
    liveness.sent(began);
    view.has_path = false;
    let later = began + Duration::from_secs(60);
    assert_eq!(liveness.due(&view, later), Due::Nothing);
    assert_eq!(liveness.deadline(&view), None);
}

#[test]
fn unanswered_data_of_a_session_that_is_gone_is_no_deadline() {
    let mut liveness = Liveness::default();
    let mut chance = Chance::new(1);
    let mut view = view();
    view.wanted = false;
    let began = Moment::from_millis(1_000);
    liveness.sent_data(began);
    let later = began + Duration::from_secs(200);
    let due = pump(&mut liveness, &view, &mut chance, later);
    assert!(due.is_none_or(|due| due > later), "{due:?}");
}
