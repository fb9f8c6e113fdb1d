//! The data thread: one thread of a tunnel that runs every packet to completion.
//!
//! A *turn* receives one message from each socket, opens, joins and writes it to the TUN; then reads
//! packets from the TUN, splits, seals and gathers them; then sends. Turns follow each other while
//! there is work; without work the loop rests (`moderation`) or blocks in epoll until the plane's
//! deadline. Packets never change threads. Commands are taken between turns.
//!
//! A panic in a turn is caught and told as a fact; what the turn had in its hands is lost, the next
//! turn goes on. A TUN that is gone is told once and forgotten, so that its readiness does not spin.

use std::collections::BTreeMap;
use std::io::{Error, Result};
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use shore_dataplane_core::desired::{DesiredState, SocketId};
use shore_dataplane_core::engine::EngineFactory;
use shore_dataplane_core::facts::{DropReason, Fact};
use shore_dataplane_core::offload::VnetHeader;
use shore_dataplane_core::plane::{Destination, Plane};
use shore_dataplane_core::time::Moment;

use crate::command::{
    Answer, Command, Counters, Description, Descriptors, Offload, Receiving, Report, Sending,
};
use crate::ears::Ears;
use crate::egress::{Egress, Place};
use crate::fan::{Fans, fanned};
use crate::moderation::Moderation;
use crate::outbound::Outbound;
use crate::priority::Priority;
use crate::relay::link::Link;
use crate::sockets::{Sockets, is_about_the_socket};
use crate::sys::{self, Epoll};
use crate::transfer::Inbound;
use crate::tun::Tun;
use crate::udp::Udp;

/// Starts the thread. Returns its thread id, for the brain to grant it priority.
pub fn spawn(
    engines: Box<dyn EngineFactory>,
    seed: u64,
    commands: Receiving<Command>,
    reports: Sending<Report>,
) -> Result<(JoinHandle<()>, i32)> {
    let (told, tid) = mpsc::channel();
    let body = move || {
        let _ = told.send(sys::thread_id());
        sys::set_least_timer_slack();
        if let Ok(mut thread) = DataThread::new(engines, seed, commands, reports) {
            thread.run();
        }
    };
    let handle = std::thread::Builder::new()
        .name("data".into())
        .spawn(body)?;
    let tid = tid
        .recv()
        .map_err(|_| Error::other("the data thread did not start"))?;
    Ok((handle, tid))
}

struct DataThread {
    plane: Plane,
    tun: Option<Tun>,
    sockets: Sockets,
    ears: Ears,
    epoll: Epoll,
    commands: Receiving<Command>,
    reports: Sending<Report>,
    inbound: Inbound,
    outbound: Outbound,
    egress: Egress,
    /// What goes out by a second path as well.
    copies: Egress,
    moderation: Moderation,
    priority: Priority,
    serial: u64,
    loops: u64,
    stopping: bool,
    /// Errors of a socket that were told already, until it sends again.
    failing: BTreeMap<SocketId, i32>,
}

impl DataThread {
    fn new(
        engines: Box<dyn EngineFactory>,
        seed: u64,
        commands: Receiving<Command>,
        reports: Sending<Report>,
    ) -> Result<Self> {
        let epoll = Epoll::new()?;
        epoll.watch(commands.fd(), COMMANDS)?;
        Ok(Self {
            plane: Plane::new(engines, seed, sys::now()),
            tun: None,
            sockets: Sockets::default(),
            ears: Ears::default(),
            epoll,
            commands,
            reports,
            inbound: Inbound::new(),
            outbound: Outbound::new(),
            egress: Egress::new(),
            copies: Egress::new(),
            moderation: Moderation::default(),
            priority: Priority::default(),
            serial: 0,
            loops: 0,
            stopping: false,
            failing: BTreeMap::new(),
        })
    }

    fn run(&mut self) {
        let mut last_batch = 0;
        while !self.stopping {
            let now = sys::now();
            let batch = match catch_unwind(AssertUnwindSafe(|| self.turn(now))) {
                Ok(batch) => batch,
                Err(panic) => {
                    self.caught(panic, now);
                    0
                }
            };
            if batch > 0 {
                self.moderation.handled(batch);
                last_batch = batch;
            } else if let Some(rest) = self.moderation.rest(last_batch, now) {
                sys::nap(rest);
                last_batch = 0;
            } else {
                self.block(now);
            }
            self.tell_facts();
        }
        self.reports.send(Report::Stopped);
    }

