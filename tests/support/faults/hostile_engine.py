"""An engine over the transforms of a Beam graph that does to a job whatever engines may do.

It runs a bundle twice at the same time, fails it at any element or call to the storage, runs it again with
other neighbours, lets calls of dead workers arrive late, redoes stages or the whole graph after success,
and runs a second job with the same run id. A tape of bytes decides: where it ends, the engine behaves well,
so Hypothesis shrinks towards the least hostility that a fault needs.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import apache_beam as beam
from apache_beam.pipeline import AppliedPTransform, PipelineVisitor
from apache_beam.pvalue import PCollection, TaggedOutput
from apache_beam.transforms.core import GroupByKey
from apache_beam.utils.windowed_value import WindowedValue

from tests.support.faults.memory_store import Effect, MemoryStore

# Engines give a bundle up after some failures.
MAX_FAILURES = 3


class Killed(BaseException):
    """A worker died; no ``except Exception`` of the job may catch this."""


class LostError(Exception):
    """The engine failed a bundle between two elements."""


class Tape:
    """Choices, one per byte; all are 0 after its end."""

    def __init__(self, data: bytes) -> None:
        self._bytes = iter(data)
        self.has_ended = False

    def choose(self, number: int) -> int:
        """Returns a number below ``number``."""
        value = next(self._bytes, None)
        self.has_ended = self.has_ended or value is None
        return 0 if value is None or number == 0 else value % number


@dataclass(eq=False)
class Node:
    """A step of a graph: its inputs and its outputs by tag, both by the identity of a collection."""

    label: str
    transform: Any
    inputs: tuple[int, ...]
    outputs: Mapping[str | None, int]
    calls_storage: bool = True


class _Nodes(PipelineVisitor):  # type: ignore[misc]  # Beam is not typed
    """Collects steps in order; ``Create`` and ``Reshuffle`` count as one each."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self._whole: AppliedPTransform | None = None

    def enter_composite_transform(self, node: AppliedPTransform) -> None:
        if self._whole is None and isinstance(node.transform, beam.Create | beam.Reshuffle):
            self._whole = node
            self._add(node)

    def leave_composite_transform(self, node: AppliedPTransform) -> None:
        if node is self._whole:
            self._whole = None

    def visit_transform(self, node: AppliedPTransform) -> None:
        if self._whole is None:
            self._add(node)

    def _add(self, node: AppliedPTransform) -> None:
        inputs = tuple(id(value) for value in node.inputs if isinstance(value, PCollection))
        outputs = {tag: id(value) for tag, value in node.outputs.items()}
        assert not node.side_inputs, "no step of a run has side inputs, so none can be late"
        self.nodes.append(Node(node.full_label, node.transform, inputs, outputs))


def graph_of(build: Callable[[Any], Any], pure: Sequence[str] = ()) -> list[Node]:
    """Builds a graph and returns its steps; ``pure`` are parts of labels of steps that call no storage."""
    pipeline = beam.Pipeline()
    build(pipeline)
    found = _Nodes()
    pipeline.visit(found)
    for node in found.nodes:
        node.calls_storage = isinstance(node.transform, beam.ParDo) and not any(p in node.label for p in pure)
    return found.nodes


@dataclass(eq=False)
class Bundle:
    """Elements that a worker processes together; ``result`` are its outputs by tag."""

    node: Node
    elements: list[Any]
    result: dict[str | None, list[Any]] | None = None
    num_failures: int = 0


@dataclass(eq=False)
class Job:
    """One execution of a graph."""

    name: str
    nodes: Sequence[Node]
    bundles: dict[Node, list[Bundle]] = field(default_factory=dict)
    has_failed: bool = False
    has_news: bool = True

    def outputs(self, node: Node) -> dict[int, list[Any]] | None:
        """Returns the outputs of a step by collection; None before all of its bundles are done."""
        bundles = self.bundles.get(node)
        if bundles is None or any(bundle.result is None for bundle in bundles):
            return None
        found: dict[int, list[Any]] = {key: [] for key in node.outputs.values()}
        for bundle in bundles:
            for tag, values in (bundle.result or {}).items():
                found[node.outputs[tag]] += values
        return found

    def pending(self) -> list[Bundle]:
        """Returns the bundles without a result."""
        return [b for bundles in self.bundles.values() for b in bundles if b.result is None]

    def has_ended(self) -> bool:
        """Whether the last step is done, or the job was given up."""
        return self.has_failed or self.outputs(self.nodes[-1]) is not None

    def redo(self, first: Node) -> None:
        """Forgets the results of a step and of everything behind it."""
        gone = {first}
        for node in self.nodes:
            if any(key in other.outputs.values() for other in gone for key in node.inputs):
                gone.add(node)
        for node in gone:
            self.bundles.pop(node, None)
        self.has_news = True


