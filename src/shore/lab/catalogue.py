"""The faults that a plan may name, each a change of a link, a NAT or an end: `shore lab faults`."""

import msgspec

from shore.lab.impairment import WIREGUARD_DATA


class CatalogueFault(msgspec.Struct, frozen=True):
    """`on` is what it changes; `fields` are set, `added` is added to what is there."""

    name: str
    on: str
    words: str
    fields: dict[str, float | int | bool] = {}
    added: dict[str, float] = {}


CATALOGUE: dict[str, CatalogueFault] = {
    fault.name: fault
    for fault in (
        CatalogueFault(
            "black-hole", "link", "nothing passes; with `toward` one way only", {"black_hole": True}
        ),
        CatalogueFault(
            "data-dropped", "link", "WireGuard's data vanish, all else passes", {"drop_type": WIREGUARD_DATA}
        ),
        CatalogueFault("large-dropped", "link", "packets above 1,300 octets vanish", {"drop_larger": 1300}),
        CatalogueFault(
            "mtu-1280", "link", "a router with MTU 1280 that says so", {"mtu": 1280, "icmp": True}
        ),
        CatalogueFault(
            "mtu-1280-silent", "link", "a router with MTU 1280 that does not", {"mtu": 1280, "icmp": False}
        ),
        CatalogueFault("loss-1", "link", "1 % lost", {"loss": 0.01}),
        CatalogueFault("loss-5", "link", "5 % lost", {"loss": 0.05}),
        CatalogueFault("loss-20", "link", "20 % lost", {"loss": 0.2}),
        CatalogueFault("bursts", "link", "10 % lost, eight at a time", {"loss": 0.1, "burst": 8.0}),
        CatalogueFault("reorder", "link", "10 % overtaken", {"reorder": 0.1}),
        CatalogueFault("duplicate", "link", "10 % doubled", {"duplicate": 0.1}),
        CatalogueFault(
            "corrupt", "link", "10 % with a bit flipped under a fitting checksum", {"corrupt": 0.1}
        ),
        CatalogueFault("slower", "link", "300 ms slower each way", added={"delay_ms": 300.0}),
        CatalogueFault("jitter", "link", "up to 200 ms of jitter", {"jitter_ms": 200.0}),
        CatalogueFault("narrow", "link", "1 Mbit/s", {"rate_mbit": 1.0}),
        CatalogueFault("flap", "link", "2 s up, 2 s down", {"flap_up_s": 2.0, "flap_down_s": 2.0}),
        CatalogueFault("impair", "link", "whatever `fields` says"),
        CatalogueFault("unplug", "link", "the device of `host` is gone, and comes back with a new ifindex"),
        CatalogueFault("nat-reboot", "nat", "all mappings forgotten, other ports afterwards"),
        CatalogueFault("nat-blocks-udp", "nat", "UDP passes no more", {"udp_blocked": True}),
        CatalogueFault("nat-polices", "nat", "500 UDP datagrams a second at most", {"policer": 500}),
        CatalogueFault("nat-change", "nat", "whatever `fields` says"),
        CatalogueFault(
            "end-killed", "end", "what carries packets dies by SIGKILL; `for_s` later it is started"
        ),
        CatalogueFault(
            "end-frozen", "end", "what carries packets is stopped by SIGSTOP; `for_s` later it goes on"
        ),
    )
}
