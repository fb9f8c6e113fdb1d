"""`python -m shore.lab.carrier FD SETUP`: the process of one wire, between a TAP device in each of two hosts.

The devices have no offloads, so that a frame here is one packet with its checksums in place. Orders come as
messages on the socket FD, one JSON object each, and each is answered; the process ends when the socket does,
so a wire never outlives the laboratory that made it. An unplugged end is a device that is gone: plugged in
again it has a new ifindex.

Beside a cable the same process only looks: it records what the two devices of others send and receive.

Awake for each frame, a wire with a real-time priority would spend its time on waking up; so when frames come
in numbers it looks only each 300 µs, and that is how late a frame may then be.
"""

import contextlib
import fcntl
import gc
import os
import select
import socket
import struct
import sys
import time
from pathlib import Path

import msgspec

from shore.lab.capture import Recorder
from shore.lab.impairment import Impairment
from shore.lab.inside import enter
from shore.lab.way import Way

TUNSETIFF, IFF_TAP, IFF_NO_PI = 0x400454CA, 0x0002, 0x1000
ETH_P_ALL, VIEW_BUFFER = 3, 4 << 20
BATCH = 128
PAUSE_S = 0.0003
LARGEST_ORDER = 65536
IDLE_S = 10.0


class Tap(msgspec.Struct, frozen=True):
    """Where one end is, and what the recorder calls it."""

    namespace: str
    device: str
    label: str


class Setup(msgspec.Struct, frozen=True):
    """A wire: way 0 leads from the first end to the second, way 1 back; it carries frames, or only looks."""

    taps: tuple[Tap, Tap]
    seed: int
    frame_limit: int
    carries: bool = True


class Change(msgspec.Struct, frozen=True, tag=True):
    way: int
    impairment: Impairment


class Plug(msgspec.Struct, frozen=True, tag=True):
    end: int


class Unplug(msgspec.Struct, frozen=True, tag=True):
    end: int


class AskTally(msgspec.Struct, frozen=True, tag=True):
    pass


class Dump(msgspec.Struct, frozen=True, tag=True):
    path: str


class Answer(msgspec.Struct, frozen=True):
    """What an order led to; `failed` is empty if it was done."""

    failed: str = ""
    tallies: tuple[dict[str, int], dict[str, int]] = ({}, {})
    frames: int = 0


Order = Change | Plug | Unplug | AskTally | Dump


class Wire:
    """Two devices and the two ways between them."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._devices: list[int | None] = [None, None]
        self._ways = (Way(setup.seed * 2), Way(setup.seed * 2 + 1))
        self._recorder = Recorder((setup.taps[0].label, setup.taps[1].label))

    def obey(self, order: Order) -> Answer:
        """Do it at once."""
        match order:
            case Change(way, impairment):
                self._ways[way].change(impairment, time.monotonic())
            case Plug(end):
                self._plug(end)
            case Unplug(end):
                self._close(end)
            case Dump(path):
                return Answer(frames=self._recorder.write(Path(path)))
        return Answer(tallies=(self._ways[0].tally, self._ways[1].tally))

    def run(self, orders: socket.socket) -> None:
        """Carry frames until the socket closes."""
        decoder = msgspec.json.Decoder(Order)
        woke, usual_gap = time.monotonic(), IDLE_S
        while True:
            open_devices = [device for device in self._devices if device is not None]
            ready, _, _ = select.select([orders.fileno(), *open_devices], [], [], self._patience())
            if orders.fileno() in ready:
                message = orders.recv(LARGEST_ORDER)
                if not message:
                    return
                try:
                    answer = self.obey(decoder.decode(message))
                except OSError as error:
                    answer = Answer(failed=str(error))
                orders.send(msgspec.json.encode(answer))
            for end in (0, 1):
                if self._devices[end] in ready:
                    self._take(end)
            self._deliver()
            woke, before = time.monotonic(), woke
            usual_gap += (woke - before - usual_gap) / 10
            if usual_gap < 2 * PAUSE_S:
                time.sleep(PAUSE_S)

    def _patience(self) -> float:
        deadlines = [way.deadline() for way in self._ways]
        now = time.monotonic()
        return max(0.0, min([due - now for due in deadlines if due is not None], default=IDLE_S))

    def _take(self, end: int) -> None:
        """Read what one end has sent, at most a batch."""
        device, way = self._devices[end], self._ways[end]
        assert device is not None
        try:
            for _ in range(BATCH):
                frame = os.read(device, self._setup.frame_limit)
                self._recorder.keep(end, frame, time.time_ns())
                if self._setup.carries:
                    way.admit(frame, time.monotonic())
        except BlockingIOError:
            pass
        except OSError:
            self._close(end)
        while way.bounced:
            self._write(end, way.bounced.pop(0))

    def _deliver(self) -> None:
        now = time.monotonic()
        for end in (0, 1):
            for frame in self._ways[end].due(now):
                self._write(1 - end, frame)

    def _write(self, end: int, frame: bytes) -> None:
        device = self._devices[end]
        if device is not None:
            # A device that is down takes nothing.
            with contextlib.suppress(OSError):
                os.write(device, frame)
                self._recorder.keep(end, frame, time.time_ns())

    def _plug(self, end: int) -> None:
        tap = self._setup.taps[end]
        if self._devices[end] is None:
            opened = open_tap if self._setup.carries else open_view
            self._devices[end] = opened(tap.namespace, tap.device)

    def _close(self, end: int) -> None:
        device = self._devices[end]
        if device is not None:
            self._devices[end] = None
            os.close(device)


def open_tap(namespace: str, device: str) -> int:
    """A new TAP device in a namespace. Raises OSError."""
    enter(namespace)
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    try:
        fcntl.ioctl(descriptor, TUNSETIFF, struct.pack("16sH22x", device.encode(), IFF_TAP | IFF_NO_PI))
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def open_view(namespace: str, device: str) -> int:
    """A socket that sees every frame of a device. Raises OSError."""
    enter(namespace)
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK) as view:
        view.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, VIEW_BUFFER)
        view.bind((device, ETH_P_ALL))
        return view.detach()


def be_punctual() -> None:
    """Ask for real time, where we may: a wire that waits for a CPU adds delay of its own."""
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))


def main() -> int:
    """Carry frames for as long as our maker lives."""
    gc.disable()
    be_punctual()
    orders = socket.socket(fileno=int(sys.argv[1]))
    with contextlib.suppress(KeyboardInterrupt):
        Wire(msgspec.json.decode(sys.argv[2], type=Setup)).run(orders)
    return 0


if __name__ == "__main__":
    sys.exit(main())
