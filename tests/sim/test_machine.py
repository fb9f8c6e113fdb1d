"""Hypothesis chooses faults one by one and shortens what breaks."""

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from tests.sim.faults import KINDS, Fault, strike
from tests.sim.scenario import be_still, build, recover

MOST_FAULTS = 6


class Trouble(RuleBasedStateMachine):
    """A world in which anything may happen, and which must recover each time it is left alone."""

    @initialize(seed=st.integers(0, 999))
    def begin(self, seed: int) -> None:
        self.world = build(seed)
        self.world.start()
        self.world.run(4.0)
        self.faults = 0

    @precondition(lambda self: self.faults < MOST_FAULTS)
    @rule(
        kind=st.sampled_from(sorted(KINDS)),
        machine=st.integers(0, 5),
        uplink=st.integers(0, 1),
        other=st.integers(0, 4),
        lasts=st.integers(1, 80),
        amount=st.integers(0, 10),
    )
    def strike(self, kind: str, machine: int, uplink: int, other: int, lasts: int, amount: int) -> None:
        self.faults += 1
        strike(self.world, Fault(self.world.now, kind, machine, uplink, other, lasts / 10, amount / 10))

    @rule(tenths=st.integers(1, 50))
    def wait(self, tenths: int) -> None:
        self.world.run(tenths / 10)

    @precondition(lambda self: self.faults > 0)
    @rule()
    def recover(self) -> None:
        self.world.run(10.5)
        recover(self.world)
        be_still(self.world)
        self.faults = 0


Trouble.TestCase.settings = settings(
    max_examples=8,
    stateful_step_count=12,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
TestTrouble = Trouble.TestCase
