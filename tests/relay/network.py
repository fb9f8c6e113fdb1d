"""A relay as a process, and a node that speaks TLS by OpenSSL, as no code of ours does."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from OpenSSL import SSL

from shore.lab.relayed import Network
from shore.model.netmap import Signed
from shore.wire import relay, signing

REQUEST = (
    f"GET {relay.PATH} HTTP/1.1\r\nHost: r\r\nConnection: Upgrade\r\nUpgrade: {relay.UPGRADE}\r\n\r\n"
).encode()


@dataclass
class Running:
    """A relay process."""

    process: "subprocess.Popen[bytes]"
    port: int
    udp_port: int
    metrics_path: Path

    def metrics(self) -> dict[str, int]:
        with socket.socket(socket.AF_UNIX) as asking:
            asking.connect(str(self.metrics_path))
            asking.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
            text = b"".join(iter(lambda: asking.recv(65536), b"")).decode()
        lines = [line for line in text.split("\r\n\r\n")[1].splitlines() if not line.startswith("#")]
        return {name: int(value) for name, _, value in (line.rpartition(" ") for line in lines)}

    def terminate(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(10)


@contextlib.contextmanager
def running(network: Network, **more: object) -> Iterator[Running]:
    """A relay for this network on ports of its own."""
    network.write(network.config(**more))
    tcp = socket.create_server(("127.0.0.1", 0), backlog=512)
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind(("127.0.0.1", 0))
    path = network.directory / "metrics.sock"
    path.unlink(missing_ok=True)
    metrics = socket.socket(socket.AF_UNIX)
    metrics.bind(str(path))
    metrics.listen()
    ready, told = os.pipe()
    sockets = (tcp, udp, metrics)
    options = ["--tls-fd", "--udp-fd", "--metrics-fd"]
    fds = [word for pair in zip(options, (str(s.fileno()) for s in sockets), strict=True) for word in pair]
    process = subprocess.Popen(
        [sys.executable, "-m", "shore.relay", "serve", "--config", str(network.directory / "relay.json"),
         *fds, "--ready-fd", str(told)],
        pass_fds=(*(s.fileno() for s in sockets), told),
    )  # fmt: skip
    ports = tcp.getsockname()[1], udp.getsockname()[1]
    for sock in sockets:
        sock.close()
    os.close(told)
    try:
        assert os.read(ready, 1) == b"\n"
        yield Running(process, *ports, path)
    finally:
        os.close(ready)
        process.kill()
        process.wait()


class Node:
    """One node's TLS connection, and the stream on it."""

    def __init__(self, port: int, node_key: bytes = bytes([1] * 32), host: str = "127.0.0.1") -> None:
        self.node_key = node_key
        self.tag = relay.tag_of(node_key)
        self.key = Ed25519PrivateKey.generate()
        self.socket = socket.create_connection((host, port), timeout=5)
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        context.set_alpn_protos([b"http/1.1"])
        self.tls = SSL.Connection(context, None)
        self.tls.set_connect_state()
        self._frames = relay.Frames()
        self._seen: list[tuple[int, bytes]] = []
        self.ended = False
        self._handshake()

    def _handshake(self) -> None:
        while True:
            try:
                self.tls.do_handshake()
            except SSL.WantReadError:
                self._flush()
                self._fill()
            else:
                self._flush()
                return

    def _flush(self) -> None:
        with contextlib.suppress(SSL.WantReadError):
            while True:
                self.socket.sendall(self.tls.bio_read(65536))

    def _fill(self) -> None:
        data = self.socket.recv(65536)
        if data:
            self.tls.bio_write(data)
        else:
            self.ended = True
            self.tls.bio_shutdown()

    def send(self, plaintext: bytes) -> None:
        for at in range(0, len(plaintext), 16384):
            self.tls.send(plaintext[at : at + 16384])
            self._flush()

    def recv(self) -> bytes:
        """Some plaintext; empty at the end."""
        while True:
            try:
                return self.tls.recv(65536)
            except SSL.WantReadError:
                if self.ended:
                    return b""
                try:
                    self._fill()
                except ConnectionResetError:
                    self.ended = True
                    return b""
            except (SSL.ZeroReturnError, SSL.SysCallError):
                self.ended = True
                return b""

    def upgrade(self) -> "Node":
        self.send(REQUEST)
        answer = b""
        while b"\r\n\r\n" not in answer:
            more = self.recv()
            assert more, answer
            answer += more
        head, _, rest = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 "), head
        self._seen += self._frames.feed(rest)
        return self

    def exporter(self) -> bytes:
        return self.tls.export_keying_material(relay.EXPORTER, relay.EXPORTER_LENGTH, b"")

    def proof(self, network: Network, admission: Signed | None = None) -> bytes:
        admission = admission or network.admission(self.node_key, self.key)
        covered = relay.proved(network.pin, self.exporter())
        return relay.prove(admission, signing.sign(self.key, signing.RELAY, covered))

    def say(self, kind: int, *content: bytes) -> None:
        self.send(relay.frame(kind, *content))

    def hear(self) -> tuple[int, bytes]:
        """The next frame; (0, b"") at the end."""
        while not self._seen:
            data = self.recv()
            if not data:
                return 0, b""
            self._seen += self._frames.feed(data)
        return self._seen.pop(0)

    def arrived(self) -> list[bytes]:
        """What `receive` frames hold that can be read now, of a socket that has something."""
        self._fill()
        found = []
        with contextlib.suppress(SSL.WantReadError):
            while True:
                found += self._frames.feed(self.tls.recv(65536))
        return [content for kind, content in found if kind == relay.RECEIVE]

    def admitted(self, network: Network) -> relay.Welcome:
        """Upgrade, prove, and be welcome."""
        self.upgrade()
        self.say(relay.PROVE, self.proof(network))
        kind, content = self.hear()
        assert kind == relay.WELCOME, content
        return msgspec.msgpack.decode(content, type=relay.Welcome)

    def close(self) -> None:
        self.socket.close()
