"""What pyproject.toml cannot say: links of the README that work on PyPI, and a light archive for workers.

PyPI shows the README without the repository around it: its relative links become addresses in the metadata.

The source archive is for workers, whose image has Beam and TensorFlow. Dataflow's ``--setup_file ./setup.py``
builds that archive and installs it on every machine. If it asked for Beam and TensorFlow, a worker
whose image differs by a digit would download 300 MB, or fail for want of it. Whoever installs a checkout or a
wheel gets everything: docs/decisions/packaging.md.
"""

import re
from pathlib import Path

from setuptools import setup
from setuptools.command.sdist import sdist

_REPOSITORY = "https://github.com/beam-embedding-jobs/beam-embedding-jobs"
# A link or picture whose target is neither an address nor a heading of the same page.
_RELATIVE = re.compile(r"(!?)(\[[^]]*\]\()(?!\w+:|#)(?=[^)]+\))")
_IN_THE_IMAGE = re.compile(r"^(apache-beam|tensorflow|tensorflow-hub|tf-keras)\b(?!-)")


class _WorkerArchive(sdist):
    """Leaves out of the archive's requirements what the workers' image brings."""

    def run(self) -> None:
        """Builds the archive; its metadata says what its pyproject.toml says."""
        distribution = self.distribution
        distribution.install_requires = [
            r for r in distribution.install_requires if not _IN_THE_IMAGE.match(r)
        ]
        super().run()

    def make_release_tree(self, base_dir: str, files: list[str]) -> None:
        """Copies the files; of pyproject.toml, without those lines."""
        super().make_release_tree(base_dir, files)
        path = Path(base_dir, "pyproject.toml")
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        path.unlink()  # it may be a hard link to the one in the checkout
        kept = [line for line in lines if not _IN_THE_IMAGE.match(line.strip().strip('",'))]
        path.write_text("".join(kept), encoding="utf-8")


def _absolute(link: re.Match[str]) -> str:
    return f"{link[0]}{_REPOSITORY}/{'raw' if link[1] else 'blob'}/main/"


setup(
    cmdclass={"sdist": _WorkerArchive},
    long_description=_RELATIVE.sub(_absolute, Path(__file__).with_name("README.md").read_text("utf-8")),
    long_description_content_type="text/markdown",
)
