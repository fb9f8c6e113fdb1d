"""When the keeper calls a brain silent: not while it starts on a machine that has no time for it."""

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from shore.node import keeper


@contextlib.contextmanager
def watched() -> Iterator[tuple[threading.Thread, int]]:
    """A keeper's watch over what lives for a minute if it is let, and where its signs are written."""
    brain = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(60)"])
    reader, writer = os.pipe()
    watching = threading.Thread(target=keeper._watch, args=(os.pidfd_open(brain.pid), reader))
    watching.start()
    try:
        yield watching, writer
    finally:
        brain.kill()
        watching.join()
        os.close(writer)


def test_a_brain_that_was_not_heard_yet_has_longer_than_one_that_falls_silent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(keeper, "SILENT_FOR", 0.2)
    with watched() as (watching, writer):
        watching.join(1.0)
        assert watching.is_alive()
        os.write(writer, b".")
        watching.join(10.0)
        assert not watching.is_alive()


def test_a_brain_that_never_says_anything_is_ended_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, "HEARD_WITHIN", 0.2)
    with watched() as (watching, _):
        watching.join(10.0)
        assert not watching.is_alive()
