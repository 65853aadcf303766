"""A training step on CUDA tensors that have no data: memory and launches of a GPU, counted on a machine without one.

PyTorch's fake tensors carry shape, dtype, strides and device through every operator, so a network runs as on the GPU, with its
casts under autocast and the operators that are chosen there, and computes nothing. PyTorch's own backward pass asks the CUDA
driver for the device; the one here walks the same graph, calls the same derivatives, and does not.

What is counted is exact for the operators that PyTorch is asked for and for the package's kernels. A launch is one kernel of
the package, or one operator of PyTorch that writes a tensor, some of which start several kernels. Losses that read values
from the GPU cannot run on such tensors.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.function import FunctionCtx
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mmspike.kernels.gpu.launch import FUNCTIONS

#: these reserve memory and start no kernel
_RESERVATIONS = {'empty', 'empty_like', 'empty_strided', 'new_empty', 'new_empty_strided', 'detach', 'device', 'alias'}


@contextmanager
def fake_cuda(amp: torch.dtype | None = None) -> Iterator[None]:
    """Everything built inside has its tensors on a GPU and no data; ``amp`` turns autocast on.

    Example::

        with fake_cuda(torch.float16):
            features = ESpikeFormer(arch='t')(torch.zeros(2, 3, 224, 224))
    """
    # torch.autocast turns itself off where there is no GPU
    state = torch.is_autocast_enabled('cuda'), torch.get_autocast_dtype('cuda')
    torch.set_autocast_enabled('cuda', amp is not None)
    if amp is not None:
        torch.set_autocast_dtype('cuda', amp)
    try:
        with FakeTensorMode(), torch.device('cuda'):
            yield
    finally:
        torch.set_autocast_enabled('cuda', state[0])
        torch.set_autocast_dtype('cuda', state[1])
        torch.clear_autocast_cache()


class Launches(TorchDispatchMode):
    """Counts operators by name while it is active.

    Attributes:
        operators: Name of the operator -> how often it wrote a tensor on the GPU.
        elsewhere: The same for tensors on other devices; a network that runs on the GPU has none.
    """

    counts_launches = True  # for kernels, which are not used where others watch

    def __init__(self, memory: 'Memory | None' = None) -> None:
        super().__init__()
        self.operators: Counter[str] = Counter()
        self.elsewhere: Counter[str] = Counter()
        self._memory = memory

    def started(self, kernel: str) -> None:
        """A Triton kernel would have been started."""
        self.operators[kernel] += 1

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        space, _, name = func._schema.name.partition('::')
        if space == 'mmspike' and name in FUNCTIONS:  # its kernels, and the copies around them
            with self:
                return FUNCTIONS[name](*args, **(kwargs or {}))
        out = func(*args, **(kwargs or {}))
        if self._memory is not None:
            self._memory.see(out)
        if not getattr(func, 'is_view', False) and name not in _RESERVATIONS:
            written = [x for x in tree_leaves(out if func._schema.returns else args) if isinstance(x, Tensor)]
            if written:
                counter = self.operators if all(x.is_cuda for x in written) else self.elsewhere
                counter[name] += 1
        return out


class Memory:
    """Bytes of the tensors that operators made and that are alive, and the most there were at once."""

    def __init__(self) -> None:
        self.peak = self._bound = 0
        self._known: dict[int, tuple[StorageWeakRef, int]] = {}

    def see(self, out: Any) -> None:
        """Note the memory of results."""
        for x in tree_leaves(out):
            if isinstance(x, Tensor) and (key := x.untyped_storage()._cdata) not in self._known:
                storage = x.untyped_storage()
                self._known[key] = StorageWeakRef(storage), storage.nbytes()
                self._bound += storage.nbytes()
        if self._bound > self.peak:
            self._known = {key: (ref, size) for key, (ref, size) in self._known.items() if not ref.expired()}
            self._bound = sum(size for _, size in self._known.values())
            self.peak = max(self.peak, self._bound)


@dataclass
class TrainingStep:
    """Memory and launches of one forward and backward pass.

    Attributes:
        peak: The most bytes of results alive at once, gradients of parameters among them; what is kept for the backward pass
            is so to its end, which PyTorch's engine frees on the way.
        saved: Bytes kept for the backward pass, without parameters and buffers; a storage counts once.
        forward, backward: Launches by operator.
        elsewhere: Operators whose result was on another device.
        neuron_dtypes: Name of each neuron -> dtype of its input, if asked for.
        gradients: Name of each parameter -> dtype of its gradient; a parameter without one is missing.
    """

    saved: int
    forward: Counter[str]
    backward: Counter[str]
    elsewhere: Counter[str]
    neuron_dtypes: dict[str, torch.dtype] = field(default_factory=dict)
    gradients: dict[str, torch.dtype] = field(default_factory=dict)
    peak: int = 0

    @property
    def launches(self) -> int:
        return self.forward.total() + self.backward.total()


def move(model: nn.Module) -> None:
    """Parameters and buffers of a network on the CPU to the GPU of :func:`fake_cuda`, in place; all else it holds stays."""
    moved: dict[Tensor, Tensor] = {}
    for module in model.modules():
        for own in (module._parameters, module._buffers):
            for name, tensor in own.items():
                if tensor is None:
                    continue
                if tensor not in moved:
                    new = torch.empty(tensor.shape, dtype=tensor.dtype)
                    moved[tensor] = nn.Parameter(new, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else new
                own[name] = moved[tensor]


def training_step(
    build: Callable[[], nn.Module], inputs: Callable[[], Any], amp: torch.dtype | None = None, neurons: bool = False
) -> TrainingStep:
    """Count a forward and backward pass; the gradient of every output is one.

    Args:
        build: Makes the network, in training mode as it comes.
        inputs: Makes what the network is called with.
        amp: Autocast to this dtype, or None.
        neurons: Listen to neurons, for ``neuron_dtypes``; modules with listeners are not fused.

    Example::

        step = training_step(lambda: ESpikeFormer(arch='t'), lambda: torch.zeros(2, 3, 224, 224), torch.float16)
        print(step.saved / 2e6, 'MB an image,', step.launches, 'launches')
    """
    model = build().train()  # outside, since some initialisations read values
    with fake_cuda(amp):
        move(model)
        x = inputs()
        named = {name: p for name, p in model.named_parameters()}
        own = {t.untyped_storage()._cdata for t in [*named.values(), *model.buffers()]}
        saved: dict[int, Any] = {}
        dtypes: dict[str, torch.dtype] = {}

        def pack(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage._cdata not in own:
                saved[storage._cdata] = storage  # held, so that no other gets its address
            return tensor

        def look(name: str) -> Callable:
            def hook(module: nn.Module, args: tuple) -> None:
                dtypes[name] = args[0].dtype

            return hook

        handles = []
        if neurons:
            from mmspike.models.inspection import is_neuron  # not at the top: the models' room is large

            handles = [m.register_forward_pre_hook(look(name)) for name, m in model.named_modules() if is_neuron(m)]
        memory = Memory()
        forward, backward = Launches(memory), Launches(memory)
        with forward, _asked_for_none(), torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            outputs = [y for y in tree_leaves(model(x)) if isinstance(y, Tensor) and y.requires_grad]
        for handle in handles:
            handle.remove()
        ones = [torch.ones_like(y) for y in outputs]
        enabled = torch.is_autocast_enabled('cuda')
        torch.set_autocast_enabled('cuda', False)  # as PyTorch's engine does
        with backward, torch.no_grad():
            leaves = backward_pass(outputs, ones)
        torch.set_autocast_enabled('cuda', enabled)
        gradients = {name: leaves[p].dtype for name, p in named.items() if p in leaves}
        size = sum(storage.nbytes() for storage in saved.values())
    elsewhere = forward.elsewhere + backward.elsewhere
    return TrainingStep(size, forward.operators, backward.operators, elsewhere, dtypes, gradients, memory.peak)


@contextmanager
def _asked_for_none() -> Iterator[None]:
    """Functions that are called inside and want None for the gradient of an unused output say so, which PyTorch does not."""
    original = FunctionCtx.set_materialize_grads

    def noted(ctx: Any, value: bool) -> None:
        ctx.takes_none = not value
        original(ctx, value)

    FunctionCtx.set_materialize_grads = noted  # type: ignore[assignment,method-assign]
    try:
        yield
    finally:
        FunctionCtx.set_materialize_grads = original  # type: ignore[method-assign]


def backward_pass(outputs: Iterable[Tensor], gradients: Iterable[Tensor]) -> dict[Tensor, Tensor]:
    """Gradients of the leaves of a graph, by the graph's own derivatives but without PyTorch's engine.

    Returns:
        Leaf -> gradient.
    """
    arrived: dict[Any, dict[int, Tensor]] = {}

    def add(node: Any, index: int, gradient: Tensor | None) -> None:
        if gradient is not None:
            wanted = node._input_metadata[index]  # as PyTorch's engine: broadcast axes are summed, the dtype is the output's
            gradient = gradient.sum_to_size(wanted.shape).to(wanted.dtype)
            slots = arrived.setdefault(node, {})
            slots[index] = gradient if index not in slots else slots[index] + gradient

    waiting: Counter[Any] = Counter()
    nodes: dict[Any, None] = {}
    for output, gradient in zip(outputs, gradients, strict=True):
        add(output.grad_fn, output.output_nr, gradient)
        nodes[output.grad_fn] = None
    ends = list(nodes)
    stack = list(ends)
    while stack:
        for node, _ in stack.pop().next_functions:
            if node is not None:
                waiting[node] += 1
                if node not in nodes:
                    nodes[node] = None
                    stack.append(node)
    ready = [node for node in ends if not waiting[node]]
    leaves: dict[Tensor, Tensor] = {}
    while ready:
        node = ready.pop()
        slots = arrived.pop(node, {})
        if hasattr(node, 'variable'):
            if slots:
                leaves[node.variable] = slots[0]
            continue
        results = _derivative(node, slots) if slots else (None,) * len(node.next_functions)
        for (following, index), result in zip(node.next_functions, results, strict=True):
            if following is not None:
                add(following, index, result)
                waiting[following] -= 1
                if not waiting[following]:
                    ready.append(following)
    return leaves


def _derivative(node: Any, slots: dict[int, Tensor]) -> tuple[Tensor | None, ...]:
    """Call one node of the graph; outputs that nobody used have no gradient."""
    gradients: list[Tensor | None] = [slots.get(i) for i in range(len(node._input_metadata))]
    function = getattr(node, '_forward_cls', None)  # of an autograd function in Python, whose node cannot be called
    if function is None:
        results = node(*gradients)
        return results if isinstance(results, tuple) else (results,)
    if not getattr(node, 'takes_none', False):
        gradients = [
            torch.zeros(m.shape, dtype=m.dtype, device=m.device) if g is None else g
            for g, m in zip(gradients, node._input_metadata, strict=True)
        ]
    results = function.backward(node, *gradients)
    results = results if isinstance(results, tuple) else (results,)
    # one for every argument of the function, where the graph has an edge for every tensor
    needed = iter([r for r, wanted in zip(results, node.needs_input_grad, strict=True) if wanted])
    return tuple(None if following is None else next(needed) for following, _ in node.next_functions)