    /// Returns how many packets and datagrams it handled.
    fn turn(&mut self, now: Moment) -> u32 {
        self.loops += 1;
        if self.loops.is_multiple_of(TURNS_PER_GLANCE) {
            self.obey();
            self.ears.listen(&mut self.plane, &self.sockets.udp, now);
        }
        self.priority.look(now);
        if now >= self.plane.deadline() {
            self.plane.tick(now);
        }
        let Self {
            plane,
            tun,
            sockets,
            inbound,
            outbound,
            egress,
            copies,
            priority,
            ..
        } = self;
        let mut batch = 0;
        let Sockets { udp, bound, .. } = &mut *sockets;
        for udp in udp {
            batch += inbound.receive(plane, (udp, bound), tun, !priority.is_realtime(), now);
        }
        for udp in sockets.fans.ready() {
            batch += inbound.receive(plane, (udp, &mut []), tun, false, now);
        }
        for link in &mut sockets.links {
            link.turn(now);
            batch += inbound.take(plane, link, tun, now);
        }
        if let Some(tun) = tun {
            batch += outbound.read(plane, tun, sockets, (egress, copies), now);
        }
        if let Some(tun) = tun {
            while let Some(word) = plane.word() {
                let _ = tun.write(&word, VnetHeader::default(), &[(0, word.len())]);
            }
        }
        while let Some(transmit) = plane.transmit() {
            let size = transmit.bytes.len();
            let destination = Destination {
                socket: transmit.socket,
                remote: transmit.remote,
            };
            if let Some(token) = transmit.token {
                if sockets.send_sized(destination, &transmit.bytes) == Some(libc::EMSGSIZE) {
                    plane.measure_refused(transmit.peer, token, now);
                }
                continue;
            }
            if let Some(hops) = transmit.hops {
                // Nobody waits for it, so a refusal is no news.
                let _ = sockets.send_brief(destination, &transmit.bytes, hops);
                continue;
            }
            let copy = |out: &mut [u8]| {
                out[..size].copy_from_slice(&transmit.bytes);
                Ok::<_, DropReason>(size)
            };
            let place = Place {
                owner: transmit.peer,
                destination,
                whole: false,
            };
            let _ = egress.append(sockets, place, size, copy);
        }
        egress.flush(sockets);
        copies.flush(sockets);
        self.sockets.settle_links(&mut self.plane, &self.epoll, now);
        self.sockets.tend_bindings(&mut self.plane, now);
        self.settle(now);
        batch
    }

    /// Takes note of what was refused in this turn.
    fn settle(&mut self, now: Moment) {
        self.copies.refused().for_each(drop);
        for refused in self.egress.refused() {
            self.plane.note_refused(
                (refused.owner, refused.destination),
                refused.reason,
                refused.count,
                now,
            );
            let socket = refused.destination.socket;
            if is_about_the_socket(refused.errno)
                && self.failing.insert(socket, refused.errno) != Some(refused.errno)
            {
                let errno = refused.errno;
                self.plane
                    .note_fact(Fact::SocketFailed { socket, errno }, now);
            }
        }
        let gone = self
            .inbound
            .tun_gone
            .take()
            .or(self.outbound.tun_gone.take());
        if let Some(errno) = gone
            && let Some(tun) = self.tun.take()
        {
            self.epoll.forget(tun.fd());
            self.plane.note_fact(Fact::TunFailed { errno }, now);
        }
    }

    fn block(&mut self, now: Moment) {
        let deadline = self.plane.deadline();
        let due = self.sockets.deadline();
        let limit = due.map_or(deadline, |due| due.min(deadline)).since(now);
        let ready = self.epoll.wait(limit.min(LONGEST_BLOCK));
        if ready.contains(&COMMANDS) {
            self.obey();
        }
        if Ears::are_among(&ready) {
            self.ears.listen(&mut self.plane, &self.sockets.udp, now);
        }
    }

    fn obey(&mut self) {
        let commands: Vec<_> = self.commands.drain().collect();
        for command in commands {
            match command {
                Command::Apply {
                    serial,
                    seen,
                    desired,
                    descriptors,
                } => {
                    let report = match self.apply(serial, seen, *desired, descriptors) {
                        Ok(()) => Report::Applied { serial },
                        Err(reason) => Report::Refused { reason },
                    };
                    self.reports.send(report);
                }
                Command::Question { id, counters } => {
                    let answer = self.answer(id, counters);
                    self.reports.send(Report::Answer(answer));
                }
                Command::Measure(questions) => {
                    let now = sys::now();
                    for question in &questions {
                        self.plane.measure(question, now);
                    }
                }
                Command::Describe => {
                    let description = self.describe();
                    self.reports.send(Report::Described(description));
                }
                Command::Stop => self.stopping = true,
            }
        }
    }

