"""Spike-driven Transformer, its first version (NeurIPS 2023, arXiv 2307.01694)."""

from torch import nn

from mmspike.models.layers import MLP, PointwiseAttention, Residual, branches
from mmspike.registry import MODELS

from .patch_splitting import PatchSplittingBackbone, patch_settings


class SpikeDrivenSelfAttention(PointwiseAttention):
    """Spike-driven self-attention (SDSA, section 3.3): N - q, k, v - masks and sums, no product of matrices - 1x1 - BN.

    Each of q, k, v is N(BN(1x1)) of the spikes N(x). Per channel and step, y = q * N(sum over tokens of k * v), threshold 0.5.
    Heads would change nothing, so there is one.

    Shape:
        [T, B, C, H, W] in and out.
    """

    mask = 'q'


@MODELS.register_module()
class SpikeDrivenTransformer(PatchSplittingBackbone):
    """Spike-driven Transformer V1 backbone: patch splitting, then blocks of linear attention on membrane shortcuts.

    Only the first convolution reads floats. The published code builds drop path and never applies it; here it works, hence the
    default 0. The published event models also max-pool inside the attention, which is not here.

    Args:
        arch: 'sdtv1-8-384', '-8-512', '-8-768' (blocks, channels; the prefix may be left out), or a dict with ``dims`` (of the
            four convolutions, the last one the blocks' too) and optionally ``depth`` 8, ``mlp_ratio`` 4.
        T, in_channels, strides, neuron, norm_cfg, drop_path_rate, kwargs: See :class:`PatchSplittingBackbone`.

    Shape:
        Images [B, C, H, W] or frames [T, B, C, H, W] -> features of strides 4, 8, 16 with d/2, d, d channels.

    Example:
        >>> import torch
        >>> from mmspike.models import SpikeDrivenTransformer
        >>> model = SpikeDrivenTransformer(dict(dims=(8, 8, 16, 32), depth=1), T=2)
        >>> [tuple(f.shape) for f in model(torch.randn(2, 3, 32, 32))]
        [(2, 16, 8, 8), (2, 32, 4, 4), (2, 32, 2, 2)]
    """

    arch_settings = {f'sdtv1-8-{dim}': patch_settings(dim) for dim in (384, 512, 768)}

    def _build_block(self, arch: dict, neuron: dict, norm_cfg: dict, drop_path: float) -> nn.Module:
        """x + SDSA(x), then x + MLP(x), on membranes."""
        dim = arch['dims'][-1]
        attn, mlp = SpikeDrivenSelfAttention(dim, 1, neuron, norm_cfg), MLP(dim, arch['mlp_ratio'], neuron, norm_cfg)
        return Residual(*branches(dict(attn=attn, mlp=mlp), drop_path))