class Worker:
    """A thread that runs one bundle and moves only when it is let."""

    def __init__(self, job: Job, bundle: Bundle, fails_after: int) -> None:
        self.job, self.bundle = job, bundle
        self.outputs: dict[str | None, list[Any]] | None = None
        self.error: BaseException | None = None
        self.has_ended = self._dies = False
        self.effect: Effect | None = None
        self._fails_after = fails_after
        # Locks that are held until the other side lets go: the fastest way to pass a turn.
        self._may_go, self._stands = threading.Lock(), threading.Lock()
        self._may_go.acquire()
        self._stands.acquire()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def step(self, *, dies: bool = False) -> None:
        """Lets it make the call before which it stands, or die instead."""
        self._dies = dies
        self._may_go.release()
        self._stands.acquire()

    def stand(self, effect: Effect) -> None:
        """Waits in its own thread before a call."""
        self.effect = effect
        self._stands.release()
        self._may_go.acquire()
        if self._dies:
            raise Killed

    def is_this_thread(self) -> bool:
        """Whether the caller is the worker."""
        return threading.current_thread() is self._thread

    def _run(self) -> None:
        self._may_go.acquire()
        try:
            if self._dies:
                raise Killed
            self.outputs = run_bundle(self.bundle, self._fails_after)
        except BaseException as error:  # the engine looks at it
            self.error = error
        self.has_ended, self.effect = True, None
        self._stands.release()


def run_bundle(bundle: Bundle, fails_after: int = 0) -> dict[str | None, list[Any]]:
    """Runs the ``DoFn`` of a step over a bundle; with ``fails_after`` it fails after so many elements."""
    transform = bundle.node.transform
    dofn = copy.copy(transform.fn)
    outputs: dict[str | None, list[Any]] = {}
    try:
        dofn.setup()
        dofn.start_bundle()
        for number, element in enumerate(bundle.elements, 1):
            _collect(dofn.process(element, *transform.args, **transform.kwargs), outputs)
            if number == fails_after:
                raise LostError
        _collect(dofn.finish_bundle(), outputs)
    except Exception:
        dofn.teardown()  # the process lives on
        raise
    return outputs


def _collect(values: Any, outputs: dict[str | None, list[Any]]) -> None:
    for value in values or ():
        bare = value.value if isinstance(value, WindowedValue) else value
        tag, bare = (bare.tag, bare.value) if isinstance(bare, TaggedOutput) else (None, bare)
        outputs.setdefault(tag, []).append(bare)


