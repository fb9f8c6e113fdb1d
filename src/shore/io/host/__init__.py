"""The host around a tunnel: what Shore sets there, and how it is all taken back.

Addresses and routes live and die with the device; they carry Shore's own routing protocol number, so that
nothing that somebody else put there is ever touched. What outlives the device (rules, tables, marks, a
kernel parameter, resolvers) is written into a journal before it is changed, and taken back from there.
"""

from pathlib import Path

import msgspec

from shore.io.host.aside import apply_aside, remove_aside
from shore.io.host.behind import apply_behind, remove_behind
from shore.io.host.device import HostFailed, apply_device
from shore.io.host.dns import (
    apply_dns,
    hold_dns,
    is_own,
    remove_dns,
    servers_before,
    servers_below,
)
from shore.io.host.fulltunnel import SRC_VALID_MARK, apply_full_tunnel, refuse_second, remove_full_tunnel
from shore.io.tun import delete_tun
from shore.model.host import Behind, HostPlan

__all__ = ["HostFailed", "apply", "hold_dns", "is_own", "remove", "servers_before", "servers_below"]


class Changed(msgspec.Struct):
    """What a tunnel changed beside its device."""

    full_tunnel_table: int | None = None
    aside_table: int | None = None
    behind: Behind | None = None
    src_valid_mark: str | None = None
    dns: bool = False


async def apply(plan: HostPlan, journal: Path) -> None:
    """Bring the host to the plan; what is there already is left alone. Raises HostFailed."""
    changed = _read(journal)
    wants_dns = bool(plan.dns_servers or plan.dns_search or plan.names)
    await apply_device(plan)
    await _set_aside(plan, changed, journal)
    _lead_behind(plan, changed, journal)
    if plan.full_tunnel is None and changed.full_tunnel_table is not None:
        await _leave_full_tunnel(plan.device, changed, journal)
    if plan.full_tunnel is not None:
        if changed.full_tunnel_table is None:
            await refuse_second()
            changed.full_tunnel_table = plan.full_tunnel.table
            changed.src_valid_mark = SRC_VALID_MARK.read_text().strip()
            _write(journal, changed)
        await apply_full_tunnel(plan, plan.full_tunnel)
    if wants_dns:
        changed.dns = True
        _write(journal, changed)
        apply_dns(plan)
    elif changed.dns:
        remove_dns(plan.device)
        changed.dns = False
        _write(journal, changed)


async def remove(device: str, journal: Path) -> None:
    """Take back everything; nothing happens where there is nothing."""
    changed = _read(journal)
    if changed.dns:
        remove_dns(device)
    if changed.full_tunnel_table is not None:
        await _leave_full_tunnel(device, changed, journal)
    if changed.aside_table is not None:
        await remove_aside(changed.aside_table)
    if changed.behind is not None:
        remove_behind(device)
    delete_tun(device)
    _forget(journal)


async def _set_aside(plan: HostPlan, changed: Changed, journal: Path) -> None:
    wanted = None if plan.aside is None else plan.aside.table
    if changed.aside_table not in (None, wanted):
        await remove_aside(changed.aside_table)
    if changed.aside_table != wanted:
        changed.aside_table = wanted
        _write(journal, changed)
    if plan.aside is not None:
        await apply_aside(plan.aside)


def _lead_behind(plan: HostPlan, changed: Changed, journal: Path) -> None:
    if changed.behind == plan.behind:
        return
    # Until it is in force nobody shall take it for that.
    changed.behind = Behind((), ())
    _write(journal, changed)
    if plan.behind is None:
        remove_behind(plan.device)
    else:
        apply_behind(plan.device, plan.behind)
    changed.behind = plan.behind
    _write(journal, changed)


async def _leave_full_tunnel(device: str, changed: Changed, journal: Path) -> None:
    assert changed.full_tunnel_table is not None
    await remove_full_tunnel(device, changed.full_tunnel_table)
    if changed.src_valid_mark is not None:
        SRC_VALID_MARK.write_text(changed.src_valid_mark)
    changed.full_tunnel_table = changed.src_valid_mark = None
    _write(journal, changed)


def _read(journal: Path) -> Changed:
    try:
        return msgspec.json.decode(journal.read_bytes(), type=Changed)
    except (FileNotFoundError, msgspec.DecodeError):
        return Changed()


def _forget(journal: Path) -> None:
    journal.unlink(missing_ok=True)


def _write(journal: Path, changed: Changed) -> None:
    new = journal.with_suffix(".new")
    new.write_bytes(msgspec.json.encode(changed))
    new.replace(journal)
