//! A small relay on loopback: it lets in whom it may, and returns every datagram to its sender.
//!
//! Its certificate names nobody and expired years ago, as a pin alone is what counts.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::JoinHandle;

use ring::signature::{ED25519, UnparsedPublicKey};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use shore_dataplane::relay::trust::{Pin, pin_of};
use shore_dataplane_core::relay::frames::{
    AWAY, GOAWAY, HEADER, PING, PONG, PROVE, RECEIVE, REFUSED, SEND, WELCOME, frame,
};

type Stream = StreamOwned<ServerConnection, TcpStream>;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// As the page says.
    Plain,
    /// A web server that knows no relay.
    Elsewhere,
    /// It goes away at once.
    Leaving,
    /// It says nothing more once it has welcomed.
    Mute,
}

pub struct TestRelay {
    pub address: SocketAddr,
    pub thread: JoinHandle<()>,
}

/// Serves one stream. `admitted` is the public half of the admission key.
pub fn start(manner: Manner, admitted: [u8; 32]) -> TestRelay {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let thread = std::thread::spawn(move || {
        let (tcp, _) = listener.accept().unwrap();
        let _ = serve(tcp, manner, &admitted);
    });
    TestRelay { address, thread }
}

pub fn pin() -> Pin {
    pin_of(&certificate()).unwrap()
}

fn certificate() -> CertificateDer<'static> {
    CertificateDer::from(include_bytes!("relay.crt.der").as_slice())
}

fn serve(tcp: TcpStream, manner: Manner, admitted: &[u8]) -> std::io::Result<()> {
    let key = PrivatePkcs8KeyDer::from(include_bytes!("relay.key.der").as_slice());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate()], key.into())
        .unwrap();
    let mut stream = StreamOwned::new(ServerConnection::new(Arc::new(config)).unwrap(), tcp);
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    assert!(head.starts_with(b"GET /shore/v1/relay HTTP/1.1\r\n"));
    if manner == Manner::Elsewhere {
        stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")?;
        return stream.flush();
    }
    stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: shore-relay/1\r\n\r\n")?;
    let (kind, content) = next(&mut stream)?;
    assert_eq!(kind, PROVE);
    if !is_proved(&stream, &content, admitted) {
        say(&mut stream, REFUSED, &[b"the proof is wrong"])?;
        return Ok(());
    }
    say(&mut stream, WELCOME, &[&welcome()])?;
    match manner {
        Manner::Leaving => say(&mut stream, GOAWAY, &[&1500u32.to_be_bytes()])?,
        Manner::Mute => std::io::copy(&mut stream.sock, &mut std::io::sink()).map(drop)?,
        Manner::Plain | Manner::Elsewhere => {}
    }
    loop {
        let (kind, content) = next(&mut stream)?;
        match kind {
            PING => say(&mut stream, PONG, &[&content])?,
            SEND if content[..8] == NOBODY => say(&mut stream, AWAY, &[&NOBODY])?,
            SEND => say(&mut stream, RECEIVE, &[&content])?,
            _ => {}
        }
    }
}

fn is_proved(stream: &Stream, content: &[u8], admitted: &[u8]) -> bool {
    let length = usize::from(u16::from_be_bytes([content[0], content[1]]));
    let (admission, signature) = content[2..].split_at(length);
    let label = Some(&b""[..]);
    let exported = stream
        .conn
        .export_keying_material([0; 32], b"EXPORTER-shore-relay-v1", label)
        .unwrap();
    let signed = [&b"shore relay v1\0"[..], &pin(), &exported].concat();
    let key = UnparsedPublicKey::new(&ED25519, admitted);
    admission == ADMISSION && key.verify(&signed, signature).is_ok()
}

/// `{"observed": "192.0.2.7:4242", "ticket": 32 bytes, "rate": 0, "udp": ["192.0.2.1:3478"]}`.
fn welcome() -> Vec<u8> {
    let ticket = [&b"\xc4\x20"[..], &[7; 32]].concat();
    [
        b"\x84\xa8observed\xae192.0.2.7:4242\xa6ticket".as_slice(),
        &ticket,
        b"\xa4rate\x00\xa3udp\x91\xae192.0.2.1:3478",
    ]
    .concat()
}

fn next(stream: &mut Stream) -> std::io::Result<(u8, Vec<u8>)> {
    let mut header = [0; HEADER];
    stream.read_exact(&mut header)?;
    let length = u32::from_be_bytes([0, header[1], header[2], header[3]]);
    let mut content = vec![0; length as usize];
    stream.read_exact(&mut content)?;
    Ok((header[0], content))
}

fn say(stream: &mut Stream, kind: u8, parts: &[&[u8]]) -> std::io::Result<()> {
    let mut bytes = Vec::new();
    frame(kind, parts, &mut bytes);
    stream.write_all(&bytes)?;
    stream.flush()
}

pub const ADMISSION: &[u8] = b"an admission";
pub const NOBODY: [u8; 8] = [0xff; 8];
