"""Small artefacts of either Keras, with what they gave; made where that Keras is ``tf.keras``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

NUMBERS = np.linspace(-1, 1, 60, dtype=np.float32).reshape(3, 20)
TEXTS = ("the cat sat", "dogs run far away", "", "Zürich, far away from the cats")


def make_all(directory: Path) -> None:
    """Saves models in many ways, each beside ``NAME.npy`` with what it gives for ``NUMBERS``."""
    import tensorflow as tf

    directory.mkdir(parents=True)
    tf.keras.utils.set_random_seed(7)
    _guide(directory)
    _nested(directory)
    _with_code(directory)
    _shared_names(directory)
    _with_vocabulary(directory, "words2")
    _odd_names(directory)


def make_keras_3(directory: Path) -> None:
    """A few of them by Keras 3, whose SavedModels are exports."""
    import tensorflow as tf

    from tests.support.models.legacy_objects import mlp

    directory.mkdir(parents=True)
    tf.keras.utils.set_random_seed(8)
    model = _shaken(mlp(dropout=True))
    _expect(directory / "mlp3", model)
    model.save(directory / "mlp3.keras")
    model.save(directory / "mlp3.h5")
    model.save_weights(directory / "mlp3.weights.h5")
    (directory / "mlp3.json").write_text(model.to_json())
    model.export(directory / "mlp3_export", verbose=False)
    _code_of_keras_3(directory)
    _with_vocabulary(directory, "words3")


def _guide(directory: Path) -> None:
    """Whole models, architectures and weights, as the guide of Keras 2 saves them."""
    from tests.support.models.legacy_objects import mlp, subclassed_model

    model = _shaken(mlp())
    model.compile("adam", "mse", metrics=["mae"])
    _expect(directory / "mlp", model)
    model.save(directory / "mlp.keras")
    model.save(directory / "mlp.h5")
    model.save(directory / "mlp", save_format="tf")
    model.save_weights(directory / "mlp_weights.h5")
    model.save_weights(directory / "mlp.weights.h5")
    model.save_weights(directory / "mlp_ckpt" / "weights")
    (directory / "mlp_once.json").write_text(model.to_json())
    (directory / "mlp_twice.json").write_text(json.dumps(model.to_json()))
    own = _shaken(subclassed_model())
    _expect(directory / "own", own)
    own.save(directory / "own", save_format="tf")


def _nested(directory: Path) -> None:
    """A frozen layer inside another: its weights go to the end of the file, and are of one shape."""
    from tests.support.models.legacy_objects import nested

    model = _shaken(nested(10, frozen=True))
    np.save(directory / "square.npy", model(NUMBERS[:, :10]).numpy())
    model.save_weights(directory / "square_weights.h5")


def _with_code(directory: Path) -> None:
    """A Lambda layer that writes a file when it is called, by the environment's name for it."""
    import os

    import tensorflow as tf

    inputs = tf.keras.Input((20,), name="digits")
    target = str(directory / "ran")
    os.environ.setdefault("TEST_LAMBDA_TARGET", target)

    def function(x: Any) -> Any:
        import os

        open(os.environ["TEST_LAMBDA_TARGET"], "w").close()  # noqa: PTH123  # what code may do
        return x * 2

    outputs = tf.keras.layers.Lambda(function, name="double")(inputs)
    model = tf.keras.Model(inputs, tf.keras.layers.Dense(2, name="head")(outputs))
    _expect(directory / "code", _shaken(model))
    model.save(directory / "code.h5")
    model.save(directory / "code.keras")
    (directory / "code.json").write_text(model.to_json())
    model.save_weights(directory / "code_weights.h5")
    (directory / "ran").unlink()


def _code_of_keras_3(directory: Path) -> None:
    import keras

    inputs = keras.Input((20,), name="digits")
    outputs = keras.layers.Lambda(lambda x: x * 2, name="double")(inputs)
    model = _shaken(keras.Model(inputs, keras.layers.Dense(2, name="head")(outputs)))
    _expect(directory / "code3", model)
    model.save(directory / "code3.keras")


def _with_vocabulary(directory: Path, name: str) -> None:
    """A model that splits texts itself and looks words up in a table, as Keras' own text examples do."""
    import tensorflow as tf

    split = tf.keras.layers.TextVectorization(max_tokens=30, output_sequence_length=6)
    split.adapt(TEXTS)
    inputs = tf.keras.Input((1,), dtype="string", name="text")
    states = tf.keras.layers.Embedding(30, 4)(split(inputs))
    outputs = tf.keras.layers.Dense(3)(tf.keras.layers.GlobalAveragePooling1D()(states))
    model = tf.keras.Model(inputs, outputs)
    np.save(directory / f"{name}.npy", np.asarray(model(tf.constant([[text] for text in TEXTS]))))
    model.save(directory / f"{name}.keras")


# Names of inputs that are no names of parameters; two of them become equal when their signs are replaced.
ODD_NAMES = ("Input-Token", "a b", "a.b", "a_b", "a/b", "1st", "class", "_under", "Größe")