class HostileEngine:
    """Runs jobs over one storage.

    Args:
        graphs: for each job its name and graph; the second and later ones start when the tape says so.
        tape: decides.
        check: called after each step that may have changed the storage.
    """

    def __init__(
        self, graphs: Mapping[str, Sequence[Node]], tape: Tape, check: Callable[[MemoryStore], None]
    ) -> None:
        self._tape, self._check = tape, check
        self.store = MemoryStore(self._before, renames_at_once=tape.choose(2) == 0)
        self._waiting = [Job(name, nodes) for name, nodes in graphs.items()]
        self.jobs = [self._waiting.pop(0)]
        self.workers: list[Worker] = []
        self._late: list[Effect] = []
        some = (self._go_on, self._go_on, self._start, self._start, self._start, self._duplicate, self._kill)
        others = (self._recut, self._restart, self._redo, self._another_job, self._land)
        # The other four of sixteen choices let a worker go on.
        self._actions = dict(enumerate((*some, *others), 4))

    def run(self) -> None:
        """Runs everything to its end: no worker is left, and no call is on its way."""
        with self.store.installed():
            try:
                while self._turn():
                    pass
            finally:
                for worker in self.workers:
                    while not worker.has_ended:
                        worker.step(dies=True)

    def run_quietly(self, name: str, nodes: Sequence[Node]) -> Job:
        """Runs one more job on a well-behaved engine."""
        assert self._tape.has_ended
        self.jobs, self.workers = [Job(name, nodes)], []
        self.run()
        return self.jobs[0]

    def _before(self, _: str, __: str, effect: Effect) -> None:
        for worker in self.workers:
            if worker.is_this_thread():
                worker.stand(effect)

    def _turn(self) -> bool:
        """Does one thing; False if there is nothing left to do."""
        for job in self.jobs:
            self._advance(job)
        choice = self._tape.choose(16)
        if self._tape.has_ended:
            return self._behave()
        self._actions.get(choice, self._step_some)()
        return True

    def _behave(self) -> bool:
        if self.workers:
            self._step(self.workers[0])
        elif self._late:
            self._land()
        else:
            waiting = [(job, bundle) for job in self.jobs if not job.has_failed for bundle in job.pending()]
            if not waiting:
                return False
            self.workers.append(Worker(*waiting[0], fails_after=0))
        return True

    def _advance(self, job: Job) -> None:
        """Builds bundles of every step whose inputs are complete, and runs those that call no storage."""
        if not job.has_news:
            return
        job.has_news = False
        complete: dict[int, list[Any]] = {}
        for node in () if job.has_failed else job.nodes:
            if node not in job.bundles and all(key in complete for key in node.inputs):
                elements = [element for key in node.inputs for element in complete[key]]
                job.bundles[node] = list(self._bundles(node, elements))
            complete.update(job.outputs(node) or {})

    def _bundles(self, node: Node, elements: list[Any]) -> Iterator[Bundle]:
        transform = node.transform
        if isinstance(transform, beam.ParDo):
            for part in self._cut(elements):
                bundle = Bundle(node, part)
                if not node.calls_storage:
                    bundle.result = run_bundle(bundle)
                yield bundle
            return
        if isinstance(transform, beam.Create):
            elements = list(transform.values)
        elif isinstance(transform, GroupByKey):
            groups: dict[Any, list[Any]] = {}
            for key, value in elements[:: -1 if self._tape.choose(2) else 1]:
                groups.setdefault(key, []).append(value)
            elements = list(groups.items())
        else:
            assert isinstance(transform, beam.Flatten | beam.Reshuffle), transform
        yield Bundle(node, [], {None: elements})

    def _cut(self, elements: list[Any]) -> Iterator[list[Any]]:
        """Cuts elements into bundles, in this order or the other."""
        backwards = self._tape.choose(2)
        part: list[Any] = []
        for element in reversed(elements) if backwards else elements:
            part.append(element)
            if self._tape.choose(3) == 1:
                yield part
                part = []
        if part:
            yield part

    def _step(self, worker: Worker) -> None:
        worker.step()
        self._check(self.store)
        if worker.has_ended:
            self._settle(worker)

    def _settle(self, worker: Worker) -> None:
        self.workers.remove(worker)
        bundle = worker.bundle
        worker.job.has_news = True
        if worker.outputs is not None:
            bundle.result = worker.outputs if bundle.result is None else bundle.result  # the first one counts
        elif not isinstance(worker.error, Killed | LostError):
            bundle.num_failures += 1
            worker.job.has_failed |= bundle.num_failures > MAX_FAILURES
            if not isinstance(worker.error, Exception):
                raise AssertionError("a worker ended as none should") from worker.error

    def _pick(self, some: Sequence[Any]) -> Any:
        return some[self._tape.choose(len(some))] if some else None

    def _step_some(self) -> None:
        worker = self._pick(self.workers)
        for _ in range(1 + self._tape.choose(6)):
            if worker is not None and not worker.has_ended:
                self._step(worker)
        if worker is None:
            self._start()

    def go_on(self, job: Job, number: int) -> None:
        """Lets one job make so many steps, in order, while all others stand still."""
        for _ in range(number):
            self._advance(job)
            own = [worker for worker in self.workers if worker.job is job]
            if own:
                self._step(own[-1])
            elif not job.has_failed and (waiting := job.pending()):
                self.workers.append(Worker(job, waiting[0], fails_after=0))

    def _go_on(self) -> None:
        self.go_on(self._pick(self.jobs), self._tape.choose(128))

    def _start(self) -> None:
        job = self._pick(self.jobs)
        running = {worker.bundle for worker in self.workers}
        bundle = None if job.has_failed else self._pick([b for b in job.pending() if b not in running])
        if bundle is not None:
            self.workers.append(Worker(job, bundle, fails_after=self._tape.choose(4)))

    def _duplicate(self) -> None:
        """Runs a bundle that runs already or is done."""
        job = self._pick(self.jobs)
        bundle = self._pick([b for bundles in job.bundles.values() for b in bundles if b.node.calls_storage])
        if bundle is not None:
            self.workers.append(Worker(job, bundle, fails_after=0))

    def _kill(self) -> None:
        """Kills a worker; what it asked of the storage may still happen later."""
        worker = self._pick(self.workers)
        if worker is None:
            return
        if worker.effect is not None and self._tape.choose(2):
            self._late.append(worker.effect)
        worker.step(dies=True)
        while not worker.has_ended:
            worker.step(dies=True)
        self._settle(worker)

    def _recut(self) -> None:
        """Cuts the waiting elements of a step into other bundles."""
        job = self._pick(self.jobs)
        running = {worker.bundle for worker in self.workers}
        node = self._pick([node for node, bundles in job.bundles.items() if node.calls_storage])
        if node is None:
            return
        waiting = [b for b in job.bundles[node] if b.result is None and b not in running]
        elements = [element for bundle in waiting for element in bundle.elements]
        kept = [b for b in job.bundles[node] if b not in waiting]
        job.bundles[node] = kept + [Bundle(node, part) for part in self._cut(elements)]
        job.has_news = True

    def _restart(self) -> None:
        """Runs the whole graph again; workers of the last time go on."""
        job = self._pick(self.jobs)
        job.bundles.clear()
        job.has_failed, job.has_news = False, True

    def _redo(self) -> None:
        job = self._pick(self.jobs)
        node = self._pick(list(job.bundles))
        if node is not None:
            job.redo(node)

    def _another_job(self) -> None:
        if self._waiting:
            self.jobs.append(self._waiting.pop(0))

    def _land(self) -> None:
        if self._late:
            self._late.pop(self._tape.choose(len(self._late)))()
            self._check(self.store)
