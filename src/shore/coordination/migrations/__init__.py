"""The schema's history, step by step (Alembic), so that a database of any age becomes what `schema` says.

A step is a module of this package with Alembic's own names (`revision`, `down_revision`, `upgrade`), and
never changes once it was released. Steps are imported and not found in a directory: the server has given up
the right to read its own files when it needs them. All that are due are taken in the transaction of the
caller.

Before there were steps, the tables were made at once, as the first step makes them: a database that has
tables and no version is at that step.
"""

from collections.abc import Iterable
from types import ModuleType

from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext, MigrationStep, StampStep
from alembic.script.base import Script
from alembic.script.revision import RevisionMap
from sqlalchemy import Connection, inspect

from shore.coordination.migrations import m0001_first, m0002_advertised

HISTORY: tuple[ModuleType, ...] = (m0001_first, m0002_advertised)
HEAD: str = HISTORY[-1].revision


class Newer(Exception):
    """The database has taken steps that this program does not know: the end of a sentence."""


def upgrade(connection: Connection) -> None:
    """Take the steps that are due. Raises Newer."""
    context = MigrationContext.configure(connection, opts={"fn": _due})
    with Operations.context(context):
        context.run_migrations()


def revision_of(connection: Connection) -> str | None:
    """The last step that was taken; None before the first."""
    return MigrationContext.configure(connection).get_current_revision()


def _due(heads: tuple[str, ...], context: MigrationContext) -> Iterable[MigrationStep]:
    names = [step.revision for step in HISTORY]
    unknown = set(heads) - set(names)
    if unknown:
        raise Newer(f"is of a newer Shore (step {min(unknown)}; this one knows {HEAD}): install that one")
    scripts = [Script(step, step.revision, step.__file__ or "") for step in HISTORY]
    history = RevisionMap(lambda: scripts)
    # Whoever asks for a revision has the map read.
    history.get_revision(HEAD)
    taken = names.index(heads[0]) + 1 if heads else 0
    if not heads and context.connection is not None and inspect(context.connection).has_table("networks"):
        yield StampStep((), names[0], True, True, history)
        taken = 1
    for script in scripts[taken:]:
        yield MigrationStep.upgrade_from_script(history, script)