def _odd_names(directory: Path) -> None:
    """Inputs of 1, 2, 3… numbers whose names only Keras takes, and token ids as keras-bert declares them."""
    import tensorflow as tf

    keras = tf.keras
    inputs = [keras.Input((size,), name=name) for size, name in enumerate(ODD_NAMES, 2)]
    head = keras.layers.Dense(2, name="NSP-Dense/out")
    model = _shaken(keras.Model(inputs, head(keras.layers.Concatenate()(inputs))))
    given = [NUMBERS[:, :size] for size, _ in enumerate(ODD_NAMES, 2)]
    np.save(directory / "odd.npy", model(given).numpy())
    model.save(directory / "odd.h5")

    ids, segments = (keras.Input((12,), name=f"Input-{name}") for name in ("Token", "Segment"))
    words, kinds = keras.layers.Embedding(200, 4), keras.layers.Embedding(2, 4)
    states = words(ids) + kinds(segments)
    bert = _shaken(keras.Model([ids, segments], keras.layers.GlobalMaxPooling1D(name="Max-Pool")(states)))
    np.save(directory / "keras_bert.npy", words.get_weights()[0] + kinds.get_weights()[0][0])
    bert.save(directory / "keras_bert" / "model.h5")
    bert.save(directory / "keras_bert_dir" / "model", save_format="tf")


def _shared_names(directory: Path) -> None:
    """Two layers of one shape with the numbers that Keras gave them, made in another order than called."""
    import tensorflow as tf

    last, first = tf.keras.layers.Dense(20, name="dense_8"), tf.keras.layers.Dense(20, name="dense_7")
    inputs = tf.keras.Input((20,), name="digits")
    model = _shaken(tf.keras.Model(inputs, last(first(inputs))))
    _expect(directory / "twins", model)
    model.save_weights(directory / "twins_weights.h5")


def twins() -> Any:
    """The same model, whose layers are numbered in the order in which they are called."""
    import tensorflow as tf

    first, last = tf.keras.layers.Dense(20, name="dense_8"), tf.keras.layers.Dense(20, name="dense_9")
    inputs = tf.keras.Input((20,), name="digits")
    return tf.keras.Model(inputs, last(first(inputs)))


def twins_crossed() -> Any:
    """The same, numbered the other way round."""
    import tensorflow as tf

    last, first = tf.keras.layers.Dense(20, name="dense_8"), tf.keras.layers.Dense(20, name="dense_9")
    inputs = tf.keras.Input((20,), name="digits")
    return tf.keras.Model(inputs, last(first(inputs)))


def load_lambda_checkpoint(
    directory: Path, *, anew: bool, scopes: tuple[str, ...] = ("module",)
) -> list[float]:
    """Loads a checkpoint of TensorFlow 1 into a model with a module inside a Lambda's function: 2 x + 3.

    Returns what it computes for 1 then; ``anew``: the function takes another module at each call.
    """
    import tensorflow as tf

    from model_bundle.builders.keras.load.weights import load_weights

    stored = {"dense/kernel": [[1.0]], "dense/bias": [3.0]} | {f"{scope}/scale": 2.0 for scope in scopes}
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        variables = [tf.compat.v1.Variable(value, name=name) for name, value in stored.items()]
        session.run(tf.compat.v1.variables_initializer(variables))
        tf.compat.v1.train.Saver(variables).save(session, str(directory / "model.ckpt"))

    modules = [tf.Variable(7.0, name="scale") for _ in range(9)]
    waiting = iter(modules)

    def function(x: Any) -> Any:
        return x * (next(waiting) if anew else modules[0])

    inputs = tf.keras.Input((1,), name="numbers")
    outputs = tf.keras.layers.Dense(1, name="dense")(tf.keras.layers.Lambda(function)(inputs))
    model = tf.keras.Model(inputs, outputs)
    load_weights(model, directory / "model.ckpt", directory)
    return [float(value) for value in np.ravel(model(tf.ones([1, 1])))]


def double(inputs: Any) -> Any:
    """What the Lambda layer computes, and nothing else."""
    return inputs * 2


def ask_the_hub(inputs: Any) -> Any:
    """A function with a handle inside, as a Lambda layer's may have one."""
    import tensorflow as tf
    import tensorflow_hub as hub

    module = hub.load("https://tfhub.dev/somebody/some-module/1")
    return inputs + tf.reduce_mean(module.signatures["default"](tf.constant(["a text"]))["default"])


def _expect(name: Path, model: Any) -> None:
    np.save(f"{name}.npy", np.asarray(model(NUMBERS, training=False)))


def _shaken(model: Any) -> Any:
    """Moves every weight, so that no two are alike."""
    random = np.random.default_rng(3)
    for weight in model.weights:
        weight.assign(np.asarray(weight) + random.normal(0, 0.2, tuple(weight.shape)))
    return model
