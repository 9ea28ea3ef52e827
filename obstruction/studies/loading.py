"""Read the study in a folder, of whichever kind it is."""

from __future__ import annotations

import os

from obstruction.studies import folder
from obstruction.studies.factories.model_folder import holds_models, load_models
from obstruction.studies.factories.model_study import ModelStudy
from obstruction.studies.study import Study


def load(path: str | os.PathLike[str]) -> Study | ModelStudy:
    """Read the study in a folder.

    Parameters
    ----------
    path : path-like
        A folder that ``obstruction run`` or `sample_model` wrote. If the run was interrupted, the
        study holds what had been counted until then, and its ``complete`` is False.

    Returns
    -------
    Study or ModelStudy
        The study with the saved counts and estimates, from which everything else follows.

    Raises
    ------
    ValueError
        If the folder holds no study or a damaged one. The message names the file and, where
        possible, the line.
    """
    return load_models(path) if holds_models(path) else folder.load(path)
