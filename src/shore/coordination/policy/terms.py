"""Whom a word of the file means: a selector, which holds members or does not.

A tagged node acts for itself and not for the user whose token let it in, so `autogroup:member`, users and
groups hold nodes without tags only. Names of users may be written with an `@` at their end, as
Headscale's are; tags with `tag:` or, in a member, without.
"""

import ipaddress
from functools import lru_cache
from typing import Literal

import msgspec

from shore.coordination.members import Member
from shore.coordination.policy.document import Value, meant
from shore.core.consent import overlap

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Kind = Literal["everything", "users", "tag", "members", "tagged", "networks", "self"]


class Selector(msgspec.Struct, frozen=True):
    """`names` are users, or the one tag; `self` is as a destination only: nodes of the source's user."""

    kind: Kind
    names: frozenset[str] = frozenset()
    networks: tuple[str, ...] = ()

    def holds(self, member: Member) -> bool:
        """Whether the word means this member; `self` means nobody in particular."""
        if self.kind in ("members", "users"):
            return not member.tags and (self.kind == "members" or bare_user(member.user) in self.names)
        if self.kind == "tagged":
            return any(member.tags)
        if self.kind == "tag":
            return any(bare_tag(tag) in self.names for tag in member.tags)
        if self.kind == "networks":
            return any(self.contains(address) for address in member.addresses)
        return self.kind == "everything"

    def is_behind(self, member: Member) -> bool:
        """Of networks: whether the member leads to any of it."""
        return bool(member.prefixes) and any(
            overlap(network, prefix) for network in self.networks for prefix in member.prefixes
        )

    def contains(self, address: str) -> bool:
        """Of networks: whether the address lies in one."""
        one = ipaddress.ip_address(address)
        return any(one in ipaddress.ip_network(network) for network in self.networks)


class Vocabulary(msgspec.Struct, frozen=True):
    """What the file defines, by the words that stand for it."""

    groups: dict[str, frozenset[str]]
    tags: frozenset[str]
    hosts: dict[str, tuple[str, ...]]
    ipsets: dict[str, tuple[str, ...]]

    def selector(self, entry: Value, word: str, *, destination: bool = False) -> Selector:
        """Whom `word` means. Raises PolicyError at `entry`."""
        if word in AUTOGROUPS:
            return self._autogroup(entry, word, destination)
        prefix, colon, _ = word.partition(":")
        if colon and prefix in ("group", "tag", "ipset"):
            return self._defined(entry, prefix, word)
        if prefix == "autogroup":
            raise entry.wrong(f"`{word}` is not supported{meant(word, tuple(AUTOGROUPS)[1:])}")
        if word in self.hosts:
            return Selector("networks", networks=self.hosts[word])
        if "@" in word:
            return Selector("users", frozenset({bare_user(word)}))
        found = network(word)
        if found is None:
            known = meant(word, tuple(self.hosts)) if self.hosts else ""
            raise entry.wrong(
                f"`{word}` is no host, address, user (`{word}@`), group (`group:{word}`)"
                f" or tag (`tag:{word}`){known}"
            )
        return Selector("networks", networks=(str(found),))

    def _autogroup(self, entry: Value, word: str, destination: bool) -> Selector:
        if word in ("autogroup:self", "autogroup:internet") and not destination:
            raise entry.wrong(f"`{word}` can be a destination only")
        kind = AUTOGROUPS[word]
        return Selector(kind, networks=internet()) if kind == "networks" else Selector(kind)

    def _defined(self, entry: Value, prefix: str, word: str) -> Selector:
        if prefix == "group":
            if word not in self.groups:
                raise entry.wrong(f"`{word}` is not in `groups`{meant(word, tuple(self.groups))}")
            return Selector("users", self.groups[word])
        if prefix == "tag":
            if word not in self.tags:
                raise entry.wrong(f"`{word}` is not in `tagOwners`{meant(word, tuple(sorted(self.tags)))}")
            return Selector("tag", frozenset({bare_tag(word)}))
        if word not in self.ipsets:
            raise entry.wrong(f"`{word}` is not in `ipsets`{meant(word, tuple(self.ipsets))}")
        return Selector("networks", networks=self.ipsets[word])


def vocabulary(sections: dict[str, Value]) -> Vocabulary:
    """Reads `groups`, `tagOwners`, `hosts` and `ipsets`. Raises PolicyError."""
    groups = {name: _users(name, value) for name, value in _section(sections, "groups")}
    tags = frozenset(_tag(name, value) for name, value in _section(sections, "tagOwners"))
    hosts = {name: _host(name, value) for name, value in _section(sections, "hosts")}
    ipsets = {name: _ipset(name, value, hosts) for name, value in _section(sections, "ipsets")}
    for _, owners in _section(sections, "tagOwners"):
        for owner in owners.entries():
            word = owner.text()
            if word.startswith("group:") and word not in groups:
                raise owner.wrong(f"`{word}` is not in `groups`{meant(word, tuple(groups))}")
    return Vocabulary(groups, tags, hosts, ipsets)


