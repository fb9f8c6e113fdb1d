//! The relay's TLS and streams, as `shore._native` shows them.

use pyo3::exceptions::{PyConnectionError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use shore_relay_core::frames::{Broken, Tag};
use shore_relay_core::streams::{Heard, Id, Streams};
use shore_relay_core::tls::{Identity, Tls};

#[pyclass(frozen)]
pub struct TlsIdentity(Identity);

#[pymethods]
impl TlsIdentity {
    #[new]
    fn new(certificates: &[u8], key: &[u8]) -> PyResult<Self> {
        Identity::new(certificates, key)
            .map(Self)
            .map_err(PyValueError::new_err)
    }
}

#[pyclass(unsendable)]
pub struct TlsServer(Option<Tls>);

impl TlsServer {
    fn tls(&mut self) -> PyResult<&mut Tls> {
        self.0
            .as_mut()
            .ok_or_else(|| PyValueError::new_err("this connection is a stream by now"))
    }
}

#[pymethods]
impl TlsServer {
    #[new]
    fn new(identity: &TlsIdentity) -> PyResult<Self> {
        Tls::new(&identity.0)
            .map(|tls| Self(Some(tls)))
            .map_err(broken)
    }

    fn receive<'py>(
        &mut self,
        py: Python<'py>,
        ciphertext: &[u8],
    ) -> PyResult<Bound<'py, PyBytes>> {
        let mut plaintext = Vec::new();
        self.tls()?
            .receive(ciphertext, &mut plaintext)
            .map_err(broken)?;
        Ok(PyBytes::new(py, &plaintext))
    }

    fn send(&mut self, plaintext: &[u8]) -> PyResult<()> {
        self.tls()?.send(plaintext);
        Ok(())
    }

    fn take<'py>(&mut self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let mut ciphertext = Vec::new();
        self.tls()?.take(&mut ciphertext);
        Ok(PyBytes::new(py, &ciphertext))
    }

    fn close(&mut self) -> PyResult<()> {
        self.tls()?.close();
        Ok(())
    }

    fn closed(&mut self) -> PyResult<bool> {
        Ok(self.tls()?.closed())
    }

    fn handshaking(&mut self) -> PyResult<bool> {
        Ok(self.tls()?.handshaking())
    }

    fn exporter<'py>(&mut self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let exported = self.tls()?.exporter().map_err(broken)?;
        Ok(PyBytes::new(py, &exported))
    }
}

#[pyclass(unsendable)]
pub struct RelayStreams(Streams);

type Bytes<'py> = Bound<'py, PyBytes>;
type Words<'py> = Vec<(u8, Bytes<'py>)>;
type Datagrams<'py> = Vec<(Bytes<'py>, Bytes<'py>, Bytes<'py>)>;

#[pymethods]
impl RelayStreams {
    #[new]
    fn new() -> Self {
        Self(Streams::default())
    }

    fn open(&mut self, id: Id, mut tls: PyRefMut<'_, TlsServer>) -> PyResult<()> {
        tls.tls()?;
        if let Some(tls) = tls.0.take() {
            self.0.open(id, tls);
        }
        Ok(())
    }

    fn admit(&mut self, id: Id, tag: Tag, rate: u64) {
        self.0.admit(id, tag, rate);
    }

    fn admits(&mut self, source: Tag, bytes: usize, now: f64) -> bool {
        self.0.admits(source, bytes, now)
    }

    fn close(&mut self, id: Id) {
        self.0.close(id);
    }

    fn bind(&mut self, tag: Tag, bound: bool) {
        self.0.bind(tag, bound);
    }

    fn receive<'py>(
        &mut self,
        py: Python<'py>,
        id: Id,
        ciphertext: &[u8],
        now: f64,
    ) -> PyResult<(Words<'py>, Datagrams<'py>)> {
        let (mut words, mut datagrams) = (Vec::new(), Vec::new());
        for heard in self.0.receive(id, ciphertext, now).map_err(broken)? {
            match heard {
                Heard::Frame(kind, content) => words.push((kind, PyBytes::new(py, &content))),
                Heard::Datagram {
                    source,
                    destination,
                    datagram,
                } => datagrams.push((
                    PyBytes::new(py, &source),
                    PyBytes::new(py, &destination),
                    PyBytes::new(py, &datagram),
                )),
            }
        }
        Ok((words, datagrams))
    }

    fn deliver(&mut self, source: Tag, destination: Tag, datagram: &[u8]) -> bool {
        self.0.deliver(source, destination, datagram)
    }

    fn say(&mut self, id: Id, kind: u8, content: &[u8]) {
        self.0.say(id, kind, content);
    }

    fn ready(&mut self) -> Vec<Id> {
        self.0.ready()
    }

    fn take<'py>(&mut self, py: Python<'py>, id: Id, most: usize) -> Bytes<'py> {
        PyBytes::new(py, &self.0.take(id, most))
    }

    fn waits(&self, id: Id) -> bool {
        self.0.waits(id)
    }

    fn end<'py>(&mut self, py: Python<'py>, id: Id) -> Bytes<'py> {
        PyBytes::new(py, &self.0.end(id))
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        let counters = &self.0.counters;
        vec![
            ("received_frames", counters.received_frames),
            ("received_bytes", counters.received_bytes),
            ("sent_frames", counters.sent_frames),
            ("sent_bytes", counters.sent_bytes),
            ("dropped_full", counters.dropped_full),
            ("dropped_rate", counters.dropped_rate),
            ("dropped_away", counters.dropped_away),
            ("dropped_malformed", counters.dropped_malformed),
            ("dropped_unadmitted", counters.dropped_unadmitted),
        ]
    }
}

fn broken(error: Broken) -> PyErr {
    PyConnectionError::new_err(error.0)
}
