"""What people should know about a tunnel, in a sentence each, with what to do."""

from collections.abc import Iterator

from shore.core.collisions import collisions
from shore.core.node import Node
from shore.core.reconcile import uncovered_family
from shore.io.host.behind import not_forwarded, unforwarded


def notes_of(node: Node, confirm_left_s: float | None) -> tuple[str, ...]:
    """Of one tunnel; `confirm_left_s` is how long somebody may yet confirm it, if somebody has to."""
    return tuple(_notes(node, confirm_left_s))


def _notes(node: Node, confirm_left_s: float | None) -> Iterator[str]:
    config = node.config
    if config is None:
        return
    if confirm_left_s is not None:
        yield f"goes down in {confirm_left_s:.0f} s unless `shore confirm {config.name}`"
    family = uncovered_family(config)
    if family is not None:
        yield f"IPv{family} is left alone: AllowedIPs covers the other family only"
    for parameter in not_forwarded(config.advertised):
        yield unforwarded(parameter)
    waiting = [prefix for prefix in config.advertised if prefix not in config.approved]
    if waiting:
        yield f"{', '.join(waiting)} waits for `shore nodes routes --approve` on the network's server"
    yield from collisions(config, node.underlay.links or ())
