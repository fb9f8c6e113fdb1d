"""`found` makes a network and prints what a join needs; `serve` is its server, on sockets given to it;
`backup` and `restore` keep it, `database` moves what it knows."""

import argparse
import asyncio
import base64
import json
import os
import resource
import socket
import sys
from pathlib import Path

import msgspec
import uvloop  # noqa: TID251  (a server has no netlink: DESIGN.md §8)

from shore.coordination.backup import backup, restore
from shore.coordination.database import NoDatabase
from shore.coordination.found import NotFounded, database_of, found, read_founded
from shore.coordination.moving import copy, describe, use
from shore.coordination.rest.application import document
from shore.coordination.serve import serve


def main() -> int:
    """0, or 1 with one sentence."""
    parser = argparse.ArgumentParser(prog="shore.coordination")
    commands = parser.add_subparsers(dest="command", required=True)
    serving = commands.add_parser("serve")
    serving.add_argument("--state", type=Path, required=True)
    serving.add_argument("--control-fd", type=int, required=True)
    serving.add_argument("--api-fd", type=int)
    serving.add_argument("--ready-fd", type=int, help="gets one byte once the server serves")
    founding = commands.add_parser("found")
    founding.add_argument("--state", type=Path, required=True)
    founding.add_argument("--name", required=True)
    founding.add_argument("--advertise", nargs="+", action="extend", required=True, metavar="HOST[:PORT]")
    founding.add_argument("--port", type=int, default=443)
    founding.add_argument("--stun-port", type=int, default=3478)
    founding.add_argument("--avoid", action="append", default=[], metavar="PREFIX", help="in use already")
    for command, words in (("backup", "write one file with all of the network"), ("restore", "make it anew")):
        keeping = commands.add_parser(command, help=words)
        keeping.add_argument("--state", type=Path, required=True)
        keeping.add_argument("file", type=Path)
    moving = commands.add_parser("database", help="show which is in use, copy it into another, use another")
    moving.add_argument("--state", type=Path, required=True)
    moving.add_argument("verb", choices=("show", "copy", "use"))
    moving.add_argument("url", nargs="?", default="", help="`-`: a line of stdin")
    commands.add_parser("describe", help="print docs/openapi.json")
    asked = parser.parse_args()
    try:
        _carry_out(asked)
    except (NotFounded, NoDatabase) as error:
        print(f"shore: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"shore: {error.filename or asked.state}: {error.strerror or error}", file=sys.stderr)
        return 1
    return 0


def _carry_out(asked: argparse.Namespace) -> None:
    match asked.command:
        case "serve":
            control = socket.socket(fileno=asked.control_fd)
            api = None if asked.api_fd is None else socket.socket(fileno=asked.api_fd)
            _allow_links()
            uvloop.run(serve(asked.state, control, api, asked.ready_fd))
        case "backup":
            backup(asked.state, asked.file)
            print(f"{asked.file} holds all keys of the network: guard it")
        case "restore":
            print(f"the network is restored, in epoch {restore(asked.state, asked.file)}")
        case "database":
            url = sys.stdin.readline().strip() if asked.url == "-" else asked.url
            asyncio.run(_move(asked.state, asked.verb, url))
        case "describe":
            print(json.dumps(document(), indent=1, sort_keys=True))
        case _:
            made = found(
                asked.state,
                asked.name,
                tuple(asked.advertise),
                asked.port,
                asked.stun_port,
                avoid=tuple(asked.avoid),
            )
            said = {
                "network": base64.b64encode(made.network).decode(),
                "pin": base64.b64encode(made.pin).decode(),
                "root": base64.b64encode(made.root).decode(),
                "addresses": made.addresses,
            }
            print(msgspec.json.encode(said).decode())


def _allow_links() -> None:
    """A link is a descriptor, and the usual soft limit is 1,024."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


async def _move(state: Path, verb: str, url: str) -> None:
    read_founded(state)
    match verb:
        case "copy":
            os.umask(0o077)
            await copy(database_of(state), url, lambda table, done, whole: print(f"{table}  {done}/{whole}"))
            print("all is copied: `shore server db use` has the server take it")
        case "use":
            raised = await use(state, url)
            print("the server uses it from its next start")
            if raised is not None:
                print(f"it was not as new as the one before, so the network is in epoch {raised} now")
        case _:
            print("\n".join(await describe(database_of(state))))


if __name__ == "__main__":
    sys.exit(main())
