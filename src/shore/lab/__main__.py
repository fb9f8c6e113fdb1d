"""`shore lab ...`: networks in namespaces, with faults on time, and a report.

Exit codes: 0 done, 1 it failed or an expectation did not hold, 2 wrong usage or a file that is no plan,
130 interrupted.
"""

import os
import signal
import sys
import time
from pathlib import Path
from typing import NoReturn

import click
import msgspec

from shore.lab import report as paper
from shore.lab import running
from shore.lab.catalogue import CATALOGUE
from shore.lab.laboratory import Laboratory
from shore.lab.net import LabFailed
from shore.lab.plan import ImpossiblePlan, Plan, parse
from shore.lab.rights import obtain, require_tools
from shore.lab.scenario import Report, Run, build, perform, verify

FAILED, USAGE, INTERRUPTED = 1, 2, 130


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
def main() -> None:
    """Networks of hosts, NATs and bad links in namespaces, and what tunnels make of them."""


@main.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the whole report as JSON.")
@click.option("--no-check", is_flag=True, help="Do not measure first whether the network is as asked.")
@click.option("--stay", is_flag=True, help="Build the network only, and keep it until interrupted.")
@click.option("--out", type=click.Path(path_type=Path), help="Where to write the report.")
def run(file: Path, as_json: bool, no_check: bool, stay: bool, out: Path | None) -> None:
    """Carry out a plan: build, check, ping, break, judge, report."""
    plan = _plan(file)
    if stay:
        _stay(plan)
        return
    findings = [] if no_check else verify(plan)
    runs = []
    for candidate in plan.candidates():
        if not as_json:
            click.echo(f"{candidate}: {plan.seconds:g} s", err=True)
        runs.append(_announced(plan, candidate))
    done = Report(plan.name, plan.seed, time.time(), tuple(findings), tuple(runs))
    stamp = time.strftime("%Y%m%dT%H%M%S")
    name = plan.name.replace("/", "-").replace(" ", "-")
    directory = paper.store(done, out or running.root() / f"{name}-report-{stamp}")
    if as_json:
        click.echo(msgspec.json.encode(done).decode())
    else:
        click.echo(f"{paper.table(done)}\npage: {directory / paper.PAGE}")
    if not done.is_right():
        _fail("something was not as expected", FAILED)


@main.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def check(file: Path, as_json: bool) -> None:
    """Build the network of a plan and measure whether it is what was asked."""
    findings = verify(_plan(file))
    if as_json:
        click.echo(msgspec.json.encode(findings).decode())
    else:
        rows = [("of", "what", "asked", "found", "")]
        rows += [(f.subject, f.what, f.asked, f.found, "" if f.right else "WRONG") for f in findings]
        click.echo("\n".join(paper.columns(rows)))
    if not all(finding.right for finding in findings):
        _fail("the network is not what was asked", FAILED)


@main.command()
@click.option("--json", "as_json", is_flag=True, help="Print the catalogue as JSON.")
def faults(as_json: bool) -> None:
    """List the faults that a plan may name."""
    if as_json:
        click.echo(msgspec.json.encode(list(CATALOGUE.values())).decode())
        return
    rows = [("fault", "on", "what it does")]
    click.echo("\n".join(paper.columns(rows + [(f.name, f.on, f.words) for f in CATALOGUE.values()])))


@main.command()
@click.argument("host")
def shell(host: str) -> None:
    """Open a shell in a host of a running laboratory."""
    command = running.shell_in(host)
    os.execvp(command[0], command)


@main.command()
@click.argument("directory", type=click.Path(path_type=Path), required=False)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def report(directory: Path | None, as_json: bool) -> None:
    """Print a report as a table and write its page again; the latest one if none is named."""
    directory = directory or paper.latest(running.root())
    read = paper.load(directory)
    if as_json:
        click.echo(msgspec.json.encode(read).decode())
        return
    paper.store(read, directory)
    click.echo(f"{paper.table(read)}\npage: {directory / paper.PAGE}")


def _plan(file: Path) -> Plan:
    try:
        return parse(file.read_text())
    except (OSError, UnicodeDecodeError) as error:
        _fail(f"{file} cannot be read: {getattr(error, 'strerror', None) or error}", USAGE)
    except ImpossiblePlan as error:
        _fail(f"{file}: {error}", USAGE)


def _announced(plan: Plan, candidate: str) -> Run:
    """A run that `shore lab shell` can find while it lasts."""
    files = []

    def announce(lab: Laboratory) -> None:
        files.append(running.announce(plan.name, {name: host.namespace for name, host in lab.hosts.items()}))

    try:
        return perform(plan, candidate, on_up=announce)
    finally:
        for file in files:
            file.unlink(missing_ok=True)


def _stay(plan: Plan) -> None:
    with Laboratory(plan.name, seed=plan.seed) as lab:
        build(lab, plan)
        file = running.announce(plan.name, {name: host.namespace for name, host in lab.hosts.items()})
        try:
            hosts = ", ".join(lab.hosts)
            click.echo(f"{plan.name} stands with {hosts}: `shore lab shell HOST`, and Ctrl-C to end it")
            signal.pause()
        finally:
            file.unlink(missing_ok=True)


def _fail(reason: str, code: int) -> NoReturn:
    click.echo(f"shore lab: {reason}", err=True)
    sys.exit(code)


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def start(words: list[str]) -> None:
    """The whole command, errors told in one sentence."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    try:
        if words[:1] in (["run"], ["check"]) and not {"-h", "--help"} & set(words):
            require_tools()
            obtain(words)
        main.main(args=words, prog_name="shore lab", standalone_mode=False)
    except click.ClickException as error:
        _fail(error.format_message(), USAGE)
    except (LabFailed, OSError) as error:
        notes = "".join(f" ({note})" for note in getattr(error, "__notes__", []))
        _fail(f"{error}{notes}", FAILED)
    except (KeyboardInterrupt, click.Abort):
        _fail("interrupted, and everything is removed", INTERRUPTED)


if __name__ == "__main__":
    start(sys.argv[1:])
