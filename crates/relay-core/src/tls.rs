//! The server's side of one TLS connection, without a socket: TLS 1.3 only, ALPN `http/1.1`, no tickets, no early data.
//!
//! Python's `ssl` has no exporter (RFC 8446 §7.5), without which an admission could be replayed; so rustls speaks TLS here
//! (docs/decisions/0004-tls-and-frames-of-the-relay-in-rust.md).

use std::io::{BufRead, Write};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection};

use crate::frames::Broken;

pub const EXPORTER: &[u8] = b"EXPORTER-shore-relay-v1";
pub const EXPORTER_LENGTH: usize = 32;

/// Certificate and key of a relay.
#[derive(Clone)]
pub struct Identity(Arc<ServerConfig>);

impl Identity {
    /// From PEM. The error is one sentence.
    pub fn new(certificates: &[u8], key: &[u8]) -> Result<Self, String> {
        let chain: Vec<_> = CertificateDer::pem_slice_iter(certificates)
            .collect::<Result<_, _>>()
            .map_err(|error| format!("the TLS certificate cannot be read: {error}"))?;
        let key = PrivateKeyDer::from_pem_slice(key)
            .map_err(|error| format!("the TLS key cannot be read: {error}"))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
            .map_err(|error| format!("TLS certificate and key do not serve: {error}"))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.send_tls13_tickets = 0;
        Ok(Self(Arc::new(config)))
    }
}

/// One connection.
pub struct Tls {
    connection: ServerConnection,
    closed: bool,
}

impl Tls {
    pub fn new(identity: &Identity) -> Result<Self, Broken> {
        let mut connection = ServerConnection::new(Arc::clone(&identity.0)).map_err(broken)?;
        // What waits is bounded by who sends: queues and back-pressure are not TLS's.
        connection.set_buffer_limit(None);
        Ok(Self {
            connection,
            closed: false,
        })
    }

    /// Ciphertext in; what it holds is put behind `plaintext`. After an error `take` may still have an alert.
    pub fn receive(
        &mut self,
        mut ciphertext: &[u8],
        plaintext: &mut Vec<u8>,
    ) -> Result<(), Broken> {
        while !ciphertext.is_empty() && !self.closed {
            self.connection.read_tls(&mut ciphertext).map_err(broken)?;
            let state = self.connection.process_new_packets().map_err(broken)?;
            self.closed = state.peer_has_closed();
            let mut left = state.plaintext_bytes_to_read();
            let mut reader = self.connection.reader();
            while left > 0 {
                let chunk = reader.fill_buf().map_err(broken)?;
                let length = chunk.len();
                plaintext.extend_from_slice(chunk);
                reader.consume(length);
                left -= length;
            }
        }
        Ok(())
    }

    /// Plaintext to go out with the next `take`.
    pub fn send(&mut self, plaintext: &[u8]) {
        self.connection
            .writer()
            .write_all(plaintext)
            .expect("a writer without a limit takes everything");
    }

    /// The ciphertext that is to be written now.
    pub fn take(&mut self, ciphertext: &mut Vec<u8>) {
        while self.connection.wants_write() {
            self.connection
                .write_tls(ciphertext)
                .expect("a vector takes everything");
        }
    }

    /// Whether the other side said that it sends no more.
    pub fn closed(&self) -> bool {
        self.closed
    }

    pub fn handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    /// What only the two ends of this connection know.
    pub fn exporter(&self) -> Result<[u8; EXPORTER_LENGTH], Broken> {
        self.connection
            .export_keying_material([0; EXPORTER_LENGTH], EXPORTER, Some(&[]))
            .map_err(broken)
    }

    /// Say that we send no more; `take` has it.
    pub fn close(&mut self) {
        self.connection.send_close_notify();
    }
}

fn broken(error: impl std::fmt::Display) -> Broken {
    Broken(error.to_string())
}
