"""`python -m tests.relay.clients ROLE HOST PORT KEYS SECONDS`: nodes that know a relay, and no tunnel.

echo      sends back each datagram that is marked as a ping, and counts the others
flood     sends it data of 1,400 bytes at 100 Mbit/s; flood-urgent: the same as handshakes
ping      50 pings a second to it; prints {"sent": n, "rtts": [seconds]}

KEYS are the seeds of the network's three keys, so that a process in a namespace of its own can be let in.
"""

import json
import select
import struct
import sys
import time
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.relay.network import Network, Node

from shore.wire import relay

KEYS = {"echo": bytes([1] * 32), "flood": bytes([2] * 32), "ping": bytes([3] * 32)}
ECHO = relay.tag_of(KEYS["echo"])
# WireGuard data of a session each.
FLOODED = b"\x04\0\0\0" + bytes([0, 7, 0, 0]) + bytes(1392)
PING = b"\x04\0\0\0" + bytes([0, 9, 0, 0])
URGENT = b"\x01\0\0\0" + bytes(1396)
RATE = 50
FLOOD_BPS = 100e6
LINGER = 1.0


def seeds(network: Network) -> str:
    """KEYS of a network."""
    return "".join(key.private_bytes_raw().hex() for key in (network.root, network.netmap, network.tls))


def main() -> None:
    role, host, port, keys, seconds = sys.argv[1:]
    parts = (keys[at : at + 64] for at in range(0, len(keys), 64))
    network = Network(Path(), *(Ed25519PrivateKey.from_private_bytes(bytes.fromhex(part)) for part in parts))
    node = Node(int(port), KEYS[role.partition("-")[0]], host)
    node.admitted(network)
    print("in", flush=True)
    until = time.monotonic() + float(seconds)
    if role == "echo":
        echo(node, until)
    elif role == "ping":
        ping(node, until)
    else:
        flood(node, URGENT if role == "flood-urgent" else FLOODED, until)


def echo(node: Node, until: float) -> None:
    while time.monotonic() < until:
        kind, content = node.hear()
        if not kind:
            return
        if kind == relay.RECEIVE and content[8:].startswith(PING):
            node.say(relay.SEND, content[:8], content[8:])


def flood(node: Node, datagram: bytes, until: float) -> None:
    many = relay.frame(relay.SEND, ECHO, datagram) * 11
    due = time.monotonic()
    while (now := time.monotonic()) < until:
        node.send(many)
        due = max(due + len(many) * 8 / FLOOD_BPS, now - 0.1)
        time.sleep(max(0.0, due - now))


def ping(node: Node, until: float) -> None:
    rtts: list[float] = []
    sent, due = 0, time.monotonic()
    while (now := time.monotonic()) < until + LINGER and not (now >= until and len(rtts) == sent):
        if due <= now < until:
            node.say(relay.SEND, ECHO, PING + struct.pack("d", now))
            sent, due = sent + 1, due + 1 / RATE
        wait = max(0.0, min(due, until) - time.monotonic()) if now < until else 0.1
        if select.select([node.socket], [], [], wait)[0]:
            rtts += [time.monotonic() - struct.unpack("d", content[-8:])[0] for content in node.arrived()]
    print(json.dumps({"sent": sent, "rtts": rtts}), flush=True)


if __name__ == "__main__":
    main()
