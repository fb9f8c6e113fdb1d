"""`wg0.conf` in wg-quick's syntax (wg-quick(8), wg(8)), and Shore's own keys as `#@ Key = value`.

    [Interface]                      [Peer]
    PrivateKey = BASE64              PublicKey = BASE64
    Address = 10.0.0.1/24, ...       PresharedKey = BASE64
    ListenPort = 51820               AllowedIPs = 10.0.0.2/32, ...
    MTU, DNS, Table, FwMark          Endpoint = host:port       (several lines: tried in turn)
    PreUp, PostUp, PreDown, PostDown PersistentKeepalive = 25 | off
    #@ Offload = on | off            #@ Name = anything
    #@ Realtime = on | off           #@ Redundancy = off | auto | interactive | always
    #@ Probing = on | off
    #@ Overhear = on | off
    #@ Uplinks = eth0, wwan0 metered
    #@ Stun = host:port, ...         (servers that tell what we look like from outside)
    #@ PortMapping = on | off        (ask the gateways for the listen port)

Keys and section names are read whatever their case. wg-quick takes `#@` lines for comments, so one file
serves both. Where wg-quick is silent or lets the last one win, Shore is strict: the same prefix at two
peers, or the same peer twice, is an error that names the line. A file may leave PrivateKey to a hook, which
wg-quick(8) proposes: `PostUp = wg set %i private-key <(pass ...)`.
"""

import difflib
import ipaddress
import re
from collections.abc import Callable
from typing import Any, Literal, get_args

from shore.model.config import Endpoint, Hooks, PeerConfig, TunnelConfig, Uplink
from shore.model.desired import Redundancy
from shore.model.keys import parse_key

LEAST_MTU, MOST_MTU = 576, 65535
MOST_KEEPALIVE = 65535
# Routing tables that every machine has by these names.
TABLES = {"default": 253, "main": 254, "local": 255}
NAME = re.compile(r"[a-zA-Z0-9_=+.-]{1,15}")
NAME_RULE = "a tunnel's name has 1 to 15 letters, digits or any of _=+.-"

INTERFACE_KEYS = (
    "PrivateKey", "Address", "ListenPort", "MTU", "DNS", "Table", "FwMark",
    "PreUp", "PostUp", "PreDown", "PostDown", "SaveConfig",
)  # fmt: skip
PEER_KEYS = ("PublicKey", "PresharedKey", "AllowedIPs", "Endpoint", "PersistentKeepalive")
OWN_INTERFACE_KEYS = ("Offload", "Realtime", "Probing", "Overhear", "Uplinks", "Stun", "PortMapping")
OWN_PEER_KEYS = ("Name", "Redundancy")
NO_PROXY = (
    "a proxy leads to relays and to a network's server, and a tunnel from a file has neither: its peers are "
    "reached by UDP alone (`shore up --join TOKEN --proxy URL` is for a network)"
)
# Keys that may come more than once and add up.
REPEATED = {"address", "dns", "preup", "postup", "predown", "postdown", "allowedips", "endpoint"}


class ConfigError(Exception):
    """What is wrong, where, and what would be right."""

    def __init__(self, source: str, line: int, reason: str) -> None:
        super().__init__(f"{source}:{line}: {reason}" if line else f"{source}: {reason}")
        self.line = line


class _Section:
    """One `[Interface]` or `[Peer]`: values by lower-case key, each with its line."""

    def __init__(self, kind: str, line: int) -> None:
        self.kind = kind
        self.line = line
        self.values: dict[str, list[tuple[int, str]]] = {}


class _Wrong(Exception):
    def __init__(self, line: int, reason: str) -> None:
        super().__init__(reason)
        self.line = line


def parse(
    text: str, name: str, *, source: str = "", public_key: Callable[[bytes], bytes] | None = None
) -> tuple[TunnelConfig, list[str]]:
    """A file's text to a configuration and warnings. Raises ConfigError.

    `public_key` derives a public key from a private one; with it, a peer that is ourselves is found.
    """
    source = source or name
    if not NAME.fullmatch(name) or name in (".", ".."):
        raise ConfigError(source, 0, f"`{name}` cannot name a tunnel: {NAME_RULE}")
    warnings: list[str] = []
    try:
        sections = _sections(text)
        config = _tunnel(sections, name, source, warnings)
        _check_peers(config, sections, public_key)
    except _Wrong as wrong:
        raise ConfigError(source, wrong.line, str(wrong)) from None
    return config, [f"{source}:{warning}" for warning in warnings]


def _sections(text: str) -> list[_Section]:
    sections: list[_Section] = []
    for number, raw in enumerate(text.splitlines(), 1):
        own = raw.lstrip().startswith("#@")
        line = (raw.lstrip()[2:] if own else raw).partition("#")[0].strip()
        if not line:
            continue
        if line.startswith("["):
            kind = line.lower()
            if kind not in ("[interface]", "[peer]"):
                raise _Wrong(number, f"`{line}` is no section: [Interface] or [Peer]")
            sections.append(_Section(kind[1:-1], number))
            continue
        if not sections:
            raise _Wrong(number, "a line before the first section: start with [Interface]")
        key, equals, value = (part.strip() for part in line.partition("="))
        if not equals:
            raise _Wrong(number, f"`{line}` is not `Key = value`")
        _add(sections[-1], number, key, value, own)
    return sections


