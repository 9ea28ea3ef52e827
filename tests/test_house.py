"""The house: import-linter keeps the arrows of pyproject.toml; what is heavy is loaded late."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import grimp
import pytest

import obstruction

PACKAGE = Path(obstruction.__file__).parent
PROJECT = PACKAGE.parent / "pyproject.toml"
DOORS = {"__init__", "__main__", "design", "tables"}

# Libraries of extras: imported only where they are used, when they are used.
OPTIONAL = {
    "torch",
    "jax",
    "keras",
    "lightning",
    "onnx",
    "onnx2fx",
    "h5py",
    "bokeh",
    "jinja2",
    "markupsafe",
}

from_a_checkout = pytest.mark.skipif(
    not PROJECT.exists(), reason="the package is installed away from its project file"
)


@cache
def house() -> grimp.ImportGraph:
    """Return every import between modules, those of types and inside functions included."""
    return grimp.build_graph("obstruction", include_external_packages=True)


def modules() -> list[str]:
    return sorted(one for one in house().modules if one.split(".")[0] == "obstruction")


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else "__init__"


def linted(configuration: Path, root: Path) -> subprocess.CompletedProcess[str]:
    command = "import sys; from importlinter.cli import lint_imports_command as run; run()"
    return subprocess.run(
        [sys.executable, "-c", command, "--config", str(configuration), "--no-cache"],
        cwd=root,
        capture_output=True,
        text=True,
    )


@from_a_checkout
def test_the_contract_of_imports_is_kept():
    done = linted(PROJECT, PROJECT.parent)
    assert done.returncode == 0, done.stdout
    contract = PROJECT.read_text(encoding="utf-8")
    assert "ignore_imports" not in contract
    assert "exclude_type_checking_imports" not in contract


@pytest.fixture(scope="module")
def skeleton(tmp_path_factory):
    """Return a folder with the imports of every module, in which the contract is kept."""
    root = tmp_path_factory.mktemp("skeleton")
    for source in PACKAGE.rglob("*.py"):
        target = root / source.relative_to(PACKAGE.parent)
        target.parent.mkdir(parents=True, exist_ok=True)
        imports = [
            ast.unparse(node)
            for node in ast.walk(ast.parse(source.read_text(encoding="utf-8")))
            if isinstance(node, (ast.Import, ast.ImportFrom))
        ]
        target.write_text("\n".join(imports), encoding="utf-8")
    (root / "pyproject.toml").write_bytes(PROJECT.read_bytes())
    assert linted(root / "pyproject.toml", root).returncode == 0
    return root


@pytest.mark.slow
@from_a_checkout
@pytest.mark.parametrize(
    ("place", "line", "complaint"),
    [
        ("tools/checks.py", "from obstruction.schemes import laws", "Arrows fall"),
        ("sampling/counts.py", "from obstruction.exact import neurons", "Arrows fall"),
        ("dag/network.py", "from obstruction.studies import study", "Arrows fall"),
        ("auditing/findings.py", "from obstruction.auditing import report", "circle"),
        ("training/kernels.py", "import scipy", "Kernels"),
        ("sampling/runner.py", "from concurrent.futures import ThreadPoolExecutor", "threads"),
    ],
)
@pytest.mark.parametrize("wrapped", ["{}", "def late():\n    {}", "if TYPE_CHECKING:\n    {}"])
def test_the_contract_sees_a_wrong_import(place, line, complaint, wrapped, skeleton):
    """Above all one that is made late or for types alone."""
    wrong = skeleton / "obstruction" / place
    right = wrong.read_text(encoding="utf-8")
    try:
        wrong.write_text(f"{right}\nfrom typing import TYPE_CHECKING\n{wrapped.format(line)}")
        done = linted(skeleton / "pyproject.toml", skeleton)
    finally:
        wrong.write_text(right, encoding="utf-8")
    assert done.returncode == 1
    assert re.search(rf"{complaint}.* BROKEN", done.stdout), done.stdout


def test_the_house_is_small_enough_to_remember():
    """At most 17 rooms at the root and 7 levels; nothing inside imports the package's root."""
    graph = {room(one): set[str]() for one in modules()}
    for one in modules():
        for other in house().find_modules_directly_imported_by(one):
            if other.split(".")[0] == "obstruction" and room(one) not in ("__init__", room(other)):
                assert other != "obstruction", f"{one} imports the package's root"
                graph[room(one)].add(room(other))
    assert len(graph) <= 17
    assert graph.keys() >= DOORS

    def level(name: str) -> int:
        return 1 + max((level(other) for other in graph[name]), default=0)

    assert max(level(name) for name in graph.keys() - {"__init__"}) <= 7


def test_every_room_says_what_it_may_import():
    """In its first lines; a newcomer reads them before anything else."""
    for folder in {path.parent for path in PACKAGE.rglob("*.py")} - {PACKAGE}:
        text = ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8")))
        assert text, folder
        assert "import" in text, folder
        assert text.count(".") >= 3, folder


def test_what_draws_and_what_is_optional_is_loaded_late():
    """Importing a folder of the package must not import a plotting library or an extra."""
    folders = sorted({path.parent.relative_to(PACKAGE.parent) for path in PACKAGE.rglob("*.py")})
    names = [".".join(folder.parts) for folder in folders]
    code = f"import sys, {', '.join(names)}\nprint(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert {"obstruction.exact.neurons", "obstruction.topology.chains"} & loaded
    assert not loaded & {"matplotlib", "seaborn", *OPTIONAL}


def test_the_package_and_its_command_line_load_little_at_first():
    code = "import sys, obstruction.cli\nprint(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "obstruction.cli.base" in loaded
    assert not loaded & {"numpy", "scipy", "numba", "pandas", "matplotlib", "networkx"}


@from_a_checkout
def test_every_library_is_declared():
    project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
    declared = {re.split(r"[><=]", one)[0].replace("-", "_") for one in project["dependencies"]}
    used = {
        other.split(".")[0]
        for one in modules()
        for other in house().find_modules_directly_imported_by(one)
    }
    assert used - sys.stdlib_module_names - {"obstruction"} - OPTIONAL == declared
