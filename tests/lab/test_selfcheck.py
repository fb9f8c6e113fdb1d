"""The self-check finds each impairment as it was asked, and says so when it is something else."""

import pytest

from shore.lab import selfcheck
from shore.lab.impairment import Impairment
from shore.lab.laboratory import Laboratory
from shore.lab.link import Ending
from shore.lab.nat import Nat

pytestmark = [pytest.mark.lab]
SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    "impairment",
    [
        pytest.param(Impairment(), id="clear"),
        pytest.param(Impairment(delay_ms=30), id="delay"),
        pytest.param(Impairment(delay_ms=10, jitter_ms=25), id="jitter", marks=SLOW),
        pytest.param(Impairment(loss=0.1), id="loss"),
        pytest.param(Impairment(loss=0.1, burst=6), id="bursty loss", marks=SLOW),
        pytest.param(Impairment(delay_ms=10, reorder=0.1), id="reorder", marks=SLOW),
        pytest.param(Impairment(duplicate=0.1), id="duplicate", marks=SLOW),
        pytest.param(Impairment(corrupt=0.1), id="corrupt", marks=SLOW),
        pytest.param(Impairment(rate_mbit=5), id="rate", marks=SLOW),
        pytest.param(Impairment(mtu=1280), id="MTU, ICMP sent"),
        pytest.param(Impairment(mtu=1280, icmp=False), id="MTU, ICMP swallowed", marks=SLOW),
        pytest.param(Impairment(drop_larger=1300), id="large ones dropped", marks=SLOW),
        pytest.param(Impairment(drop_type=4), id="WireGuard data dropped"),
        pytest.param(Impairment(black_hole=True), id="black hole"),
        pytest.param(Impairment(flap_up_s=0.6, flap_down_s=0.4), id="flap", marks=SLOW),
    ],
)
@pytest.mark.parametrize("family", [4, pytest.param(6, marks=SLOW)])
def test_a_wire_does_what_was_asked_one_way_and_nothing_the_other(
    impairment: Impairment, family: int
) -> None:
    with Laboratory("check") as lab:
        lab.host("a"), lab.host("b")
        address = "10.1.0.{}/24" if family == 4 else "fd01::{}/64"
        link = lab.link("one", *(Ending(h, "eth0", (address.format(n),)) for n, h in ((1, "a"), (2, "b"))))
        link.set(impairment, toward="b")
        assert wrong(selfcheck.check(lab)) == []


@pytest.mark.parametrize(
    "impairment",
    [
        pytest.param(Impairment(loss=0.1), id="loss"),
        pytest.param(Impairment(rate_mbit=5), id="rate"),
        pytest.param(Impairment(drop_larger=1300), id="large ones dropped"),
        pytest.param(Impairment(drop_type=4), id="WireGuard data dropped"),
        pytest.param(Impairment(black_hole=True), id="black hole"),
    ],
)
def test_a_cable_does_what_was_asked(impairment: Impairment) -> None:
    with Laboratory("check") as lab:
        lab.host("a"), lab.host("b")
        lab.path("one", "a", "b", cable=True).set(impairment, toward="b")
        assert wrong(selfcheck.check(lab)) == []


def test_what_is_not_as_asked_is_found() -> None:
    with Laboratory("check") as lab:
        lab.host("a"), lab.host("b")
        link = lab.path("one", "a", "b")
        # Behind the link's back: it believes that it is clear.
        lab["b"].run("nft", "-f", "-", stdin=SECRET_LOSS)
        findings = wrong(selfcheck.check_way(lab, link, "b"))
        assert [(each.what, each.asked) for each in findings] == [("loss", "0.0%")]


SECRET_LOSS = (
    "table ip t { chain c { type filter hook input priority 0; numgen random mod 10 < 2 drop; }; }\n"
)


def test_nats_are_measured_where_they_stand_through_impaired_links() -> None:
    with Laboratory("check") as lab:
        lab.host("a"), lab.router("home"), lab.router("cgn"), lab.host("b")
        lan = lab.link(
            "lan",
            Ending("a", "eth0", ("10.1.0.2/24",), ("10.1.0.1",)),
            Ending("home", "lan0", ("10.1.0.1/24",)),
        )
        lab.link(
            "access",
            Ending("home", "wan0", ("100.64.0.2/24",), ("100.64.0.1",)),
            Ending("cgn", "lan0", ("100.64.0.1/24",)),
        )
        lab.link("core", Ending("cgn", "wan0", ("192.0.2.1/24",)), Ending("b", "eth0", ("192.0.2.2/24",)))
        lan.change(delay_ms=200, loss=0.2)
        lab.nat("home", Nat("full-cone", lifetime_s=2, hairpin=True))
        lab.nat("cgn", Nat("port-restricted", lifetime_s=5))
        assert wrong(selfcheck.check_way(lab, lab.links["access"], "home")) == []
        findings = selfcheck.check_nat(lab, "home") + selfcheck.check_nat(lab, "cgn")
        assert wrong(findings) == []
        assert {each.what for each in findings} == {"NAT kind", "hairpin", "lifetime"}
        assert lan.impairment("a").delay_ms == 200


def test_what_a_nat_refuses_is_measured() -> None:
    with Laboratory("check") as lab:
        lab.host("a"), lab.router("home"), lab.host("b")
        lan, inner = (
            Ending("home", "lan0", ("10.1.0.1/24",)),
            Ending("a", "eth0", ("10.1.0.2/24",), ("10.1.0.1",)),
        )
        lab.link("lan", inner, lan, cable=True)
        wan = Ending("home", "wan0", ("192.0.2.1/24",))
        lab.link("wan", wan, Ending("b", "eth0", ("192.0.2.2/24",)), cable=True)
        box = lab.nat("home", Nat("port-restricted", policer=200))
        assert {(each.what, each.right) for each in selfcheck.check_nat(lab, "home")} == {
            ("NAT kind", True),
            ("hairpin", True),
            ("policer", True),
        }
        box.change(policer=None, udp_blocked=True)
        assert [(each.what, each.right) for each in selfcheck.check_nat(lab, "home")] == [("UDP", True)]


def test_a_nat_behind_the_second_uplink_is_measured_through_that() -> None:
    with Laboratory("check") as lab:
        lab.host("a"), lab.router("home"), lab.router("mobile"), lab.host("b")
        for number, router in ((1, "home"), (2, "mobile")):
            lan, wan = f"10.{number}.0", f"192.0.{number}"
            lab.link(
                f"access {number}",
                Ending("a", f"eth{number}", (f"{lan}.2/24",), (f"{lan}.1",), metric=number),
                Ending(router, "lan0", (f"{lan}.1/24",)),
                cable=True,
            )
            lab.link(
                f"core {number}",
                Ending(router, "wan0", (f"{wan}.1/24",), (f"{wan}.2",)),
                Ending("b", f"eth{number}", (f"{wan}.2/24",)),
                cable=True,
            )
        lab.nat("home", Nat("full-cone"))
        lab.nat("mobile", Nat("symmetric"))
        assert wrong(selfcheck.check_nat(lab, "home") + selfcheck.check_nat(lab, "mobile")) == []


def wrong(findings: list[selfcheck.Finding]) -> list[selfcheck.Finding]:
    return [each for each in findings if not each.right]
