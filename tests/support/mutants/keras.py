"""Changes Keras architectures at random, in ways that look for a hole, and loads them as the project does."""

from __future__ import annotations

import copy
import json
import random
import shutil
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py

from model_bundle.builders.keras.load.child import LoadTask, start_keras
from model_bundle.builders.keras.load.parent import Generation, plan
from model_bundle.builders.keras.options import LoadChoices
from model_bundle.builders.keras.source import find_source
from model_bundle.errors import ModelBundleError
from tests.support.mutants.json import places
from tests.support.runs.jobs import PROJECT

BASES = PROJECT / "tests" / "data" / "keras_architectures"
_SECONDS = 60
_MODULES = (
    *(None, "builtins", "os", "keras", "keras.utils", "keras.layers", "tf_keras.src.utils.data_utils"),
    *("tensorflow.io.gfile", "antigravity", "keras.src.saving.saving_lib", "tests.support.once"),
)
_CLASSES = (
    *("function", "__lambda__", "__typespec__", "__bytes__", "__tensor__", "__numpy__", "__tuple__"),
    *("Lambda", "TFOpLambda", "SlicingOpLambda", "ClassMethod", "InstanceMethod", "TensorFlowOpLayer"),
    *("TFSMLayer", "KerasLayer", "BundleEmbedding", "StringLookup", "TextVectorization", "Functional"),
)
_FUNCTIONS = (
    *("os.system", "system", "eval", "exec", "get_file", "io.write_file", "io.gfile.copy", "relu"),
    *("compat.v1.gfile.Copy", "raw_ops.WriteFile", "io.read_file", "load_op_library", "print"),
    *("py_function", "numpy_function", "debugging.enable_dump_debug_info", "summary.create_file_writer"),
)
_NEVER_IMPORTED = ("antigravity", "tests.support.once")
# Events of Python that a model which only computes does not cause.
_FORBIDDEN = (
    *("os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.Popen", "socket.__new__"),
    *("urllib.Request", "os.remove", "os.rename", "webbrowser.open", "pickle.find_class"),
)


def mutants(numbers: Sequence[int], folder: Path, target: str) -> list[tuple[int, LoadTask, Generation]]:
    """Writes changed architectures and plans how they are loaded; returns those that are not refused.

    Args:
        numbers: decide what is changed.
        folder: where to write.
        target: a path that no model may reach, which does not exist.
    """
    bases = [json.loads(path.read_text("utf-8")) for path in sorted(BASES.glob("*.json"))]
    weights = folder / "weights.h5"
    h5py.File(weights, "w").close()
    passed = []
    for number in numbers:
        path = folder / f"{number}.json"
        path.write_text(json.dumps(mutate(bases[number % len(bases)], number, target)))
        try:
            task, generations, _ = plan(find_source(path), LoadChoices(weights=weights), folder / str(number))
        except ModelBundleError:
            continue
        passed.append((number, task, generations[0]))
    return passed


def mutate(config: dict[str, Any], seed: int, target: str) -> dict[str, Any]:
    """Returns another architecture: names, modules, functions and settings exchanged."""
    chance = random.Random(seed)
    changed = copy.deepcopy(config)
    for _ in range(chance.randint(1, 3)):
        found = list(places(changed))
        if not found:
            break
        holder, key = chance.choice(found)
        if chance.random() < 0.3:
            _rename(chance.choice([part for part, _ in found]), chance)
        elif chance.random() < 0.15 and isinstance(holder, dict):
            del holder[key]
        elif chance.random() < 0.3:
            holder[key] = copy.deepcopy(chance.choice(found)[0])
        else:
            holder[key] = _strange(chance, target)
    return changed


def _rename(item: Any, chance: random.Random) -> None:
    if isinstance(item, dict):
        key = chance.choice(["class_name", "module", "registered_name", "function", "activation", "config"])
        names: dict[str, Sequence[str | None]] = {"class_name": _CLASSES, "module": _MODULES}
        item[key] = chance.choice(names.get(key, _FUNCTIONS))


def _strange(chance: random.Random, target: str) -> Any:
    name, module = chance.choice(_FUNCTIONS), chance.choice(_MODULES)
    function = {"class_name": "function", "module": module, "config": name, "registered_name": name}
    inner = {"name": "evil", "function": chance.choice([name, function]), "vocabulary": target}
    class_name = chance.choice(_CLASSES)
    layer: dict[str, Any] = {"class_name": class_name, "module": module, "config": inner, "name": "evil"}
    layer["inbound_nodes"] = [["_CONSTANT_VALUE", -1, target, {"dst": target}]]
    return chance.choice(
        [
            *(None, True, -1, 0, 2, 10**18, 1.5, "", "a\0b", target, f"touch {target}", f"file://{target}"),
            *([], {}, [target], [[]], ["_CONSTANT_VALUE", -1, target, {}], {"contents": target}),
            *(name, function, function, layer, layer, [layer]),
            {"class_name": "__lambda__", "config": {"value": "4wEAAAA="}},
            {"class_name": "__bytes__", "config": {"value": target}},
            {"class_name": "__tensor__", "config": {"value": [1.0], "dtype": name}},
            {"class_name": "__typespec__", "spec_name": name, "module": module, "serialized_spec": [target]},
        ]
    )


def load_mutants(tasks: Sequence[tuple[int, LoadTask]], generation: Generation, own: str) -> list[str]:
    """Loads architectures with one Keras, from where it stopped before; runs in a confined process.

    Returns:
        What Python was asked to do that no model needs, by the number of the mutant.
    """
    progress, events = Path(own, "progress"), Path(own, "events")
    start_keras(generation == 2)
    from model_bundle.builders.keras.load.child import _from_config
    from model_bundle.builders.keras.load.save import save_inference

    seen: list[str] = []
    sys.addaudithook(lambda name, found: seen.append(f"{name} {found}") if name in _FORBIDDEN else None)
    for index in range(int(progress.read_text()) if progress.exists() else 0, len(tasks)):
        number, task = tasks[index]
        progress.write_text(str(index + 1))
        scratch = Path(own, f"scratch-{number}")
        scratch.mkdir()
        seen.clear()
        signal.alarm(_SECONDS)  # ends the process
        try:
            save_inference(_from_config(task, {}, scratch), scratch / "model")
            with Path(own, "loaded").open("a") as file:
                file.write(f"{number}\n")
        except Exception as error:  # Keras, of an architecture that makes no model: ``export_keras`` says it
            Path(own, "last_error").write_text(repr(error)[:1000])
        signal.alarm(0)
        seen += [f"imported {name}" for name in _NEVER_IMPORTED if name in sys.modules]
        with events.open("a") as file:
            file.writelines(f"{number}: {event}\n" for event in seen)
        shutil.rmtree(scratch)
    return events.read_text().splitlines()
