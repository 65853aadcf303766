"""SAFormer (arXiv 2412.13553), inferred from its abstract."""

from torch import Tensor, nn

from mmspike.models.layers import (
    MLP,
    ConvNorm,
    Residual,
    Signal,
    branches,
    fire,
    half_threshold,
    let_pass,
    run,
    sum_over_channels,
    walk,
)
from mmspike.models.neurons import build_neuron
from mmspike.registry import MODELS

from .patch_splitting import PatchSplittingBackbone


class SpikeAggregatedSelfAttention(nn.Module):
    """Spike aggregated self-attention (SASA) from query and key alone, with a depthwise convolution of the key.

    From the abstract: attention from the spikes of q and k only, with neither v nor softmax, and a depthwise convolution
    module that adds local features. Inferred, after Q-K attention (QKFormer, arXiv 2403.16552), is all else: of the spikes
    s = N(x), q and k are N(BN(1x1 s)); a token passes where a = N(sum of q over the channels of a head) fires, threshold 0.5;
    z = N(a * k + BN(depthwise 3x3(k))); out = BN(1x1 z).

    Args:
        dim: Channels, a multiple of ``num_heads``.
        num_heads: Attention heads.
        neuron: Neuron config; the neuron on the attention takes half its threshold.
        norm_cfg: Norm config.

    Shape:
        [T, B, C, H, W] in and out.
    """

    takes_time = True

    def __init__(self, dim: int, num_heads: int, neuron: dict, norm_cfg: dict) -> None:
        super().__init__()
        if dim % num_heads:
            raise ValueError(f'attention width {dim} must be a multiple of num_heads={num_heads}')
        self.num_heads = num_heads
        self.neuron = build_neuron(neuron)
        self.q_conv = ConvNorm(dim, dim, norm_cfg=norm_cfg)
        self.q_neuron = build_neuron(neuron)
        self.k_conv = ConvNorm(dim, dim, norm_cfg=norm_cfg)
        self.k_neuron = build_neuron(neuron)
        self.attn_neuron = build_neuron(half_threshold(neuron))
        self.dwconv = ConvNorm(dim, dim, 3, groups=dim, norm_cfg=norm_cfg)
        self.out_neuron = build_neuron(neuron)
        self.proj_conv = ConvNorm(dim, dim, norm_cfg=norm_cfg)

    def forward(self, x: Tensor) -> Tensor:
        s = fire(self.neuron, Signal(x))
        q = walk([self.q_conv, self.q_neuron], s)
        k = walk([self.k_conv, self.k_neuron], s)
        passes = fire(self.attn_neuron, sum_over_channels(q, self.num_heads))
        y = let_pass(k, passes).x + run([self.dwconv], k)
        return run([self.out_neuron, self.proj_conv], y)


def _settings(dim: int, depth: int) -> dict:
    return dict(dims=(dim // 8, dim // 4, dim // 2, dim), depth=depth, num_heads=8, mlp_ratio=4)


@MODELS.register_module()
class SAFormer(PatchSplittingBackbone):
    """SAFormer backbone, in large part inferred from the abstract; no code is public.

    Published: a transformer of spikes whose attention needs q and k alone, with a depthwise convolution. Inferred: how q and k
    make the attention (:class:`SpikeAggregatedSelfAttention`); the patch splitting and the membrane shortcuts, which are those
    of Spike-driven Transformer V1, so that only the first convolution reads floats; sizes, heads and the ratio of the MLP.

    Args:
        arch: 'saformer-4-384' for images, 'saformer-2-256' for event frames (blocks, channels; the prefix may be left out), or
            a dict with ``dims`` (of the four convolutions, the last one the blocks' too) and optionally ``depth`` 4,
            ``num_heads`` 8, ``mlp_ratio`` 4.
        T, in_channels, strides, neuron, norm_cfg, drop_path_rate: See :class:`PatchSplittingBackbone`.
        out_indices, temporal_output, frozen_stages, norm_eval, with_cp, binary, weight_bits, init_cfg: See
            :class:`SpikingBackbone`.

    Shape:
        Images [B, C, H, W] or frames [T, B, C, H, W] -> features of strides 4, 8, 16 with d/2, d, d channels.

    Example:
        >>> import torch
        >>> from mmspike.models import SAFormer
        >>> model = SAFormer(dict(dims=(8, 8, 16, 32), depth=1, num_heads=2), T=2)
        >>> [tuple(f.shape) for f in model(torch.randn(2, 3, 32, 32))]
        [(2, 16, 8, 8), (2, 32, 4, 4), (2, 32, 2, 2)]
    """

    arch_settings = {
        'saformer-4-384': _settings(384, 4),
        'saformer-2-256': _settings(256, 2),
    }

    def _build_block(self, arch: dict, neuron: dict, norm_cfg: dict, drop_path: float) -> nn.Module:
        """x + SASA(x), then x + MLP(x), on membranes."""
        dim = arch['dims'][-1]
        attn = SpikeAggregatedSelfAttention(dim, arch['num_heads'], neuron, norm_cfg)
        return Residual(*branches(dict(attn=attn, mlp=MLP(dim, arch['mlp_ratio'], neuron, norm_cfg)), drop_path))
