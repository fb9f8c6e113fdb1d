"""Names of endpoints and their addresses.

A name that does not resolve is asked for again, ever more slowly, and never fatal. The last answer is
kept whatever happens: a resolver that is down says nothing about the peer. A name is asked for again
while a peer behind it is silent, after a change of links, and every ten minutes.
"""

import ipaddress
from collections.abc import Iterable
from functools import lru_cache

from shore.core import timers
from shore.model.config import Endpoint


@lru_cache(1024)
def is_literal(host: str) -> bool:
    """Whether the host is an address, which needs no asking."""
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


def names_of(endpoints: Iterable[Endpoint]) -> set[str]:
    """Hosts that must be asked for."""
    return {endpoint.host for endpoint in endpoints if not is_literal(endpoint.host)}


class Names:
    """The names in use, when each is due, and what it last resolved to."""

    def __init__(self) -> None:
        self._due: dict[str, float] = {}
        self._asked: set[str] = set()
        self._asked_at: dict[str, float] = {}
        self._failures: dict[str, int] = {}
        self._addresses: dict[str, tuple[str, ...]] = {}

    def use(self, hosts: set[str], now: float) -> None:
        """Set which names are in use; new ones are due at once."""
        for host in self._due.keys() - hosts:
            del self._due[host]
            self._asked.discard(host)
        for host in hosts - self._due.keys():
            self._due[host] = now

    def addresses(self, host: str) -> tuple[str, ...]:
        """What the name resolved to last; a literal is its own address."""
        return (host,) if is_literal(host) else self._addresses.get(host, ())

    def hurry(self, hosts: set[str], now: float) -> None:
        """Ask again now, but not more often than a silent peer deserves."""
        for host in hosts & self._due.keys():
            earliest = self._asked_at.get(host, now - timers.NAME_WHILE_SILENT) + timers.NAME_WHILE_SILENT
            self._due[host] = min(self._due[host], max(now, earliest))

    def forget_waits(self, now: float) -> None:
        """The links changed: whatever the resolvers said before counts no more."""
        for host in self._due:
            self._due[host] = now

    def due(self, now: float) -> list[str]:
        """Names to ask for now; each is asked for once until it is answered."""
        ready = [host for host, at in self._due.items() if at <= now and host not in self._asked]
        for host in ready:
            self._asked.add(host)
            self._asked_at[host] = now
        return ready

    def resolved(self, host: str, addresses: tuple[str, ...], now: float) -> bool:
        """Take an answer. Returns whether it differs from the last one."""
        self._asked.discard(host)
        if host not in self._due:
            return False
        self._failures.pop(host, None)
        self._due[host] = now + timers.NAME_ANYWAY
        changed = bool(addresses) and set(self._addresses.get(host, ())) != set(addresses)
        if changed:
            self._addresses[host] = addresses
        return changed

    def failed(self, host: str, now: float) -> bool:
        """Take a failure. Returns whether it is the first in a row."""
        self._asked.discard(host)
        if host not in self._due:
            return False
        failures = self._failures.get(host, 0)
        self._failures[host] = failures + 1
        waits = timers.NAME_RETRY
        self._due[host] = now + waits[min(failures, len(waits) - 1)]
        return failures == 0

    def deadline(self) -> float | None:
        """When the next name is due."""
        return min((at for host, at in self._due.items() if host not in self._asked), default=None)
