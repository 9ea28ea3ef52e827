"""A script that opens HDF5 files in a process of its own, as the HDF5 library may crash on them.

`obstruction.models.readers.keras.datasets` starts this file as a script. It imports nothing of this
package. Every line of the standard input is a request, and the same line of the standard output is
its answer, both in JSON:

``{"do": "survey", "path", "start", "size", "scratch", "most"}``
    Describe the HDF5 file of ``size`` bytes that begins at byte ``start`` of the file ``path``. The
    answer tells the place of numbers that are stored in one piece. Other numbers are appended to
    the file ``scratch``. A file with more than ``most`` bytes of numbers is refused.
``{"do": "store", "path", "scratch", "changes", "most"}``
    Put numbers of the file ``scratch`` into datasets of the HDF5 file ``path``.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import sys
from typing import IO, Any

import numpy as np

PIECE = 2**24
SPARE = 2**28  # the bytes that the library may need in addition to the numbers
MOST_OBJECTS = 100_000
MOST_DEPTH = 64
GROUP_ATTRIBUTES = ("layer_names", "weight_names")
ROOT_ATTRIBUTES = ("model_config", "keras_version")


class Refused(Exception):
    """The file holds something that is not read; the message says what."""


class Part(io.RawIOBase):
    """A part of a file as a stream of its own."""

    def __init__(self, path: str, start: int, size: int) -> None:
        self.file, self.start, self.size, self.at = open(path, "rb", 0), start, size, 0  # noqa: SIM115

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move to a place in the part."""
        self.at = offset + (0, self.at, self.size)[whence]
        return self.at

    def readinto(self, buffer: Any) -> int:
        """Read into a buffer, and not beyond the part."""
        view = memoryview(buffer).cast("B")
        self.file.seek(self.start + self.at)
        count = self.file.readinto(view[: max(0, self.size - self.at)]) or 0
        self.at += count
        return count


