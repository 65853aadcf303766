"""Counts what a network really computes, from the values that flow through it."""

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakTensorKeyDictionary

from mmspike.models.inspection import is_neuron, spike_unit, time_steps

from .blanks import Blanks
from .linear_ops import LINEAR_OPS, LinearOp
from .op_tables import CATEGORY, MOVES, NO_ARITHMETIC, base_name
from .provenance import MAX_COUNT, Origin, derive, spike_counts

KINDS = ('binary spikes', 'integers', 'floats')
#: event frames are spikes if they are whole numbers
FRAMES = Origin(unit=1.0, neurons=frozenset(['(input)']))
#: modules whose work is preparation of the input, not inference
PREPARATION = ('data_preprocessor',)
#: what is listed where a feature has values that no operation wrote
UNSEEN = 'kernel that PyTorch does not dispatch'


@dataclass
class LayerRecord:
    """Sums over all calls of one multiply-accumulate operation of a network.

    Attributes:
        name: The module that the operation runs in.
        op: What it is: 'conv', 'depthwise conv', 'transposed conv', 'linear', 'matmul 1' (products of features).
        fed: The worst that fed it: 'binary spikes', 'integers' (spike counts), 'floats'.
        neurons: Names of the neurons whose spikes it reads.
        levels: Largest count that those send in a step (D).
        steps: Time steps in one call (T).
        calls: Calls.
        macs: Dense multiply-accumulates of all time steps.
        step_macs: Those of one step: what the same layer of an ordinary network costs.
        float_macs, real_float_macs: Those of calls that floats feed, all time steps; the latter without zero padding.
        sops: Mean spike count x dense multiply-accumulates, summed over calls that spikes feed.
        events: Accumulations that spikes cause, summed over the same calls.
        spikes, active, elements: Sum of the counts, non-zeros and elements of the inputs that spikes feed.
        max_count: Largest count seen.
        memory: Energy of the memory-aware model in pJ by component, see :mod:`mmspike.analysis.memory`.
        twin_memory: The same of one step of the ordinary network.
    """

    name: str
    op: str
    fed: str = KINDS[0]
    neurons: set[str] = field(default_factory=set)
    levels: int = 1
    steps: int = 1
    calls: int = 0
    macs: int = 0
    step_macs: float = 0
    float_macs: int = 0
    real_float_macs: int = 0
    sops: float = 0
    events: int = 0
    spikes: int = 0
    active: int = 0
    elements: int = 0
    max_count: int = 0
    memory: Counter = field(default_factory=Counter)
    twin_memory: Counter = field(default_factory=Counter)

    def add(self, call: 'Call') -> None:
        self.calls += 1
        self.fed = max(self.fed, call.fed, key=KINDS.index)
        self.steps = max(self.steps, call.steps)
        self.macs += call.linear.macs
        self.step_macs += call.linear.macs / call.steps
        if call.fed == 'floats':
            self.float_macs += call.linear.macs
            self.real_float_macs += call.linear.real_macs
            return
        self.neurons |= call.neurons
        self.levels = max(self.levels, call.levels)
        self.sops += call.spikes / max(call.elements, 1) * call.linear.macs
        self.events += call.events
        self.spikes += call.spikes
        self.active += call.active
        self.elements += call.elements
        self.max_count = max(self.max_count, call.max_count)


@dataclass
class Call:
    """One call of a multiply-accumulate operation, with what fed it."""

    linear: LinearOp
    fed: str = 'floats'
    neurons: frozenset[str] = frozenset()
    levels: int = 1
    steps: int = 1
    events: int = 0
    spikes: int = 0
    active: int = 0
    elements: int = 0
    max_count: int = 0


@dataclass
class NeuronRecord:
    """Sums over all calls of one neuron layer: elements of all time steps, the spikes it sent, how many were not 0."""

    name: str
    type: str
    levels: int
    steps: int = 1
    elements: int = 0
    spikes: int = 0
    active: int = 0
    memory: Counter = field(default_factory=Counter)


