"""What another policy would change for the members that are there: who gains and who loses which ports.

Members that every line treats alike are compared once, so that a thousand of them with few roles cost
little; what is listed is every pair nevertheless.
"""

from shore.coordination.members import Member
from shore.coordination.policy.lines import Line
from shore.coordination.policy.policy import Policy
from shore.coordination.policy.ports import united, words
from shore.coordination.policy.terms import bare_user
from shore.model.filter import Ports
from shore.wire.policy import Change

Role = tuple[object, ...]


def diff(old: Policy, new: Policy, members: tuple[Member, ...]) -> tuple[Change, ...]:
    """In the order of the members."""
    roles = [_role(member, (old, new)) for member in members]
    known: dict[tuple[Role, Role], tuple[str, str] | None] = {}
    changes = []
    for source, source_role in zip(members, roles, strict=True):
        for destination, role in zip(members, roles, strict=True):
            if source.id == destination.id:
                continue
            pair = (source_role, role)
            if pair not in known:
                known[pair] = _compare(old, new, source, destination)
            told = known[pair]
            if told is not None:
                changes.append(Change(source.name, destination.name, *told))
    return tuple(changes)


def _compare(old: Policy, new: Policy, source: Member, destination: Member) -> tuple[str, str] | None:
    before, after = (_ports(policy.lines, source, destination) for policy in (old, new))
    gained = tuple(each for each in after if not _within(each, before))
    lost = tuple(each for each in before if not _within(each, after))
    return (words(gained), words(lost)) if gained or lost else None


def _ports(lines: tuple[Line, ...], source: Member, destination: Member) -> tuple[Ports, ...]:
    return united([each for line in lines if line.lets(source, destination) for each in line.ports])


def _within(ports: Ports, others: tuple[Ports, ...]) -> bool:
    return any(
        other.protocol in (None, ports.protocol) and other.first <= ports.first and ports.last <= other.last
        for other in others
    )


def _role(member: Member, policies: tuple[Policy, Policy]) -> Role:
    """What tells a member from others to these policies."""
    held = (
        any(selector.holds(member) for selector in side)
        for policy in policies
        for line in policy.lines
        for side in (line.sources, line.destinations)
    )
    return (None if member.tags else bare_user(member.user), *held)
