"""Networks behind this node: what members of the mesh send there goes on under this node's own address.

Hosts there know no way to the mesh, so they are shown an address that they can answer to (masquerading). The
kernel forwards only where its owner said so; that is read here and never set, since it opens the way between
all devices of a machine.
"""

import subprocess
from pathlib import Path

from shore.io.host.device import HostFailed
from shore.model.host import Behind

FORWARDING = {
    4: (Path("/proc/sys/net/ipv4/ip_forward"), "net.ipv4.ip_forward"),
    6: (Path("/proc/sys/net/ipv6/conf/all/forwarding"), "net.ipv6.conf.all.forwarding"),
}


def not_forwarded(prefixes: tuple[str, ...]) -> tuple[str, ...]:
    """Kernel parameters that have to be set before packets get on to these prefixes."""
    versions = sorted({6 if ":" in prefix else 4 for prefix in prefixes})
    return tuple(name for path, name in (FORWARDING[each] for each in versions) if not _is_on(path))


def unforwarded(parameter: str) -> str:
    """One sentence about a parameter that keeps packets from getting on."""
    return (
        f"nothing gets behind this machine: `sysctl -w {parameter}=1`, and `{parameter}=1` in "
        "/etc/sysctl.d/99-shore.conf to keep it"
    )


def apply_behind(device: str, behind: Behind) -> None:
    """Bring our table to what is wanted. Raises HostFailed."""
    done = subprocess.run(
        ["nft", "-f", "-"], input=_script(device, behind), capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        first = (done.stderr.strip().splitlines() or ["no reason"])[0]
        raise HostFailed(f"nft refused to masquerade for {device}: {first}")


def remove_behind(device: str) -> None:
    """Nothing happens where there is nothing."""
    subprocess.run(["nft", "delete", "table", "inet", _table_name(device)], capture_output=True, check=False)


def _script(device: str, behind: Behind) -> str:
    name = _table_name(device)
    lines = [f"table inet {name}", f"delete table inet {name}", f"table inet {name} {{"]
    lines.append("chain leaving { type nat hook postrouting priority srcnat;")
    for prefix in behind.prefixes:
        ip = "ip6" if ":" in prefix else "ip"
        members = (each for each in behind.members if (":" in each) == (":" in prefix))
        there = "" if prefix.endswith("/0") else f"{ip} daddr {prefix}"
        lines += [f'oifname != "{device}" {ip} saddr {each} {there} masquerade' for each in members]
    return "\n".join([*lines, "}", "}"]) + "\n"


def _table_name(device: str) -> str:
    return f"shore-{device}-behind"


def _is_on(path: Path) -> bool:
    try:
        return path.read_text().strip() != "0"
    except OSError:
        return True
