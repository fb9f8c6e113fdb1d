"""`shore netcheck`: how the tunnels reach the outside."""

import click
import msgspec

from shore.cli.asking import obtain, running
from shore.model.netcheck import Netcheck
from shore.wire import api

MAPPINGS = {
    "none": "none",
    "endpoint_independent": "one mapping for all (endpoint-independent)",
    "endpoint_dependent": "another mapping for each peer (endpoint-dependent)",
    None: "not known: that takes two that see us from outside",
}
BLOCKED = {True: "nothing comes back", False: "comes back", None: "not known: nobody was asked"}


@click.command()
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print the contract of docs/cli.md, one object a line.")
def netcheck(name: str | None, as_json: bool) -> None:
    """Say how we reach the outside: public endpoints, NAT, relays, and what would help."""
    tunnels = [name] if name else [tunnel.name for tunnel in running(None)]
    for tunnel in tunnels:
        reply = obtain(tunnel, api.AskNetcheck())
        if isinstance(reply, api.NetcheckReply):
            checked = reply.checked
            text = msgspec.json.encode(checked).decode() if as_json else "\n".join(netcheck_lines(checked))
            click.echo(text)
    if not tunnels and not as_json:
        click.echo("no tunnel is up")


def netcheck_lines(checked: Netcheck) -> list[str]:
    """One tunnel's, for a terminal."""
    granted = ", ".join(checked.ports_mapped) or (
        "nothing granted" if checked.port_mapping else "not asked for"
    )
    lines = [
        f"{checked.tunnel}: port {checked.listen_port}",
        f"  IPv4: {', '.join(checked.public_v4) or 'not seen'}",
        f"  IPv6: {', '.join(checked.public_v6) or 'not seen'}",
        f"  NAT: {MAPPINGS[checked.mapping]}",
        f"  UDP: {BLOCKED[checked.udp_blocked]}",
        f"  port mapping: {granted}",
    ]
    for relay in checked.relays:
        rtt = "" if relay.rtt_ms is None else f", {relay.rtt_ms:.1f} ms"
        home = ", home" if relay.home else ""
        lines.append(f"  relay {relay.id}: {relay.address}, {relay.state}{rtt}{home}")
    return [*lines, f"  suggestion: {checked.suggestion}"] if checked.suggestion else lines
