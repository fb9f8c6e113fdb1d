//! A data plane without plumbing for `tests/sim`: the core's own reflexes on the `model` engine.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};
use shore_dataplane::{decode, encode};
use shore_dataplane_core::desired::Measurement;
use shore_dataplane_core::engine::DATA_OVERHEAD;
use shore_dataplane_core::engine::model::{self, Models};
use shore_dataplane_core::facts::{DropReason, Fact};
use shore_dataplane_core::plane::{
    Destination, PeerSlot, Plane, Received, Source, Transmit, padded_len,
};
use shore_dataplane_core::time::Moment;

#[pyclass(unsendable)]
pub struct ModelPlane {
    plane: Plane,
    sealed: Vec<Transmit>,
    /// Endpoints in Python's words and ours; a run has some dozens, and names them all the time.
    remotes: HashMap<String, SocketAddr>,
    names: HashMap<SocketAddr, Py<PyString>>,
}

type Sent<'py> = (Option<u32>, u32, Bound<'py, PyString>, Bound<'py, PyBytes>);
type Told<'py> = (u64, Bound<'py, PyBytes>);

#[pymethods]
impl ModelPlane {
    #[new]
    fn new(seed: u64, now: f64) -> Self {
        let engines = Box::new(Models::seeded(seed));
        Self {
            plane: Plane::new(engines, seed, moment(now)),
            sealed: Vec::new(),
            remotes: HashMap::new(),
            names: HashMap::new(),
        }
    }

    #[staticmethod]
    fn public_key(private_key: [u8; 32]) -> [u8; 32] {
        model::public_key(&private_key)
    }

    fn apply(&mut self, desired: &[u8], seen: u64, now: f64) -> PyResult<()> {
        let desired = decode(desired).map_err(PyValueError::new_err)?;
        let applied = self.plane.apply(desired, seen, moment(now));
        applied.map_err(PyValueError::new_err)
    }

    fn receive<'py>(
        &mut self,
        py: Python<'py>,
        socket: u32,
        remote: &str,
        datagram: &[u8],
        now: f64,
    ) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let source = self.place(socket, remote)?;
        let mut out = vec![0; datagram.len()];
        let received = self.plane.receive(source, datagram, &mut out, moment(now));
        Ok(match received {
            Received::Packet { len, .. } => Some(PyBytes::new(py, &out[..len])),
            Received::Proof | Received::Nothing => None,
        })
    }

    fn measure(&mut self, questions: &[u8], now: f64) -> PyResult<()> {
        let questions: Vec<Measurement> = decode(questions).map_err(PyValueError::new_err)?;
        for question in &questions {
            self.plane.measure(question, moment(now));
        }
        Ok(())
    }

    fn send(&mut self, packet: &[u8], now: f64) -> usize {
        let now = moment(now);
        let Ok(peer) = self.plane.route(packet, now) else {
            return packet.len();
        };
        let Some(mut sealer) = self.plane.sealer(peer, packet, false, now) else {
            self.plane.stage(peer, packet, now);
            return packet.len();
        };
        let carried = usize::from(sealer.mtu());
        if packet.len() > carried {
            return carried;
        }
        let destinations = [Some(sealer.destination()), sealer.copy()];
        let mut padded = packet.to_vec();
        padded.resize(padded_len(packet.len(), sealer.mtu()), 0);
        let mut bytes = vec![0; padded.len() + DATA_OVERHEAD];
        match sealer.seal(&padded, &mut bytes) {
            Ok(_) => self.sealed.extend(destinations.into_iter().flatten().map(
                |Destination { socket, remote }| Transmit {
                    peer: Some(peer),
                    socket,
                    remote,
                    bytes: bytes.clone(),
                    token: None,
                    hops: None,
                },
            )),
            Err(reason) => self.plane.note_drop(Some(peer), reason, 1, now),
        }
        packet.len()
    }

    fn tick(&mut self, now: f64) {
        self.plane.tick(moment(now));
    }

    fn deadline(&mut self) -> f64 {
        self.plane.deadline().0.as_secs_f64()
    }

    fn outcome<'py>(&mut self, py: Python<'py>) -> (Vec<Sent<'py>>, Vec<Told<'py>>, f64) {
        (self.transmit(py), self.facts(py), self.deadline())
    }

    fn refused(&mut self, peer: Option<u32>, socket: u32, remote: &str, now: f64) -> PyResult<()> {
        let sent = (peer.map(PeerSlot), self.place(socket, remote)?);
        self.plane
            .note_refused(sent, DropReason::SendError, 1, moment(now));
        Ok(())
    }

    fn link_up(&mut self, link: u32, observed: &str, now: f64) -> PyResult<()> {
        let observed = self.place(link, observed)?.remote;
        let udp = Vec::new();
        let fact = Fact::LinkUp {
            link,
            observed,
            udp,
        };
        self.plane.told_by_link(fact, moment(now));
        Ok(())
    }

    fn link_down(&mut self, link: u32, reason: String, now: f64) {
        let fact = Fact::LinkDown { link, reason };
        self.plane.told_by_link(fact, moment(now));
    }

    fn away(&mut self, link: u32, remote: &str, now: f64) -> PyResult<()> {
        let remote = self.place(link, remote)?.remote;
        self.plane
            .told_by_link(Fact::Away { link, remote }, moment(now));
        Ok(())
    }

    fn counters<'py>(&mut self, py: Python<'py>, changed: bool, now: f64) -> Bound<'py, PyBytes> {
        let counters = self.plane.tell_counters(changed, moment(now));
        PyBytes::new(py, &encode(&counters))
    }
}

impl ModelPlane {
    fn transmit<'py>(&mut self, py: Python<'py>) -> Vec<Sent<'py>> {
        let plane = &mut self.plane;
        let made = std::iter::from_fn(|| plane.transmit());
        let all = self.sealed.drain(..).chain(made);
        let names = &mut self.names;
        all.map(|sent| {
            let peer = sent.peer.map(|PeerSlot(slot)| slot);
            let bytes = PyBytes::new(py, &sent.bytes);
            let name = names
                .entry(sent.remote)
                .or_insert_with(|| PyString::new(py, &sent.remote.to_string()).unbind());
            (peer, sent.socket, name.bind(py).clone(), bytes)
        })
        .collect()
    }

    fn place(&mut self, socket: u32, remote: &str) -> PyResult<Source> {
        if let Some(&remote) = self.remotes.get(remote) {
            return Ok(Source { socket, remote });
        }
        let read: SocketAddr = remote
            .parse()
            .map_err(|_| PyValueError::new_err(format!("{remote} is no endpoint")))?;
        self.remotes.insert(remote.to_owned(), read);
        Ok(Source {
            socket,
            remote: read,
        })
    }

    fn facts<'py>(&mut self, py: Python<'py>) -> Vec<Told<'py>> {
        let facts = std::iter::from_fn(|| self.plane.fact());
        facts
            .map(|(serial, _, fact)| (serial, PyBytes::new(py, &encode(&fact))))
            .collect()
    }
}

fn moment(seconds: f64) -> Moment {
    Moment(Duration::from_secs_f64(seconds.max(0.0)))
}
