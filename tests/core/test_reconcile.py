"""From a file to what the host should look like."""

import pytest

from shore.core.reconcile import fwmark_of, host_plan
from shore.model.config import PeerConfig, TunnelConfig
from shore.model.host import Behind, FullTunnel, Route, SplitNames
from shore.model.links import Link
from shore.model.zone import Zone


def config(*prefixes: str, **rest: object) -> TunnelConfig:
    return TunnelConfig("wg0", b"\1" * 32, peers=(PeerConfig(b"\2" * 32, allowed_ips=prefixes),), **rest)


def test_each_prefix_has_one_route_with_its_own_mtu() -> None:
    assert host_plan(config("10.0.0.0/24", "fd00::/64", mtu=1380), {}).routes == (
        Route("10.0.0.0/24", 1380, 254),
        Route("fd00::/64", 1380, 254),
    )


def test_a_default_prefix_makes_a_full_tunnel_of_its_family_only() -> None:
    plan = host_plan(config("0.0.0.0/0", "fd00::/64"), {})
    assert plan.full_tunnel == FullTunnel((4,), 51820, 51820, 1420)
    assert plan.routes == (Route("fd00::/64", 1420, 254),)
    assert fwmark_of(config("0.0.0.0/0")) == 51820
    assert fwmark_of(config("0.0.0.0/0", fwmark=7)) == 7


@pytest.mark.parametrize(("table", "routes"), [("off", ()), (99, (Route("0.0.0.0/0", 1420, 99),))])
def test_a_table_of_ones_own_is_filled_and_off_means_no_routes(
    table: object, routes: tuple[Route, ...]
) -> None:
    plan = host_plan(config("0.0.0.0/0", table=table), {})
    assert (plan.routes, plan.full_tunnel) == (routes, None)


def test_the_network_of_an_address_is_routed_too_even_where_no_peer_has_all_of_it() -> None:
    plan = host_plan(config("10.0.0.2/32", addresses=("10.0.0.1/24", "fd00::1/128")), {})
    assert [route.prefix for route in plan.routes] == ["10.0.0.0/24", "10.0.0.2/32"]


def test_an_mtu_too_small_for_ipv6_caps_the_routes_and_not_the_device() -> None:
    plan = host_plan(config("10.0.0.2/32", mtu=1200), {})
    assert (plan.mtu, plan.routes[0].mtu) == (1280, 1200)


ZONE = Zone("shore.internal", "fd12:3456:789a::/48", ())
MEMBERS = ("100.64.0.2/32", "fd12:3456:789a::2/128")


def wire(*networks: str, up: bool = True) -> Link:
    return Link("eth0", 2, up, 1500, networks=networks)


def test_what_peers_of_a_mesh_lead_to_has_a_table_that_the_tunnels_own_datagrams_do_not_ask() -> None:
    made = config(*MEMBERS, "10.1.0.0/24", "fd77::/64", zone=ZONE)
    plan = host_plan(made, {})
    assert plan.aside is not None
    assert (fwmark_of(made), plan.aside.fwmark, plan.aside.local) == (51820, 51820, ())
    assert plan.aside.families == (4, 6)
    assert [(route.prefix, route.table) for route in plan.routes] == [
        *((prefix, 254) for prefix in MEMBERS),
        *((prefix, plan.aside.table) for prefix in ("10.1.0.0/24", "fd77::/64")),
    ]
    assert plan.full_tunnel is None
    bare = config(*MEMBERS, zone=ZONE)
    assert (host_plan(bare, {}).aside, fwmark_of(bare)) == (None, 0)
    file = host_plan(config("10.1.0.0/24"), {})
    assert (file.aside, file.routes) == (None, (Route("10.1.0.0/24", 1420, 254),))


def test_a_wire_of_ours_is_not_led_away_and_a_part_of_it_that_somebody_accepted_is() -> None:
    made = config("10.1.0.0/24", "10.2.0.0/16", "192.168.0.128/25", zone=ZONE)
    links = (wire("10.1.0.0/24", "10.2.3.0/24", "192.168.0.0/24"), wire("10.2.4.0/24", up=False))
    plan = host_plan(made, {}, links)
    assert plan.aside is not None
    assert plan.aside.local == ("10.1.0.0/24", "10.2.3.0/24")
    assert [route.prefix for route in plan.routes] == ["10.2.0.0/16", "192.168.0.128/25"]


def test_a_default_route_that_was_accepted_is_a_full_tunnel() -> None:
    plan = host_plan(config(*MEMBERS, "0.0.0.0/0", zone=ZONE), {})
    assert plan.full_tunnel == FullTunnel((4,), 51820, 51820, 1420)
    assert plan.aside is None


def test_who_leads_on_shows_members_under_its_own_address() -> None:
    made = config(*MEMBERS, zone=ZONE, advertised=("10.1.0.0/24",))
    assert host_plan(made, {}).behind == Behind(("100.64.0.0/10", ZONE.range_v6), ("10.1.0.0/24",))
    assert host_plan(config(*MEMBERS, zone=ZONE), {}).behind is None


def test_a_zone_is_asked_for_at_the_devices_own_ipv4_address() -> None:
    zone = Zone("shore.internal", "fd12:3456:789a::/48", ())
    plan = host_plan(config(addresses=("fd12:3456:789a::1/128", "100.64.0.1/32"), zone=zone), {})
    assert isinstance(plan.names, SplitNames)
    assert (plan.names.server, plan.names.search) == ("100.64.0.1", "shore.internal")
    assert {"shore.internal", "64.100.in-addr.arpa"} < set(plan.names.domains)
    assert plan.dns_servers == ()
    assert host_plan(config(addresses=("100.64.0.1/32",)), {}).names is None
