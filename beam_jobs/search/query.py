"""Embeds queries with the model and the settings of a run."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace

import numpy as np

from beam_jobs.errors import UsageError
from beam_jobs.store.dataset import row_files, run_schema, vector_columns
from beam_jobs.store.finished_run import FinishedRun
from beam_jobs.store.manifest import CLASSES, RunManifest
from model_bundle.base.untrusted.printable import show
from model_bundle.bundle.bundle import ModelBundle, split_pin
from model_bundle.bundle.manifest import BundleManifest
from model_bundle.bundle.resolve import NAMED_BUNDLES
from model_bundle.bundle.specs import Rows, Similarity
from model_bundle.cli.command import print_allowed
from model_bundle.errors import BundleFormatError, BundleIntegrityError
from model_bundle.inference.encoder import Encoder
from model_bundle.runtime.long_texts import TRUNCATE
from model_bundle.runtime.request import EncodeRequest


@dataclass(frozen=True)
class Prompt:
    """A prompt for queries that replaces the model's: one of the bundle's by name, or a text."""

    name: str | None = None
    text: str | None = None


class QueryEncoder:
    """Embeds queries as the run's documents were embedded, with the prompt for queries.

    ``similarity`` is how the model's vectors are compared.

    Args:
        run: a finished run of vectors.
        bundle: location of its bundle; None means the location stored in the manifest.
        column: the vector column to search in; None means the only one.
        prompt: replaces the bundle's prompt for queries, or the run's prompt if there is none.
        allow_ops: operations that the bundle's graph may use although they reach beyond it.

    Raises:
        UsageError: the run has no vectors, or several columns and none was named, or its model takes numbers.
        ModelBundleError: the bundle was not found, or has another digest.
    """

    def __init__(
        self,
        run: FinishedRun,
        bundle: str | None = None,
        column: str | None = None,
        prompt: Prompt | None = None,
        allow_ops: tuple[str, ...] = (),
    ) -> None:
        self.column, index = choose_column(run, column)
        opened = open_bundle(run.manifest, bundle, allow_ops)
        print_allowed(opened)
        if any(spec.role == "numeric" for spec in opened.manifest.inputs.values()):
            raise UsageError(
                f"The bundle {opened.manifest.name} takes numeric inputs as well as text; a query has none."
            )
        request = stored_request(run.manifest)
        rows = request.rows if request.rows is Rows.WORD else Rows.DOCUMENT
        # A query over the token limit is truncated, like the first window of a document.
        request = replace(request, outputs=(request.outputs[index],), rows=rows, long_texts=TRUNCATE)
        if rows is not Rows.WORD:
            prompt = prompt or own_prompt(opened.manifest, request.prompt)
        if prompt is not None:
            asked = EncodeRequest.resolve(opened, prompt=prompt.name, prompt_text=prompt.text)
            request = replace(request, prompt=asked.prompt)
        if request.prompt:
            name = "" if prompt is None or prompt.name is None else f"{prompt.name}: "
            show(f"query prompt: {name}{request.prompt!r}", sys.stderr)
        self.similarity = opened.manifest.similarity or Similarity.COSINE
        # One query at a time needs no measured token budget.
        self._encoder = Encoder.of_request(opened, request, max_batch_tokens=4096)

    def encode(self, query: str) -> np.ndarray:
        """Embeds a query as float32[dim]; if rows are words, the mean over the query's words.

        Raises:
            ModelRunError: the model failed on it.
            UsageError: it contains no word.
        """
        found = self._encoder.encode([query])
        if not len(found):
            raise UsageError(f"The query {query!r} contains no word, so there is nothing to search for.")
        return np.asarray(found.mean(axis=0))


def own_prompt(manifest: BundleManifest, of_run: str) -> Prompt | None:
    """Returns a bundle's prompt for queries; None if queries get the run's prompt.

    They do if the bundle has none for them, and if the run's was the caller's own text, which the bundle's
    would not match.
    """
    is_custom = of_run != "" and of_run not in manifest.prompts.values()
    return None if manifest.query_prompt is None or is_custom else Prompt(manifest.query_prompt)


def choose_column(run: FinishedRun, column: str | None) -> tuple[str, int]:
    """Returns the name of the vector column and its index among the run's vector columns.

    Raises:
        UsageError: there is none, or several and none was named, or the named one does not exist.
    """
    files = row_files(run)
    if not files or files[0][1].kind == CLASSES:
        what = "has no rows" if not files else "contains labels and scores, not vectors"
        raise UsageError(f"{run.folder} {what}; search needs a run of python -m beam_jobs.embed.")
    columns = list(vector_columns(run_schema(run)))
    if column is None and len(columns) == 1:
        return columns[0], 0
    if column not in columns:
        raise UsageError(
            f"The run has the vector columns {', '.join(columns)}"
            + (f", not {column}." if column else "; name one with --column.")
        )
    return column, columns.index(column)


def stored_request(manifest: RunManifest) -> EncodeRequest:
    """Returns the request that a run made of its model.

    Raises:
        UsageError: the manifest does not contain it.
    """
    settings = manifest.settings
    if not settings:
        raise UsageError(
            f"The manifest of run {manifest.run_id} does not contain its settings: an older release "
            "wrote it. Repeat the run."
        )
    return EncodeRequest.from_json(settings)


def open_bundle(manifest: RunManifest, place: str | None, allow_ops: tuple[str, ...] = ()) -> ModelBundle:
    """Opens the bundle of a run and compares its digest.

    Args:
        manifest: the run's manifest.
        place: location of the bundle; None means that in the manifest, then a known bundle of its name.
        allow_ops: operations that its graph may use although they reach beyond it. Those that the bundle
            records count only if ``place`` is pinned: the digest in the run is not the searcher's own.

    Raises:
        ModelBundleError: the bundle was not found, or has another digest.
    """
    digest, name = manifest.bundle["digest"], manifest.bundle["name"]
    where, pinned = split_pin(place) if place else (manifest.bundle["place"], None)
    is_pinned = pinned == digest
    try:
        return ModelBundle.open(f"{where}@sha256:{digest}", allow_ops, allow_recorded=is_pinned)
    except BundleFormatError as error:
        if place is None and name in NAMED_BUNDLES:
            return ModelBundle.open(f"{name}@sha256:{digest}", allow_ops, allow_recorded=False)
        raise BundleFormatError(
            f"The bundle {name} of run {manifest.run_id} was not found at {where}: name its folder with "
            f"--bundle. It must have the digest {digest}. ({error})"
        ) from error
    except BundleIntegrityError as error:
        raise BundleIntegrityError(
            f"The vectors of run {manifest.run_id} were made by the bundle {name} with the digest {digest}; "
            f"vectors of another bundle are not comparable. {error}"
        ) from error
