"""Find and read a tunnel's file. It holds a key and root's hooks: nobody else may be able to write it."""

import os
import stat
from pathlib import Path

from shore import _native
from shore.io.user import unmapped_owners
from shore.model.config import TunnelConfig
from shore.wire import wgconf

DIRECTORIES = (Path("/etc/shore"), Path("/etc/wireguard"))
LARGEST = 4 << 20


class Unreadable(Exception):
    """One sentence that names the cause and the next step."""


def find(conf_or_name: str) -> Path:
    """`wg0` is looked for in /etc/shore, then /etc/wireguard; anything with a slash or `.conf` is a path."""
    if "/" in conf_or_name or conf_or_name.endswith(".conf"):
        return Path(conf_or_name)
    candidates = [directory / f"{conf_or_name}.conf" for directory in DIRECTORIES]
    for candidate in candidates:
        if candidate.exists():
            return candidate
    raise Unreadable(f"there is no {' and no '.join(map(str, candidates))}: name the file itself")


def read(path: Path) -> tuple[TunnelConfig, list[str]]:
    """Read, check and parse. Raises Unreadable, ConfigError."""
    try:
        whole = path.resolve(strict=True)
        _refuse_writable(whole)
        with whole.open("rb") as file:
            content = file.read(LARGEST + 1)
    except OSError as error:
        raise Unreadable(f"{path}: {(error.strerror or str(error)).lower()}") from None
    if len(content) > LARGEST:
        raise Unreadable(f"{path}: larger than {LARGEST} bytes, which no configuration is")
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise Unreadable(f"{path}: not a text file in UTF-8") from None
    name = path.name.removesuffix(".conf")
    config, warnings = wgconf.parse(text, name, source=str(path), public_key=_native.public_key)
    if whole.stat().st_mode & stat.S_IROTH:
        warnings.append(f"{path}: holds a private key and everybody may read it: chmod 600 {path}")
    return config, warnings


def _refuse_writable(path: Path) -> None:
    trusted = {0, os.geteuid(), int(os.environ.get("SUDO_UID", "0")), *unmapped_owners()}
    for place in (path, *path.parents):
        status = place.stat()
        kind = "directory" if stat.S_ISDIR(status.st_mode) else "file"
        if place == path and kind == "directory":
            raise Unreadable(f"{path} is a directory: name the file in it")
        # In a sticky directory (/tmp) others cannot replace what is ours.
        others = stat.S_IWOTH | (stat.S_IWGRP if status.st_gid != 0 else 0)
        if status.st_mode & others and not status.st_mode & stat.S_ISVTX:
            raise Unreadable(f"the {kind} {place} may be written by others: chmod go-w {place}")
        if status.st_uid not in trusted:
            raise Unreadable(f"the {kind} {place} belongs to another user: chown root {place}")
