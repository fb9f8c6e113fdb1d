"""The relay, pinned to one core, against derper pinned the same way: 20 pairs, TLS, 1,280 bytes, in turn.

One generator drives both (bench/relayload, Go), on another core. The keys are of this run only.
"""

import contextlib
import datetime
import hashlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import NameOID

from bench.figure import Figure, least, median
from bench.machine import cpu_seconds
from shore.model.netmap import Admission, Statement
from shore.model.relay import RelayConfig
from shore.wire import relay, signing

BIN = Path(os.environ.get("SHORE_PEERS", Path.home() / ".cache/shore/peers")) / "bin"
PAIRS = 20
RELAY_CORE, LOAD_CORE = "0", "1"
NAME = "relay.test"
NETWORK = bytes(16)


def relay_throughput(rounds: int, seconds: int) -> list[Figure]:
    """Gb/s of datagrams delivered, and the relay's CPU seconds a GB."""
    speed: dict[str, list[float]] = {"shore": [], "derp": []}
    cost: dict[str, list[float]] = {"shore": [], "derp": []}
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        directory = Path(name)
        key = _certificate(directory)
        shore = stack.enter_context(_shore(directory, key))
        derp = stack.enter_context(_derper(directory))
        for _ in range(rounds):
            for kind, (pid, port, plan) in (("shore", shore), ("derp", derp)):
                before = cpu_seconds([pid])
                got = _load(kind, port, plan, seconds)
                speed[kind].append(got["bps"] / 1e9)
                # A second of warming up is in the CPU time and not in the bytes.
                spent = (cpu_seconds([pid]) - before) * seconds / (seconds + 1)
                cost[kind].append(spent / (got["bytes"] / 1e9))
    ours, theirs = median(speed["shore"]), median(speed["derp"])
    return [
        least("relay", "Shore's relay Gb/s", ours, 2, gbps=speed, cpu_s_per_gb=cost),
        Figure("relay", "derper Gb/s", round(theirs, 3)),
        least("relay", "x derper", ours / theirs, 1.5),
        Figure("relay", "Shore's relay CPU s/GB", round(median(cost["shore"]), 3)),
        Figure("relay", "derper CPU s/GB", round(median(cost["derp"]), 3)),
    ]


def _load(kind: str, port: int, plan: str, seconds: int) -> dict[str, float]:
    ran = subprocess.run(
        ["taskset", "-c", LOAD_CORE, str(BIN / "relayload"), "-kind", kind, "-address", f"127.0.0.1:{port}",
         "-sni", NAME, "-pairs", str(PAIRS), "-seconds", str(seconds)],
        input=plan, capture_output=True, text=True, check=True, timeout=seconds + 30,
        env={**os.environ, "GOMAXPROCS": "1"},
    )  # fmt: skip
    return dict(json.loads(ran.stdout))


@contextlib.contextmanager
def _shore(directory: Path, tls: ec.EllipticCurvePrivateKey) -> Iterator[tuple[int, int, str]]:
    root, netmap = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    public = tls.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    pin, until = hashlib.sha256(public).digest(), time.time() + 3600
    statement = Statement(NETWORK, "netmap", signing.public_of(netmap), 0, until)
    statements = (signing.seal(root, signing.STATEMENT, statement),)
    config = RelayConfig("bench", pin, signing.public_of(root), NETWORK, statements)
    (directory / "relay.json").write_bytes(msgspec.json.encode(config))
    nodes = []
    for number in range(2 * PAIRS):
        seed, node_key = os.urandom(32), (number + 1).to_bytes(32, "big")
        by = signing.public_of(Ed25519PrivateKey.from_private_bytes(seed))
        signed = signing.seal(netmap, signing.ADMISSION, Admission(pin, node_key, by, 0, until))
        admission = msgspec.msgpack.encode(signed).hex()
        nodes.append({"Name": relay.tag_of(node_key).hex(), "Admission": admission, "Seed": seed.hex()})
    with socket.create_server(("127.0.0.1", 0)) as listening:
        fd, port = listening.fileno(), listening.getsockname()[1]
        command = [sys.executable, "-m", "shore.relay", "serve", "--tls-fd", str(fd)]
        command += ["--config", str(directory / "relay.json")]
        with _pinned(command, pass_fds=(fd,)) as pid:
            yield pid, port, json.dumps({"Pin": pin.hex(), "Nodes": nodes})


@contextlib.contextmanager
def _derper(directory: Path) -> Iterator[tuple[int, int, str]]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (directory / f"{NAME}.crt").write_bytes((directory / "tls.crt").read_bytes())
    (directory / f"{NAME}.key").write_bytes((directory / "tls.key").read_bytes())
    command = [str(BIN / "derper"), "-a", f"127.0.0.1:{port}", "-http-port", "-1", "-stun=false"]
    command += ["-certmode", "manual", "-certdir", str(directory), "-hostname", NAME]
    with _pinned([*command, "-c", str(directory / "derper.key")]) as pid:
        for _ in range(100):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.1)
        yield pid, port, ""


@contextlib.contextmanager
def _pinned(command: list[str], pass_fds: tuple[int, ...] = ()) -> Iterator[int]:
    running = subprocess.Popen(
        ["taskset", "-c", RELAY_CORE, *command],
        pass_fds=pass_fds, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env={**os.environ, "GOMAXPROCS": "1"},
    )  # fmt: skip
    try:
        yield running.pid
    finally:
        running.kill()
        running.wait()


def _certificate(directory: Path) -> ec.EllipticCurvePrivateKey:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAME)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(1))
        .not_valid_after(now + datetime.timedelta(1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (directory / "tls.crt").write_bytes(certificate.public_bytes(Encoding.PEM))
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (directory / "tls.key").write_bytes(pem)
    return key
