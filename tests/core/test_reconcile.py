"""From a file to what the host should look like."""

import pytest

from shore.core.reconcile import fwmark_of, host_plan
from shore.model.config import PeerConfig, TunnelConfig
from shore.model.host import FullTunnel, Route, SplitNames
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


def test_a_zone_is_asked_for_at_the_devices_own_ipv4_address() -> None:
    zone = Zone("shore.internal", "fd12:3456:789a::/48", ())
    plan = host_plan(config(addresses=("fd12:3456:789a::1/128", "100.64.0.1/32"), zone=zone), {})
    assert isinstance(plan.names, SplitNames)
    assert (plan.names.server, plan.names.search) == ("100.64.0.1", "shore.internal")
    assert {"shore.internal", "64.100.in-addr.arpa"} < set(plan.names.domains)
    assert plan.dns_servers == ()
    assert host_plan(config(addresses=("100.64.0.1/32",)), {}).names is None
