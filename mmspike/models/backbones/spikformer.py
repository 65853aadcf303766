"""Spikformer (ICLR 2023, arXiv 2209.15425)."""

from torch import nn

from mmspike.models.layers import Chain, ConvNorm, PointwiseAttention, Residual, branches
from mmspike.models.neurons import build_neuron
from mmspike.registry import MODELS

from .patch_splitting import PatchSplittingBackbone, max_pool, patch_settings


class SpikeEmbedding(Residual):
    """The last neuron and pool, and a position embedding: x = pool(N(x)), then x + N(BN(3x3(x))).

    Shape:
        [T, B, C, H, W] -> [T, B, C, H / stride, W / stride], rounded up; sums of two spikes.
    """

    def __init__(self, dim: int, stride: int, neuron: dict, norm_cfg: dict) -> None:
        before = dict(neuron=build_neuron(neuron), pool=max_pool(stride))
        position = dict(conv=ConvNorm(dim, dim, 3, norm_cfg=norm_cfg), position_neuron=build_neuron(neuron))
        super().__init__(position, before=before)


class SpikingSelfAttention(PointwiseAttention):
    """Spiking self-attention (SSA, section 3.3): q, k, v - attention without softmax - N - 1x1 - BN - N.

    Each of q, k, v is N(BN(1x1)) of the sums of spikes. Per head over N tokens, y = N(q (k^T v) / 8), threshold 0.5.

    Shape:
        [T, B, C, H, W] in, spikes of the same shape out.
    """

    scale = 0.125
    fires_last = True


def spike_mlp(dim: int, ratio: float, neuron: dict, norm_cfg: dict) -> Chain:
    """1x1 (d to r d) - BN - N - 1x1 (r d to d) - BN - N: ends with spikes."""
    hidden = int(dim * ratio)
    return Chain(
        fc1=ConvNorm(dim, hidden, bias=True, norm_cfg=norm_cfg),
        neuron1=build_neuron(neuron),
        fc2=ConvNorm(hidden, dim, bias=True, norm_cfg=norm_cfg),
        neuron2=build_neuron(neuron),
    )


@MODELS.register_module()
class Spikformer(PatchSplittingBackbone):
    """Spikformer backbone: patch splitting by four convolutions, then blocks of spiking self-attention at stride 16.

    The last feature is a sum of spikes, an integer; the published classifier reads its mean over space and time without a
    neuron. The layers of a block read such integers, so the network is not spike-driven in the strict sense of
    Spike-driven Transformer. The published code gives 512 channels 8 heads, which all presets have.

    Args:
        arch: 'spikformer-8-384', '-8-512', '-8-768' (blocks, channels; the prefix may be left out), or a dict with ``dims``
            (of the four convolutions, the last one the blocks' too) and optionally ``depth`` 8, ``num_heads`` 8,
            ``mlp_ratio`` 4.
        T, in_channels, strides, neuron, norm_cfg, drop_path_rate, kwargs: See :class:`PatchSplittingBackbone`.

    Shape:
        Images [B, C, H, W] or frames [T, B, C, H, W] -> features of strides 4, 8, 16 with d/2, d, d channels.

    Example:
        >>> import torch
        >>> from mmspike.models import Spikformer
        >>> model = Spikformer(dict(dims=(8, 8, 16, 32), depth=1, num_heads=2), T=2)
        >>> [tuple(f.shape) for f in model(torch.randn(2, 3, 32, 32))]
        [(2, 16, 8, 8), (2, 32, 4, 4), (2, 32, 2, 2)]
    """

    arch_settings = {f'spikformer-8-{dim}': patch_settings(dim, num_heads=8) for dim in (384, 512, 768)}

    def _build_embedding(self, dim: int, stride: int, neuron: dict, norm_cfg: dict) -> nn.Module:
        return SpikeEmbedding(dim, stride, neuron, norm_cfg)

    def _build_block(self, arch: dict, neuron: dict, norm_cfg: dict, drop_path: float) -> nn.Module:
        """x + SSA(x), then x + MLP(x): spikes are added, so the shortcut carries integers that grow with depth."""
        dim = arch['dims'][-1]
        attn = SpikingSelfAttention(dim, arch['num_heads'], neuron, norm_cfg)
        return Residual(*branches(dict(attn=attn, mlp=spike_mlp(dim, arch['mlp_ratio'], neuron, norm_cfg)), drop_path))
