"""Links between two hosts. Both kinds are changed while they carry traffic, one way or both.

    WireLink    a TAP device at each end and a process between them: every impairment, some 600 Mbit/s
    CableLink   a veth pair: no impairment but what nft and TBF do exactly (loss, black hole, filters, rate),
                at the speed of the kernel; super-packets are cut before, so that each packet is judged alone

Way 0 leads from the first end to the second. `toward` names the host that a way leads to; None is both.
"""

import contextlib
import socket
import subprocess
import sys
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Protocol

import msgspec

from shore.lab import carrier
from shore.lab.impairment import CLEAR, Impairment, ImpossibleImpairment
from shore.lab.net import Host, LabFailed, join

QUEUE_LENGTH = 5000
ANSWER_WITHIN_S = 10.0


class Ending(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One end of a link: the device it makes in a host, and what is configured on it."""

    host: str
    device: str = "eth0"
    addresses: tuple[str, ...] = ()
    gateways: tuple[str, ...] = ()
    metric: int | None = None
    mtu: int = 1500


class Link(Protocol):
    """What can be done to any link."""

    name: str
    ends: tuple[Ending, Ending]

    def change(self, toward: str | None = None, **fields: object) -> None:
        """Change some fields of one way's impairment, or of both. Raises ImpossibleImpairment."""

    def set(self, impairment: Impairment, toward: str | None = None) -> None:
        """Replace the impairment of one way, or of both."""

    def impairment(self, toward: str) -> Impairment:
        """What the way to a host does now."""

    def unplug(self, host: str) -> None:
        """The device of one end is gone, and its routes with it."""

    def plug(self, host: str) -> None:
        """A new device with the same name, addresses and gateways; its ifindex is new."""

    def dump(self, path: Path) -> int:
        """Write the latest frames as pcapng; how many there were."""

    def close(self) -> None:
        """Remove it."""


class _Ways(ABC):
    """Names and impairments of two ways; what a link does about a change is its own."""

    def __init__(self, name: str, hosts: tuple[Host, Host], ends: tuple[Ending, Ending]) -> None:
        self.name = name
        self.ends = ends
        self._hosts = hosts
        self._impairments = [CLEAR, CLEAR]

    def change(self, toward: str | None = None, **fields: object) -> None:
        """Change some fields of one way's impairment, or of both."""
        for way in self._ways(toward):
            self._apply(way, self._impairments[way].changed(**fields))

    def set(self, impairment: Impairment, toward: str | None = None) -> None:
        """Replace the impairment of one way, or of both."""
        for way in self._ways(toward):
            self._apply(way, impairment)

    def impairment(self, toward: str) -> Impairment:
        """What the way to a host does now."""
        return self._impairments[self._ways(toward)[0]]

    @abstractmethod
    def _apply(self, way: int, impairment: Impairment) -> None:
        """Make it so, and remember it."""

    def _ways(self, toward: str | None) -> list[int]:
        return [0, 1] if toward is None else [1 - self._end(toward)]

    def _end(self, host: str) -> int:
        for end in (0, 1):
            if self.ends[end].host == host:
                return end
        raise LabFailed(f"the link {self.name} does not end at `{host}`")

    def _configure(self, end: int, link_words: str = "") -> None:
        configure(self._hosts[end], self.ends[end], link_words)


class _Carrier:
    """The process of a wire, or the one that looks at a cable; see `carrier`."""

    def __init__(
        self, name: str, hosts: tuple[Host, Host], ends: tuple[Ending, Ending], seed: int, *, carries: bool
    ) -> None:
        self._name = name
        first, second = (
            carrier.Tap(host.namespace, end.device, f"{end.host}-{end.device}")
            for host, end in zip(hosts, ends, strict=True)
        )
        limit = max(end.mtu for end in ends) + 64
        setup = msgspec.json.encode(carrier.Setup((first, second), seed, limit, carries)).decode()
        self._orders, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._orders.settimeout(ANSWER_WITHIN_S)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "shore.lab.carrier", str(theirs.fileno()), setup],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )

    def obey(self, order: carrier.Order) -> carrier.Answer:
        """Have it do something. Raises LabFailed."""
        try:
            self._orders.send(msgspec.json.encode(order))
            answer = msgspec.json.decode(self._orders.recv(carrier.LARGEST_ORDER), type=carrier.Answer)
        except (OSError, msgspec.DecodeError) as error:
            raise LabFailed(f"the wire {self._name} does not answer: {error}") from None
        if answer.failed:
            raise LabFailed(f"the wire {self._name}: {answer.failed}")
        return answer

    def dump(self, path: Path) -> int:
        """Write the latest frames as pcapng; how many there were."""
        return self.obey(carrier.Dump(str(path.absolute()))).frames

    def close(self) -> None:
        """End it."""
        self._orders.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class WireLink(_Ways):
    """A link through a process of its own; the devices go when it does."""

    def __init__(self, name: str, hosts: tuple[Host, Host], ends: tuple[Ending, Ending], seed: int) -> None:
        super().__init__(name, hosts, ends)
        self._carrier = _Carrier(name, hosts, ends, seed, carries=True)
        try:
            for end in ends:
                self.plug(end.host)
        except BaseException:
            self.close()
            raise

    def unplug(self, host: str) -> None:
        """The device of one end is gone, and its routes with it."""
        self._carrier.obey(carrier.Unplug(self._end(host)))

    def plug(self, host: str) -> None:
        """A new device with the same name, addresses and gateways; its ifindex is new."""
        end = self._end(host)
        self._carrier.obey(carrier.Plug(end))
        self._configure(end, f"txqueuelen {QUEUE_LENGTH}")

    def tallies(self) -> tuple[dict[str, int], dict[str, int]]:
        """What became of the packets of each way so far, counted by fate."""
        return self._carrier.obey(carrier.AskTally()).tallies

    def dump(self, path: Path) -> int:
        """Write the latest frames as pcapng; how many there were."""
        return self._carrier.dump(path)

    def close(self) -> None:
        """End the process; the devices go with it."""
        self._carrier.close()

    def _apply(self, way: int, impairment: Impairment) -> None:
        self._carrier.obey(carrier.Change(way, impairment))
        self._impairments[way] = impairment


