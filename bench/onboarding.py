"""The row of the first minute: a network is founded, a second machine joins it, and pings go.

Two machines that know nothing, the second behind a NAT, and what a user types: `shore up --new` and `shore
invite` on the first, and on the second the line that `invite` printed. A ping of the first machine's address
is under way on the second before it joins.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

import msgspec

from bench.figure import NEVER, Figure, median, most
from shore.lab.member import Member
from shore.lab.net import LabFailed, NatNet
from shore.lab.pinger import Pinger

ROW = "onboarding"
RATE = 50.0
WATCHED_S = 5.0
# Where the command is that was installed.
PLACE = Path(sys.executable).parent


class Onboarding(msgspec.Struct, frozen=True):
    """Seconds: what each command took, and from where the third began until a ping was answered."""

    new: float
    invite: float
    join: float
    answered: float


def onboarding(rounds: int, _seconds: int) -> list[Figure]:
    """The commands together, and `--join` until the first ping."""
    runs = [_run() for _ in range(rounds)]
    together = [run.new + run.invite + run.join for run in runs]
    answered = [run.answered for run in runs]
    after = [round(max(run.answered - run.join, 0.0), 3) for run in runs]
    return [
        most(
            ROW, "`up --new`, `invite`, `up --join`: together, s, the longest", max(together), 60, each=runs
        ),
        most(ROW, "from the start of `up --join` to the first answered ping, s", median(answered), 3),
        Figure(ROW, "the same, the longest, s", round(max(answered), 3)),
        Figure(ROW, "from the end of `up --join` to it, s", median(after), detail={"each": after}),
    ]


def _run() -> Onboarding:
    with NatNet() as net:
        for host in net.hosts:
            host.resolve_by("192.0.2.53")
        first, second = Member(net.b, "first"), Member(net.a, "second")
        try:
            new, _ = _type(first, "shore", "up", "--new")
            invite, printed = _type(first, "shore", "invite")
            address = first.address()
            pinger = Pinger(second.host, address, RATE)
            at = time.monotonic()
            join, _ = _type(second, *printed.split())
            time.sleep(WATCHED_S)
            answered = pinger.stop().first_reply(at)
        finally:
            second.down()
            first.down()
    return Onboarding(new, invite, join, NEVER if answered is None else round(answered, 3))


def _type(member: Member, *words: str) -> tuple[float, str]:
    """Run a command line as it is; the seconds that it took, and what it printed. Raises LabFailed."""
    path = f"{PLACE}:{os.environ['PATH']}"
    began = time.monotonic()
    done = subprocess.run(
        member.host.inside(*words), capture_output=True, text=True, check=False,
        env={**os.environ, **member.places(), "PATH": path},
    )  # fmt: skip
    took = round(time.monotonic() - began, 3)
    if done.returncode != 0:
        raise LabFailed(f"`{' '.join(words[:3])}` exited with {done.returncode}: {done.stderr.strip()}")
    return took, done.stdout
