"""Run the hooks of wg-quick: root's own shell commands."""

import asyncio
import os

TOLD = 2000


class HookFailed(Exception):
    """One sentence that names the hook, its exit code and what it said."""


async def run_hooks(kind: str, commands: tuple[str, ...], name: str) -> None:
    """Run `commands` in order with bash, `%i` replaced. Raises HookFailed at the first that fails."""
    # Our own way to find modules is no business of theirs.
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    for command in commands:
        process = await asyncio.create_subprocess_exec(
            "bash",
            "-c",
            command.replace("%i", name),
            env=environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate()
        if process.returncode != 0:
            said = output.decode(errors="replace").strip()[-TOLD:]
            raise HookFailed(
                f"{kind} `{command}` exited with {process.returncode}{': ' + said if said else ''}"
            )
