"""The compiler's cache: damaged, of another signature or source, full or read-only."""

from __future__ import annotations

import errno
import importlib.util
import os
import pickle
import random
import shutil
import subprocess
import sys
import warnings

import numba
import pytest
from numba.core.registry import cpu_target

from obstruction.sampling.kernels import compiling
from obstruction.sampling.kernels.compiling import CompilerCacheWarning

SOURCE = """
from obstruction.sampling.kernels.compiling import compiled

def double(x):
    return 2 * x

def twice():
    return compiled(double)
"""


@pytest.fixture
def fresh(tmp_path, monkeypatch):
    """Return a function that forgets what is compiled, with a cache of its own on the disk."""
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(compiling, "_told", [])
    file = tmp_path / "doubling.py"
    file.write_text(SOURCE)
    spec = importlib.util.spec_from_file_location("doubling", file)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "doubling", module)
    spec.loader.exec_module(module)

    def fresh():
        compiling._told.clear()
        return module.twice()

    return fresh


def files(tmp_path, end):
    return sorted(tmp_path.glob(f"cache/*/checked-doubling.double-*{end}"))


def hits(function) -> int:
    return sum(function.stats.cache_hits.values())


def test_a_sound_cache_is_used(fresh, tmp_path):
    assert fresh()(2) == 4
    assert (len(files(tmp_path, ".nbi")), len(files(tmp_path, ".nbc"))) == (1, 1)
    again = fresh()
    assert (again(3), hits(again)) == (6, 1)


def emptied(path):
    path.write_bytes(b"")


