"""A loss that is not finite stops the training, and its cause is named."""

from collections.abc import Iterator
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapperDict
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.optim import Optimizer

from mmspike.models.inspection import reset_spikes
from mmspike.registry import HOOKS

ADVICE = (
    'Usual causes: a learning rate that is too high or has no warm-up, gradients that are not clipped '
    '(optim_wrapper.clip_grad=dict(max_norm=1.0)) and float16 (--amp).'
)
DATA_ADVICE = '`mmspike check CONFIG --every` looks at every file of the data.'
STOPPED = 'Training stops here; the last checkpoint is from before'


class _Found(Exception):
    """Ends the search for the layer; its message says which."""


def _tensors(item) -> Iterator[Tensor]:
    """Every floating-point tensor in nested containers."""
    if isinstance(item, Tensor):
        if item.is_floating_point():
            yield item
    elif isinstance(item, dict):
        for value in item.values():
            yield from _tensors(value)
    elif isinstance(item, list | tuple):
        for value in item:
            yield from _tensors(value)


def _is_finite(item) -> bool:
    return all(bool(tensor.isfinite().all()) for tensor in _tensors(item))


def broken_parameters(model: nn.Module) -> list[str]:
    """Names of the parameters that hold NaN or infinite values."""
    return [name for name, p in model.named_parameters() if not bool(p.detach().isfinite().all())]


def broken_box(samples: Any) -> str | None:
    """The first box without width or height, or with a NaN, among mmdet's data samples, with its image; None without one."""
    for sample in samples if isinstance(samples, list | tuple) else ():
        boxes = getattr(getattr(sample, 'gt_instances', None), 'bboxes', None)
        boxes = getattr(boxes, 'tensor', boxes)
        if not isinstance(boxes, Tensor) or boxes.ndim != 2 or boxes.shape[1] != 4:
            continue
        bad = ~(boxes[:, 2:] > boxes[:, :2]).all(1) | ~boxes.isfinite().all(1)
        if bad.any():
            box = [round(value, 2) for value in boxes[bad][0].tolist()]
            image = sample.metainfo.get('img_path', 'an image')
            return (
                f'{int(bad.sum())} of {len(boxes)} boxes of {image} have no size, the first is {box} (x1, y1, x2, y2 as they '
                'enter the network): correct the annotation, or the size of the image in it'
            )
    return None


@torch.no_grad()
def first_broken_layer(model: nn.Module, args: tuple, kwargs: dict) -> str | None:
    """Run ``model(*args, **kwargs)`` and describe the first layer with an output that is not finite; None if there is none.

    Layers are taken in the order in which they finish, so that of nested ones the innermost is named. Synchronised batch
    norms use their running statistics: other processes do not take part.
    """

    def check(name: str):
        def hook(module: nn.Module, inputs: tuple, output) -> None:
            if _is_finite(output):
                return
            bad = next(t for t in _tensors(output) if not bool(t.isfinite().all()))
            number = f'{int((~bad.isfinite()).sum())} of {bad.numel()} values'
            largest = max((float(t.abs().max()) for t in _tensors(inputs) if t.numel()), default=None)
            given = 'from an input that is not finite itself' if not _is_finite(inputs) else f'from inputs up to {largest:.3g}'
            given = '' if largest is None else f', {given}'
            raise _Found(f'{name} ({type(module).__name__}): {number} of its output {tuple(bad.shape)}{given}')

        return hook

    handles = [module.register_forward_hook(check(name)) for name, module in model.named_modules() if name]
    for module in model.modules():
        if type(module).__name__ == 'SyncBatchNorm':  # torch's and mmcv's
            module.eval()
    reset_spikes(model)
    try:
        model(*args, **kwargs)
    except _Found as found:
        return str(found)
    finally:
        for handle in handles:
            handle.remove()
    return None


class _Iteration:
    """A forward pass with its losses, of which it is asked later whether they are finite.

    On a GPU the answer is copied to the CPU behind the forward pass. Who asks for it while the backward pass is under way
    waits for the forward pass alone, and the GPU never waits.
    """

    def __init__(
        self, number: int, model: nn.Module, args: tuple, kwargs: dict, losses: dict[str, list[Tensor]], random_states: tuple
    ) -> None:
        self.number, self.model, self.args, self.kwargs, self.random_states = number, model, args, kwargs, random_states
        self.losses = {name: [tensor.detach() for tensor in tensors] for name, tensors in losses.items()}
        self.total = torch.as_tensor(sum(t.float().sum() for tensors in self.losses.values() for t in tensors))
        self._finite = self.total.isfinite()
        self._copied = None
        if self._finite.is_cuda:
            self._finite = self._finite.to('cpu', non_blocking=True)  # into pinned memory
            self._copied = torch.cuda.Event()
            self._copied.record()

    def is_finite(self) -> bool:
        if self._copied is not None:
            self._copied.synchronize()
        return bool(self._finite)

    def __str__(self) -> str:
        """The losses that are not finite, or their sum, if that alone is not."""
        sums = [f'{name} = {float(sum(t.sum() for t in ts))}' for name, ts in self.losses.items() if not _is_finite(ts)]
        return ', '.join(sums) or f'their sum is {float(self.total)}'


