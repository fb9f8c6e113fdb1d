"""What commands ask of brains, and how they end where that fails: one sentence and an exit code."""

import sys
from typing import NoReturn

import click

from shore.io import runtime as place
from shore.io.api import NotAllowed, NotRunning, ask
from shore.io.runtime import Runtime
from shore.model.status import TunnelStatus
from shore.wire import api

FAILED, USAGE, NOT_RUNNING, UNREACHABLE, DENIED, TIMED_OUT = 1, 2, 3, 5, 7, 124
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def running(name: str | None) -> list[TunnelStatus]:
    """Status of one tunnel, which must run, or of all that do."""
    found = []
    try:
        names = [name] if name else place.tunnels()
    except PermissionError:
        fail("only root may list the tunnels: name one, or run as root", FAILED)
    for tunnel in names:
        try:
            reply = ask(Runtime(tunnel), api.AskStatus())
        except NotRunning as error:
            if name:
                fail(str(error), NOT_RUNNING)
            if Runtime(tunnel).is_left:
                click.echo(f"note: {error}", err=True)
            continue
        except NotAllowed as error:
            fail(str(error), FAILED)
        except TimeoutError as error:
            fail(str(error), TIMED_OUT)
        if isinstance(reply, api.StatusReply):
            found.append(reply.tunnel)
    return found


def seconds(written: str) -> float:
    """`60s`, `5m`, `1h` or `2d`."""
    number, unit = written[:-1], written[-1:]
    if unit not in UNITS or not number.isdecimal() or int(number) == 0:
        fail(f"`{written}` is no time such as 60s, 5m or 1h", USAGE)
    return float(int(number) * UNITS[unit])


def obtain(name: str, request: api.Request, *, within: float = 10.0) -> api.Reply:
    """Have a brain do something, or end with one sentence."""
    runtime = Runtime(name)
    try:
        reply = ask(runtime, request, within=within)
    except NotRunning as error:
        fail(f"{error}{'' if runtime.is_left else ': see `shore status`'}", NOT_RUNNING)
    except NotAllowed as error:
        fail(str(error), FAILED)
    except TimeoutError as error:
        fail(str(error), TIMED_OUT)
    if isinstance(reply, api.Failed):
        fail(reply.reason, FAILED)
    return reply


def fail(reason: str, code: int) -> NoReturn:
    """End here."""
    click.echo(f"shore: {reason}", err=True)
    sys.exit(code)
