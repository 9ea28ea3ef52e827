"""Compile kernels with a cache on disk that may be damaged, full or read-only.

Numba trusts the files of its cache: a damaged one ends every later run, a flipped bit in the
machine code may give wrong counts, and a full disk ends the first run. Here each entry has a
checksum and states its signature and the source that it was compiled from. An entry that does not
fit is removed with a warning and compiled again. If it cannot be removed, or the new one cannot be
written, the function does without the cache.
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import os
import pickle
import warnings
from pathlib import Path

from numba import njit
from numba.core.caching import CompileResultCacheImpl, FunctionCache
from numba.core.serialize import dumps

_PREFIX = "checked-"


class CompilerCacheWarning(UserWarning):
    """The warning that the compiler's cache is damaged or cannot be written."""


class _CheckedEntries(CompileResultCacheImpl):
    """Entries of the cache with a checksum, in files whose names start with `_PREFIX`."""

    def get_filename_base(self, fullname, abiflags):
        return _PREFIX + super().get_filename_base(fullname, abiflags)

    def reduce(self, cres):
        data = dumps((self.locator.get_source_stamp(), super().reduce(cres)))
        return hashlib.sha256(data).digest(), data

    def rebuild(self, target_context, payload):
        checksum, data = payload
        if hashlib.sha256(data).digest() != checksum:
            raise ValueError("its checksum does not fit")
        stamp, reduced = pickle.loads(data)
        if stamp != self.locator.get_source_stamp():
            raise ValueError("it was compiled from another source")
        return super().rebuild(target_context, reduced)


class CheckedCache(FunctionCache):
    """The cache of a function, which never fails."""

    _impl_class = _CheckedEntries

    def load_overload(self, sig, target_context):
        """Return the compiled function, None if it is missing or damaged."""
        try:
            found = super().load_overload(sig, target_context)
            if found is not None and tuple(found.signature.args) != tuple(sig):
                raise ValueError("it is of another signature")
        except Exception as error:  # there are many ways in which pickle fails on damaged files
            self._give_up("is damaged", error)
            return None
        return found

    def save_overload(self, sig, data):
        """Write a compiled function, or remove what is left of it."""
        try:
            super().save_overload(sig, data)
        except Exception as error:
            self._give_up("cannot be written", error)
            self.disable()

    def _give_up(self, what, error):
        """Remove the files of the function, and tell the first time in the process."""
        try:
            for path in self._files():
                os.unlink(path)
        except OSError:
            self.disable()
        if not _told:
            _told.append(self.cache_path)
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            warnings.warn(
                f"the compiler's cache in {self.cache_path} {what} ({reason}); kernels are "
                "compiled again, which takes up to a minute",
                CompilerCacheWarning,
                stacklevel=2,
            )

    def _files(self):
        base = Path(self.cache_path) / glob.escape(self._impl.filename_base)
        return [path for end in (".nbi", ".*.nbc") for path in glob.glob(f"{base}{end}")]


_told: list[str] = []


def compiled(function, **options):
    """Compile without the interpreter lock, with a cache on disk if possible."""
    dispatcher = njit(nogil=True, error_model="numpy", **options)(function)
    if hasattr(dispatcher, "enable_caching"):  # not if NUMBA_DISABLE_JIT is set
        with contextlib.suppress(RuntimeError, OSError):  # there is no folder for the cache
            dispatcher._cache = CheckedCache(function)  # as its method enable_caching does
    return dispatcher
