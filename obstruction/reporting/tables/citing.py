"""The references to cite: the paper whose theory the numbers rest on, and this package."""

from __future__ import annotations

from obstruction.tools.version import __version__


def bibtex() -> str:
    """Return the BibTeX entries of the paper and of this version of the package.

    Examples
    --------
    >>> print(bibtex().splitlines()[0])
    @inproceedings{nurisso2024topological,
    """
    return f"""\
@inproceedings{{nurisso2024topological,
  author = {{Nurisso, Marco and Leroy, Pierrick and Vaccarino, Francesco}},
  title = {{Topological obstruction to the training of shallow {{ReLU}} neural networks}},
  booktitle = {{Advances in Neural Information Processing Systems}},
  year = {{2024}},
  eprint = {{2410.14837}},
  archiveprefix = {{arXiv}},
  url = {{https://arxiv.org/abs/2410.14837}}
}}
@misc{{obstruction,
  author = {{{{The obstruction developers}}}},
  title = {{obstruction: the probability of topological obstruction to the training of {{ReLU}}
    networks}},
  note = {{Software, version {__version__}}}
}}"""
