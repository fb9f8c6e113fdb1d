"""Hosts as network namespaces, and the wires between them. Everything made is removed, whatever happens.

Two shapes carry all faults of a single tunnel:

    plain   a 192.0.2.1 ──────── 192.0.2.2 b            (and 2001:db8::1, ::2)
    nat     a 10.1.0.2 ── 10.1.0.1 router 192.0.2.1 ── 192.0.2.2 b       a is masqueraded
"""

import contextlib
import itertools
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

_numbers = itertools.count(1)


class LabFailed(Exception):
    """A command of the lab failed; names it and what it said."""


def run(*words: str, check: bool = True, stdin: str | None = None) -> str:
    """Run a command, return its output. Raises LabFailed."""
    done = subprocess.run(words, capture_output=True, text=True, input=stdin, check=False)
    if check and done.returncode != 0:
        raise LabFailed(f"`{' '.join(words)}` exited with {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def until(true: Callable[[], bool], within_s: float) -> float:
    """Wait until it is true; return the moment. Raises AssertionError when time is up."""
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.05)
    return time.monotonic()


@contextlib.contextmanager
def later(seconds: float, act: Callable[[], None]) -> Iterator[None]:
    """Do it after so long, beside the block."""
    timer = threading.Timer(seconds, act)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


class Host:
    """One network namespace."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.namespace = f"shore-{os.getpid()}-{next(_numbers)}-{name}"

    def make(self) -> None:
        """Add the namespace with its loopback up."""
        run("ip", "netns", "add", self.namespace)
        # Addresses are usable at once, and a listing does not change by itself.
        self.sysctl("net.ipv6.conf.default.accept_dad", 0)
        self.ip("link set lo up")

    def remove(self) -> None:
        """Delete it; devices in it go with it."""
        run("ip", "netns", "delete", self.namespace, check=False)
        shutil.rmtree(self.etc, ignore_errors=True)

    @property
    def etc(self) -> Path:
        """What lies here is mounted over /etc for commands in this host."""
        return Path("/etc/netns") / self.namespace

    def resolve_by(self, server: str) -> None:
        """Give the host a resolv.conf of its own. Raises LabFailed where we may not."""
        try:
            self.etc.mkdir(parents=True, exist_ok=True)
        except PermissionError:
            raise LabFailed(
                "a resolv.conf for one namespace needs /etc/netns: mkdir /etc/netns as root"
            ) from None
        (self.etc / "resolv.conf").write_text(f"nameserver {server}\n")

    def ip(self, command: str, *, check: bool = True) -> str:
        """`ip` in this host; words are split at blanks."""
        return run("ip", "-n", self.namespace, *command.split(), check=check)

    def run(self, *words: str, check: bool = True, stdin: str | None = None) -> str:
        """Any command in this host."""
        return run(*self.inside(*words), check=check, stdin=stdin)

    def inside(self, *words: str) -> list[str]:
        """The command line that runs a command in this host."""
        return ["ip", "netns", "exec", self.namespace, *words]

    def reaches(self, address: str, *, pings: int = 1, within_s: int = 2, source: str | None = None) -> bool:
        """Whether each of so many pings, 0.2 s apart, is answered in time; `source` is an address of ours."""
        words = ["ping", "-c", str(pings), "-i", "0.2", "-W", str(within_s)]
        words += ["-I", source] if source else []
        return " 0% packet loss" in self.run(*words, address, check=False)

    def sysctl(self, name: str, value: int) -> None:
        """Set a kernel parameter of this host."""
        self.run("sysctl", "-qw", f"{name}={value}")


class Net:
    """Hosts and wires, as a context manager. `a` runs what is tested, `b` is its peer."""

    address_of_a = "192.0.2.1"
    address_of_b = "192.0.2.2"

    def __init__(self) -> None:
        self.a = Host("a")
        self.b = Host("b")
        self.hosts = [self.a, self.b]

    def __enter__(self) -> Self:
        try:
            for host in self.hosts:
                host.make()
            self.wire()
        except BaseException:
            self.remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()

    def remove(self) -> None:
        """Delete everything."""
        for host in self.hosts:
            host.remove()

    def wire(self) -> None:
        """Join the hosts."""
        join(self.a, "eth0", self.b, "eth0")
        for host, number in ((self.a, 1), (self.b, 2)):
            host.ip(f"address add 192.0.2.{number}/24 dev eth0")
            host.ip(f"address add 2001:db8::{number}/64 dev eth0 nodad")

    def move_a(self) -> None:
        """Give `a` other addresses, as a new network would."""
        self.a.ip("address flush dev eth0 scope global")
        self.a.ip("address add 192.0.2.77/24 dev eth0")
        self.a.ip("address add 2001:db8::77/64 dev eth0 nodad")


class NatNet(Net):
    """`a` sits behind a router that masquerades, with mappings of `mapping_s` seconds."""

    def __init__(self, mapping_s: int = 30) -> None:
        super().__init__()
        self.router = Host("router")
        self.hosts.append(self.router)
        self.mapping_s = mapping_s
        self._ports = (20000, 29999)

    def wire(self) -> None:
        join(self.a, "eth0", self.router, "lan0")
        join(self.b, "eth0", self.router, "wan0")
        self.a.ip("address add 10.1.0.2/24 dev eth0")
        self.router.ip("address add 10.1.0.1/24 dev lan0")
        self.router.ip("address add 192.0.2.1/24 dev wan0")
        self.b.ip("address add 192.0.2.2/24 dev eth0")
        self.a.ip("route add default via 10.1.0.1")
        self.router.sysctl("net.ipv4.ip_forward", 1)
        self._masquerade()
        self.router.sysctl("net.netfilter.nf_conntrack_udp_timeout", self.mapping_s)
        self.router.sysctl("net.netfilter.nf_conntrack_udp_timeout_stream", self.mapping_s)

    def forget_mappings(self) -> None:
        """The router restarts: every mapping is lost, and new ones get ports from elsewhere."""
        first, last = self._ports
        self._ports = (last + 1, last + (last - first) + 1) if last < 60000 else (20000, 29999)
        self._masquerade()
        self.router.run("conntrack", "-F")

    def cut(self) -> None:
        """Drop everything that the router should forward."""
        self.router.run("nft", "add table ip cut")
        chain = "{ type filter hook forward priority 0; policy drop; }"
        self.router.run("nft", f"add chain ip cut everything {chain}")

    def mend(self) -> None:
        """Forward again."""
        self.router.run("nft", "delete table ip cut")

    def _masquerade(self) -> None:
        first, last = self._ports
        rules = f"""
            table ip nat
            delete table ip nat
            table ip nat {{
                chain post {{
                    type nat hook postrouting priority 100;
                    oifname "wan0" udp dport != 0 masquerade to :{first}-{last}
                    oifname "wan0" masquerade
                }}
            }}
            table ip guard
            delete table ip guard
            table ip guard {{
                chain input {{
                    type filter hook input priority 0;
                    iifname "wan0" ct state new drop
                }}
            }}
        """
        self.router.run("nft", "-f", "-", stdin=rules)


class RoutedNet(Net):
    """`a`, its peer `b` and a stranger `c`, each on a wire of its own with a router between them.

    a 192.0.2.1/24 ── .254 router .254 ── 198.51.100.2/24 b
                           router .254 ── 203.0.113.5/24 c
    """

    address_of_b = "198.51.100.2"
    address_of_c = "203.0.113.5"

    def __init__(self) -> None:
        super().__init__()
        self.c = Host("c")
        self.router = Host("router")
        self.hosts += [self.c, self.router]

    def wire(self) -> None:
        self.router.sysctl("net.ipv4.ip_forward", 1)
        places = ((self.a, "192.0.2", 1), (self.b, "198.51.100", 2), (self.c, "203.0.113", 5))
        for host, network, number in places:
            join(host, "eth0", self.router, f"to-{host.name}")
            host.ip(f"address add {network}.{number}/24 dev eth0")
            self.router.ip(f"address add {network}.254/24 dev to-{host.name}")
            host.ip(f"route add default via {network}.254")
        rules = """
            table ip seen {
                chain forward {
                    type filter hook forward priority 0;
                    iifname "to-a" ip daddr != 198.51.100.2 counter
                }
            }
        """
        self.router.run("nft", "-f", "-", stdin=rules)

    def block_udp(self, one: Host, other: Host) -> None:
        """No UDP between the wires of these two any more."""
        there, back = f"to-{one.name}", f"to-{other.name}"
        rules = f"""
            table ip blocked {{
                chain forward {{
                    type filter hook forward priority 1;
                    iifname "{there}" oifname "{back}" meta l4proto udp drop
                    iifname "{back}" oifname "{there}" meta l4proto udp drop
                }}
            }}
        """
        self.router.run("nft", "-f", "-", stdin=rules)

    def unblock_udp(self) -> None:
        """As before `block_udp`."""
        self.router.run("nft", "delete table ip blocked")

    def clear_packets(self) -> int:
        """How many packets of `a` went past the tunnel so far."""
        listed = self.router.run("nft", "list", "chain", "ip", "seen", "forward").split()
        return int(listed[listed.index("packets") + 1])


def join(one: Host, its_name: str, other: Host, others_name: str) -> None:
    """A wire between two hosts, up on both sides."""
    run(
        *("ip", "link", "add", its_name, "netns", one.namespace, "type", "veth"),
        *("peer", "name", others_name, "netns", other.namespace),
    )
    one.ip(f"link set {its_name} up")
    other.ip(f"link set {others_name} up")