def _add(section: _Section, number: int, key: str, value: str, own: bool) -> None:
    known: tuple[str, ...]
    if section.kind == "interface":
        known = OWN_INTERFACE_KEYS if own else INTERFACE_KEYS
    else:
        known = OWN_PEER_KEYS if own else PEER_KEYS
    lower = key.lower()
    if lower not in {name.lower() for name in known}:
        if own and lower == "proxy":
            raise _Wrong(number, NO_PROXY)
        close = difflib.get_close_matches(key, known, 1)
        hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}"
        where = f"[{section.kind.title()}]"
        raise _Wrong(number, f"{where} has no key `{key}`{' after #@' if own else ''}: {hint}")
    if not value and lower != "allowedips":
        raise _Wrong(number, f"{key} has no value")
    if lower in section.values and lower not in REPEATED:
        raise _Wrong(number, f"{key} was already given in line {section.values[lower][0][0]}")
    section.values.setdefault(lower, []).append((number, value))


def _tunnel(sections: list[_Section], name: str, source: str, warnings: list[str]) -> TunnelConfig:
    interfaces = [section for section in sections if section.kind == "interface"]
    if not interfaces:
        raise _Wrong(0, "there is no [Interface] section")
    if len(interfaces) > 1:
        raise _Wrong(interfaces[1].line, f"a second [Interface]: the first is in line {interfaces[0].line}")
    own = interfaces[0]
    if not own.values.keys() & {"privatekey", "preup", "postup"}:
        raise _Wrong(own.line, "[Interface] needs PrivateKey: make one with `shore genkey`")
    for line, _ in own.values.get("saveconfig", []):
        warnings.append(f"{line}: SaveConfig is ignored: Shore does not write to your file")
    servers, search = _dns(own)
    return TunnelConfig(
        name=name,
        private_key=_one(own, "privatekey", parse_key),
        addresses=tuple(dict.fromkeys(_many(own, "address", _address))),
        listen_port=_one(own, "listenport", lambda text: _number(text, 0, 65535, "a port")) or 0,
        mtu=_one(own, "mtu", lambda text: _number(text, LEAST_MTU, MOST_MTU, "an MTU")),
        dns_servers=servers,
        dns_search=search,
        table=_one(own, "table", _table) or "auto",
        fwmark=_one(own, "fwmark", _mark) or 0,
        hooks=Hooks(
            pre_up=_lines(own, "preup"),
            post_up=_lines(own, "postup"),
            pre_down=_lines(own, "predown"),
            post_down=_lines(own, "postdown"),
        ),
        peers=tuple(_peer(section) for section in sections if section.kind == "peer"),
        offload=_one(own, "offload", _switch) is not False,
        realtime=_one(own, "realtime", _switch) is not False,
        probing=_one(own, "probing", _switch) is not False,
        overhear=_one(own, "overhear", _switch) is not False,
        uplinks=tuple(_many(own, "uplinks", parse_uplink)),
        stun=tuple(dict.fromkeys(_many(own, "stun", parse_endpoint))),
        port_mapping=_one(own, "portmapping", _switch) is True,
        source=source,
    )


def _peer(section: _Section) -> PeerConfig:
    if "publickey" not in section.values:
        raise _Wrong(section.line, "[Peer] needs PublicKey")
    return PeerConfig(
        public_key=_one(section, "publickey", parse_key) or b"",
        preshared_key=_one(section, "presharedkey", parse_key),
        allowed_ips=tuple(dict.fromkeys(_many(section, "allowedips", parse_prefix))),
        endpoints=tuple(
            _at(line, parse_endpoint, value) for line, value in section.values.get("endpoint", [])
        ),
        keepalive_s=_one(section, "persistentkeepalive", _keepalive),
        name=_one(section, "name", parse_peer_name),
        redundancy=_one(section, "redundancy", parse_redundancy) or "auto",
    )


def _check_peers(
    config: TunnelConfig, sections: list[_Section], public_key: Callable[[bytes], bytes] | None
) -> None:
    mine = public_key(config.private_key) if public_key and config.private_key else None
    lines = [section.line for section in sections if section.kind == "peer"]
    keys: dict[bytes, int] = {}
    prefixes: dict[str, int] = {}
    for line, peer in zip(lines, config.peers, strict=True):
        if peer.public_key == mine:
            raise _Wrong(line, "this peer's PublicKey is our own: put the other side's key here")
        if peer.public_key in keys:
            raise _Wrong(line, f"this peer is already in line {keys[peer.public_key]}: join the two sections")
        keys[peer.public_key] = line
        for prefix in peer.allowed_ips:
            if prefix in prefixes:
                raise _Wrong(
                    line,
                    f"AllowedIPs {prefix} also belongs to the peer in line {prefixes[prefix]}: "
                    "a prefix has one peer (nested prefixes are fine)",
                )
            prefixes[prefix] = line


