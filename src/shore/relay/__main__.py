"""`python -m shore.relay serve`: one relay, unprivileged; whoever starts it opens its ports. `join` makes
what a further relay of a network starts from."""

import asyncio
import resource
import sys
from pathlib import Path

import click
import uvloop  # noqa: TID251  (a relay has no netlink, and its loop is its speed: DESIGN.md §8)

from shore._native import TlsIdentity
from shore.relay import join as joining
from shore.relay.serve import BadConfig, Descriptors, Relay, load
from shore.wire.token import parse_token


@click.group()
def main() -> None:
    """A relay of a Shore network."""


@main.command()
@click.option(
    "--config", type=click.Path(path_type=Path), required=True, help="relay.json; keys lie beside it."
)
@click.option("--tls-fd", type=int, multiple=True, required=True, help="A listening TCP socket.")
@click.option("--udp-fd", type=int, multiple=True, help="A bound UDP socket.")
@click.option("--metrics-fd", type=int, help="A listening unix socket for Prometheus' text.")
@click.option("--ready-fd", type=int, help="Gets one byte once the relay serves.")
def serve(
    config: Path,
    tls_fd: tuple[int, ...],
    udp_fd: tuple[int, ...],
    metrics_fd: int | None,
    ready_fd: int | None,
) -> None:
    """Forward between nodes until SIGTERM."""
    try:
        loaded = load(config)
        identity = _identity(config.parent)
    except BadConfig as error:
        print(f"shore relay: {error}", file=sys.stderr)
        raise SystemExit(1) from None

    # A connection is a descriptor, and the usual soft limit is 1,024.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))

    async def run() -> None:
        await Relay(config, loaded, identity).run(Descriptors(tls_fd, udp_fd, metrics_fd, ready_fd))

    uvloop.run(run())


@main.command()
@click.option("--state", type=click.Path(path_type=Path), required=True, help="STATE/relay is made.")
@click.option("--name", required=True, help="What the relay shall be called.")
@click.option("--advertise", multiple=True, required=True, metavar="HOST[:PORT]", help="Where it is.")
@click.option("--port", type=int, default=443, help="The TCP port.")
@click.option("--stun-port", type=int, default=3478, help="The UDP port.")
@click.option("--within", type=float, default=30.0, help="Seconds to try for.")
def join(
    *, state: Path, name: str, advertise: tuple[str, ...], port: int, stun_port: int, within: float
) -> None:
    """Enrol with the token on stdin; prints our standing."""
    plan = joining.Plan(name, advertise, port, stun_port, within)
    try:
        token = parse_token(sys.stdin.read())
        print(asyncio.run(joining.join(state, token, plan)))
    except (joining.NotJoined, ValueError) as error:
        print(f"shore: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    except OSError as error:
        print(f"shore: {error.filename or state}: {(error.strerror or '').lower()}", file=sys.stderr)
        raise SystemExit(1) from None


def _identity(directory: Path) -> TlsIdentity:
    try:
        return TlsIdentity((directory / "tls.crt").read_bytes(), (directory / "tls.key").read_bytes())
    except OSError as error:
        raise BadConfig(f"{error.filename} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise BadConfig(str(error)) from None


if __name__ == "__main__":
    main(prog_name="python -m shore.relay")
