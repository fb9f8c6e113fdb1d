"""Servers of tests, forked from a process that has read their modules already.

A server is a process of its own in the tests as well, but to read its modules takes longer than most tests.
"""

import multiprocessing
import sys
from multiprocessing.reduction import DupFd
from pathlib import Path
from typing import Any

from shore.coordination.__main__ import main

_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload(["tests.coordination.forked"])


def start(state: Path, control: int, api: int, ready: int) -> Any:
    """`python -m shore.coordination serve` with these descriptors, which stay open here; a Process."""
    descriptors = {"--control-fd": control, "--api-fd": api, "--ready-fd": ready}
    # Descriptors can only be handed over while a process is being started.
    process = _forks.Process(target=_serve, args=(str(state), *(_Given(fd) for fd in descriptors.values())))
    process.start()
    return process


class _Given:
    def __init__(self, number: int) -> None:
        self._number = number

    def __reduce__(self) -> tuple[Any, ...]:
        return _take, (DupFd(self._number),)


def _take(given: Any) -> int:
    return int(given.detach())


def _serve(state: str, control: int, api: int, ready: int) -> None:
    words = ("serve", "--state", state, "--control-fd", control, "--api-fd", api, "--ready-fd", ready)
    sys.argv = ["shore.coordination", *map(str, words)]
    sys.exit(main())
