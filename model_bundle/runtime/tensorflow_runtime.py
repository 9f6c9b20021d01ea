"""Runs a SavedModel: the requested outputs, pooled in the graph, on constant weights, in one precision."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from threading import BoundedSemaphore, Lock
from typing import Any, Protocol

import numpy as np

from model_bundle.base.machine import num_cores, release_free_memory
from model_bundle.bundle.bundle import ModelBundle
from model_bundle.bundle.specs import InputSpec, Precision
from model_bundle.errors import ModelBundleError, ModelMemoryError, ModelRunError
from model_bundle.runtime.freeze.freeze import CannotFreezeError, freeze
from model_bundle.runtime.freeze.optimize import Call
from model_bundle.runtime.golden import Golden
from model_bundle.runtime.inputs import signature_inputs
from model_bundle.runtime.int8_products import check_processor
from model_bundle.runtime.memory import MemoryGuard
from model_bundle.runtime.pooling import normalize_in_graph, pool_in_graph
from model_bundle.runtime.request import EncodeRequest, check_precision
from model_bundle.runtime.saved_model import load_saved_model
from model_bundle.runtime.tensorflow_setup import import_tensorflow


class Runtime(Protocol):
    """A loaded model, in this process or another: a batch of arrays in, named arrays out.

    ``unfrozen_reason``: why weights stayed variables; None if they are constants. ``parallelism``: how many
    batches run in parallel. ``ready_seconds``: how long loading took.
    """

    request: EncodeRequest
    unfrozen_reason: str | None
    ready_seconds: float
    parallelism: int

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Runs one padded batch: arrays by input role in, arrays by output name out.

        Raises:
            ModelMemoryError: the batch was too large.
            ModelRunError: the model failed in another way.
        """


