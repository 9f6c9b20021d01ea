"""The bundles that ship with the package: one folder each next to this file, pinned by digest.

A checkout and the wheel contain them. The source archive that Dataflow stages for its workers does not:
it carries code, and workers fetch bundles from shared storage.
"""

from __future__ import annotations

from pathlib import Path

from model_bundle.bundle.digest import sha256_of
from model_bundle.bundle.manifest import MANIFEST_NAME
from model_bundle.errors import BundleIntegrityError, SourceError

# The digest of each bundle, which is that of its ``bundle.json``. Each was built by a recipe in ``recipes/``.
DIGESTS: dict[str, str] = {
    "bert-mini": "4459df6c0581e6d2d8e8756a4d2b34a248a7d4a7bb9dd1045f009b43855ccc93",
    "elmo-mini": "6fa121ac867a18629ae67f11d9a87b5b709fb77bd1b6085e93a75c072046d640",
}
_FOLDER = Path(__file__).parent


def find_embedded(name: str) -> Path:
    """Returns the folder of a bundle that ships with the package; its other files are not checked here.

    Raises:
        SourceError: this installation lacks the bundles.
        BundleIntegrityError: the bundle is not the pinned one.
    """
    place = _FOLDER / name
    if not (place / MANIFEST_NAME).is_file():
        raise SourceError(
            f"The model bundle {name} ships with the package, but this installation lacks it: {place} is "
            "missing. The wheel and a checkout contain it; the source archive that is staged for workers "
            "does not. Install the wheel, or put the bundle where workers can read it and name that place: "
            "--bundle gs://…"
        )
    found = sha256_of(place / MANIFEST_NAME)
    if found != DIGESTS[name]:
        raise BundleIntegrityError(
            f"{place} has digest {found}, but {DIGESTS[name]} is pinned for {name}. It was not opened: it "
            "was changed after publication. Reinstall the package."
        )
    return place
