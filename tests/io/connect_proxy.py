"""A small proxy that knows CONNECT and nothing else: `python -m tests.io.connect_proxy HOST PORT`."""

import asyncio
import contextlib
import sys

PASSED = b"HTTP/1.1 200 Connection established\r\n\r\n"


class ConnectProxy:
    """`async with` it; `asked` are the addresses that it was asked for, in order."""

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        self.asked: list[str] = []
        self._place = (host, port)

    async def __aenter__(self) -> "ConnectProxy":
        self._server = await asyncio.start_server(self._serve, *self._place)
        host, port = self._server.sockets[0].getsockname()[:2]
        self.url = f"http://{host}:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        address = head.split()[1].decode()
        self.asked.append(address)
        host, _, port = address.rpartition(":")
        with contextlib.suppress(OSError):
            far_reader, far_writer = await asyncio.open_connection(host.strip("[]"), int(port))
            writer.write(PASSED)
            await asyncio.gather(_pump(reader, far_writer), _pump(far_reader, writer))
        writer.close()


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while content := await source.read(65536):
            sink.write(content)
            await sink.drain()
    sink.close()


async def _run(host: str, port: int) -> None:
    async with ConnectProxy(host, port):
        print("ready", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_run(sys.argv[1], int(sys.argv[2])))