class OpCounter:
    """Counts the operations of every forward of ``model`` that runs inside ``with counter:``.

    It sees the operations that PyTorch dispatches, whoever calls them (modules, functional calls, products in attention), and
    the compiled ones of mmcv. What feeds each is told from the values. Run it without gradients: backward operations would be
    counted, too. Afterwards ``layers``, ``neurons``, ``not_billed`` and ``unknown`` hold sums over all calls.

    Args:
        model: The network; names in the records are those of its modules.
        memory: Called with each :class:`Call`, or each neuron module and its spike counts; returns pJ by component for the
            network as it is and, for calls, for one step of the ordinary network. See :mod:`mmspike.analysis.memory`.

    Attributes:
        layers: :class:`LayerRecord` by (module name, operation), in order of execution.
        neurons: :class:`NeuronRecord` by module name.
        not_billed: (category, operation) -> [calls, output elements]: known operations that the formula leaves out.
        places: (category, operation) of those -> names of the modules in which it ran on features, which have more than two
            dimensions; boxes and indices have at most two.
        unknown: (operation, module name) -> [calls, output elements]: operations on floats that no table knows. Kernels that
            are called past PyTorch are among them, in the module that reads what they wrote.

    Example:
        >>> import torch
        >>> from mmspike.analysis import OpCounter
        >>> from mmspike.models.layers import SpikingConv
        >>> block = SpikingConv(1, 2, 3, neuron=dict(type='SFA', levels=4, divisor=1))
        >>> x = torch.zeros(1, 1, 1, 5, 5)
        >>> x[..., 2, 2] = 3.0
        >>> with OpCounter(block) as counter:
        ...     out = block(x)
        >>> [(record.name, record.events) for record in counter.layers.values()]  # 3 spikes, 9 places, 2 channels
        [('conv', 54)]
    """

    def __init__(self, model: nn.Module, memory: Any = None) -> None:
        self.model = model
        self.memory = memory
        self.layers: dict[tuple[str, str], LayerRecord] = {}
        self.neurons: dict[str, NeuronRecord] = {}
        self.not_billed: dict[tuple[str, str], list[int]] = {}
        self.places: dict[tuple[str, str], set[str]] = {}
        self.unknown: dict[tuple[str, str], list[int]] = {}

    def __enter__(self) -> 'OpCounter':
        self._origins: WeakTensorKeyDictionary = WeakTensorKeyDictionary()
        for tensor in (*self.model.parameters(), *self.model.buffers()):
            self._origins[tensor] = Origin(weight=True)
        self._blanks = Blanks()
        self._stack: list[tuple[str, nn.Module, Counter]] = [('', self.model, Counter())]
        self._handles = []
        for name, module in self.model.named_modules():
            self._handles.append(module.register_forward_pre_hook(self._entering(name), with_kwargs=True))
            self._handles.append(module.register_forward_hook(self._leave, with_kwargs=True, always_call=True))
        self._compiled = _watched_extension(self._see_compiled)
        self._mode = _Dispatch(self._see)
        self._compiled.__enter__()
        self._mode.__enter__()
        return self

    def __exit__(self, *exc) -> None:
        self._mode.__exit__(*exc)
        self._compiled.__exit__(*exc)
        for handle in self._handles:
            handle.remove()

    def _entering(self, name: str) -> Callable:
        def enter(module, args, kwargs) -> None:
            self._stack.append((name, module, Counter()))
            T = getattr(module, 'T', None)
            if isinstance(T, int) and T > 1:  # event frames [T, B, …] come in with their steps
                for x in tree_leaves((args, kwargs)):
                    if isinstance(x, Tensor) and x.dim() == 5 and x.shape[0] == T:
                        self._origins[x] = replace(self._origins.get(x) or FRAMES, steps=T)

        return enter

    def _leave(self, module, args, kwargs, out) -> None:
        name = self._stack.pop()[0]
        if is_neuron(module) and isinstance(out, Tensor):
            self._fired(name, module, out)

    def _fired(self, name: str, module: nn.Module, out: Tensor) -> None:
        levels, steps = getattr(module, 'levels', 1), time_steps(module, out)
        origin = Origin(spike_unit(module), frozenset([name]), levels, max(MAX_COUNT, levels), steps)
        self._origins[out] = origin
        self._blanks.wrote([out])
        record = self.neurons.setdefault(name, NeuronRecord(name, type(module).__name__, levels))
        record.steps = max(record.steps, steps)
        record.elements += out.numel()
        with _unseen():
            counts = spike_counts(out, origin)
            if counts is None:  # its output is analogue (a membrane, a ReLU): what it feeds is fed by floats
                broken = out.numel() - int(out.isfinite().sum())
                if broken:
                    raise ValueError(
                        f'{name} gave {broken} of {out.numel()} values that are not finite, of which no spikes can be counted: '
                        'look for NaN in the weights and in the input'
                    )
                self._origins[out] = Origin(steps=steps)
                return
            record.spikes += round(counts.sum(dtype=torch.float64).item())
            record.active += int(counts.count_nonzero())
            if self.memory is not None:
                record.memory.update(self.memory.neuron(module, counts, steps))

    def _see(self, func, name: str, args: tuple, kwargs: dict, out) -> None:
        module_name, module, seen = self._stack[-1]
        qualified = func._schema.name
        with _unseen():
            filled = self._blanks.see(name, func._schema, args, kwargs, out)
        if module_name.split('.')[0] in PREPARATION:
            return
        results = [x for x in tree_leaves(out) if isinstance(x, Tensor)]
        inputs = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        if any(is_neuron(m) for _, m, _ in self._stack):
            self._note_known('membrane updates (neurons)', type(module).__name__, results)
            return
        for x in filled:
            if x.is_floating_point():
                self._note(self.unknown, (UNSEEN, module_name), x)
        origins = [self._origins.get(x) for x in inputs]
        if qualified in LINEAR_OPS:
            steps = max((o.steps for o in origins if o), default=1)
            for linear in LINEAR_OPS[qualified](args, out):
                self._count(linear, steps, module_name, seen)
            derived: Origin | None = Origin(steps=steps)
        elif name in NO_ARITHMETIC:
            return
        else:
            derived = derive(name, args, kwargs, origins, module_name)
            if derived is not None and derived.weight:  # what is computed from parameters alone is computed once
                self._origins.update((x, derived) for x in results)
                return
            floating = any(x.is_floating_point() for x in (*inputs, *results))
            if name in CATEGORY and floating:
                self._note_known(CATEGORY[name], name, results)
            elif name not in MOVES and name not in CATEGORY and floating and results:
                self._note(self.unknown, (qualified, module_name), results[0])
        for x in results:
            if derived is not None:
                self._origins[x] = derived
            else:
                self._origins.pop(x, None)

    def _note(self, table: dict, key: tuple[str, str], result: Tensor | None) -> None:
        entry = table.setdefault(key, [0, 0])
        entry[0] += 1
        entry[1] += 0 if result is None else result.numel()

    def _note_known(self, category: str, name: str, results: list[Tensor]) -> None:
        self._note(self.not_billed, (category, name), results[0] if results else None)
        if any(x.dim() > 2 for x in results):
            self.places.setdefault((category, name), set()).add(self._stack[-1][0])

    def _see_compiled(self, name: str, tensors: list[Tensor]) -> None:
        """An operator of mmcv, compiled or of mmspike.ops, counted as a whole: it writes results into its arguments."""
        qualified = f'mmcv::{name}'
        origins = [self._origins.get(x) for x in tensors]
        if qualified in CATEGORY:
            self._note_known(CATEGORY[qualified], qualified, tensors[2:] or tensors)
        else:
            self._note(self.unknown, (qualified, self._stack[-1][0]), tensors[0] if tensors else None)
        self._blanks.wrote(tensors)
        steps = max((o.steps for o in origins if o), default=1)
        for x, origin in zip(tensors, origins, strict=True):
            if origin is None and x.is_floating_point():
                self._origins[x] = Origin(steps=steps)

    def _count(self, linear: LinearOp, steps: int, module_name: str, seen: Counter) -> None:
        origins = [self._origins.get(o.source) for o in linear.operands]
        is_weight = [o is not None and o.weight for o in origins]
        op = linear.op
        if any(is_weight):
            linear.operands = [o for o, w in zip(linear.operands, is_weight, strict=True) if not w]
            op = 'linear' if op == 'matmul' else op
        seen[op] += 1
        # several of a kind in one module: products of an attention, a convolution that a module calls by itself
        if op == 'matmul' or seen[op] > 1:
            op = f'{op} {seen[op]}'
        call = self._fed(linear, steps)
        record = self.layers.setdefault((module_name, op), LayerRecord(module_name, op))
        record.add(call)
        if self.memory is not None:
            spent, twin = self.memory.layer(call)
            record.memory.update(spent)
            record.twin_memory.update(twin)

    def _fed(self, linear: LinearOp, steps: int) -> Call:
        """The input of a linear operation. Of two factors that spike, it is the one with fewer spikes an element."""
        factors = []
        with _unseen():
            for operand in linear.operands:
                origin = self._origins.get(operand.source)
                counts = spike_counts(operand.values, origin, operand.summed)
                if counts is not None:
                    factors.append((counts, origin or Origin(neurons=frozenset(['(recognised by value)'])), operand))
            if not factors:
                return Call(linear, steps=steps)
            if len(factors) == 2:
                events = linear.pairs(factors[0][0], factors[1][0])  # type: ignore[misc]  # two operands have it
                factors.sort(key=lambda f: f[0].sum(dtype=torch.float64).item() / max(f[0].numel(), 1))
            else:
                events = factors[0][2].fanout(factors[0][0])
            counts = factors[0][0]
            largest = max(int(c.max()) if c.numel() else 0 for c, _, _ in factors)
            levels = max(o.levels for _, o, _ in factors)
            return Call(
                linear,
                fed=KINDS[0] if max(largest, levels) <= 1 else KINDS[1],
                neurons=frozenset().union(*(o.neurons for _, o, _ in factors)),
                levels=levels,
                steps=steps,
                events=events,
                spikes=round(counts.sum(dtype=torch.float64).item()),
                active=int(counts.count_nonzero()),
                elements=counts.numel(),
                max_count=largest,
            )


