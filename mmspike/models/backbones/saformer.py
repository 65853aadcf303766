"""SAFormer (arXiv 2412.13553), inferred from its abstract."""

from torch import nn

from mmspike.models.layers import MLP, ConvNorm, Residual, Signal, SpikeAttention, branches, fire, half_threshold, run
from mmspike.models.neurons import build_neuron
from mmspike.registry import MODELS

from .patch_splitting import PatchSplittingBackbone, patch_settings


class SpikeAggregatedSelfAttention(SpikeAttention):
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

    mask = 'k'

    def __init__(self, dim: int, num_heads: int, neuron: dict, norm_cfg: dict) -> None:
        super().__init__(dim, num_heads, lambda name: ConvNorm(dim, dim, norm_cfg=norm_cfg), neuron, half_threshold(neuron))
        self.dwconv = ConvNorm(dim, dim, 3, groups=dim, norm_cfg=norm_cfg)
        self.out_neuron = build_neuron(neuron)
        # the order of parameters is that of the states of optimizers in checkpoints
        self._modules['proj_conv'] = self._modules.pop('proj_conv')

    def mix(self, q: Signal, k: Signal, v: Signal | None) -> Signal:
        """The spikes k that pass, with those around them."""
        return fire(self.out_neuron, Signal(super().mix(q, k, v).x + run([self.dwconv], k)))


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
        T, in_channels, strides, neuron, norm_cfg, drop_path_rate, kwargs: See :class:`PatchSplittingBackbone`.

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
        'saformer-4-384': patch_settings(384, 4, num_heads=8),
        'saformer-2-256': patch_settings(256, 2, num_heads=8),
    }

    def _build_block(self, arch: dict, neuron: dict, norm_cfg: dict, drop_path: float) -> nn.Module:
        """x + SASA(x), then x + MLP(x), on membranes."""
        dim = arch['dims'][-1]
        attn = SpikeAggregatedSelfAttention(dim, arch['num_heads'], neuron, norm_cfg)
        return Residual(*branches(dict(attn=attn, mlp=MLP(dim, arch['mlp_ratio'], neuron, norm_cfg)), drop_path))
