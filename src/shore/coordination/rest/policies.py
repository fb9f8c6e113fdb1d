"""The policy: read, checked, compared, asked, put in force.

The database holds every policy that was ever in force; the last is. A file that is wrong, or whose `tests`
fail with the members that there are, changes nothing.
"""

from shore.coordination.policy import Policy, PolicyError, Unknown, compile, diff, trace
from shore.coordination.rest.route import Asked, Route, Wrong, wrong
from shore.wire.policy import Changes, Checked, PolicyText, Question, Trace


async def get_policy(asked: Asked) -> PolicyText:
    """Give the file in force."""
    return PolicyText(await asked.mesh.repository.policy())


async def set_policy(asked: Asked) -> Checked:
    """Put a file in force, if it is right and its tests pass."""
    policy = _compiled(asked, asked.body.text)
    await asked.mesh.repository.save_policy(asked.body.text, asked.who, asked.now)
    asked.mesh.govern(policy)
    return Checked(policy.notes)


async def check_policy(asked: Asked) -> Checked:
    """Say whether a file is right and its tests pass; nothing changes."""
    return Checked(_compiled(asked, asked.body.text).notes)


async def diff_policy(asked: Asked) -> Changes:
    """Say who would gain and who would lose what."""
    new, members = _compiled(asked, asked.body.text), asked.mesh.netmaps.members
    return Changes(diff(asked.mesh.netmaps.policy, new, members), new.notes)


async def trace_policy(asked: Asked) -> Trace:
    """Say which line lets one member reach another, or that none does."""
    question: Question = asked.body
    netmaps, ends = asked.mesh.netmaps, (question.source, question.destination)
    try:
        return trace(netmaps.policy, netmaps.members, *ends, port=question.port, protocol=question.protocol)
    except Unknown as error:
        raise wrong(404, str(error)) from None


def _compiled(asked: Asked, text: str) -> Policy:
    try:
        return compile(text, asked.mesh.netmaps.members)
    except PolicyError as error:
        raise Wrong(422, error.complaint) from None


ROUTES = (
    Route("GET", "/policy", "read", get_policy, PolicyText),
    Route("PUT", "/policy", "write", set_policy, Checked, PolicyText),
    Route("POST", "/policy/check", "read", check_policy, Checked, PolicyText),
    Route("POST", "/policy/diff", "read", diff_policy, Changes, PolicyText),
    Route("POST", "/policy/trace", "read", trace_policy, Trace, Question),
)
