"""`found` makes a network and prints what a join needs; `serve` is its server, on sockets given to it."""

import argparse
import asyncio
import base64
import socket
import sys
from pathlib import Path

import msgspec

from shore.coordination.found import NotFounded, found
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
    asked = parser.parse_args()
    try:
        if asked.command == "serve":
            control = socket.socket(fileno=asked.control_fd)
            api = None if asked.api_fd is None else socket.socket(fileno=asked.api_fd)
            asyncio.run(serve(asked.state, control, api, asked.ready_fd))
            return 0
        made = found(asked.state, asked.name, tuple(asked.advertise), asked.port, asked.stun_port)
    except NotFounded as error:
        print(f"shore: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"shore: {asked.state}: {error.strerror}", file=sys.stderr)
        return 1
    said = {
        "network": base64.b64encode(made.network).decode(),
        "pin": base64.b64encode(made.pin).decode(),
        "root": base64.b64encode(made.root).decode(),
        "addresses": made.addresses,
    }
    print(msgspec.json.encode(said).decode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
