"""`shore policy`: who may reach whom. `check` reads a file here; the rest asks the coordination server of
this machine. A file that is wrong never comes into force: the last good one stays."""

import os
import sys
from pathlib import Path

import click
import msgspec

from shore.cli.asking import DENIED, FAILED, NOT_RUNNING, TIMED_OUT, fail
from shore.io import serverapi
from shore.wire.policy import ROUTE, Changes, Checked, Complaint, PolicyText, Question, Trace

FILE = click.argument("file", metavar="FILE")
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON (docs/policy.md).")


@click.group()
def policy() -> None:
    """Say who may reach whom in the network (docs/policy.md)."""


@policy.command()
@FILE
def check(file: str) -> None:
    """Say whether FILE is right, without a server; its `tests` are run as far as they need no members."""
    os.execv(sys.executable, [sys.executable, "-m", "shore.coordination.policy", file])


@policy.command(name="set")
@FILE
def put(file: str) -> None:
    """Put FILE in force, if it is right and its `tests` pass."""
    checked = msgspec.json.decode(_ask("PUT", "", _read(file), file), type=Checked)
    _note(checked.notes)
    click.echo(f"{file} is in force")


@policy.command()
def get() -> None:
    """Print the file in force."""
    click.echo(_in_force().text, nl=False)


@policy.command()
def test() -> None:
    """Run the `tests` of the file in force with the members that there are."""
    checked = msgspec.json.decode(_ask("POST", "/check", _in_force(), "the policy"), type=Checked)
    _note(checked.notes)
    click.echo("the policy is right, and its tests pass")


@policy.command()
@FILE
@JSON
def diff(file: str, as_json: bool) -> None:
    """Say who would gain and who would lose what if FILE were in force."""
    found = msgspec.json.decode(_ask("POST", "/diff", _read(file), file), type=Changes)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())
        return
    _note(found.notes)
    for change in found.changes:
        pair = f"{change.source} -> {change.destination}"
        lines = [f"+ {pair}: {change.gained}"] if change.gained else []
        click.echo("\n".join(lines + ([f"- {pair}: {change.lost}"] if change.lost else [])))
    if not found.changes:
        click.echo("nobody gains or loses anything")


@policy.command()
@click.argument("source", metavar="SRC")
@click.argument("destination", metavar="DST")
@click.argument("port", type=click.IntRange(0, 65535))
@click.option("--proto", default="tcp", show_default=True, help="tcp, udp, icmp, or a number.")
@JSON
def trace(source: str, destination: str, port: int, proto: str, as_json: bool) -> None:
    """Say which line lets SRC reach DST at PORT, or that none does (code 7).

    SRC and DST are members, by name or address.
    """
    question = Question(source, destination, port, proto)
    found = msgspec.json.decode(_ask("POST", "/trace", question), type=Trace)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())
    else:
        click.echo(found.sentence)
        if found.words is not None:
            click.echo(f"  {found.words}")
    sys.exit(0 if found.admitted else DENIED)


def _in_force() -> PolicyText:
    return msgspec.json.decode(_ask("GET", ""), type=PolicyText)


def _read(file: str) -> PolicyText:
    try:
        return PolicyText(Path(file).read_text(encoding="utf-8"))
    except OSError as error:
        fail(f"{file} cannot be read: {error.strerror}", FAILED)
    except UnicodeDecodeError:
        fail(f"{file} is no UTF-8 text", FAILED)


def _ask(method: str, route: str, body: msgspec.Struct | None = None, file: str = "") -> bytes:
    try:
        return serverapi.ask(method, ROUTE + route, body)
    except serverapi.NoServer as error:
        fail(str(error), NOT_RUNNING)
    except serverapi.Refused as error:
        fail(_worded(error.complaint, file), FAILED)
    except TimeoutError as error:
        fail(str(error), TIMED_OUT)


def _worded(complaint: Complaint, file: str) -> str:
    if complaint.line is None:
        return complaint.sentence
    return f"{file}:{complaint.line}:{complaint.column}: {complaint.sentence}"


def _note(notes: tuple[str, ...]) -> None:
    for note in notes:
        click.echo(f"note: {note}", err=True)
