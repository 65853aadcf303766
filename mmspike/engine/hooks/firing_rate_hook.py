"""Firing rates of a run of training, by layer and stage."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.hooks.hook import DATA_BATCH
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from mmspike.models.inspection import channels_of, is_neuron, spike_unit, stage_of
from mmspike.registry import HOOKS


@dataclass
class _Channels:
    """Counts of a neuron layer in one iteration: per channel the sum of spikes, the outputs that were not 0, and all."""

    spikes: Tensor
    active: Tensor
    outputs: int

    @property
    def rate(self) -> float:
        return self.spikes.sum().item() / (self.outputs * self.spikes.numel())

    @property
    def dead(self) -> float:
        return (self.active == 0).double().mean().item()

    def saturated(self, limit: float) -> float:
        return (self.active > limit * self.outputs).double().mean().item()


def _line(title: str, values: Iterable[float]) -> str:
    rate, dead, saturated = values
    return f'{title:<40} {rate:.4f} {dead:>6.1%} {saturated:>6.1%}'


@HOOKS.register_module()
class FiringRateHook(Hook):
    """Firing rates in training: to the log, and per layer to every backend of the visualizer (TensorBoard, …).

    Every ``interval`` iterations it looks at one: the rate of each neuron layer (mean spike count per neuron and step), the
    share of its dead neurons, which did not fire at all, and of its saturated ones, whose output was not 0 in more than
    ``saturation`` of the cases. A neuron is a channel here, with all its positions, steps and samples of that iteration (of
    rank 0 in distributed training). Scalars are ``firing_rate/LAYER``, ``dead/LAYER`` and ``saturated/LAYER``; the log has a
    line per layer and the means by stage. A stage in which nothing fires at all is a warning: nothing it computes arrives
    anywhere any more.

    In all other iterations the model runs without any hook of it.

    Args:
        interval: Iterations from one look to the next.
        saturation: Share of outputs above which a neuron is saturated.
    """

    priority = 'BELOW_NORMAL'

    def __init__(self, interval: int = 500, saturation: float = 0.95) -> None:
        if isinstance(interval, bool) or not isinstance(interval, int) or interval < 1:
            raise ValueError(f'interval must be a positive integer (iterations), got {interval!r}')
        if not 0 < saturation <= 1:
            raise ValueError(f'saturation must be in (0, 1], a share of outputs, got {saturation}')
        self.interval = interval
        self.saturation = saturation
        self._handles: list[RemovableHandle] = []
        self._layers: dict[str, _Channels] = {}

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: DATA_BATCH = None) -> None:
        if not self.every_n_train_iters(runner, self.interval) or not is_main_process():
            return
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        self._layers = {}
        for name, module in model.named_modules():
            if is_neuron(module):
                self._handles.append(module.register_forward_hook(self._watch(name)))

    def _watch(self, name: str):
        @torch.no_grad()
        def watch(module: nn.Module, args: tuple, out: Tensor) -> None:
            if out.numel() == 0:  # no region proposed
                return
            out = channels_of(module, out)
            others = [d for d in range(out.dim()) if d != 2]
            spikes = out.sum(others, dtype=torch.float64 if out.device.type == 'cpu' else torch.float32)
            spikes /= spikes.new_tensor(spike_unit(module))
            active = (out != 0).sum(others)
            outputs = out.numel() // out.shape[2]
            seen = self._layers.get(name)
            if seen is None:
                self._layers[name] = _Channels(spikes, active, outputs)
            elif seen.spikes.shape == spikes.shape:  # further calls: scales of a pyramid, recomputation
                seen.spikes += spikes
                seen.active += active
                seen.outputs += outputs

        return watch

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: DATA_BATCH = None, outputs: dict | None = None
    ) -> None:
        if not self._handles:
            return
        self._remove()
        stages: dict[str, dict[str, tuple[float, float, float]]] = {}
        scalars, silent = {}, []
        for name, layer in self._layers.items():
            values = layer.rate, layer.dead, layer.saturated(self.saturation)
            for quantity, value in zip(('firing_rate', 'dead', 'saturated'), values, strict=True):
                scalars[f'{quantity}/{name}'] = value
            stages.setdefault(stage_of(name), {})[name] = values
            if values[1] == 1:
                silent.append(name)
        if not scalars:
            runner.logger.warning('FiringRateHook: no neuron of the model was run in this iteration')
            return
        runner.visualizer.add_scalars(scalars, step=runner.iter + 1)
        lines = [f'Firing rates at iteration {runner.iter + 1}: spikes, dead and saturated neurons; of a stage the mean']
        for stage, layers in stages.items():
            means = (sum(v) / len(layers) for v in zip(*layers.values(), strict=True))
            lines.append(_line(f'  {stage}', means))
            lines += [_line(f'    {name.removeprefix(f"{stage}.")}', values) for name, values in layers.items()]
        if silent:
            lines.append(f'  silent layers: {", ".join(silent)}')
        runner.logger.info('\n'.join(lines))
        for stage, layers in stages.items():
            if all(dead == 1 for _, dead, _ in layers.values()):
                runner.logger.warning(
                    f'Stage {stage} has died: none of its {len(layers)} neuron layers fired in iteration {runner.iter + 1}. '
                    'What it adds to the features is constant. Lower the learning rate or the threshold, or resume from a '
                    'checkpoint in which it fires'
                )

    def after_train(self, runner: Runner) -> None:
        self._remove()

    def _remove(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []
