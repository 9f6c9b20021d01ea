"""Writes to objects on gs:// that succeed only in the expected state."""

from __future__ import annotations

from collections.abc import Callable

_GS = "gs://"


def create_object_if_absent(path: str, data: bytes) -> bool:
    """Creates an object; False if it exists already."""
    from google.api_core.exceptions import PreconditionFailed
    from google.cloud import storage

    bucket, name = path.removeprefix(_GS).split("/", 1)
    blob = storage.Client().bucket(bucket).blob(name)
    try:
        blob.upload_from_string(data, if_generation_match=0)
    except PreconditionFailed:
        return False
    return True


def update_object(path: str, change: Callable[[bytes | None], bytes | None]) -> bool:
    """Changes an object; False if another writer replaced it meanwhile."""
    from google.api_core.exceptions import NotFound, PreconditionFailed
    from google.cloud import storage

    bucket, name = path.removeprefix(_GS).split("/", 1)
    folder = storage.Client().bucket(bucket)
    found = folder.get_blob(name)
    generation = 0 if found is None else found.generation
    try:
        old = None if found is None else found.download_as_bytes(if_generation_match=generation)
        new = change(old)
        if new is not None:
            folder.blob(name).upload_from_string(new, if_generation_match=generation)
    except (NotFound, PreconditionFailed):
        return False
    return True
