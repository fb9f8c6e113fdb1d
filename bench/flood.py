"""`python -m bench.flood KIND ADDRESS PORT RATE PUBLIC_KEY`: datagrams at a rate until killed.

`garbage` is noise of 148 bytes; `handshakes` are initiations with a valid MAC1 (WireGuard paper, 5.4.4) and
nothing else right, which is the most a sender without a key can do.
"""

import base64
import hashlib
import itertools
import os
import socket
import sys
import time

BURST = 0.002


def main() -> None:
    """Send for ever; print the number of datagrams a second, once a second."""
    kind, address, port, rate = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    key = base64.b64decode(sys.argv[5])
    out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    out.connect((address, port))
    messages = itertools.cycle(
        [initiation(key) if kind == "handshakes" else os.urandom(148) for _ in range(512)]
    )
    start, sent = time.monotonic(), 0
    while True:
        due = int((time.monotonic() - start) * rate)
        for message in itertools.islice(messages, due - sent):
            try:
                out.send(message)
            except OSError:
                continue
        sent = due
        time.sleep(BURST)


def initiation(public_key: bytes) -> bytes:
    """148 bytes that only their MAC1 makes credible."""
    head = b"\1\0\0\0" + os.urandom(112)
    key = hashlib.blake2s(b"mac1----" + public_key).digest()
    return head + hashlib.blake2s(head, key=key, digest_size=16).digest() + bytes(16)


if __name__ == "__main__":
    main()
