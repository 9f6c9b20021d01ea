"""The licence of a source: its identifier, and a text for the bundle to carry."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from model_bundle.builders.source_folder import SourceFolder

UNKNOWN = "unknown"
_README = "README.md"
_FILES = ("LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE", "LICENCE.txt", "COPYING")
# The Hugging Face Hub writes identifiers in lower case; these are the SPDX forms of the common ones.
_SPDX = {
    "apache-2.0": "Apache-2.0",
    "mit": "MIT",
    "bsd-3-clause": "BSD-3-Clause",
    "cc-by-4.0": "CC-BY-4.0",
    "cc-by-sa-4.0": "CC-BY-SA-4.0",
    "cc-by-nc-4.0": "CC-BY-NC-4.0",
    "cc0-1.0": "CC0-1.0",
    "gpl-3.0": "GPL-3.0",
    "afl-3.0": "AFL-3.0",
}
# The front matter is YAML, of which one key is read: a word, quoted or not, or the first item of a list.
_FRONT_MATTER = re.compile(r"\A\ufeff?---[ \t]*\r?\n(.*?)^---[ \t]*$", re.DOTALL | re.MULTILINE)
_LICENCE = re.compile(r"^license:\s*(?:-\s*)?[\"']?([A-Za-z0-9][\w.+-]*)[\"']?\s*$", re.MULTILINE)
_TITLES = (
    (re.compile(r"\s*Apache License\s+Version 2\.0"), "Apache-2.0"),
    (re.compile(r"\s*(The )?MIT License", re.IGNORECASE), "MIT"),
)


@dataclass(frozen=True)
class Licence:
    """``identifier`` is the SPDX one if known, else ``unknown``; ``text`` goes into the bundle's LICENSE."""

    identifier: str
    text: str


def licence_files(folder: Path) -> list[Path]:
    """Lists the files of a folder that may tell its licence."""
    return [folder / name for name in (*_FILES, _README)]


def read_licence(folder: SourceFolder, location: str, stated: str | None) -> Licence:
    """Finds a licence: ``stated``, else the front matter of ``README.md``, else a licence file's title."""
    path = folder.find(*_FILES)
    text = None if path is None else path.read_text(encoding="utf-8", errors="replace")
    identifier = stated or _stated(folder) or _title(text) or UNKNOWN
    if text is None:
        text = (
            f"The licence of the model {location} is not known. Ask its publisher before you pass it on.\n"
            if identifier == UNKNOWN
            else f"The model {location} was published under the licence {identifier}.\n"
        )
    return Licence(identifier, text)


def _title(text: str | None) -> str | None:
    if text is None:
        return None
    return next((name for pattern, name in _TITLES if pattern.match(text)), "see LICENSE")


def front_matter(folder: SourceFolder) -> str:
    """Returns the YAML at the beginning of ``README.md``, the model card; empty if there is none."""
    path = folder.find(_README)
    block = None if path is None else _FRONT_MATTER.match(path.read_text(encoding="utf-8", errors="replace"))
    return block[1] if block else ""


def _stated(folder: SourceFolder) -> str | None:
    found = _LICENCE.search(front_matter(folder))
    return _SPDX.get(found[1].lower(), found[1]) if found else None
