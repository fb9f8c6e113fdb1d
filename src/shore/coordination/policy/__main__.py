"""`python -m shore.coordination.policy FILE`: whether a policy file is right, without a server."""

import sys
from pathlib import Path

from shore.coordination.policy import PolicyError, compile

RIGHT, WRONG, USAGE = 0, 1, 2


def main(arguments: list[str]) -> int:
    """Print what is to be said of the file; return the exit code."""
    if len(arguments) != 1:
        print("shore: name one policy file", file=sys.stderr)
        return USAGE
    (file,) = arguments
    try:
        policy = compile(Path(file).read_text(encoding="utf-8"))
    except PolicyError as error:
        print(f"shore: {file}:{error.line}:{error.column}: {error.sentence}", file=sys.stderr)
        return WRONG
    except OSError as error:
        print(f"shore: {file} cannot be read: {error.strerror}", file=sys.stderr)
        return WRONG
    except UnicodeDecodeError:
        print(f"shore: {file} is no UTF-8 text", file=sys.stderr)
        return WRONG
    for note in policy.notes:
        print(f"note: {note}", file=sys.stderr)
    count = len(policy.lines)
    print(f"{file}: right ({count} {'line lets' if count == 1 else 'lines let'} members in)")
    return RIGHT


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
