"""A model bundle on disk: found, checked, opened."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

from model_bundle.bundle.digest import check_files
from model_bundle.bundle.graph_scan.scan import scan_folder
from model_bundle.bundle.manifest import SAVED_MODEL_DIR, BundleManifest, OutputSpec
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
        """Opens a bundle, checks every file of it and scans its graph; TensorFlow is not needed.

        Args:
            place: a folder, or the name of a bundle that this package knows. ``@sha256:…`` at the end pins
                the digest that the bundle must have.
            allow_ops: operations that its graph may use although they reach beyond it.
            allow_recorded: whether it may also use those that it records as allowed when it was built. None:
                where its digest is pinned, since otherwise whoever made the bundle would allow them.

        Raises:
            BundleFormatError: there is no bundle there.
            BundleIntegrityError: its files are not the ones listed, or its digest is not the pinned one.
            ForbiddenOperationError: its graph could do more than compute. See ``scan_folder``.
        """
        from model_bundle.bundle.resolve import find_bundle  # the names need the builders, a bundle does not

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
        """The outputs that ``--layer`` may name, by layer, in order."""
        outputs = self.manifest.outputs.items()
        return {spec.layer: name for name, spec in outputs if spec.layer is not None}

    def output_for(self, layer: str | None) -> str:
        """Finds the output of a layer; None means the default one, numbers below 0 count from the end.

        Of a classifier, the default is the layer below its head.

        Raises:
            SettingsError: there is no such layer; those there are are listed.
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
        """The output that vectors are made of unless another is asked for; never one of classes.

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
                f"The bundle {self.manifest.name} gives classes only, and has no layer below them to make "
                "vectors of. Run it with: python -m beam_jobs.classify"
            )
        return below[-1]

    def spec(self, output: str) -> OutputSpec:
        """Returns what is known of an output."""
        return self.manifest.outputs[output]


def split_pin(place: str) -> tuple[str, str | None]:
    """Splits ``PLACE@sha256:DIGEST`` into its parts.

    Raises:
        BundleFormatError: something follows ``@sha256:`` that is no digest.
    """
    match = _PIN.match(place)
    if match:
        return match["place"], match["digest"].lower()
    if "@sha256:" in place:
        raise BundleFormatError(f"{place}: after @sha256: come 64 hexadecimal digits; copy the whole digest.")
    return place, None
