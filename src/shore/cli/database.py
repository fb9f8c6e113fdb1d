"""`shore server db`: where the server's database is, and how a network moves to another."""

import click

from shore.cli.asking import FAILED, fail
from shore.cli.programs import need_founded
from shore.cli.server import become
from shore.io import programs

TO = click.option(
    "--to", "url", required=True, metavar="URL", help="An empty database; `-`: its URL is read from stdin."
)


@click.group(invoke_without_command=True)
@click.pass_context
def db(context: click.Context) -> None:
    """Say which database the server uses, and what is in it.

    SQLite beside the server's keys is what a network begins with. To move to PostgreSQL: `shore server stop`,
    `shore server db copy --to URL`, `shore server db use URL`, `shore server start`.
    """
    if context.invoked_subcommand is None:
        need_founded()
        become("database", "show")


@db.command()
@TO
def copy(url: str) -> None:
    """Copy all of the network's database into an empty one, while the server is stopped."""
    _need_stopped()
    become("database", "copy", url)


@db.command()
@click.argument("url", metavar="URL|own")
def use(url: str) -> None:
    """Have the server use another database from its next start; `own`: SQLite beside its keys again.

    URL is such as postgresql://USER:PASSWORD@HOST/DATABASE; `-`: it is read from stdin, so that no password
    is seen among the processes.
    """
    _need_stopped()
    become("database", "use", url)


def _need_stopped() -> None:
    need_founded()
    if programs.is_kept("server"):
        fail("the server runs, and may write meanwhile: `shore server stop` first", FAILED)
