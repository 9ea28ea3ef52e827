"""Run the command ``obstruction`` as ``python -m obstruction``."""

from __future__ import annotations

import sys
from typing import NoReturn


def main() -> NoReturn:
    """Run the command line and exit, with 2 or 130 if its modules cannot be loaded."""
    try:
        from obstruction.cli import main as run
    except KeyboardInterrupt:
        sys.exit(130)
    except (ImportError, OSError, MemoryError) as error:
        said = " ".join(f"{type(error).__name__}: {error}".split())
        sys.exit(_told(f"obstruction: cannot be loaded ({said})"))
    run()


def _told(message: str) -> int:
    if sys.stderr is not None:
        print(message, file=sys.stderr)
    return 2


if __name__ == "__main__":
    main()
