"""Builds ELMo again from the weights and the graph of its bundle."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np

from model_bundle.builders.graphs.elmo_options import DIRECTIONS, BilmOptions, cell_prefix
from model_bundle.bundle.bundle import ModelBundle
from model_bundle.bundle.graph_scan.proto import SAVED_MODEL_NAME
from model_bundle.bundle.manifest import SAVED_MODEL_DIR
from model_bundle.errors import SettingsError
from model_bundle.runtime.freeze.weights import base_name
from model_bundle.runtime.golden import Golden

_VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"
# How many filters of the convolution, highways and layers a model may have; the published ones have 7, 2, 2.
_MOST = 64


def read_elmo(bundle: ModelBundle) -> Any:
    """Returns the ``Elmo`` of a bundle, which gives its golden vectors.

    What neither shapes nor constants tell, the activation and whether layers add their input, is tried.

    Raises:
        SettingsError: the graph is not one of this package.
    """
    from model_bundle.builders.graphs.elmo import Elmo
    from model_bundle.builders.graphs.elmo_lstm import GATES

    stored = _read_variables(bundle)
    try:
        for options in _candidates(bundle, stored):
            elmo = Elmo(
                options,
                _as_published(options, stored, GATES),
                bundle.manifest.name,
                boundaries=bool(bundle.manifest.elmo and bundle.manifest.elmo.boundaries),
                layer_weights=stored["_mix/_weights"].tolist(),
                gamma=float(stored["_mix/_scaling"]),
            )
            for layer, direction in product(range(options.num_layers), range(len(DIRECTIONS))):
                # A constant was added to a bias and taken away again: the last digit may differ.
                for name, variable in elmo._layers[layer]._directions[direction].items():
                    variable.assign(stored[f"_layers/{layer}/_directions/{direction}/{name}"])
            if _gives_golden(elmo, bundle):
                return elmo
    except (KeyError, IndexError, ValueError) as error:
        raise SettingsError(_unknown(bundle, repr(error))) from error
    raise SettingsError(_unknown(bundle, "its golden vectors are not reproduced"))


def _unknown(bundle: ModelBundle, why: str) -> str:
    return (
        f"{bundle.manifest.name}: its graph is not one that this release knows ({why}). Build the bundle "
        "again from its source, then quantize it."
    )


def _read_variables(bundle: ModelBundle) -> dict[str, np.ndarray]:
    """Reads the checkpoint of a SavedModel: arrays by the path of their variable."""
    import tensorflow as tf

    reader = tf.train.load_checkpoint(str(bundle.path / SAVED_MODEL_DIR / "variables" / "variables"))
    names = [name for name in reader.get_variable_to_shape_map() if name.endswith(_VALUE)]
    return {name.removesuffix(_VALUE).replace(".S", "/"): reader.get_tensor(name) for name in names}


def _candidates(bundle: ModelBundle, stored: dict[str, np.ndarray]) -> Iterator[BilmOptions]:
    """Yields the shapes that fit the weights."""
    characters = "_characters/_variables"
    kernel = stored["_layers/0/_directions/0/input/kernel"]
    character_dim = stored[f"{characters}/char_embed"].shape[1]
    kernels = [stored.get(f"{characters}/cnn_{index}/kernel") for index in range(_MOST)]
    filters = tuple((k.shape[0] // character_dim, k.shape[1]) for k in kernels if k is not None)
    room, cell, projection = _constants(bundle)
    for activation, adds in product(("relu", "tanh"), (True, False)):
        yield BilmOptions(
            character_dim=character_dim,
            filters=filters,
            activation=activation,
            num_highways=sum(f"{characters}/highway_{index}/bias" in stored for index in range(_MOST)),
            max_characters=room + 2,
            lstm_dim=kernel.shape[1],
            projection_dim=kernel.shape[0] // 2,
            num_layers=sum(f"_layers/{i}/_directions/0/input/bias" in stored for i in range(_MOST)),
            use_skip_connections=adds,
            cell_clip=cell,
            projection_clip=projection,
        )


def _constants(bundle: ModelBundle) -> tuple[int, float | None, float | None]:
    """Returns how many characters of a word are read, and the limits of an LSTM's cell and projection."""
    import tensorflow as tf
    from tensorflow.core.protobuf import saved_model_pb2

    content = (bundle.path / SAVED_MODEL_DIR / SAVED_MODEL_NAME).read_bytes()
    graph = saved_model_pb2.SavedModel.FromString(content).meta_graphs[0].graph_def
    room, cell, projection = 0, None, None
    for function in graph.library.function:
        nodes = {node.name: node for node in function.node_def}
        for node in function.node_def:
            sources = [nodes.get(base_name(source)) for source in node.input]
            if node.op == "DecodePaddedRaw" and sources[1] is not None:
                room = int(tf.make_ndarray(sources[1].attr["value"].tensor))
            # In bfloat16 a limit is rounded.
            is_clip = node.op == "ClipByValue" and node.attr["T"].type == tf.float32.as_datatype_enum
            if is_clip and sources[0] is not None and sources[2] is not None:
                limit = float(tf.make_ndarray(sources[2].attr["value"].tensor))
                cell, projection = (cell, limit) if sources[0].op == "MatMul" else (limit, projection)
    return room, cell, projection


def _as_published(
    options: BilmOptions, stored: dict[str, np.ndarray], gates: tuple[str, ...]
) -> dict[str, np.ndarray]:
    """Returns the weights named as in ``weight_shapes``."""
    own = {n.removeprefix("_characters/_variables/"): a for n, a in stored.items()}
    found = {"char_embed": own["char_embed"][1:]}
    for index, (width, count) in enumerate(options.filters):
        shape = (1, width, options.character_dim, count)
        found[f"CNN/W_cnn_{index}"] = own[f"cnn_{index}/kernel"].reshape(shape)
        found[f"CNN/b_cnn_{index}"] = own[f"cnn_{index}/bias"]
    for index in range(options.num_highways):
        for part, name in (("kernel", "W"), ("bias", "b")):
            carry, transform = np.split(own[f"highway_{index}/{part}"], 2, axis=-1)
            found |= {
                f"CNN_high_{index}/{name}_carry": carry,
                f"CNN_high_{index}/{name}_transform": transform,
            }
    if options.projects_words:
        found |= {"CNN_proj/W_proj": own["projection/kernel"], "CNN_proj/b_proj": own["projection/bias"]}
    for layer, direction in product(range(options.num_layers), range(len(DIRECTIONS))):
        prefix, path = cell_prefix(direction, layer), f"_layers/{layer}/_directions/{direction}"
        found[f"{prefix}/W_0"] = np.concatenate([stored[f"{path}/{gate}/kernel"] for gate in gates], axis=1)
        found[f"{prefix}/B"] = np.concatenate([stored[f"{path}/{gate}/bias"] for gate in gates])
        if options.projects_cells:
            found[f"{prefix}/W_P_0"] = stored[f"{path}/projection_kernel"]
    return found


def _gives_golden(elmo: Any, bundle: ModelBundle) -> bool:
    import tensorflow as tf

    golden = Golden.read(bundle)
    words, lengths = tf.constant(golden.inputs["words"]), tf.constant(golden.inputs["lengths"], tf.int32)
    found = tf.function(lambda *fed: elmo.encode(*fed)[0], autograph=False)(words, lengths)
    return all(
        np.allclose(found[name].numpy(), expected, rtol=1e-3, atol=1e-4)
        for name, expected in golden.outputs.items()
    )
