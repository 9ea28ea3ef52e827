"""Find the laws of real architectures, and hold them against an independent search.

    python scripts/zoo.py [NAME ...] [--limit 300] [--kept FOLDER] [--out figures]

Writes ``zoo_of_laws.csv`` and ``zoo_of_laws.md``; if entries are named, the other rows of the table
stay. The architectures and the search are those of
``tests/conservation``: the entries of ``zoo`` whose packages are installed are built with random
weights, and each is searched in a process of its own, on one thread. ``seconds`` are those of one
processor for `obstruction.conservation_laws`, ``mib`` is the most memory that the process had used
by then, PyTorch and the model included. The independent search takes most of the time: with
``--kept`` its balances are kept in a folder, from which a later run reads them.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

ROOT = Path(__file__).parents[1]
NAME = "zoo_of_laws"
MARK = "zoo of laws: "
"""How lines of the process of an entry begin; the packages print, too."""

KINDS = ("balance", "scale", "matrix", "constant", "shift")
COLUMNS = (
    "package",
    "version",
    "model",
    "parameters",
    *KINDS,
    "channels",
    "oracle",
    "covered",
    "refuted",
    "doubtful",
    "seconds",
    "mib",
    "note",
)
ENVIRONMENT = {
    **os.environ,
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "DDE_BACKEND": "pytorch",
}


def kept_balances(path: Path | None, model: Any, inputs: Any) -> list[Any]:
    """Return the balances of the independent search, from a file if there is one."""
    from independent_search import search
    from rescaling import Balance

    if path is not None and path.exists():
        return [Balance(*parts) for parts in pickle.loads(path.read_bytes())]
    found = search(model, inputs)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pickle.dumps([(b.width, b.coefficients, b.terms) for b in found]))
    return found


def searched(name: str, kept: Path | None) -> Iterator[dict[str, Any]]:
    """Yield what is known of an entry: its size, then its laws, then how they are judged."""
    import torch
    from judging import judged
    from zoo import ZOO

    import obstruction as ob

    torch.set_num_threads(1)
    entry = ZOO[name]
    try:
        model, inputs = entry.build()
    except ImportError as error:
        yield {"missing": str(error)}
        return
    parts = [p.numel() * (2 if p.is_complex() else 1) for p in model.parameters()]
    yield {"parameters": sum(parts)}
    start = time.process_time()
    laws = ob.conservation_laws(model, inputs=inputs)
    seconds = time.process_time() - start
    yield {
        **{kind: laws.counts.get(kind, 0) for kind in KINDS},
        "channels": sum(law.labels for law in laws if law.kind in ("balance", "matrix")),
        "seconds": round(seconds, 2),
        "mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
    if not laws:
        report = ob.audit(model, inputs=inputs)
        known = "not all parameters were reached" if report.unreached else "refuted by gradients"
        yield {"note": f"no law: {known}"}
    path = None if kept is None else kept / f"{name.replace('/', '__')}.pkl"
    judgement = judged(model, inputs, laws, oracle=kept_balances(path, model, inputs))
    for number, law in judgement.missed:
        print(f"  lacks {number} of {law.width}: {law.coefficients}", file=sys.stderr)
    for law in judgement.refuted:
        terms = [(t.tensor, t.labels.shape, t.coefficient) for t in law.terms]
        print(f"  refuted: {law.kind} {law.labels} {terms}", file=sys.stderr)
    yield {
        "oracle": judgement.channels,
        "covered": judgement.covered,
        "refuted": len(judgement.refuted),
        "doubtful": judgement.doubtful,
    }


def row(name: str, limit: float, kept: Path | None) -> dict[str, Any] | None:
    """Return the row of an entry, searched in another process; None if it cannot be built here."""
    from zoo import ZOO

    entry = ZOO[name]
    found: dict[str, Any] = {"package": entry.package, "version": entry.version, "model": name}
    command = [sys.executable, __file__, "--one", name]
    command += [] if kept is None else ["--kept", str(kept)]
    try:
        done = subprocess.run(
            command, env=ENVIRONMENT, stdout=subprocess.PIPE, timeout=limit, text=True, check=False
        )
        output, problem = done.stdout, f"exit code {done.returncode}" if done.returncode else ""
    except subprocess.TimeoutExpired as error:
        output = (error.stdout or b"").decode()
        problem = f"not judged within {limit:g} s"
    for line in output.splitlines():
        if line.startswith(MARK):
            found |= json.JSONDecoder().raw_decode(line.removeprefix(MARK))[0]
    if "missing" in found:
        print(f"{name}: {found['missing']}", file=sys.stderr)
        return None
    if problem and "oracle" not in found:
        found["note"] = problem
    return found


def share(part: float, whole: float) -> str:
    return f"{part:,.0f} of {whole:,.0f} ({part / whole:.1%})" if whole else "none"


def summary(frame: pd.DataFrame) -> dict[str, str]:
    """Return the sentences of the summary by what they are about."""
    reported = frame["seconds"].notna()
    lawful = frame[list(KINDS)].sum(axis=1) > 0
    proven = frame["note"].eq("no law: refuted by gradients")
    judged = frame[frame["oracle"].notna()]
    wrong = frame["refuted"].fillna(0).gt(0)
    return {
        "architectures": f"{len(frame)} of {frame['package'].nunique()} packages",
        "have laws, or gradients refute all": share(
            (reported & (lawful | proven)).sum(), len(frame)
        ),
        "judged by the independent search": share(len(judged), len(frame)),
        "its balances that are reported": share(judged["covered"].sum(), judged["oracle"].sum()),
        "architectures with all of them": share(
            (judged["covered"] == judged["oracle"]).sum(), len(judged)
        ),
        "laws that outputs refute": f"{frame['refuted'].sum():.0f} in {wrong.sum()} architectures",
        "seconds": f"median {frame['seconds'].median():.1f}, at most {frame['seconds'].max():.0f}",
    }


def text(frame: pd.DataFrame) -> str:
    lacking = frame[frame["covered"] < 0.95 * frame["oracle"]]
    slowest = frame[frame["seconds"].notna()].nlargest(10, "seconds")
    return "\n".join(
        [
            "# Laws of real architectures",
            "",
            "From `python scripts/zoo.py`; a row for each architecture is in "
            f"[{NAME}.csv]({NAME}.csv). An independent search of the tests finds balances in its "
            "own way. A balance counts as reported if it is a combination of reported laws. Every "
            "reported law is tried on the outputs of a plain copy of the model, at its actual and "
            "at random weights.",
            "",
            *table([("", ""), *summary(frame).items()]),
            "",
            "Architectures of which less than 95 % of the balances are reported:",
            "",
            *table(
                [
                    ("model", "reported", "of"),
                    *((r.model, int(r.covered), int(r.oracle)) for r in lacking.itertuples()),
                ]
            ),
            "",
            "The slowest:",
            "",
            *table(
                [
                    ("model", "parameters", "seconds", "MiB"),
                    *(
                        (r.model, f"{int(r.parameters):,}", f"{r.seconds:.1f}", f"{int(r.mib):,}")
                        for r in slowest.itertuples()
                    ),
                ]
            ),
            "",
        ]
    )


def table(rows: Sequence[Sequence[object]]) -> list[str]:
    """Return rows, the first of which is the head, as lines of Markdown."""
    lines = [f"| {' | '.join(map(str, row))} |" for row in rows]
    return [lines[0], "|" + "---|" * len(rows[0]), *lines[1:]]


def write(rows: Sequence[dict[str, Any]], folder: Path) -> None:
    """Write the rows that are known so far."""
    from obstruction.tools.files import whole_file

    frame = pd.DataFrame(rows, columns=list(COLUMNS)).sort_values("model", ignore_index=True)
    whole = {"parameters", *KINDS, "channels", "oracle", "covered", "refuted", "doubtful", "mib"}
    frame = frame.astype(dict.fromkeys(whole, "Int64"))
    folder.mkdir(parents=True, exist_ok=True)
    with whole_file(folder / f"{NAME}.csv") as part:
        frame.to_csv(part, index=False)
    (folder / f"{NAME}.md").write_text(text(frame), encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="*", help="entries of the zoo; all by default")
    parser.add_argument("--limit", type=float, default=300.0, help="seconds for each")
    parser.add_argument("--kept", type=Path, help="folder of the balances of the other search")
    parser.add_argument("--out", type=Path, default=Path("figures"))
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "conservation")]
    if options.one:
        for part in searched(options.names[0], options.kept):
            print(f"\n{MARK}{json.dumps(part)}", flush=True)
        return 0
    from zoo import ZOO

    rows = []
    if options.names and (options.out / f"{NAME}.csv").exists():
        known = pd.read_csv(options.out / f"{NAME}.csv", keep_default_na=False, na_values=[""])
        others = known[~known["model"].isin(options.names)]
        rows = [{k: v for k, v in one.items() if pd.notna(v)} for one in others.to_dict("records")]
    for name in options.names or ZOO:
        found = row(name, options.limit, options.kept)
        if found is not None:
            rows.append(found)
            write(rows, options.out)
            print(
                f"{name}: {found.get('covered')} of {found.get('oracle')}, refuted "
                f"{found.get('refuted')}, {found.get('seconds')} s {found.get('note', '')}",
                flush=True,
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