class CableLink(_Ways):
    """A veth pair. A way is filtered where it leads to, on ingress, and its rate limited where it begins."""

    def __init__(
        self, name: str, hosts: tuple[Host, Host], ends: tuple[Ending, Ending], *, record: bool = False
    ) -> None:
        super().__init__(name, hosts, ends)
        self._carrier = _Carrier(name, hosts, ends, 0, carries=False) if record else None
        try:
            self._join()
        except BaseException:
            self.close()
            raise

    def unplug(self, host: str) -> None:
        """The device of one end is gone; with a cable the other end's device goes as well."""
        end = self._end(host)
        self._hosts[end].ip(f"link delete {self.ends[end].device}")
        self._look(carrier.Unplug)

    def plug(self, host: str) -> None:
        """A new cable between the two, impaired as before."""
        self._end(host)
        self._join()
        for way in (0, 1):
            self._apply(way, self._impairments[way])

    def dump(self, path: Path) -> int:
        """Write the latest frames as pcapng, if they are recorded; how many there were."""
        return self._carrier.dump(path) if self._carrier else 0

    def close(self) -> None:
        """Remove it."""
        if self._carrier:
            self._carrier.close()
        with contextlib.suppress(LabFailed):
            self._hosts[0].ip(f"link delete {self.ends[0].device}")

    def _join(self) -> None:
        join(self._hosts[0], self.ends[0].device, self._hosts[1], self.ends[1].device)
        for end in (0, 1):
            self._configure(end, "gso_max_segs 1")
        self._look(carrier.Plug)

    def _look(self, order: type[carrier.Plug] | type[carrier.Unplug]) -> None:
        if self._carrier:
            for end in (0, 1):
                self._carrier.obey(order(end))

    def _apply(self, way: int, impairment: Impairment) -> None:
        beyond = impairment.needs_a_wire()
        if beyond:
            raise ImpossibleImpairment(f"the cable {self.name} cannot do `{beyond[0]}`: make it a wire")
        receiver, device = self._hosts[1 - way], self.ends[1 - way].device
        receiver.run("nft", "-f", "-", stdin=filter_rules(device, impairment))
        self._limit(way, impairment)
        self._impairments[way] = impairment

    def _limit(self, way: int, impairment: Impairment) -> None:
        sender, device = self._hosts[way], self.ends[way].device
        sender.run("tc", "qdisc", "delete", "dev", device, "root", check=False)
        if impairment.rate_mbit is not None:
            rate = f"rate {impairment.rate_mbit}mbit burst 4kb latency {impairment.queue_ms}ms"
            sender.run("tc", "qdisc", "add", "dev", device, "root", "tbf", *rate.split())


def filter_rules(device: str, it: Impairment) -> str:
    """An nft ruleset that drops what an impairment drops, on the ingress of a device."""
    rules = ["meta protocol arp accept"]
    rules += [f"icmpv6 type {{ {', '.join(map(str, range(133, 138)))} }} accept"]
    if it.black_hole:
        rules += ["drop"]
    if it.drop_larger is not None:
        rules += [f"ip length > {it.drop_larger} drop", f"ip6 length > {max(0, it.drop_larger - 40)} drop"]
    if it.drop_type is not None:
        rules += [f"meta l4proto udp @th,64,8 {it.drop_type} drop"]
    if it.loss:
        rules += [f"numgen random mod 1000000 < {round(it.loss * 1e6)} drop"]
    table = f"shore-{device}"
    body = "\n".join(f"        {rule}" for rule in rules)
    hook = f'type filter hook ingress device "{device}" priority 0;'
    chain = f"    chain way {{\n        {hook}\n{body}\n    }}\n"
    return f"table netdev {table}\ndelete table netdev {table}\ntable netdev {table} {{\n{chain}}}\n"


def configure(host: Host, end: Ending, link_words: str = "") -> None:
    """Bring a device up with its addresses and gateways."""
    host.ip(f"link set {end.device} mtu {end.mtu} {link_words} up")
    for address in end.addresses:
        host.ip(f"address add {address} dev {end.device}" + (" nodad" if ":" in address else ""))
    for gateway in end.gateways:
        metric = "" if end.metric is None else f" metric {end.metric}"
        family = "-6 " if ":" in gateway else ""
        host.ip(f"{family}route add default via {gateway} dev {end.device}{metric}")
