"""`python -m shore.coordination found`: make a network, and print what a join needs as one JSON object."""

import argparse
import base64
import sys
from pathlib import Path

import msgspec

from shore.coordination.found import NotFounded, found


def main() -> int:
    """0, or 1 with one sentence."""
    parser = argparse.ArgumentParser(prog="shore.coordination")
    founding = parser.add_subparsers(dest="command", required=True).add_parser("found")
    founding.add_argument("--state", type=Path, required=True)
    founding.add_argument("--name", required=True)
    founding.add_argument("--advertise", action="append", required=True, metavar="HOST[:PORT]")
    founding.add_argument("--port", type=int, default=443)
    founding.add_argument("--stun-port", type=int, default=3478)
    asked = parser.parse_args()
    try:
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