@HOOKS.register_module()
class FiniteLossHook(Hook):
    """Stops a training whose loss is NaN or infinite, before that reaches the weights, and says where it comes from.

    Every loss is looked at behind its backward pass and before the optimizer steps, so that a GPU has work meanwhile: one
    addition and one comparison an iteration. Then the iteration is named, with what is not finite first: the images, the
    weights (since an earlier step), or a layer, which is found by running the iteration again with the same random numbers.
    Weights that are not finite are not saved as a checkpoint.

    With weights that are sharded over processes (``FlexibleRunner``) no layer is searched for.

    Raises:
        FloatingPointError: in the iteration, or when the checkpoint would be saved.
    """

    def before_train(self, runner: Runner) -> None:
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        self._runner = runner
        self._searching = False
        self._iterations: list[_Iteration] = []
        wrapper: Any = runner.optim_wrapper
        optimizers = [w.optimizer for w in (wrapper.values() if isinstance(wrapper, OptimWrapperDict) else [wrapper])]
        # one of another library, such as DeepSpeed's, does not say when it steps
        self._before_steps = all(isinstance(optimizer, Optimizer) for optimizer in optimizers)
        self._handles = [
            model.register_forward_pre_hook(self._keep_random_state),
            model.register_forward_hook(self._keep_losses, with_kwargs=True),
        ]
        if self._before_steps:
            self._handles += [o.register_step_pre_hook(lambda *_: self._check()) for o in optimizers]

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None) -> None:
        self._check()  # no step was made: gradients are accumulated, or the loss scaler has skipped it

    def after_train(self, runner: Runner) -> None:
        for handle in self._handles:
            handle.remove()

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        if broken := broken_parameters(model):
            raise FloatingPointError(
                f'{len(broken)} parameters are not finite after iteration {runner.iter + 1}, the first is {broken[0]}: '
                f'they are not saved. {ADVICE} {STOPPED}'
            )

    def _keep_random_state(self, model: nn.Module, args: tuple) -> None:
        if not self._searching:
            device = next(model.parameters()).device
            cuda = torch.cuda.get_rng_state(device) if device.type == 'cuda' else None
            self._random_states = torch.get_rng_state(), cuda, device

    def _keep_losses(self, model: nn.Module, args: tuple, kwargs: dict, output) -> None:
        if self._searching or kwargs.get('mode') != 'loss' or not isinstance(output, dict):
            return
        losses = {name: list(_tensors(value)) for name, value in output.items() if 'loss' in name}
        self._iterations.append(_Iteration(self._runner.iter + 1, model, args, kwargs, losses, self._random_states))
        if not self._before_steps:
            self._check()

    def _check(self) -> None:
        iterations, self._iterations = self._iterations, []
        for iteration in iterations:
            if not iteration.is_finite():
                raise FloatingPointError(
                    f'The loss of iteration {iteration.number} is not finite ({iteration}). {self._cause(iteration)} {STOPPED}'
                )

    def _cause(self, iteration: _Iteration) -> str:
        model, args, kwargs = iteration.model, iteration.args, iteration.kwargs
        if not _is_finite([args, kwargs.get('inputs')]):
            return f'The images themselves are not: look at the data and its preprocessing. {DATA_ADVICE}'
        if broken := broken_parameters(model):
            return (
                f'{len(broken)} parameters are not since an earlier iteration, the first is {broken[0]}: '
                f'a gradient was not finite there. {ADVICE}'
            )
        if not isinstance(self._runner, Runner):
            return f'The weights are sharded: the layer was not searched for. {ADVICE}'
        self._searching = True
        cpu, cuda, device = iteration.random_states
        torch.set_rng_state(cpu)
        if cuda is not None:
            torch.cuda.set_rng_state(cuda, device)
        layer = first_broken_layer(model, args, kwargs)
        if layer is not None:
            return f'The first layer whose output is not finite: {layer}. {ADVICE}'
        if box := broken_box(kwargs.get('data_samples')):
            return f'The output of every layer is, but {box}. {DATA_ADVICE}'
        return (
            'The output of every layer is: it comes from the computation of the loss, its labels or its weights. '
            f'{DATA_ADVICE} {ADVICE}'
        )
