"""A plan is read whole or refused in one sentence that names what is wrong."""

from pathlib import Path

import pytest

from shore.lab.impairment import Impairment
from shore.lab.nat import Nat
from shore.lab.plan import ImpossiblePlan, parse
from shore.lab.scenario import impaired, instants

EXAMPLES = sorted((Path(__file__).parents[2] / "examples" / "lab").glob("*.toml"))
GOOD = """
name = "one"
seconds = 10
[hosts.a]
[hosts.b]
[routers.r]
nat = { kind = "symmetric", lifetime_s = 20 }
[[links]]
name = "lan"
ends = [{ host = "a", addresses = ["10.1.0.2/24"], gateways = ["10.1.0.1"] },
        { host = "r", device = "lan0", addresses = ["10.1.0.1/24"] }]
impairment = { delay_ms = 5 }
[[links]]
name = "wan"
ends = [{ host = "r", device = "wan0" }, { host = "b" }]
[[tunnels]]
a = "a"
b = "b"
endpoint = "192.0.2.2"
[[pings]]
from = "a"
to = "10.8.0.2"
[[faults]]
at_s = 2
do = "slower"
link = "lan"
toward = "r"
for_s = 1
every_s = 3
[[faults]]
at_s = 3
do = "nat-reboot"
nat = "r"
[[expect]]
ping = "a to 10.8.0.2"
lost_most = 20
"""


def test_a_plan_becomes_values() -> None:
    plan = parse(GOOD)
    assert plan.routers["r"].nat == Nat("symmetric", lifetime_s=20)
    assert plan.links[0].impairment == Impairment(delay_ms=5)
    assert plan.pings[0].called == plan.expect[0].ping
    assert plan.faults[0].called == "slower on lan toward r"
    assert plan.candidates() == ["shore"]


def test_a_fault_sets_adds_and_comes_again() -> None:
    slower = parse(GOOD).faults[0]
    assert instants(slower, 10) == [2, 5, 8]
    assert impaired(Impairment(delay_ms=5, loss=0.1), slower) == Impairment(delay_ms=305, loss=0.1)


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ('name = "one"', "name = ", "this is no TOML: "),
        ("seconds = 10", "second = 10", "unknown field `second`"),
        ("seconds = 10", 'seconds = "long"', r"Expected `float`, got `str` - at `\$.seconds`"),
        ("delay_ms = 5", "delay_ms = -5", "delay_ms = -5.0 is negative"),
        ("delay_ms = 5", "delay = 5", "unknown field `delay`"),
        ('kind = "symmetric"', 'kind = "conic"', "Invalid enum value 'conic'"),
        ("lifetime_s = 20", "lifetime_s = 0", "lifetime_s = 0 is not between 1 and 86400"),
        ('{ host = "b" }', '{ host = "c" }', "the link wan names the host `c`, which there is not"),
        ("[hosts.b]", "[hosts.b]\n[hosts.r]", "`r` is a host and a router"),
        ('name = "wan"', 'name = "lan"', "two links have the same name"),
        (
            'name = "lan"',
            'name = "lan"\ncable = true',
            "the cable lan cannot do `delay_ms`: leave out `cable`",
        ),
        ('do = "slower"', 'do = "slow"', "there is no fault `slow`: see `shore lab faults`"),
        ('toward = "r"', 'toward = "b"', "the fault slower must name a host at an end of lan: a or r"),
        ('do = "slower"', 'do = "unplug"', "the fault unplug must name a host at an end of lan: a or r"),
        ("at_s = 2", "at_s = 12", "the fault slower at 12 s is not within the 10 s"),
        ("every_s = 3", "every_s = 1", "the fault slower comes again before it is over"),
        ("for_s = 1", "fields = { loss = 2 }", "the fault slower: loss = 2.0 is no share"),
        ("for_s = 1", 'fields = { loss = "2" }', "the fault slower: Expected `float`, got `str`"),
        ('nat = "r"', 'nat = "x"', "the fault nat-reboot needs a `nat`, and there is no nat `x`"),
        ('ping = "a to 10.8.0.2"', 'ping = "p"', "an expectation names the ping `p`, which there is not"),
        ('b = "b"\n', 'b = "a"\n', "the host a has two tunnels, and there is room for one"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(old: str, new: str, why: str) -> None:
    assert old in GOOD
    with pytest.raises(ImpossiblePlan, match=why) as caught:
        parse(GOOD.replace(old, new, 1))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.name)
def test_the_examples_are_plans(file: Path) -> None:
    assert parse(file.read_text()).name
