//! The control thread: one listening socket, the brains that come, the newest of which is obeyed.
//!
//! It forwards: messages become commands, reports become messages. What it keeps is what a brain must
//! find when it comes back: the facts that no brain has read yet. It never waits for a brain, and the
//! data thread never waits for it. Nothing a brain sends can end it but `stop`; what does not decode is
//! answered with `refused`, what breaks the framing ends that connection. A plane that was never given
//! anything to carry ends with the brain that started it: nobody else will ever look for it.

use std::collections::VecDeque;
use std::io::Result;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use shore_dataplane_core::desired::{DesiredState, Measurement, SocketId};
use shore_dataplane_core::facts::Fact;
use shore_dataplane_core::time::Moment;

use crate::command::{
    Answer, Command, Counters, Description, Descriptors, Receiving, Report, Sending,
};
use crate::frames::{self, Connection, MOST_DESCRIPTORS};
use crate::sys::{self, Epoll};

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum FromBrain {
    Hello {
        version: u32,
        generation: u64,
    },
    Desired {
        serial: u64,
        seen: u64,
        descriptors: Vec<String>,
        state: Box<DesiredState>,
    },
    Question {
        id: u64,
        counters: bool,
        #[serde(default)]
        changed: bool,
    },
    Measure {
        questions: Vec<Measurement>,
    },
    Stop,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum ToBrain<'a> {
    State {
        version: u32,
        pid: u32,
        data_thread: i32,
        generation: u64,
        serial: u64,
        fact: u64,
        state: Option<&'a DesiredState>,
        descriptors: Vec<String>,
        more: bool,
    },
    Applied {
        serial: u64,
    },
    Refused {
        reason: &'a str,
    },
    Superseded {
        generation: u64,
    },
    Answer(&'a Answer),
    Fact {
        serial: u64,
        at: f64,
        fact: &'a Fact,
    },
}

/// Serves brains until one says `stop`.
pub fn run(
    listener: OwnedFd,
    user: u32,
    data_thread: i32,
    commands: Sending<Command>,
    reports: Receiving<Report>,
) -> Result<()> {
    crate::sys::set_nonblocking(listener.as_fd())?;
    let epoll = Epoll::new()?;
    epoll.watch(listener.as_fd(), LISTENER)?;
    epoll.watch(reports.fd(), REPORTS)?;
    let mut control = Control {
        listener,
        user,
        data_thread,
        epoll,
        commands,
        brains: Vec::new(),
        next_token: FIRST_BRAIN,
        generation: 0,
        facts: VecDeque::new(),
        last_fact: 0,
        carries: false,
        unattended_since: sys::now(),
        stopped: false,
    };
    while !control.stopped {
        for token in control.epoll.wait(control.patience()) {
            match token {
                LISTENER => control.admit(),
                REPORTS => reports.drain().for_each(|report| control.report(report)),
                brain => control.hear(brain),
            }
        }
        control.settle();
    }
    Ok(())
}

struct Control {
    listener: OwnedFd,
    /// Beside root, who may command.
    user: u32,
    data_thread: i32,
    epoll: Epoll,
    commands: Sending<Command>,
    brains: Vec<Brain>,
    next_token: u64,
    /// The highest that said hello.
    generation: u64,
    facts: VecDeque<(u64, f64, Fact)>,
    last_fact: u64,
    /// Was given a desired state.
    carries: bool,
    /// When there last was a brain, or the start.
    unattended_since: Moment,
    stopped: bool,
}

struct Brain {
    token: u64,
    connection: Connection,
    generation: Option<u64>,
    /// Said hello and waits for the state.
    greeting: bool,
    gone: bool,
}

impl Brain {
    fn tell(&mut self, message: &ToBrain, descriptors: Vec<OwnedFd>) {
        self.gone |= self.connection.send(message, descriptors).is_err();
    }
}

impl Control {
    /// How long to wait at most: an idle plane that nobody attends is looked at when its time is over.
    fn patience(&self) -> Duration {
        if self.carries {
            Duration::from_secs(60)
        } else {
            UNATTENDED_FOR
        }
    }

    fn admit(&mut self) {
        while let Ok(fd) = frames::accept(self.listener.as_fd()) {
            let allowed =
                frames::peer_user(fd.as_fd()).is_ok_and(|user| user == 0 || user == self.user);
            let Some(connection) = Connection::new(fd).ok().filter(|_| allowed) else {
                continue;
            };
            let token = self.next_token;
            if self.epoll.watch(connection.fd(), token).is_ok() {
                self.next_token += 1;
                self.brains.push(Brain {
                    token,
                    connection,
                    generation: None,
                    greeting: false,
                    gone: false,
                });
            }
        }
    }

    fn hear(&mut self, token: u64) {
        let Some(place) = self.brains.iter().position(|brain| brain.token == token) else {
            return;
        };
        let connection = &mut self.brains[place].connection;
        let ended = connection.flush().is_err() | connection.fill().is_err();
        loop {
            match self.brains[place].connection.next() {
                Ok(Some(body)) => self.take(place, &body),
                Ok(None) => break,
                Err(_) => {
                    self.brains[place].gone = true;
                    break;
                }
            }
        }
        self.brains[place].gone |= ended;
    }

    fn take(&mut self, place: usize, body: &[u8]) {
        let brain = &mut self.brains[place];
        let message = match frames::decode(body) {
            Ok(message) => message,
            Err(reason) => return brain.tell(&ToBrain::Refused { reason: &reason }, vec![]),
        };
        match (message, brain.generation) {
            (
                FromBrain::Hello {
                    version,
                    generation,
                },
                _,
            ) => self.greet(place, version, generation),
            (_, None) => brain.tell(
                &ToBrain::Refused {
                    reason: "say hello first",
                },
                vec![],
            ),
            (_, Some(generation)) if generation < self.generation => {}
            (
                FromBrain::Desired {
                    serial,
                    seen,
                    descriptors,
                    state,
                },
                _,
            ) => {
                self.desire(place, serial, seen, &descriptors, state);
            }
            (
                FromBrain::Question {
                    id,
                    counters,
                    changed,
                },
                _,
            ) => {
                let counters = match (counters, changed) {
                    (false, _) => Counters::Nobodys,
                    (true, true) => Counters::Changed,
                    (true, false) => Counters::All,
                };
                self.commands.send(Command::Question { id, counters })
            }
            (FromBrain::Measure { questions }, _) => {
                self.commands.send(Command::Measure(questions))
            }
            (FromBrain::Stop, _) => self.commands.send(Command::Stop),
        }
    }

    fn greet(&mut self, place: usize, version: u32, generation: u64) {
        let brain = &mut self.brains[place];
        if version != VERSION {
            let reason = format!("this data plane speaks version {VERSION}, not {version}");
            return brain.tell(&ToBrain::Refused { reason: &reason }, vec![]);
        }
        if generation < self.generation {
            let generation = self.generation;
            brain.tell(&ToBrain::Superseded { generation }, vec![]);
            brain.gone = true;
            return;
        }
        brain.generation = Some(generation);
        brain.greeting = true;
        self.commands.send(Command::Describe);
    }

    fn desire(
        &mut self,
        place: usize,
        serial: u64,
        seen: u64,
        names: &[String],
        desired: Box<DesiredState>,
    ) {
        let brain = &mut self.brains[place];
        let fds = brain.connection.take(names.len());
        let descriptors = match named(names, fds) {
            Ok(descriptors) => descriptors,
            Err(reason) => return brain.tell(&ToBrain::Refused { reason: &reason }, vec![]),
        };
        self.facts.retain(|(serial, ..)| *serial > seen);
        self.commands.send(Command::Apply {
            serial,
            seen,
            desired,
            descriptors,
        });
    }

    fn report(&mut self, report: Report) {
        match report {
            Report::Applied { serial } => {
                self.carries = true;
                self.tell(&ToBrain::Applied { serial });
            }
            Report::Refused { reason } => self.tell(&ToBrain::Refused { reason: &reason }),
            Report::Answer(answer) => self.tell(&ToBrain::Answer(&answer)),
            Report::Described(description) => self.describe(description),
            Report::Fact { serial, at, fact } => {
                let fact_now = &fact;
                self.tell(&ToBrain::Fact {
                    serial,
                    at,
                    fact: fact_now,
                });
                self.last_fact = serial;
                self.facts.push_back((serial, at, fact));
                if self.facts.len() > MOST_FACTS {
                    self.facts.pop_front();
                }
            }
            Report::Stopped => self.stopped = true,
        }
    }

    /// To the newest brain that was told the state.
    fn tell(&mut self, message: &ToBrain) {
        let generation = Some(self.generation);
        let newest = |brain: &&mut Brain| brain.generation == generation && !brain.greeting;
        if let Some(brain) = self.brains.iter_mut().rev().find(newest) {
            brain.tell(message, vec![]);
        }
    }

    fn describe(&mut self, description: Description) {
        let Some(place) = self.brains.iter().position(|brain| brain.greeting) else {
            return;
        };
        let previous = self.generation;
        let brain = &mut self.brains[place];
        brain.greeting = false;
        let generation = brain.generation.unwrap_or_default();
        self.generation = self.generation.max(generation);

        let (names, mut fds) = unnamed(description.descriptors);
        let pieces = names.len().div_ceil(MOST_DESCRIPTORS).max(1);
        for piece in 0..pieces {
            let names: Vec<_> = names
                .iter()
                .skip(piece * MOST_DESCRIPTORS)
                .take(MOST_DESCRIPTORS)
                .cloned()
                .collect();
            let with: Vec<_> = fds.drain(..names.len()).collect();
            let state = ToBrain::State {
                version: VERSION,
                pid: std::process::id(),
                data_thread: self.data_thread,
                generation: previous,
                serial: description.serial,
                fact: self.last_fact,
                state: description.desired.as_ref(),
                descriptors: names,
                more: piece + 1 < pieces,
            };
            brain.tell(&state, with);
        }
        for (serial, at, fact) in &self.facts {
            let (serial, at) = (*serial, *at);
            brain.tell(&ToBrain::Fact { serial, at, fact }, vec![]);
        }
        for older in self
            .brains
            .iter_mut()
            .filter(|brain| brain.generation.is_some_and(|old| old < generation))
        {
            older.tell(&ToBrain::Superseded { generation }, vec![]);
            older.gone = true;
        }
    }

    fn settle(&mut self) {
        let epoll = &self.epoll;
        self.brains.retain_mut(|brain| {
            if brain.gone {
                let _ = brain.connection.flush();
                epoll.forget(brain.connection.fd());
                return false;
            }
            let writing = brain.connection.wants_to_write();
            epoll
                .watch_writing(brain.connection.fd(), brain.token, writing)
                .is_ok()
        });
        if !self.brains.is_empty() {
            self.unattended_since = sys::now();
        } else if !self.carries && sys::now().since(self.unattended_since) >= UNATTENDED_FOR {
            self.commands.send(Command::Stop);
        }
    }
}

/// `tun`, `socket:ID`, `link:ID` and `ear:FAMILY`, in the order of their descriptors.
fn named(names: &[String], fds: Vec<OwnedFd>) -> std::result::Result<Descriptors, String> {
    if fds.len() != names.len() {
        return Err(format!(
            "{} descriptors named, {} came",
            names.len(),
            fds.len()
        ));
    }
    let mut descriptors = Descriptors::default();
    for (name, fd) in names.iter().zip(fds) {
        let number = |rest: &str| rest.parse::<SocketId>().ok();
        match name
            .split_once(':')
            .map(|(kind, rest)| (kind, number(rest)))
        {
            Some(("socket", Some(id))) => descriptors.sockets.push((id, fd)),
            Some(("link", Some(id))) => descriptors.links.push((id, fd)),
            Some(("ear", Some(family))) => descriptors.ears.push((family, fd)),
            None if name == "tun" => descriptors.tun = Some(fd),
            _ => return Err(format!("no descriptor is called {name}")),
        }
    }
    Ok(descriptors)
}

fn unnamed(descriptors: Descriptors) -> (Vec<String>, Vec<OwnedFd>) {
    let tun = descriptors.tun.map(|fd| ("tun".to_owned(), fd));
    let sockets = descriptors
        .sockets
        .into_iter()
        .map(|(id, fd)| (format!("socket:{id}"), fd));
    tun.into_iter().chain(sockets).unzip()
}

const VERSION: u32 = 1;
const LISTENER: u64 = 0;
const REPORTS: u64 = 1;
const FIRST_BRAIN: u64 = 2;
const MOST_FACTS: usize = 1024;
/// Longer than a brain needs to come; as long as a plane that carries nothing waits for one.
const UNATTENDED_FOR: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::channel;
    use proptest::prelude::*;
    use serde_bytes::ByteArray;
    use shore_dataplane_core::desired::{
        Interface, Lane, Named, Path, PathKind, Peer, Ports, Protocol, Redundancy, Rule, Socket,
    };
    use std::os::unix::net::UnixListener;

    fn decodes(body: &[u8]) -> bool {
        frames::decode::<FromBrain>(body).is_ok()
    }

    /// A whole desired state, as a brain sends it.
    fn desired() -> Vec<u8> {
        #[derive(Serialize)]
        struct Desired {
            r#type: &'static str,
            serial: u64,
            seen: u64,
            descriptors: Vec<String>,
            state: DesiredState,
        }
        let socket = Socket {
            id: 1,
            family: 4,
            uplink: Some("eth0".into()),
        };
        let peer = Peer {
            public_key: ByteArray::new([1; 32]),
            preshared_key: None,
            allowed_ips: vec!["10.0.0.2/32".into()],
            keepalive_s: 25,
            wanted: true,
            renew: 3,
            poke: 0,
            prime: 0,
            lanes: vec![Lane { id: 0 }],
            redundancy: Redundancy::Auto,
            candidates: Vec::new(),
            paths: vec![Path {
                id: 1,
                kind: PathKind::Direct,
                socket: 1,
                remote: "192.0.2.1:51820".parse().unwrap(),
                metered: false,
                mtu: None,
                quiet_s: 15,
            }],
            trials: Vec::new(),
            spray: None,
            fan: None,
        };
        let interface = Interface {
            private_key: Some(ByteArray::new([2; 32])),
            mtu: 1420,
            offload: true,
            probing: true,
            overhear: true,
        };
        let ports = |protocol| Ports {
            protocol,
            first: 22,
            last: 443,
        };
        let rule = Rule {
            sources: vec!["10.0.0.2/32".into()],
            destinations: vec!["10.0.0.1/32".into()],
            ports: vec![
                ports(Some(Protocol::Named(Named::Tcp))),
                ports(Some(Protocol::Number(47))),
                ports(None),
            ],
        };
        frames::encode(&Desired {
            r#type: "desired",
            serial: 1,
            seen: 0,
            descriptors: vec!["tun".into()],
            state: DesiredState {
                interface,
                sockets: vec![socket],
                peers: vec![peer],
                stun: Vec::new(),
                filter: Some(vec![rule]),
                links: Vec::new(),
                bindings: Vec::new(),
            },
        })
    }

    proptest! {
        #[test]
        fn no_body_does_more_than_fail_to_decode(
            body in proptest::collection::vec(any::<u8>(), 0..400),
        ) {
            decodes(&body);
        }

        #[test]
        fn a_desired_state_changed_anywhere_decodes_or_does_not(
            changes in proptest::collection::vec((any::<usize>(), any::<u8>()), 1..8),
            cut in any::<usize>(),
        ) {
            let mut body = desired();
            prop_assert!(decodes(&body));
            let len = body.len();
            for (at, byte) in changes {
                body[at % len] = byte;
            }
            decodes(&body);
            prop_assert!(!decodes(&desired()[..cut % len]));
        }
    }

    #[test]
    fn nesting_without_end_is_refused() {
        // Arrays of one element in each other, as far as a frame goes.
        assert!(!decodes(&vec![0x91; 1 << 20]));
        let unknown = [&[0x81, 0xa1, b'x'][..], &vec![0x91; 1 << 20]].concat();
        assert!(!decodes(&unknown));
    }

    #[test]
    fn a_plane_that_carries_nothing_ends_when_no_brain_comes() {
        let directory = std::env::temp_dir().join(format!("shore-control-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let listener = UnixListener::bind(directory.join("plane.sock")).unwrap();
        let (commands, asked) = channel().unwrap();
        let (reports, heard) = channel().unwrap();
        let control = std::thread::spawn(move || run(listener.into(), 0, 0, commands, heard));
        let epoll = Epoll::new().unwrap();
        epoll.watch(asked.fd(), 0).unwrap();
        let began = sys::now();
        assert_eq!(epoll.wait(3 * UNATTENDED_FOR), [0], "it waits for ever");
        assert!(sys::now().since(began) >= UNATTENDED_FOR);
        assert!(matches!(asked.drain().next(), Some(Command::Stop)));
        reports.send(Report::Stopped);
        control.join().unwrap().unwrap();
        std::fs::remove_dir_all(directory).unwrap();
    }
}
