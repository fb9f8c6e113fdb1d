"""The local API towards who asks nonsense."""

import asyncio
import contextlib
from pathlib import Path
from unittest.mock import Mock

import pytest

from shore.io.runtime import Runtime
from shore.node.api import Api
from shore.wire import api


async def test_a_line_that_is_too_long_ends_its_connection_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raised: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: raised.append(context))
    monkeypatch.setenv("SHORE_RUNTIME_DIR", str(tmp_path))
    runtime = Runtime("wg0")
    runtime.make()
    await Api(runtime, Mock(), Mock()).serve()
    for path in (runtime.brain_socket, runtime.status_socket):
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b"x" * (api.LONGEST_LINE + 1) + b"\n")
        async with asyncio.timeout(10):
            with contextlib.suppress(ConnectionResetError):
                assert await reader.read() == b""
        writer.close()
    assert raised == []