def network(word: str) -> Network | None:
    """An address or a prefix; None if it is neither."""
    try:
        return ipaddress.ip_network(word.strip("[]"), strict=False)
    except ValueError:
        return None


def bare_user(user: str) -> str:
    """`alice@` is `alice`; an address of mail stays whole."""
    return user.removesuffix("@")


def bare_tag(tag: str) -> str:
    """`tag:web` is `web`."""
    return tag.removeprefix("tag:")


def _section(sections: dict[str, Value], name: str) -> list[tuple[str, Value]]:
    return list(sections[name].fields().items()) if name in sections else []


def _users(name: str, value: Value) -> frozenset[str]:
    if not name.startswith("group:"):
        raise value.wrong(f"a group is called `group:{name}`, not `{name}`")
    for entry in value.entries():
        if ":" in entry.text():
            raise entry.wrong(f"a group holds users only, and `{entry.value}` is none")
    return frozenset(bare_user(entry.text()) for entry in value.entries())


def _tag(name: str, value: Value) -> str:
    if not name.startswith("tag:"):
        raise value.wrong(f"a tag is called `tag:{name}`, not `{name}`")
    return name


def _host(name: str, value: Value) -> tuple[str, ...]:
    if ":" in name or "@" in name or "/" in name:
        raise value.wrong(f"`{name}` cannot be the name of a host: it reads as something else")
    return (str(_network(value, value.text())),)


def _ipset(name: str, value: Value, hosts: dict[str, tuple[str, ...]]) -> tuple[str, ...]:
    if not name.startswith("ipset:"):
        raise value.wrong(f"an IP set is called `ipset:{name}`, not `{name}`")
    held: list[Network] = []
    for entry in value.entries():
        verb, space, rest = entry.text().partition(" ")
        verb, word = (verb, rest.strip()) if space else ("add", verb)
        word = word.removeprefix("host:")
        named = [_network(entry, each) for each in hosts.get(word, (word,))]
        if verb == "add":
            held += named
        elif verb == "remove":
            held = [left for one in held for left in _without(one, named)]
        else:
            raise entry.wrong(f"`{verb}` is neither `add` nor `remove`")
    return collapsed(held)


def collapsed(networks: list[Network]) -> tuple[str, ...]:
    """As few prefixes as hold the same addresses, in order, IPv4 first."""
    v4 = [one for one in networks if isinstance(one, ipaddress.IPv4Network)]
    v6 = [one for one in networks if isinstance(one, ipaddress.IPv6Network)]
    joined = (*ipaddress.collapse_addresses(v4), *ipaddress.collapse_addresses(v6))
    return tuple(str(one) for one in joined)


@lru_cache(1)
def internet() -> tuple[str, ...]:
    """What nobody has to himself: whoever leads to a default route leads there."""
    private = [ipaddress.ip_network(each) for each in NOT_INTERNET]
    whole = (ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("2000::/3"))
    return collapsed([part for one in whole for part in _without(one, private)])


def _without(one: Network, removed: list[Network]) -> list[Network]:
    left = [one]
    for out in removed:
        left = [part for each in left for part in _minus(each, out)]
    return left


def _minus(one: Network, out: Network) -> list[Network]:
    if one.version != out.version or not one.overlaps(out):
        return [one]
    if isinstance(one, ipaddress.IPv4Network) and isinstance(out, ipaddress.IPv4Network):
        return [] if one.subnet_of(out) else list(one.address_exclude(out))
    if isinstance(one, ipaddress.IPv6Network) and isinstance(out, ipaddress.IPv6Network):
        return [] if one.subnet_of(out) else list(one.address_exclude(out))
    return [one]


def _network(entry: Value, word: str) -> Network:
    found = network(word)
    if found is None:
        raise entry.wrong(f"`{word}` is no address or prefix such as `100.64.0.1` or `10.0.0.0/8`")
    return found


# RFC 6890, as far as it is not global.
NOT_INTERNET = (
    *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
    *("192.168.0.0/16", "198.18.0.0/15", "224.0.0.0/3"),
)
AUTOGROUPS: dict[str, Kind] = {
    "*": "everything",
    "autogroup:danger-all": "everything",
    "autogroup:member": "members",
    "autogroup:members": "members",
    "autogroup:tagged": "tagged",
    "autogroup:self": "self",
    "autogroup:internet": "networks",
}