# Values. Each takes text and raises ValueError with what would be right.


def parse_prefix(text: str) -> str:
    """`10.0.0.0/24` or an address alone; host bits are cleared. Raises ValueError."""
    try:
        return str(ipaddress.ip_network(text, strict=False))
    except ValueError:
        raise ValueError(f"`{text}` is no prefix such as 10.0.0.0/24 or fd00::/64") from None


def parse_endpoint(text: str) -> Endpoint:
    """`192.0.2.1:51820`, `[2001:db8::1]:51820` or `name:51820`. Raises ValueError."""
    right = "such as 192.0.2.1:51820, [2001:db8::1]:51820 or vpn.example.com:51820"
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdecimal() or not 0 < int(port) <= 65535:
        raise ValueError(f"`{text}` is no endpoint {right}")
    if host.startswith("[") and host.endswith("]"):
        try:
            return Endpoint(str(ipaddress.IPv6Address(host[1:-1])), int(port))
        except ValueError:
            raise ValueError(f"`{host}` is no IPv6 address: an endpoint is {right}") from None
    if ":" in host:
        raise ValueError(f"`{text}`: an IPv6 address stands in brackets, {right}")
    if re.fullmatch(r"[0-9.]+", host):
        try:
            ipaddress.IPv4Address(host)
        except ValueError:
            raise ValueError(f"`{host}` is no IPv4 address: an endpoint is {right}") from None
    elif not re.fullmatch(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_.])?", host) or len(host) > 253:
        raise ValueError(f"`{host}` is no host name: an endpoint is {right}")
    return Endpoint(host, int(port))


def _address(text: str) -> str:
    try:
        return str(ipaddress.ip_interface(text))
    except ValueError:
        raise ValueError(f"`{text}` is no address such as 10.0.0.1/24 or fd00::1/64") from None


def _dns(section: _Section) -> tuple[tuple[str, ...], tuple[str, ...]]:
    servers, search = [], []
    for word in _many(section, "dns", str):
        try:
            servers.append(str(ipaddress.ip_address(word)))
        except ValueError:
            search.append(word)
    return tuple(servers), tuple(search)


def _number(text: str, least: int, most: int, what: str) -> int:
    if not text.isdecimal() or not least <= int(text) <= most:
        raise ValueError(f"`{text}` is not {what} from {least} to {most}")
    return int(text)


def _keepalive(text: str) -> int:
    return 0 if text.lower() == "off" else _number(text, 0, MOST_KEEPALIVE, "`off` or a number of seconds")


def _table(text: str) -> Literal["auto", "off"] | int:
    if text.lower() == "auto":
        return "auto"
    if text.lower() == "off":
        return "off"
    try:
        number = TABLES.get(text) or int(text, 0)
    except ValueError:
        number = 0
    if not 0 < number < 1 << 32:
        raise ValueError(f"Table `{text}` is not `auto`, `off` or a routing table's number")
    return number


def _mark(text: str) -> int:
    if text.lower() == "off":
        return 0
    try:
        number = int(text, 0)
    except ValueError:
        number = -1
    if not 0 <= number < 1 << 32:
        raise ValueError(f"FwMark `{text}` is not `off` or a number of 32 bits such as 0xca6c")
    return number


def parse_redundancy(text: str) -> Redundancy:
    """`off`, `auto`, `interactive` or `always`. Raises ValueError."""
    for mode in get_args(Redundancy):
        if text.lower() == mode:
            return mode  # type: ignore[no-any-return]
    raise ValueError(f"`{text}` is not {', '.join(get_args(Redundancy)[:-1])} or {get_args(Redundancy)[-1]}")


def parse_peer_name(text: str) -> str:
    """What a peer is called. Raises ValueError."""
    if len(text) > 63 or not text.isprintable():
        raise ValueError("a Name has 63 printable characters at most")
    return text


def parse_uplink(text: str) -> Uplink:
    """`eth0` or `wwan0 metered`. Raises ValueError."""
    name, *rest = text.split()
    if rest not in ([], ["metered"]) or len(name) > 15 or "/" in name:
        raise ValueError(f"`{text}` is no uplink such as `eth0` or `wwan0 metered`")
    return Uplink(name, bool(rest))


def _switch(text: str) -> bool:
    if text.lower() not in ("on", "off"):
        raise ValueError(f"`{text}` is not `on` or `off`")
    return text.lower() == "on"


def _at(line: int, convert: Callable[[str], Any], text: str) -> Any:
    try:
        return convert(text)
    except ValueError as error:
        raise _Wrong(line, str(error)) from None


def _one(section: _Section, key: str, convert: Callable[[str], Any]) -> Any:
    for line, text in section.values.get(key, []):
        return _at(line, convert, text)
    return None


def _many(section: _Section, key: str, convert: Callable[[str], Any]) -> list[Any]:
    return [
        _at(line, convert, word.strip())
        for line, text in section.values.get(key, [])
        for word in text.split(",")
        if word.strip()
    ]


def _lines(section: _Section, key: str) -> tuple[str, ...]:
    return tuple(text for _, text in section.values.get(key, []))
