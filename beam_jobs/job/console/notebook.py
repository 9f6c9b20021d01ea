"""IPython and Jupyter: what Beam does otherwise there, and what a job must not do."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator


def is_notebook() -> bool:
    """Whether this process is an IPython shell or a Jupyter kernel."""
    shell = sys.modules.get("IPython")
    return shell is not None and shell.get_ipython() is not None


@contextlib.contextmanager
def ordinary_pipelines() -> Iterator[None]:
    """Lets Beam build pipelines in a notebook as it does elsewhere.

    In IPython, ``Pipeline.apply`` imports Interactive Beam, only to put the number of the cell before the
    names of steps. That imports Beam's DataFrame module, which needs pandas, and of it ``DataFrame.first``,
    which pandas 3 no longer has: no pipeline could be built. A job is not interactive, and its steps have the
    same names everywhere. Beam has no setting for this (2.77), so its ``is_in_ipython`` answers no, and only
    while a job of ours runs.
    """
    if not is_notebook():
        yield
        return
    from apache_beam import pipeline
    from apache_beam.utils import interactive_utils

    # pipeline holds the function by its name, and would leave its temporary files to Interactive Beam.
    saved = [(module, module.is_in_ipython) for module in (pipeline, interactive_utils)]
    for module, _ in saved:
        module.is_in_ipython = lambda: False
    try:
        yield
    finally:
        for module, function in saved:
            module.is_in_ipython = function
