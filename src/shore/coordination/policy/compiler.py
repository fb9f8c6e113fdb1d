"""From the text of a policy to its lines. What it says of things that we do not have is noted, not obeyed;
what would let in less in Tailscale's hands than in ours is refused."""

from shore.coordination.members import Member
from shore.coordination.policy import ports, testing
from shore.coordination.policy.document import Value, meant, read
from shore.coordination.policy.lines import Line
from shore.coordination.policy.policy import Policy
from shore.coordination.policy.terms import Selector, Vocabulary, vocabulary
from shore.model.filter import Ports


def compile(text: str, members: tuple[Member, ...] = ()) -> Policy:
    """Read a policy and run its `tests`. Raises PolicyError.

    Without members, tests that speak of addresses of theirs cannot be run, and are noted.
    """
    sections = read(text).fields()
    words = vocabulary(sections)
    lines: list[Line] = []
    notes = [note for name, value in sections.items() for note in _ignored(name, value)]
    for grant in sections["grants"].entries() if "grants" in sections else ():
        lines += _grant(grant, words, notes)
    for acl in sections["acls"].entries() if "acls" in sections else ():
        lines += _acl(acl, words)
    if not lines:
        notes.append("no line lets anybody in: nobody may reach anybody")
    policy = Policy(tuple(lines), ())
    notes += testing.run(policy, sections.get("tests"), words, members)
    return Policy(policy.lines, tuple(notes))


def _grant(grant: Value, words: Vocabulary, notes: list[str]) -> list[Line]:
    fields = grant.known_fields(*GRANT_FIELDS)
    for name in ("srcPosture", "via"):
        if name in fields:
            raise fields[name].wrong(f"`{name}` is not supported, and without it more would be let in")
    if "app" in fields:
        notes.append(f"line {fields['app'].line}: `app` is not supported and has no effect")
    sources, destinations = (_needed(grant, fields, name) for name in ("src", "dst"))
    from_, to = _selectors(sources, words), _selectors(destinations, words, destination=True)
    if "ip" not in fields:
        if "app" in fields:
            return []
        raise grant.wrong('this grant lacks `ip`, such as "ip": ["tcp:443"]')
    at = [each for entry in fields["ip"].entries() for each in ports.of_grant(entry)]
    notes += _by_whom(destinations)
    return [Line(grant.line, grant.words, from_, to, ports.united(at))] if from_ and to and at else []


def _acl(acl: Value, words: Vocabulary) -> list[Line]:
    fields = acl.known_fields(*ACL_FIELDS)
    if "srcPosture" in fields:
        raise fields["srcPosture"].wrong("`srcPosture` is not supported, and without it more would be let in")
    action = _needed(acl, fields, "action")
    if action.text() != "accept":
        raise action.wrong(
            f"`{action.value}` is no action: there is `accept` only, the rest stays out anyway"
        )
    protocol = fields["proto"].text() if fields.get("proto") and fields["proto"].value != "" else None
    from_ = _selectors(_needed(acl, fields, "src"), words)
    by_ports: dict[tuple[Ports, ...], list[Selector]] = {}
    for entry in _needed(acl, fields, "dst").entries():
        word, colon, at = entry.text().rpartition(":")
        if not colon or not word or word in ("tag", "group", "autogroup", "ipset"):
            raise entry.wrong(
                f"`{entry.value}` names no ports: write `{entry.value}:*` or `{entry.value}:22`"
            )
        selector = words.selector(entry, word, destination=True)
        by_ports.setdefault(ports.of_protocol(entry, at, protocol), []).append(selector)
    return [
        Line(acl.line, acl.words, from_, tuple(to), ports.united(list(at)))
        for at, to in by_ports.items()
        if from_
    ]


def _selectors(value: Value, words: Vocabulary, *, destination: bool = False) -> tuple[Selector, ...]:
    found = [words.selector(entry, entry.text(), destination=destination) for entry in value.entries()]
    return tuple(dict.fromkeys(found))


def _needed(rule: Value, fields: dict[str, Value], name: str) -> Value:
    if name not in fields:
        raise rule.wrong(f"this rule lacks `{name}`")
    return fields[name]


def _by_whom(destinations: Value) -> list[str]:
    return [
        f"line {entry.line}: `autogroup:internet` is reached by nodes that may lead to 0.0.0.0/0 or ::/0"
        for entry in destinations.entries()
        if entry.value == "autogroup:internet"
    ]


def _ignored(name: str, value: Value) -> list[str]:
    if name in READ:
        return []
    guess = "" if name in NOT_SUPPORTED else meant(name, READ) if _is_close(name) else ""
    return [f"line {value.line}: `{name}` is not supported and has no effect{guess}"]


def _is_close(name: str) -> bool:
    return meant(name, READ).startswith(": is it")


READ = ("grants", "acls", "groups", "tagOwners", "hosts", "ipsets", "tests")
NOT_SUPPORTED = ("ssh", "sshTests", "autoApprovers", "nodeAttrs", "postures", "derpMap")
GRANT_FIELDS = ("src", "dst", "ip", "app", "srcPosture", "via")
ACL_FIELDS = ("action", "src", "proto", "dst", "srcPosture")