def limit(memory: int, seconds: int) -> None:
    """Let the system end this process if it uses more, on systems that can do so."""
    try:
        import resource
    except ImportError:  # on Windows only the time limit of the calling process remains
        return
    used = 0
    with contextlib.suppress(OSError), open("/proc/self/statm") as statm:
        used = int(statm.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    spent = resource.getrusage(resource.RUSAGE_SELF)
    cpu = int(spent.ru_utime + spent.ru_stime) + 1 + seconds
    limits = {resource.RLIMIT_CORE: 0, resource.RLIMIT_CPU: cpu}
    if used:
        limits[resource.RLIMIT_AS] = used + SPARE + memory
    for kind, amount in limits.items():
        hard = resource.getrlimit(kind)[1]
        soft = amount if hard == resource.RLIM_INFINITY else min(amount, hard)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(kind, (soft, hard))


# --- what is in a file ----------------------------------------------------------------------


def texts(value: Any) -> list[str]:
    """Return the texts in an attribute; other values are left out."""
    values = value.ravel().tolist() if isinstance(value, np.ndarray) else [value]
    found = []
    for item in values:
        if isinstance(item, bytes):
            found.append(item.decode("utf-8", "replace"))
        elif isinstance(item, str):
            found.append(item)
    return found


class Survey:
    """Collects what is in a file, group by group."""

    def __init__(self, scratch: IO[bytes], size: int, most: int) -> None:
        self.scratch, self.size, self.most = scratch, size, most
        self.left = most
        self.tensors: list[dict[str, Any]] = []
        self.attributes: dict[str, dict[str, list[str]]] = {}
        self.passed: list[tuple[str, str]] = []
        self.optimiser = 0
        self.seen: set[int] = set()

    def take(self, amount: int, name: str) -> None:
        """Count the bytes of an answer, and refuse a file with too many."""
        self.left -= amount
        if self.left < 0:
            raise Refused(
                f"{name!r} expands out of proportion to the file: at most "
                f"{self.most:,} bytes are read from it"
            )

    def note_attributes(self, name: str, group: Any) -> None:
        """Keep the attributes of a group that describe its datasets."""
        wanted = {}
        for key in group.attrs:
            plain = key.rstrip("0123456789")  # long lists are spread over several attributes
            own = name.endswith("vars") and key == "name"
            if own or plain in GROUP_ATTRIBUTES or (not name and key in ROOT_ATTRIBUTES):
                wanted[key] = texts(group.attrs[key])
                self.take(sum(map(len, wanted[key])), f"the attribute {key!r}")
        if wanted:
            self.attributes[name] = wanted

    def walk(self, name: str, group: Any, depth: int) -> None:
        """Visit the groups and datasets in a group."""
        import h5py

        if depth > MOST_DEPTH:
            raise Refused("its groups are nested too deeply")
        self.note_attributes(name, group)
        for key in group:
            inner = f"{name}/{key}" if name else key
            link = group.get(key, getlink=True)
            if not isinstance(link, h5py.HardLink):
                self.passed.append((inner, "a link to elsewhere is not followed"))
                continue
            item = group[key]
            address = h5py.h5o.get_info(item.id).addr
            if address in self.seen:
                self.passed.append((inner, "is in the file under another name as well"))
                continue
            self.seen.add(address)
            if len(self.seen) > MOST_OBJECTS:
                raise Refused(f"holds more than {MOST_OBJECTS:,} objects")
            optimiser = inner.split("/")[0] in ("optimizer", "optimizer_weights")
            if isinstance(item, h5py.Group):
                if optimiser:
                    self.optimiser += 1
                else:
                    self.walk(inner, item, depth + 1)
            elif isinstance(item, h5py.Dataset):
                self.dataset(inner, item)

    def dataset(self, name: str, item: Any) -> None:
        """Record where the numbers of a dataset are, or copy them."""
        import h5py

        plan = item.id.get_create_plist()
        if plan.get_external_count() or item.is_virtual:
            raise Refused(f"{name!r} keeps its numbers in other files, which are not opened")
        kind = item.dtype
        brain = kind.kind == "V" and kind.itemsize == 2 and kind.names is None
        if item.shape is None or not (brain or kind.kind in "fiub"):
            self.passed.append((name, f"holds no numbers ({kind})"))
            return
        amount = math.prod(item.shape) * kind.itemsize
        self.take(amount, name)
        entry = {
            "name": name,
            "shape": [int(length) for length in item.shape],
            "dtype": "bfloat16" if brain else kind.newbyteorder("=").name,
            "order": ">" if kind.byteorder == ">" else "<",
            "offset": None,
            "scratch": None,
        }
        self.tensors.append(entry)
        one_piece = plan.get_layout() == h5py.h5d.CONTIGUOUS
        # NumPy's type describes the stored bytes only if it is the same as the library's own type
        as_stored = brain or h5py.h5t.py_create(kind) == item.id.get_type()
        offset = item.id.get_offset() if one_piece and as_stored and kind.kind != "b" else None
        if offset is not None and offset + amount <= self.size:
            entry["offset"] = int(offset)
        elif offset is not None:
            raise Refused(f"damaged ({name!r} ends after the end of the file)")
        else:
            entry["scratch"] = self.scratch.tell()
            if amount:
                self.copy(item)

    def copy(self, item: Any) -> None:
        """Append the numbers of a dataset to the scratch file, in pieces of limited size."""
        if not item.shape:
            self.scratch.write(np.asarray(item[()]).tobytes())
            return
        height = item.chunks[0] if item.chunks else 1
        if item.chunks and math.prod(item.chunks) > self.most:
            raise Refused(f"{item.name!r} is stored in pieces larger than {self.most:,} bytes")
        row = max(1, item.dtype.itemsize * math.prod(item.shape[1:]))
        step = max(height, PIECE // row // height * height)
        for start in range(0, item.shape[0], step):
            self.scratch.write(np.ascontiguousarray(item[start : start + step]).tobytes())


def survey(request: dict[str, Any]) -> dict[str, Any]:
    """Return the description of a file."""
    import h5py

    limit(request["most"], 3 + request["size"] // 2**23)
    path, start, size = request["path"], request["start"], request["size"]
    source = Part(path, start, size) if start else path
    with open(request["scratch"], "wb") as scratch:
        options = {} if start else {"locking": False}
        with h5py.File(source, "r", **options) as file:
            found = Survey(scratch, size, request["most"])
            found.seen.add(h5py.h5o.get_info(file.id).addr)
            found.walk("", file, 0)
    return {
        "tensors": found.tensors,
        "attributes": found.attributes,
        "passed": found.passed,
        "optimiser": found.optimiser,
    }


def store(request: dict[str, Any]) -> dict[str, Any]:
    """Replace numbers in a file."""
    import h5py

    limit(request["most"], 10 + request["most"] // 2**23)
    with h5py.File(request["path"], "r+", locking=False) as file:
        for change in request["changes"]:
            dataset = file[change["name"]]
            values = np.fromfile(
                request["scratch"], dataset.dtype, dataset.size, offset=change["scratch"]
            )
            dataset[...] = values.reshape(dataset.shape)
    return {}


def main() -> None:
    """Answer requests until there are none."""
    work = {"survey": survey, "store": store}
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = work[request["do"]](request)
        except Refused as refusal:
            answer = {"refused": str(refusal)}
        except MemoryError:
            answer = {"refused": "needs more memory than its size lets expect"}
        except Exception as error:  # the library raises errors of many types for damaged files
            answer = {"refused": f"damaged ({type(error).__name__}: {str(error)[:200]})"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
