"""Spikes, membranes and attention of one image, as small maps."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy

import numpy as np
import torch
from torch import Tensor, nn

from mmspike.models.inspection import channels_of, evaluating, in_spikes, is_neuron, stage_of
from mmspike.models.neurons import IF, ILIF, LIF, PLIAF, PLIF


@contextmanager
def _hooked(modules: dict[str, nn.Module], hook: Callable[[str, nn.Module, Tensor, Tensor], None]) -> Iterator[None]:
    handles = [
        module.register_forward_hook(lambda m, args, out, name=name: hook(name, m, args[0], out))
        for name, module in modules.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _run(model: nn.Module, batch: dict) -> None:
    with evaluating(model):
        model.test_step(batch)


def membranes(neuron: nn.Module, x: Tensor) -> Tensor:
    """Membrane of a neuron at rest for its input ``x`` [T, B, ...], at every step, before it fires and is reset.

    Neurons that keep nothing from step to step, and those of other libraries, are taken to have their input as membrane.
    """
    if not isinstance(neuron, (LIF, PLIF, PLIAF, IF, ILIF)):
        return x
    silent = copy(neuron)
    silent.v_threshold = math.inf
    v, charged = None, []
    for t in range(x.shape[0]):
        _, h = silent.step(x[t : t + 1], v)
        out, v = neuron.step(x[t : t + 1], v)
        # integer neurons have no threshold: what they keep is the membrane without what they sent
        charged.append(v + out[0] * neuron.divisor if isinstance(neuron, ILIF) else h)
    return torch.stack(charged)


def neuron_maps(model: nn.Module, batch: dict) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Membrane and spikes of each neuron layer for the first image of a batch.

    Layers without a map (vectors of regions or classes, products of tokens) are left out, and of several calls (pyramid
    levels) the first counts.

    Returns:
        Name -> (membrane before it fires, see :func:`membranes`, and spike counts), each float32 [H, W], means over steps and
        channels.
    """
    maps: dict[str, tuple[np.ndarray, np.ndarray]] = {}

    def keep(name: str, module: nn.Module, x: Tensor, out: Tensor) -> None:
        spikes = channels_of(module, out)
        if name in maps or spikes.dim() != 5 or min(spikes.shape[-2:]) < 2 or out.numel() == 0:
            return
        pair = channels_of(module, membranes(module, x)), channels_of(module, in_spikes(module, out))
        membrane, rate = (y[:, 0].float().mean((0, 1)).cpu().numpy() for y in pair)
        maps[name] = (membrane, rate)

    with _hooked({n: m for n, m in model.named_modules() if is_neuron(m)}, keep):
        _run(model, batch)
    return maps


def last_of_each_stage(maps: dict) -> dict:
    """The last map of every stage, from maps by layer in order of execution."""
    stages = {stage_of(name): name for name in maps}
    return {name: maps[name] for name in stages.values()}


def attention_maps(model: nn.Module, batch: dict) -> dict[str, np.ndarray]:
    """The attention that each position gets in every attention that multiplies q by k, token by token.

    Attention without softmax weights position j for query i with q_i . k_j, a count of coincident spikes. Shown is the mean
    over all queries, heads and steps of the first image. Attentions that only mask channels or tokens (Spike-driven
    Transformer V1, SDSA-1, SAFormer) weight no position against another and have no such map.

    Returns:
        Name of the attention -> float32 [H, W].

    Raises:
        ValueError: The model has no such attention.
    """
    candidates = {n: m for n, m in model.named_modules() if hasattr(m, 'q_neuron') and hasattr(m, 'k_neuron')}
    attentions = {n: m for n, m in candidates.items() if getattr(m, 'pairs_tokens', False)}
    if not attentions:
        what = (
            f'its {next(iter(candidates))} masks channels or tokens instead'
            if candidates
            else 'no module has a q_neuron and a k_neuron'
        )
        raise ValueError(
            f'{type(model).__name__} has no attention of spikes that multiplies q by k: {what}. '
            'MetaSpikeFormer, ESpikeFormer and Spikformer have one'
        )
    neurons = {f'{n}.{part}': getattr(m, part) for n, m in attentions.items() for part in ('q_neuron', 'k_neuron')}
    spikes: dict[str, Tensor] = {}

    def keep(name: str, module: nn.Module, x: Tensor, out: Tensor) -> None:
        if name not in spikes:
            spikes[name] = in_spikes(module, out)[:, 0].cpu()  # [T, C, H, W]

    with _hooked(neurons, keep):
        _run(model, batch)
    maps = {}
    for name, module in attentions.items():
        q, k = spikes[f'{name}.q_neuron'].float(), spikes[f'{name}.k_neuron'].float()
        # a head is a block of channels, so heads and steps need not be taken apart for the mean
        weights = (q.mean((-2, -1), keepdim=True) * k).sum(1).mean(0) / getattr(module, 'num_heads', 1)
        maps[name] = weights.numpy()
    return maps
