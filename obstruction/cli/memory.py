"""The memory that the command ``run`` needs, from the counts to the pictures.

The constants were measured on Linux as the peak of the resident memory, with 100 x 100 to
1000 x 1000 cells, one and two schemes, and both estimators.
"""

from __future__ import annotations

from typing import Final

import psutil

from obstruction.sampling.grid_sampler import GridSampler
from obstruction.studies.run import StudyRun
from obstruction.tools.workers import check_room

_PROCESS: Final = 355 * 2**20
"""The interpreter with its libraries and kernels, and a study of few cells with its pictures."""

_WEIGHING: Final = 200 * 2**20
"""The kernels of weighted samples and their scratch memory."""

_CELL: Final = 780
"""A cell in the table, in its file, and in the pictures."""

_DRAWN_AS_IMAGES: Final = 1000
"""The number of cells above which each panel and colour bar of a PDF is drawn as an image."""


def required_memory(run: StudyRun) -> int:
    """Return roughly how many bytes the process of a run needs at its peak."""
    schemes, nd, nl = run.config.shape
    pictures = _CELL * schemes * nd * nl
    if nd * nl > _DRAWN_AS_IMAGES:
        pictures += (3 * schemes + 2) * 4 * _pixels(schemes)
    counting = GridSampler(run.config).required_memory(run.threads)
    weighing = 0 if run.estimator == "direct" else _WEIGHING
    return _PROCESS + weighing + max(counting, pictures)


def check_memory(run: StudyRun) -> None:
    """Raise a `ValueError` if a run and its pictures do not fit into the free memory.

    What the process holds already is not needed again.
    """
    schemes, nd, nl = run.config.shape
    what = f"d, l: {schemes} x {nd:,} x {nl:,} cells with their table and pictures"
    check_room(what, required_memory(run) - psutil.Process().memory_info().rss)


def _pixels(schemes: int) -> int:
    """Return the size of the figure at 600 dots per inch, whole as each image of a PDF holds it."""
    return int(600 * 7.0 * 600 * (0.62 + 2.632 * schemes))
