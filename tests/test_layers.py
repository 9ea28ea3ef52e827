"""Who may import whom: data flows one way, and what is heavy is loaded late."""

from __future__ import annotations

import ast
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import obstruction

PACKAGE = Path(obstruction.__file__).parent
MODULES = sorted(
    ".".join(p.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")
    for p in PACKAGE.rglob("*.py")
)

# Libraries of extras: imported only where they are used, when they are used.
OPTIONAL = {"torch", "keras", "lightning", "onnx", "h5py", "bokeh", "jinja2", "markupsafe"}

# Every arrow between modules points from a line to one above it.
ORDER = (
    "__init__ lanes laws loader validation",
    "schemes.rules counts axes progress tilts weighted exact.arguments",
    "schemes.options",
    "schemes.registry",
    "schemes",
    "topology.parameters",
    "topology.balances topology.betti topology.rescaling",
    "topology.labels topology.equivalence",
    "topology.paths",
    "topology dag.closures",
    "dag.regions dag.arguments",
    "bottlenecks dag.order",
    "dag.graph",
    "dag.frozen",
    "dag.paths dag.singular dag.betti dag.drawing",
    "dag.pruning",
    "dag.network dag.fans",
    "dag dag.edge_lists",
    "models.contents models.activations models.ordering",
    "models.model models.naming",
    "models.layouts",
    "models.arranging",
    "models.resolving",
    "models.readers models.readers.files models.readers.pickles models.readers.hdf5_child",
    "models.readers.torch_layers models.readers.archives models.readers.chains "
    "models.readers.regrouping",
    "models.readers.tensors models.readers.torch_leaves models.readers.torch_storages",
    "models.readers.onnx_tensors models.readers.hdf5_datasets models.readers.keras_config",
    "models.readers.torch_graphs",
    "models.readers.torch_tracing",
    "models.readers.npz models.readers.safetensors models.readers.torch_files "
    "models.readers.hdf5 models.readers.onnx",
    "models.readers.arrays models.readers.trees models.readers.torch_modules "
    "models.readers.sklearn models.readers.keras",
    "models",
    "dag.widths",
    "dag.assembling",
    "dag.dataflows",
    "dag.reading",
    "grid binomial streams exact.methods exact.normal exact.transforms",
    "exact.craig exact.few exact.powers",
    "exact.contour",
    "exact.inversion",
    "exact.components exact.neurons",
    "exact.reach",
    "exact",
    "kernels norms dag.probabilities",
    "orthogonal tilted_kernels sign_kernels dag.kernels",
    "plan agreement heatmaps design tilting hidden",
    "sampling reference training.kernels training.optimizers",
    "training.descent",
    "training",
    "rare dag.sampling",
    "table",
    "study",
    "folder reaching dag.studies",
    "tables.rounding tables.citing tables.markup tables.axes",
    "tables.cells",
    "tables.layout",
    "tables.latex tables.markdown tables.html",
    "tables.typst",
    "tables.probability",
    "tables",
    "study_report.selection",
    "study_report.cells study_report.provenance",
    "study_report.summary",
    "study_report.pictures",
    "study_report.maps",
    "study_report.page",
    "study_report.writing",
    "study_report",
    "replaying running misfits",
    "recognition",
    "luck",
    "rendering plots",
    "report",
    "auditing",
    "replacing",
    "rescaling evaluation drift_plots",
    "monitor repairing",
    "cli.base",
    "cli.dags cli.networks cli.reports cli.studies cli.tables cli.values",
    "cli",
    "__main__",
)


def statements(tree: ast.AST, *, late: bool) -> Iterator[ast.stmt]:
    """Yield the imports that run when a module is imported or, if ``late``, ever."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield node
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from (s for part in node.orelse for s in statements(part, late=late))
        elif late or not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            yield from statements(node, late=late)


def names(statement: ast.stmt) -> Iterator[str]:
    """Yield the modules that an import names."""
    if isinstance(statement, ast.Import):
        yield from (alias.name for alias in statement.names)
    else:
        assert isinstance(statement, ast.ImportFrom)
        assert statement.level == 0, "the package spells its imports out"
        for alias in statement.names:
            inner = f"{statement.module}.{alias.name}"
            is_module = inner.removeprefix("obstruction.") in MODULES
            yield inner if is_module else str(statement.module)


def source(module: str) -> str:
    """Return the text of a module."""
    path = PACKAGE / module.replace(".", "/")
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return path.read_text(encoding="utf-8")


@cache
def imports(module: str, *, late: bool = True) -> frozenset[str]:
    """Return what a module imports: ``obstruction``'s by their own names, others by their root."""
    tree = ast.parse(source(module))
    found = {name for statement in statements(tree, late=late) for name in names(statement)}
    found = {"obstruction.__init__" if name == "obstruction" else name for name in found}
    return frozenset(
        name.removeprefix("obstruction.") if name.startswith("obstruction.") else name.split(".")[0]
        for name in found - {"__future__"}
    )


def ours(module: str, *, late: bool = True) -> frozenset[str]:
    return imports(module, late=late) & frozenset(MODULES)


def foreign(module: str, *, late: bool = True) -> frozenset[str]:
    return imports(module, late=late) - frozenset(MODULES) - sys.stdlib_module_names


def reached(module: str) -> set[str]:
    """Return all modules that importing and using a module can load."""
    seen: set[str] = set()
    todo = [module]
    while todo:
        todo += ours(todo.pop()) - seen
        seen.update(todo)
    return seen


def test_the_reader_sees_what_there_is():
    assert {"kernels", "plan", "streams", "counts"} <= ours("sampling")
    assert "agreement" in ours("study") - ours("study", late=False)
    assert "numba" in foreign("kernels")
    assert {"click"} == foreign("running", late=False)
    assert reached("cli") >= {"kernels", "heatmaps", "exact"}


def test_there_are_no_cycles():
    assert len(MODULES) > 15
    for late in (False, True):
        graph = {module: ours(module, late=late) for module in MODULES}
        assert len(list(TopologicalSorter(graph).static_order())) == len(MODULES)


@pytest.mark.parametrize("module", MODULES)
def test_arrows_point_one_way(module):
    line = {name: i for i, row in enumerate(ORDER) for name in row.split()}
    assert module in line, "give the new module its line in ORDER"
    for other in ours(module):
        assert line[other] < line[module], f"{module} must not import {other}"


def test_laws_know_nothing_and_schemes_only_laws():
    assert ours("laws") == set()
    parts = {module for module in MODULES if module.split(".")[0] == "schemes"}
    assert len(parts) == 4
    assert reached("schemes") <= {"laws", "validation", *parts}


def test_exact_never_meets_the_sampler():
    sampler = {"kernels", "streams", "plan", "sampling", "study", "counts", "folder", "running"}
    sampler |= {"grid", "orthogonal", "sign_kernels", "reaching", "reference", "rare", "table"}
    sampler |= {"tilting", "tilts", "tilted_kernels", "weighted"}
    assert sampler < set(MODULES)
    assert not reached("exact") & sampler
    assert "schemes" in reached("exact")
    assert "numba" not in set().union(*(foreign(module) for module in reached("exact") | {"exact"}))


@pytest.mark.parametrize("sampler", ["sampling", "tilting", "sign_kernels", "dag.sampling"])
def test_the_samplers_never_meet_the_exact_values(sampler):
    """They could not check what they are told."""
    tellers = {module for module in MODULES if module.split(".")[0] == "exact"}
    tellers |= {"reference", "rare", "binomial", "agreement", "table", "heatmaps", "design"}
    tellers |= {"dag.probabilities"}
    assert len(tellers) > 15
    assert not reached(sampler) & tellers


def test_neither_way_of_sampling_knows_the_other():
    assert not reached("sampling") & {"tilting", "tilts", "tilted_kernels", "weighted"}
    assert not reached("tilting") & {"sampling", "plan", "orthogonal", "counts"}


def test_exact_values_come_to_a_study_by_one_way():
    """`reference` computes them; the table adds the name of the method, `reaching` is apart."""
    study = reached("study") | {"study"}
    assert [module for module in MODULES if module in study and "exact" in ours(module)] == [
        "reference",
        "table",
    ]


def test_kernels_take_arrays_and_nothing_else():
    assert ours("kernels") == {"grid", "lanes", "laws"}  # the codes that both sides must know
    assert ours("sign_kernels") == {"grid", "kernels"}
    assert ours("tilted_kernels") == ours("dag.kernels") == {"kernels"}
    assert ours("training.kernels") == set()
    assert ours("lanes") == set()
    assert foreign("kernels") == foreign("training.kernels") == {"numpy", "numba"}
    assert foreign("lanes") == {"numpy", "numba", "llvmlite"}
    assert foreign("sign_kernels") == foreign("tilted_kernels") == {"numpy"}
    assert foreign("dag.kernels") == {"numpy"}


def test_only_kernels_are_compiled():
    compiled = ["kernels", "lanes", "training.kernels"]
    assert [module for module in MODULES if "numba" in foreign(module)] == compiled
    using = [module for module in MODULES if "_jit" in source(module)]
    assert using == ["dag.kernels", "kernels", "sign_kernels", "tilted_kernels"]


def test_plotting_is_loaded_late_and_in_one_place():
    plotting = {"matplotlib", "seaborn"}
    drawing = [module for module in MODULES if plotting & foreign(module)]
    assert drawing == ["dag.drawing", "drift_plots", "heatmaps", "plots"]
    assert not [module for module in MODULES if {*drawing} & ours(module, late=False)]


def test_the_command_line_and_the_package_load_nothing_at_first():
    commands = {module for module in MODULES if module.startswith("cli.")} - {"cli.base"}
    assert len(commands) >= 2
    assert ours("cli", late=False) == {"cli.base", *commands}
    assert ours("cli.base") == {"__init__"}
    for module in commands:
        assert ours(module, late=False) == {"cli.base"}
        assert foreign(module, late=False) == {"click"}
    assert imports("__init__", late=False) <= sys.stdlib_module_names


def test_every_library_is_declared():
    project = PACKAGE.parent / "pyproject.toml"
    if not project.exists():
        pytest.skip("the package is installed away from its project file")
    wanted = tomllib.loads(project.read_text(encoding="utf-8"))["project"]["dependencies"]
    declared = {requirement.split(">")[0] for requirement in wanted}
    used = set().union(*(foreign(module) for module in MODULES))
    assert used - OPTIONAL == declared
    assert not [module for module in MODULES if foreign(module, late=False) & OPTIONAL]
