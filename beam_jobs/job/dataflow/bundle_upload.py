"""A bundle on the machine that submits, and workers that cannot see it."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Any

from apache_beam.options.pipeline_options import GoogleCloudOptions

from beam_jobs.errors import UsageError
from beam_jobs.job.console.console import Console
from beam_jobs.pipeline.build import JobPlan

_GS = "gs://"
_FOLDER = "model_bundles"


def share_bundle(plan: JobPlan, flags: argparse.Namespace, options: Any, console: Console) -> JobPlan:
    """Sends a bundle that only this machine has to shared storage, under its digest.

    Args:
        plan: of the job.
        flags: as given.
        options: Beam's pipeline options.
        console: says where it went.

    Returns:
        The plan whose workers find the bundle.

    Raises:
        UsageError: there is no storage that workers share.
        ModelBundleError: it cannot be sent.
    """
    if not needs_sharing(plan.encode.bundle, flags):
        return plan
    store = bundle_store(flags, options)
    from model_bundle.bundle.transfer import push_bundle

    url, num_sent = push_bundle(plan.encode.bundle, store)
    console.print("workers", f"bundle for the workers: {url} ({num_sent or 'no'} files sent)")
    place = {**plan.description.bundle, "place": url}
    return replace(
        plan, encode=replace(plan.encode, bundle=url), description=replace(plan.description, bundle=place)
    )


def needs_sharing(bundle: str, flags: argparse.Namespace) -> bool:
    """Whether a bundle must be sent before workers can load it."""
    if "://" in bundle or flags.bundle_in_image:
        return False
    return flags.bundle_store is not None or flags.runner.rpartition(".")[2].lower() == "dataflowrunner"


def bundle_store(flags: argparse.Namespace, options: Any) -> str:
    """Returns the folder for bundles that workers share.

    Raises:
        UsageError: none was named, or it is not shared.
    """
    temp = options.view_as(GoogleCloudOptions).temp_location
    store: str | None = flags.bundle_store or (f"{temp.rstrip('/')}/{_FOLDER}" if temp else None)
    if store is None or not store.startswith(_GS):
        raise UsageError(
            f"The bundle ({flags.bundle or 'the default one'}) is on this machine, which workers elsewhere "
            f"cannot see: expected a place in gs://, got {store or 'none'}. Give --temp_location gs://… or "
            "--bundle_store gs://…, name a bundle in gs://, or bake it into the workers' image "
            "(--bundle_in_image)."
        )
    return store.rstrip("/")
