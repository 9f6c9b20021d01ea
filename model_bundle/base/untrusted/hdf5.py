"""Opens an HDF5 file whose data is all its own: the only place of this package that opens one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from model_bundle.base.system_errors import first_line
from model_bundle.errors import ModelBundleError, SourceError

# Weights hardly compress; data that was never written or is all zero takes no place in a file.
_MAX_EXPANSION = 32
_ALWAYS_ALLOWED_BYTES = 256_000_000


@contextmanager
def open_hdf5(path: Path, mode: Literal["r", "r+"] = "r") -> Iterator[Any]:
    """Opens a file after a look at everything in it.

    A dataset may lie in another file of this machine: by an external link, in external storage, or as a
    virtual dataset. Reading it would put that file's content into a model.

    Raises:
        SourceError: it is damaged, here or while it is read; part of its data lies in another file, or its
            data is many times larger than the file.
    """
    import h5py

    try:
        with h5py.File(path, mode) as file:
            _check_size(path, sum(_num_bytes(item, name, path) for name, item in _items(file, path)))
            yield file
    except ModelBundleError:
        raise
    # h5py raises almost any kind for a damaged file: KeyError, TypeError, UnicodeDecodeError, RuntimeError.
    except Exception as error:
        raise SourceError(
            f"{path} is not a complete HDF5 file, or not one of weights ({first_line(error)}). Copy or "
            "download it again."
        ) from error


def _num_bytes(item: Any, name: str, path: Path) -> int:
    """Returns the bytes that reading takes; rejects data that is elsewhere."""
    import h5py

    if not isinstance(item, h5py.Dataset):
        return 0
    _check_storage(item, name, path)
    return item.size * item.dtype.itemsize if item.size else 0


def _check_size(path: Path, num_bytes: int) -> None:
    limit = _ALWAYS_ALLOWED_BYTES + _MAX_EXPANSION * path.stat().st_size
    if num_bytes > limit:
        raise SourceError(
            f"{path} claims to contain {num_bytes} bytes of data; expected at most {limit} in a file "
            "of its size. It was not read. If its data is right, save it again without compression."
        )


def _items(file: Any, path: Path) -> Iterator[tuple[str, Any]]:
    """Yields every group and dataset once, whatever links lead to it."""
    import h5py

    waiting, seen = [("", file)], set[int]()
    while waiting:
        prefix, group = waiting.pop()
        for name in group:
            place = f"{prefix}/{name}"
            link = group.get(name, getlink=True)
            if isinstance(link, h5py.SoftLink):
                # Leads to another name in this file, which is looked at as such.
                continue
            if not isinstance(link, h5py.HardLink):
                to = f", in {link.filename!r}" if isinstance(link, h5py.ExternalLink) else ""
                raise _elsewhere(path, f"{place} is a link to another file{to}")
            item = group[name]
            address = h5py.h5o.get_info(item.id).addr
            if address in seen:
                continue
            seen.add(address)
            yield place, item
            if isinstance(item, h5py.Group):
                waiting.append((place, item))


def _check_storage(dataset: Any, name: str, path: Path) -> None:
    import h5py

    properties = dataset.id.get_create_plist()
    if properties.get_external_count():
        first = properties.get_external(0)[0]
        raise _elsewhere(path, f"the data of {name} is in {first!r}")
    if properties.get_layout() == h5py.h5d.VIRTUAL:
        raise _elsewhere(path, f"{name} is a virtual dataset, made of parts of other datasets")


def _elsewhere(path: Path, what: str) -> SourceError:
    return SourceError(
        f"{path}: {what}. Expected a file that contains all its data, since the content of other files of "
        "this machine would be read into the model. Save the weights again with their framework."
    )