def halved(path):
    os.truncate(path, path.stat().st_size // 2)


def flipped(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 16
    path.write_bytes(data)


def text(path):
    path.write_text("no pickle\n")


def hostile(path):
    path.write_bytes(pickle.dumps(numba.__version__) + b"cnosuchmodule\nname\n.")


def a_folder(path):
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("end", [".nbi", ".nbc"])
@pytest.mark.parametrize("damage", [emptied, halved, flipped, text, hostile, a_folder])
def test_a_damaged_entry_is_told_removed_and_compiled_again(damage, end, fresh, tmp_path):
    fresh()(2)
    (path,) = files(tmp_path, end)
    damage(path)
    function = fresh()
    if damage is a_folder and end == ".nbc":  # as if it were missing
        with pytest.warns(CompilerCacheWarning, match="cannot be written"):
            assert function(3) == 6
    elif damage is flipped and end == ".nbi":  # it may be the key, which is then another
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CompilerCacheWarning)
            assert function(3) == 6
    else:
        with pytest.warns(CompilerCacheWarning, match="damaged") as told:
            assert function(3) == 6
        assert len(told) == 1
        assert str(tmp_path) in str(told[0].message)
    assert (function(4), hits(function)) == (8, 0)
    if damage is a_folder:
        os.rmdir(path)
    for _ in range(2):
        last = fresh()
        assert last(5) == 10
    assert hits(last) == 1


def test_the_warning_comes_once(fresh, tmp_path):
    fresh()(2), fresh()(2.0)
    for path in files(tmp_path, ".nbc"):
        emptied(path)
    function = fresh()
    with pytest.warns(CompilerCacheWarning) as told:
        assert (function(3), function(1.5)) == (6, 3.0)
    assert len(told) == 1


def test_code_of_another_signature_is_not_taken(fresh, tmp_path):
    """Two processes that save at once can leave an index that names the other's code."""
    function = fresh()
    function(2), function(0.5)
    one, other = files(tmp_path, ".nbc")
    shutil.copy(one, other)
    function = fresh()
    with pytest.warns(CompilerCacheWarning, match="another signature"):
        assert (function(3), function(0.5)) == (6, 1.0)


def test_code_of_another_source_is_not_taken(fresh, tmp_path):
    """A kill between index and code leaves the code of an older source."""
    fresh()(2)
    (path,) = files(tmp_path, ".nbc")
    _, data = pickle.loads(path.read_bytes())
    _, reduced = pickle.loads(data)
    data = compiling.dumps((b"another stamp", reduced))
    path.write_bytes(compiling.dumps((compiling.hashlib.sha256(data).digest(), data)))
    with pytest.warns(CompilerCacheWarning, match="another source"):
        assert fresh()(3) == 6


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_cache_that_cannot_be_written(number, fresh, tmp_path, monkeypatch):
    function = fresh()
    replace = os.replace

    def fails(source, target):
        if str(target).endswith(".nbc"):
            raise OSError(number, os.strerror(number))
        replace(source, target)

    monkeypatch.setattr(os, "replace", fails)
    with pytest.warns(CompilerCacheWarning, match=rf"written \({os.strerror(number)}\)") as told:
        assert (function(2), function(0.5)) == (4, 1.0)
    assert len(told) == 1
    assert files(tmp_path, "") == []  # an index without its code may name an older one


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")
def test_a_small_disk(fresh, tmp_path):
    place = tmp_path / "cache"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=12k", "tmpfs", str(place)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        function = fresh()
        with pytest.warns(CompilerCacheWarning, match="No space left on device"):
            assert function(2) == 4
        assert files(tmp_path, "") == []
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_no_folder_for_the_cache(fresh, tmp_path, monkeypatch):
    (tmp_path / "cache").write_text("a file in its place")
    assert fresh()(2) == 4  # numba takes the next of its places

    def nowhere(function):
        raise RuntimeError("cannot cache function: no locator available")

    monkeypatch.setattr(compiling, "CheckedCache", nowhere)
    assert fresh()(2) == 4


@pytest.mark.slow
@pytest.mark.parametrize("end", [".nbi", ".nbc"])
def test_3000_mutations_of_the_cache(end, fresh, tmp_path, monkeypatch):
    """Every one is told and removed, or carries no meaning; code that was changed is never run."""
    monkeypatch.setattr(compiling.CheckedCache, "_give_up", lambda self, what, error: None)
    fresh()(2)
    (path,) = files(tmp_path, end)
    whole = path.read_bytes()
    signature, context = (numba.int64,), cpu_target.target_context
    chance = random.Random(0)
    refused = 0
    for _ in range(3000):
        data = mutated(whole, chance)
        path.write_bytes(data)
        cache = compiling.CheckedCache(fresh().py_func)
        found = cache.load_overload(signature, context)
        refused += found is None
        if found is not None:
            assert found.signature.args == signature
    assert refused > 2000


def mutated(data: bytes, chance: random.Random) -> bytes:
    """Change, remove, repeat or insert some bytes."""
    changed, at = bytearray(data), chance.randrange(len(data))
    kind, size = chance.randrange(5), 1 + chance.randrange(8)
    if kind == 0:
        changed[at] ^= 1 << chance.randrange(8)
    elif kind == 1:
        changed[at : at + size] = chance.randbytes(size)
    elif kind == 2:
        del changed[at : at + size]
    elif kind == 3:
        changed[at:at] = changed[at : at + size]
    else:
        del changed[at:]
    return bytes(changed)


@pytest.mark.slow
def test_a_run_with_a_damaged_cache(tmp_path):
    """As reported: an empty index, half a file of code, in a process of its own."""
    words = ["run", "--d", "1:3", "--l", "1:3", "--networks", "50", "--estimator", "direct"]
    line = [
        sys.executable,
        "-m",
        "obstruction",
        *words,
        "--overwrite",
        "--out",
        str(tmp_path / "a"),
    ]
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "cache")}

    def run():
        return subprocess.run(line, env=environment, capture_output=True, text=True)

    first = run()
    assert (first.returncode, first.stderr) == (0, "")
    assert len(list(tmp_path.glob("cache/*/*.nbi"))) > 5
    for end, damage in (("count_nested-*.nbi", emptied), ("threefry-*.nbc", halved)):
        paths = list(tmp_path.glob(f"cache/*/*{end}"))
        assert paths
        for path in paths:
            damage(path)
    told, after = run(), run()
    assert told.returncode == 0
    assert told.stderr.startswith("obstruction: the compiler's cache in ")
    assert told.stderr.count("\n") == 1
    assert (after.returncode, after.stderr) == (0, "")
