"""Meta-SpikeFormer (Spike-driven Transformer V2, ICLR 2024, arXiv 2404.03663)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmspike.models.layers import (
    MLP,
    Chain,
    ConvBlock,
    ConvNorm,
    Downsample,
    RepConvNorm,
    Residual,
    SpikeAttention,
    branches,
    half_threshold,
)
from mmspike.models.neurons import build_neuron
from mmspike.registry import MODELS

from .base import SpikingBackbone, drop_path_rates, stage_settings


class SepConv(Chain):
    """Inverted separable convolution: N - 1x1 (d to 2d) - BN - N - 7x7 depthwise - 1x1 (2d to d) - BN.

    No neuron stands between the depthwise and the last convolution: they are one linear map.
    """

    def __init__(self, dim: int, neuron: dict, norm_cfg: dict) -> None:
        hidden = 2 * dim
        super().__init__(
            neuron1=build_neuron(neuron),
            pwconv1=ConvNorm(dim, hidden, norm_cfg=norm_cfg),
            neuron2=build_neuron(neuron),
            dwconv=nn.Conv2d(hidden, hidden, 7, padding=3, groups=hidden, bias=False),
            pwconv2=ConvNorm(hidden, dim, norm_cfg=norm_cfg),
        )


class SpikeDrivenSelfAttention(SpikeAttention):
    """Spike-driven self-attention (SDSA) without softmax: N - q, k, v - attention - RepConv - BN.

    Each of q, k, v is N(BN(RepConv(s))) of the spikes s = N(x). With heads of width d over N tokens, per time step:

    - variant 1: y = v * N(sum over tokens of q * k): a mask per channel, no product of matrices (section 3.3);
    - variant 3: y = N(q (k^T v) / 8), threshold 0.5, linear in N;
    - variant 4: as 3, with the scale learned as the neuron's threshold.

    Args:
        dim: Channels, a multiple of ``num_heads``.
        num_heads: Attention heads.
        variant: 1, 3 or 4.
        neuron: Neuron config; the neuron on the attention takes half its threshold.
        norm_cfg: Norm config.

    Shape:
        [T, B, C, H, W] in and out.
    """

    def __init__(self, dim: int, num_heads: int, variant: int, neuron: dict, norm_cfg: dict) -> None:
        if variant not in (1, 3, 4):
            raise ValueError(f'sdsa variant must be 1, 3 or 4, got {variant}')
        super().__init__(dim, num_heads, lambda name: RepConvNorm(dim, norm_cfg), neuron, half_threshold(neuron))
        self.mask = 'v' if variant == 1 else ''
        # the order of parameters is that of the states of optimizers in checkpoints: PLIF neurons have one
        for name in ('proj_conv', 'q_neuron', 'k_neuron', 'v_neuron', 'attn_neuron'):
            self._modules[name] = self._modules.pop(name)
        # A neuron of threshold th fires on y exactly when one of threshold 0.5 fires on y * 0.5 / th (rest at 0).
        self.threshold = nn.Parameter(torch.tensor(0.5 / 0.125)) if variant == 4 else None

    @property
    def scale(self) -> float | Tensor:  # type: ignore[override]
        """The scale of the sums q (k^T v)."""
        return 0.125 if self.threshold is None else 0.5 / self.threshold


def transformer_block(
    dim: int, num_heads: int, mlp_ratio: float, sdsa: int, neuron: dict, norm_cfg: dict, drop_path: float
) -> Residual:
    """x + SDSA(x), then x + MLP(x)."""
    attn = SpikeDrivenSelfAttention(dim, num_heads, sdsa, neuron, norm_cfg)
    return Residual(*branches(dict(attn=attn, mlp=MLP(dim, mlp_ratio, neuron, norm_cfg)), drop_path))


@MODELS.register_module()
class MetaSpikeFormer(SpikingBackbone):
    """Meta-SpikeFormer backbone: two convolutional and two transformer stages on membrane shortcuts.

    Stem: 7x7 stride 2 and a ConvBlock at width d0 / 2. Stages: ConvBlocks at d0 (stride 4) and d1 (8), transformer blocks
    at d2 (16) and d3 (still 16: the last downsampling has stride 1).

    Args:
        arch: 'metaspikeformer-15m', '-31m', '-55m' (the prefix may be left out), or a dict with ``dims`` (d0 to d3) and
            optionally ``depths`` (blocks of stem and stages, default (1, 1, 2, 6, 2)), ``num_heads`` 8, ``mlp_ratio`` 4.
        strides: Of the five downsampling convolutions; smaller ones suit small images.
        sdsa: Variant of the spike-driven self-attention, 1, 3 or 4.
        neuron: Neuron config, see :func:`mmspike.models.neurons.build_neuron`.
        drop_path_rate: Stochastic depth of the last block; it grows linearly from 0. (Published code builds it and never
            applies it; here it works, hence the default 0.)
        T, in_channels, norm_cfg, kwargs: See :class:`SpikingBackbone`.

    Shape:
        Images [B, C, H, W] or frames [T, B, C, H, W] -> a tuple of features, one a stage in ``out_indices``. Their channels
        and strides are ``out_channels`` and ``out_strides``: 4, 8, 16, 16 by default.

    Example:
        >>> import torch
        >>> from mmspike.models import MetaSpikeFormer
        >>> model = MetaSpikeFormer(dict(dims=(16, 16, 32, 32), depths=(1, 1, 1, 1, 1), num_heads=2), T=2)
        >>> [tuple(f.shape) for f in model(torch.randn(2, 3, 32, 32))]
        [(2, 16, 8, 8), (2, 16, 4, 4), (2, 32, 2, 2), (2, 32, 2, 2)]
    """

    merges_layers = True
    arch_settings = {
        'metaspikeformer-15m': stage_settings(64, 128, 256, 360),
        'metaspikeformer-31m': stage_settings(96, 192, 384, 480),
        'metaspikeformer-55m': stage_settings(128, 256, 512, 640),
    }

    def __init__(
        self,
        arch: str | dict = 'metaspikeformer-15m',
        T: int = 4,
        in_channels: int = 3,
        strides: Sequence[int] = (2, 2, 2, 2, 1),
        sdsa: int = 3,
        neuron: dict | None = None,
        norm_cfg: dict | None = None,
        drop_path_rate: float = 0.0,
        **kwargs,
    ) -> None:
        super().__init__(T=T, in_channels=in_channels, **kwargs)
        arch, neuron, norm_cfg = self._resolved(arch, neuron, norm_cfg)
        rates = drop_path_rates(drop_path_rate, sum(arch['depths']))

        def conv_block(dim: int) -> nn.Module:
            return ConvBlock(dim, SepConv(dim, neuron, norm_cfg), neuron, norm_cfg, next(rates))

        def attention_block(dim: int) -> nn.Module:
            return transformer_block(dim, arch['num_heads'], arch['mlp_ratio'], sdsa, neuron, norm_cfg, next(rates))

        self._build_stages(arch, strides, neuron, norm_cfg, Downsample, [conv_block] * 3 + [attention_block] * 2)