class TensorFlowRuntime:
    """The model in this process; runs at most ``num_threads`` batches at a time, which bounds memory.

    Args:
        bundle: a checked bundle.
        request: outputs, pooling and precision to compute.
        num_threads: batches run in parallel, one thread each; None means one per core. The first model of a
            process sets TensorFlow to one thread per operation.
        keep_signatures: ``signature`` will be called. Otherwise variables are freed once they are constants.

    Raises:
        GoldenMismatchError: in this precision, on this machine, the model does not reproduce the vectors
            recorded when its bundle was built.
    """

    def __init__(
        self,
        bundle: ModelBundle,
        request: EncodeRequest,
        num_threads: int | None = None,
        *,
        keep_signatures: bool = False,
    ) -> None:
        started = time.monotonic()
        self.request = request
        self.parallelism = num_threads or num_cores()
        self._tf = import_tensorflow(self.parallelism, operation_threads=1)
        self._inputs = bundle.manifest.inputs
        self._pad_id = bundle.manifest.tokenizer.pad_id
        self._loaded = load_saved_model(bundle.path, bundle.manifest, bundle.allowed_ops)
        self._free_slots = BoundedSemaphore(self.parallelism)
        self._around_calls: Callable[[], AbstractContextManager[None]] = nullcontext
        self._guard = MemoryGuard(self._tf, bundle.manifest.min_batch)
        self._keeps_signatures = keep_signatures
        self._call, self.unfrozen_reason = self._choose(bundle)
        release_free_memory()
        self.ready_seconds = time.monotonic() - started

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """See ``Runtime.run``."""
        with self._free_slots:
            return self._run(self._call, inputs)

    @property
    def signature_names(self) -> tuple[str, ...]:
        """The names of the SavedModel's signatures."""
        return tuple(self._loaded.signatures)

    def signature(self, name: str) -> Any:
        """Returns a callable of the SavedModel as it was stored.

        Raises:
            RuntimeError: the model was loaded without its signatures.
        """
        if not self._keeps_signatures:
            raise RuntimeError("Load the model with keep_signatures=True: its variables were freed.")
        return self._loaded.signatures[name]

    def _run(self, call: Call, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        try:
            return self._guard.run(lambda part: self._call_on(call, part), inputs)
        except (self._tf.errors.ResourceExhaustedError, MemoryError) as error:
            raise ModelMemoryError(f"The model ran out of memory on a batch of {_shape(inputs)}.") from error
        except (self._tf.errors.OpError, ValueError, TypeError) as error:
            raise ModelRunError(
                f"The model failed on a batch of {_shape(inputs)}: {_cause(error)}"
            ) from error

    def _call_on(self, call: Call, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        arrays = signature_inputs(inputs, self._inputs, self._pad_id)
        tensors = {
            name: self._tf.constant(array, dtype=self._inputs[name].dtype) for name, array in arrays.items()
        }
        with self._around_calls():
            return {name: value.numpy() for name, value in call(tensors).items()}

    def _choose(self, bundle: ModelBundle) -> tuple[Call, str | None]:
        """Uses constants if they reproduce the golden vectors, else variables, with the reason."""
        golden, concrete = Golden.read(bundle), self._trace(bundle)
        if self.request.precision.is_integer:
            check_processor(self.request.precision)
        reason = bundle.manifest.freeze_reason or "the bundle forbids constants"
        # A graph that TensorFlow rewrites must be optimised by TensorFlow, when it is called.
        ways = (True, False) if self._around_calls is nullcontext else (False,)
        for optimize_first in ways if bundle.manifest.freeze else ():
            try:
                frozen = freeze(concrete, optimize_first=optimize_first)
            except CannotFreezeError as error:
                reason = f"constants were tried: {error}"
                continue
            if not self._keeps_signatures:
                frozen.release_variables()  # now: the first run needs the most memory
            try:
                self._check(frozen.call, golden)
                return frozen.call, None
            except ModelBundleError as error:
                reason = f"constants were tried: {error}"
            self._loaded = load_saved_model(bundle.path, bundle.manifest, bundle.allowed_ops)
            concrete = self._trace(bundle)

        def on_variables(tensors: Mapping[str, Any]) -> dict[str, Any]:
            return concrete(**tensors)  # type: ignore[no-any-return]  # TensorFlow is not typed

        self._check(on_variables, golden)
        return on_variables, reason

    def _check(self, call: Call, golden: Golden) -> None:
        golden.check(lambda inputs: self._run(call, inputs), self.request)

    def _trace(self, bundle: ModelBundle) -> Any:
        """Builds the function that calls the signature and pools its outputs."""
        tf = self._tf
        signature = self._loaded.signatures[self._signature_name(bundle)]
        specs = tensor_specs(self._inputs)

        @tf.function(autograph=False)  # type: ignore[untyped-decorator]  # TensorFlow is not typed
        def call(**inputs: Any) -> dict[str, Any]:
            outputs = signature(**inputs)
            lengths = real_lengths(self._inputs, inputs, outputs)
            return {name: self._finish(outputs[name], lengths) for name in self.request.outputs}

        return call.get_concrete_function(**specs)

    def _signature_name(self, bundle: ModelBundle) -> str:
        """Chooses the graph; a float32-only one is rewritten to bfloat16 by TensorFlow.

        Raises:
            SettingsError: the bundle has no graph of this precision.
        """
        manifest, precision = bundle.manifest, self.request.precision
        check_precision(manifest, precision)
        if precision is Precision.BFLOAT16 and manifest.bfloat16_signature is None:
            self._around_calls = lambda: _rewritten_to_bfloat16(self._tf)
        return manifest.signature_of(precision) or manifest.signature

    def _finish(self, output: Any, lengths: Any) -> Any:
        output = self._tf.cast(output, self._tf.float32)
        if self.request.pooling is not None:
            output = pool_in_graph(output, lengths, self.request.pooling)
        return normalize_in_graph(output) if self.request.normalize else output


@contextmanager
def _rewritten_to_bfloat16(tf: Any) -> Iterator[None]:
    """Has TensorFlow rewrite float32 graphs during calls in this context, and none afterwards."""
    _change_rewriting(tf, 1)
    try:
        yield
    finally:
        _change_rewriting(tf, -1)


def _change_rewriting(tf: Any, change: int) -> None:
    with _rewriting.lock:
        before = _rewriting.num_calls
        _rewriting.num_calls += change
        if 0 in (before, _rewriting.num_calls):
            tf.config.optimizer.set_experimental_options({_TO_BFLOAT16: _rewriting.num_calls > 0})


class _Rewriting:
    """Counts calls that need the rewrite, since TensorFlow's options are process-wide."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.num_calls = 0


_rewriting = _Rewriting()
_TO_BFLOAT16 = "auto_mixed_precision_onednn_bfloat16"
_MAX_CAUSE_CHARS = 500


def tensor_specs(inputs: Mapping[str, InputSpec]) -> dict[str, Any]:
    """Returns TensorSpecs of a signature's inputs, by name."""
    tf = import_tensorflow()
    found = {}
    for name, spec in inputs.items():
        shape: list[int | None] = [None] * spec.num_axes
        if spec.length is not None:
            shape[1] = spec.length
        found[name] = tf.TensorSpec(shape, spec.dtype, name=name)
    return found


def real_lengths(
    specs: Mapping[str, InputSpec], inputs: Mapping[str, Any], outputs: Mapping[str, Any]
) -> Any:
    """Returns how many tokens each text has: int32[texts], in the graph; None if nothing tells."""
    tf = import_tensorflow()
    by_role = {specs[name].role: tensor for name, tensor in inputs.items()}
    if "lengths" in by_role:
        return tf.cast(by_role["lengths"], tf.int32)
    if "mask" in by_role:
        return tf.reduce_sum(tf.cast(by_role["mask"], tf.int32), axis=1)
    return outputs.get("sequence_len")


def _shape(inputs: Mapping[str, np.ndarray]) -> str:
    return ", ".join(f"{role} {list(array.shape)}" for role, array in sorted(inputs.items()))


def _cause(error: Exception) -> str:
    """Returns the informative line of TensorFlow's report, which may quote a whole graph."""
    lines = str(error).split("\n\t [[")[0].strip().split("\n")
    line = lines[-1] if lines[0].startswith("Graph execution error") else lines[0]
    return line[:_MAX_CAUSE_CHARS]
