"""Opens a model bundle: finds it, checks its files and scans its graph."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

from model_bundle.bundle.digest import check_files
from model_bundle.bundle.graph_scan.scan import scan_folder
from model_bundle.bundle.manifest import SAVED_MODEL_DIR, BundleManifest
from model_bundle.bundle.specs import OutputSpec
from model_bundle.errors import BundleFormatError, SettingsError

_PIN = re.compile(r"^(?P<place>.+)@sha256:(?P<digest>[0-9a-fA-F]{64})$")


@dataclass(frozen=True)
class ModelBundle:
    """A model bundle whose files and graph have been checked. ``digest`` is its identity.

    ``allowed_ops`` are the operations of its graph that reach beyond it, each allowed by whoever opened it.
    """

    path: Path
    manifest: BundleManifest
    digest: str
    allowed_ops: tuple[str, ...] = ()

    @classmethod
    def open(
        cls, place: str | Path, allow_ops: Sequence[str] = (), *, allow_recorded: bool | None = None
    ) -> Self:
        """Opens a bundle, checks all its files and scans its graph; TensorFlow is not needed.

        Args:
            place: a folder, a URL or a known name, see ``find_bundle``. A suffix ``@sha256:…`` pins the
                digest that the bundle must have.
            allow_ops: operations that its graph may use although they reach beyond it.
            allow_recorded: whether it may also use those that it records as allowed when it was built. None
                means: if its digest is pinned. Otherwise whoever made the bundle would allow them.

        Raises:
            BundleFormatError: there is no bundle at that place.
            BundleIntegrityError: its files differ from the listed ones, or its digest from the pinned one.
            ForbiddenOperationError: its graph can do more than compute. See ``scan_folder``.
        """
        from model_bundle.bundle.resolve import (
            find_bundle,
        )  # imported late: resolve imports downloads, this file only checks

        where, pinned = split_pin(str(place))
        path = find_bundle(where)
        manifest = BundleManifest.read(path)
        digest = check_files(path, manifest, pinned)
        is_trusted = pinned is not None if allow_recorded is None else allow_recorded
        allowed = (*allow_ops, *(manifest.allowed_ops if is_trusted else ()))
        used = scan_folder(path / SAVED_MODEL_DIR, f"The model bundle {path}", allowed)
        return cls(path, manifest, digest, used)

    @cached_property
    def token_layers(self) -> dict[str, str]:
        """Output names by the layer names that ``--layer`` accepts, in order."""
        outputs = self.manifest.outputs.items()
        return {spec.layer: name for name, spec in outputs if spec.layer is not None}

    def output_for(self, layer: str | None) -> str:
        """Returns the output of a layer; None means the default, negative numbers count from the end.

        The default of a classifier is the layer below its head.

        Raises:
            SettingsError: there is no such layer; the message lists the existing ones.
        """
        if layer is None:
            return self.vector_output
        layers = self.token_layers
        numbered = sorted((name for name in layers if name.isdigit()), key=int)
        if re.fullmatch(r"-\d+", layer) and 0 < -int(layer) <= len(numbered):
            return layers[numbered[int(layer)]]
        if layer not in layers:
            known = ", ".join(layers) or "none"
            raise SettingsError(
                f"--layer {layer}: the bundle {self.manifest.name} has no such layer. It has: {known}"
                + (" (-1 is the last)." if numbered else ".")
            )
        return layers[layer]

    @cached_property
    def vector_output(self) -> str:
        """The output that vectors are computed from by default; never one of classes.

        Raises:
            SettingsError: the bundle has none.
        """
        outputs = self.manifest.outputs
        default = self.manifest.default_output
        if outputs[default].kind != "class":
            return default
        below = [name for name in self.token_layers.values() if outputs[name].kind == "token"]
        below = below or [name for name, spec in outputs.items() if spec.kind in ("token", "text")]
        if not below:
            raise SettingsError(
                f"The bundle {self.manifest.name} only outputs classes and has no layer below them for "
                "vectors. Run it with: python -m beam_jobs.classify"
            )
        return below[-1]

    def spec(self, output: str) -> OutputSpec:
        """Returns the manifest's entry for an output."""
        return self.manifest.outputs[output]


def split_pin(place: str) -> tuple[str, str | None]:
    """Splits ``PLACE@sha256:DIGEST`` into its parts.

    Raises:
        BundleFormatError: what follows ``@sha256:`` is not a digest.
    """
    match = _PIN.match(place)
    if match:
        return match["place"], match["digest"].lower()
    if "@sha256:" in place:
        raise BundleFormatError(
            f"{place}: expected 64 hexadecimal digits after @sha256:; copy the whole digest."
        )
    return place, None
