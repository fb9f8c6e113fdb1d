"""`python -m shore.lab.transfer serve|fetch ADDRESS BYTES`: a TCP transfer, and how long it stalled.

The server sends so many bytes to the first who connects and ends. `fetch` prints one JSON line: bytes,
seconds, and the longest time without any. TCP is cubic, whatever the machine prefers.
"""

import json
import socket
import subprocess
import sys
import time

import msgspec

from shore.lab.net import Host

PORT = 7000
CHUNK = 65536


class Transfer(msgspec.Struct, frozen=True):
    """What a fetch saw; `stall` is the longest time without a byte, connecting included."""

    bytes: int
    seconds: float
    stall: float


def transfer(sender: Host, receiver: Host, address: str, size: int, within_s: float) -> Transfer:
    """Send `size` bytes from one host to another; `address` is the sender's. Short if time is up."""
    words = _words("serve", address, size)
    with subprocess.Popen(sender.inside(*words), stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            server.stdout.readline()
            words = [*_words("fetch", address, size), str(within_s)]
            return msgspec.json.decode(receiver.run(*words), type=Transfer)
        finally:
            server.kill()


def _words(what: str, address: str, size: int) -> list[str]:
    return [sys.executable, "-m", "shore.lab.transfer", what, address, str(size)]


def _serve(address: str, size: int) -> None:
    with _socket(address) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, PORT))
        listener.listen()
        print("ready", flush=True)
        peer, _ = listener.accept()
        with peer:
            peer.sendall(bytes(size))


def _fetch(address: str, size: int, within_s: float) -> Transfer:
    began = last = time.monotonic()
    count, stall = 0, 0.0
    with _socket(address) as stream:
        stream.settimeout(within_s)
        try:
            stream.connect((address, PORT))
            while count < size and (left := began + within_s - time.monotonic()) > 0:
                stream.settimeout(left)
                part = stream.recv(CHUNK)
                if not part:
                    break
                now = time.monotonic()
                count, stall, last = count + len(part), max(stall, now - last), now
        except OSError:
            pass
    now = time.monotonic()
    return Transfer(count, now - began, max(stall, now - last))


def _socket(address: str) -> socket.socket:
    made = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"cubic")
    return made


if __name__ == "__main__":
    _, what, address, size, *rest = sys.argv
    if what == "serve":
        _serve(address, int(size))
    else:
        print(json.dumps(msgspec.to_builtins(_fetch(address, int(size), float(rest[0])))))
