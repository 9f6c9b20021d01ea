"""HDF5 files whose data lies elsewhere, and each reader of the project that would have read it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from model_bundle.base.untrusted.hdf5 import open_hdf5
from model_bundle.builders.elmo.bilm_files import read_weights
from model_bundle.builders.keras.load.stored_weights import read_layers, read_values
from model_bundle.builders.keras.source import kind_of
from model_bundle.builders.weights.h5 import open_attributes, open_h5
from model_bundle.compare.read_files import read_expected
from model_bundle.errors import SourceError

SECRET = np.arange(12, dtype="f").reshape(4, 3)


def external_storage(group: h5py.Group, folder: Path) -> None:
    SECRET.tofile(folder / "private.bin")
    group.create_dataset("kernel", (4, 3), "f", external=[(str(folder / "private.bin"), 0, 48)])


def external_link(group: h5py.Group, folder: Path) -> None:
    with h5py.File(folder / "private.h5", "w") as file:
        file["kernel"] = SECRET
    group["kernel"] = h5py.ExternalLink(str(folder / "private.h5"), "kernel")


def link_to_a_folder(group: h5py.Group, folder: Path) -> None:
    with h5py.File(folder / "private.h5", "w") as file:
        file["inner/kernel"] = SECRET
    group["linked"] = h5py.ExternalLink(str(folder / "private.h5"), "inner")


def soft_link_out(group: h5py.Group, folder: Path) -> None:
    link_to_a_folder(group.file.create_group("aside"), folder)
    group["kernel"] = h5py.SoftLink("/aside/linked/kernel")


def dangling_link(group: h5py.Group, folder: Path) -> None:
    group["kernel"] = h5py.ExternalLink(str(folder / "made later.h5"), "kernel")


def virtual_dataset(group: h5py.Group, folder: Path) -> None:
    with h5py.File(folder / "private.h5", "w") as file:
        file["kernel"] = SECRET
    layout = h5py.VirtualLayout((4, 3), "f")
    layout[:] = h5py.VirtualSource(str(folder / "private.h5"), "kernel", (4, 3))
    group.create_virtual_dataset("kernel", layout)


ELSEWHERE = [external_storage, external_link, link_to_a_folder, soft_link_out, dangling_link, virtual_dataset]
READERS: list[Callable[[Path], object]] = [
    read_weights,
    read_layers,
    read_values,
    kind_of,
    open_attributes,
    open_h5,
    read_expected,
]


@pytest.mark.parametrize("put", ELSEWHERE)
@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("place", ["/", "model_weights/dense"])
def test_no_reader_reads_data_of_other_files(
    put: Callable[[h5py.Group, Path], None],
    reader: Callable[[Path], object],
    place: str,
    tmp_path: Path,
) -> None:
    path = tmp_path / "weights.h5"
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = np.array([], dtype="S1")
        put(file.require_group(place), tmp_path)
    with pytest.raises(SourceError, match=r"link to another file|the data of|virtual dataset"):
        reader(path)


def test_links_inside_a_file_are_read(tmp_path: Path) -> None:
    path = tmp_path / "weights.h5"
    with h5py.File(path, "w") as file:
        file["a/kernel"] = SECRET
        file["b"] = h5py.SoftLink("/a")
        file["a/again"] = file["a"]  # a circle
        file.attrs["name"] = "x"
    with open_hdf5(path) as file:
        np.testing.assert_array_equal(file["b/again/kernel"], SECRET)


def test_data_that_is_only_claimed_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "weights.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("never_written", (1 << 40,), "f", chunks=(1 << 20,))
    with pytest.raises(SourceError, match=r"claims to contain 4398046511104 bytes of data"):
        read_values(path)
    with h5py.File(path, "w") as file:
        file.create_dataset("zeros", data=np.zeros(1 << 20, "f"), compression="gzip")
    assert read_values(path)["zeros"].shape == (1 << 20,)
