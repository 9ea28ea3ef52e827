"""Write files atomically: each appears as a whole or not at all."""

from __future__ import annotations

import contextlib
import glob
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO


@contextlib.contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """Open a stream whose content becomes the file ``path`` when the block ends without an error.

    The content is first written to another file of the same folder and flushed to the disk. That
    file then takes the place of ``path`` in one step. Readers therefore see either the old file or
    the new one, and the block itself may read the old one. A file that is replaced keeps its
    permissions. If ``path`` is a symbolic link, the file that it points to is replaced. A pipe or a
    device cannot be replaced and is written to directly.

    After any error, the old file is as it was and the unfinished one is removed. Only a kill may
    leave an unfinished file (see `unfinished`).
    """
    if os.path.exists(path) and not os.path.isfile(path):
        with open(path, "wb") as stream:
            yield stream
        return
    place = Path(os.path.realpath(path))
    beside = place.with_name(f".{place.name}.{secrets.token_hex(4)}.part")
    try:
        with beside.open("xb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        if place.exists():
            beside.chmod(stat.S_IMODE(place.stat().st_mode))
        beside.replace(place)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    flush_folder(place.parent)


def unfinished(path: Path) -> list[Path]:
    """Return the unfinished versions of ``path`` that `whole_file` left because it was killed."""
    return sorted(path.parent.glob(f".{glob.escape(path.name)}.*.part"))


def flush_folder(folder: Path) -> None:
    """Flush the names in a folder to the disk, on systems that can do so."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def writing_to(out: str | os.PathLike[str]) -> Iterator[None]:
    """Turn every `OSError` in the block into a `ValueError` that names the argument ``out``."""
    try:
        yield
    except OSError as error:
        raise ValueError(f"out = {out}: cannot be written ({error.strerror or error})") from None


@contextlib.contextmanager
def replacing(out: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """Open a stream as `whole_file` does, with errors as those of `writing_to`."""
    with writing_to(out), whole_file(out) as stream:
        yield stream