    fn apply(
        &mut self,
        serial: u64,
        seen: u64,
        desired: DesiredState,
        descriptors: Descriptors,
    ) -> std::result::Result<(), String> {
        self.sockets.check(&desired, &descriptors)?;
        let offload = desired.interface.offload;
        let linked = desired.links.iter().map(|link| link.id);
        let sockets = desired.sockets.iter().map(|socket| socket.id);
        let wanted: Vec<_> = sockets.chain(linked).collect();
        let named = |error: Error| error.to_string();
        let tun = descriptors
            .tun
            .map(|fd| Tun::new(fd, offload))
            .transpose()
            .map_err(named)?;
        let mut sockets = Vec::new();
        for (id, fd) in descriptors.sockets {
            sockets.push(Udp::new(id, fd, offload).map_err(named)?);
        }
        let overhears = desired.interface.overhear;
        let now = sys::now();
        let mut links = Vec::new();
        for (id, fd) in descriptors.links {
            if let Some(link) = desired.links.iter().find(|link| link.id == id) {
                links.push(Link::new(link, fd, now)?);
            }
        }
        let fanned = fanned(&desired);
        self.sockets.ask_relays(&desired);
        let bindings = desired.bindings.clone();
        self.plane.apply(desired, seen, now)?;

        self.egress.flush(&mut self.sockets);
        self.copies.flush(&mut self.sockets);
        if let Some(tun) = tun {
            if let Some(old) = self.tun.take() {
                self.epoll.forget(old.fd());
            }
            self.epoll.watch(tun.fd(), TUN).map_err(named)?;
            self.tun = Some(tun);
        }
        self.ears
            .take(descriptors.ears, overhears, &self.epoll)
            .map_err(named)?;
        for udp in &sockets {
            self.failing.remove(&udp.id);
        }
        let fresh = Sockets {
            udp: sockets,
            links,
            fans: Fans::default(),
            bound: Vec::new(),
        };
        self.sockets
            .take(fresh, (&wanted, &fanned), &self.epoll)
            .map_err(named)?;
        self.sockets.bind(&bindings, self.plane.own_tag(), now);
        self.serial = serial;
        Ok(())
    }

    fn answer(&mut self, id: u64, counters: Counters) -> Answer {
        let now = sys::now();
        let peers = match counters {
            Counters::Nobodys => Vec::new(),
            Counters::Changed => self.plane.tell_counters(true, now),
            Counters::All => self.plane.tell_counters(false, now),
        };
        let per_socket = |of: fn(&Udp) -> bool| {
            self.sockets
                .udp
                .iter()
                .map(|udp| (udp.id, of(udp)))
                .collect()
        };
        Answer {
            id,
            loops: self.loops,
            rx_packets: self.inbound.packets,
            tx_packets: self.outbound.packets,
            offload: Offload {
                tun: self.tun.as_ref().map_or("none", Tun::mode),
                udp_gso: per_socket(Udp::gso),
                udp_gro: per_socket(Udp::gro),
                realtime: sys::is_realtime(),
            },
            peers,
            drops: self.plane.drops().clone(),
            links: self.sockets.link_counters(now),
        }
    }

    fn describe(&self) -> Description {
        let copy = |fd: std::os::fd::BorrowedFd| sys::duplicate(fd).ok();
        let sockets = self
            .sockets
            .udp
            .iter()
            .filter_map(|udp| Some((udp.id, copy(udp.fd())?)));
        Description {
            serial: self.serial,
            desired: self.plane.desired().cloned(),
            descriptors: Descriptors {
                tun: self.tun.as_ref().and_then(|tun| copy(tun.fd().as_fd())),
                sockets: sockets.collect(),
                ..Descriptors::default()
            },
        }
    }

    fn tell_facts(&mut self) {
        while let Some((serial, at, fact)) = self.plane.fact() {
            let at = at.0.as_secs_f64();
            self.reports.send(Report::Fact { serial, at, fact });
        }
    }

    fn caught(&mut self, panic: Box<dyn std::any::Any + Send>, now: Moment) {
        let text = panic
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| panic.downcast_ref::<String>().cloned())
            .unwrap_or_default();
        self.egress = Egress::new();
        self.copies = Egress::new();
        self.inbound.reset();
        let part = "turn".into();
        self.plane.note_fact(Fact::Caught { part, text }, now);
    }
}

/// A loop that never blocks must look for commands too.
const TURNS_PER_GLANCE: u64 = 64;
const COMMANDS: u64 = 0;
const TUN: u64 = 1;
const LONGEST_BLOCK: Duration = Duration::from_secs(1);
