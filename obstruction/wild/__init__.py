"""A zoo of real architectures: models of public packages under the initialisation they ship.

``ARCHITECTURES`` names them. Each builds a new model by its package's own code, and has example
inputs for the search of its laws. Importing this package imports none of theirs, which the extra
``wild`` installs at the versions for which the zoo was measured. Nothing is downloaded.

Modules of families import `architecture` and `examples`, and libraries only inside functions, by
`library`.
"""

from obstruction.wild import (
    control,
    dense,
    generative,
    graphs,
    science,
    tabular,
    transformers,
    vision,
)
from obstruction.wild.architecture import FAMILIES, Architecture, installed_version

__all__ = ["ARCHITECTURES", "FAMILIES", "Architecture", "installed_version"]

ARCHITECTURES: dict[str, Architecture] = {
    **vision.ZOO,
    **generative.SEGMENTERS,
    **control.ZOO,
    **generative.ZOO,
    **tabular.ZOO,
    **tabular.SURVIVAL,
    **science.ZOO,
    **graphs.ZOO,
    **transformers.LANGUAGE,
    **transformers.ZOO,
    **dense.ZOO,
}
"""The architectures by their names, family by family."""
