"""Run the hooks of wg-quick: root's own shell commands."""

import asyncio
import contextlib
import os
import signal

TOLD = 2000


class HookFailed(Exception):
    """One sentence that names the hook, its exit code and what it said."""


async def run_hooks(kind: str, commands: tuple[str, ...], name: str) -> None:
    """Run `commands` in order with bash, `%i` replaced. Raises HookFailed at the first that fails.

    A program that a hook leaves behind is not waited for. Cancelled, the hook is killed with what it began.
    """
    for command in commands:
        with os.fdopen(os.memfd_create("hook"), "rb") as output:
            code = await _run(command.replace("%i", name), output.fileno())
            output.seek(max(os.fstat(output.fileno()).st_size - TOLD, 0))
            said = output.read().decode(errors="replace").strip()
        if code != 0:
            raise HookFailed(f"{kind} `{command}` exited with {code}{': ' + said if said else ''}")


async def _run(command: str, output: int) -> int:
    # Our own way to find modules is no business of theirs.
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    process = await asyncio.create_subprocess_exec(
        *("bash", "-c", command),
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=True,
    )
    try:
        return await process.wait()
    except asyncio.CancelledError:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        raise