class _Dispatch(TorchDispatchMode):
    """Hands every operation, after it ran, to ``see``."""

    def __init__(self, see: Callable) -> None:
        super().__init__()
        self.see = see

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        qualified = func._schema.name
        name = base_name(qualified)
        if qualified not in LINEAR_OPS and name not in CATEGORY and name not in MOVES:
            with self:  # composite operations arrive whole under inference_mode: their parts are what counts
                out = func.decompose(*args, **kwargs)
            if out is not NotImplemented:
                return out
        out = func(*args, **kwargs)
        self.see(func, name, args, kwargs, out)
        return out


@contextmanager
def _unseen() -> Iterator[None]:
    """Own arithmetic is not counted: no dispatch mode is asked within."""
    with torch._C._ExcludeDispatchKeyGuard(torch._C.DispatchKeySet(torch._C.DispatchKey.Python)):
        yield


@contextmanager
def _watched_extension(see: Callable[[str, list[Tensor]], None]) -> Iterator[None]:
    """Calls ``see`` with the name and the tensors of every call of mmcv's operators (RoIAlign, NMS, …)."""
    extension = sys.modules.get('mmcv._ext')
    functions = {}
    if extension is not None:
        functions = {k: f for k, f in vars(extension).items() if callable(f) and not k.startswith('_')}

    def watched(name: str, function: Callable) -> Callable:
        def call(*args, **kwargs):
            with _unseen():  # what mmspike.ops computes them from is counted as one operation, as the compiled ones are
                out = function(*args, **kwargs)
            see(name, [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)])
            return out

        return call

    try:
        for name, function in functions.items():
            setattr(extension, name, watched(name, function))
        yield
    finally:
        for name, function in functions.items():
            setattr(extension, name, function)
