"""E-SpikeFormer, the large models (Spike-driven Transformer V3, TPAMI 2025, arXiv 2411.16061), which are pretrained masked."""

from collections.abc import Sequence
from math import prod

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmspike.models.layers import (
    MLP,
    Chain,
    ConvNorm,
    Downsample,
    Residual,
    SpikeAttention,
    branches,
    build_norm,
    fold,
    unfold,
)
from mmspike.models.neurons import SFA, build_neuron
from mmspike.registry import MODELS

from .base import SpikingBackbone, drop_path_rates


def enlarge(visible: Tensor, height: int, width: int) -> Tensor:
    """A mask [B, h, w] at a size that is a multiple of its own, [B, height, width]."""
    h, w = visible.shape[-2:]
    return visible.repeat_interleave(height // h, -2).repeat_interleave(width // w, -1)


class SparseConvNorm(ConvNorm):
    """:class:`ConvNorm` that, given a mask, computes visible positions only: the hidden ones are 0 and enter no statistics.

    The sparse convolution and batch norm of masked autoencoders on convolutional networks (SparK, arXiv 2301.03580),
    computed densely. The mask is an argument of each call, so nothing is left behind by one.

    Shape:
        [T, B, C, H, W] -> [T, B, C', H', W']. The mask is [B, h, w], True where visible; H' and W' are multiples of h and w.
    """

    takes_mask = True

    def forward(self, x: Tensor, visible: Tensor | None = None) -> Tensor:
        if visible is None:
            return super().forward(x)
        y = self.conv(fold(x)).permute(0, 2, 3, 1)
        seen = enlarge(visible, *y.shape[1:3]).repeat(x.shape[0], 1, 1)
        values = self.norm(y[seen][..., None, None]).flatten(1)
        y = values.new_zeros(y.shape).masked_scatter(seen.unsqueeze(-1), values)
        return unfold(y.permute(0, 3, 1, 2), x.shape[0])


class SparseDownsample(Downsample):
    """:class:`Downsample` that takes a mask, see :class:`SparseConvNorm`."""

    takes_mask = True
    conv_norm = SparseConvNorm

    def forward(self, x: Tensor, visible: Tensor | None = None) -> Tensor:
        return super().forward(x) if visible is None else self.conv(self.neuron(x), visible)


class SparseConvBlock(Residual):
    """x + (N - 3x3 - BN - N - 3x3 - BN)(x) with four times the width inside; takes a mask, see :class:`SparseConvNorm`.

    Shape:
        [T, B, C, H, W] in and out.
    """

    takes_mask = True

    def __init__(self, dim: int, neuron: dict, norm_cfg: dict) -> None:
        super().__init__(
            dict(
                neuron1=build_neuron(neuron),
                conv1=SparseConvNorm(dim, 4 * dim, 3, bias=True, norm_cfg=norm_cfg),
                neuron2=build_neuron(neuron),
                conv2=SparseConvNorm(4 * dim, dim, 3, bias=True, norm_cfg=norm_cfg),
            )
        )

    def forward(self, x: Tensor, visible: Tensor | None = None) -> Tensor:
        if visible is None:
            return super().forward(x)
        return x + self.conv2(self.neuron2(self.conv1(self.neuron1(x), visible)), visible)


class RepPointwise(Chain):
    """1x1 - BN - 1x1 - BN and by choice another BN: linear from end to end, so that it merges into one 1x1 convolution.

    Shape:
        [T, B, C, H, W] in and out.
    """

    def __init__(self, dim: int, hidden: int, norm_cfg: dict, last_norm: bool) -> None:
        super().__init__(
            conv1=ConvNorm(dim, hidden, norm_cfg=norm_cfg),
            conv2=ConvNorm(hidden, dim, norm_cfg=norm_cfg),
            norm=build_norm(norm_cfg, dim) if last_norm else nn.Identity(),
        )
        if not isinstance(self.conv1.norm, _BatchNorm):
            raise ValueError(f'ESpikeFormerLarge needs a batch norm (BN, SyncBN), whose weights can be merged, got {norm_cfg}')


class RepSpikeSelfAttention(SpikeAttention):
    """N - q, k, v - attention without softmax - N - Rep - BN; each of q, k, v is N(BN(Rep)), Rep one and a half times as wide.

    y = N(q (k^T v) * 0.125), whatever the width of the heads; its cost is O(N) in the number of tokens. Where that N is an
    :class:`SFA`, it rounds halves up as the published code does: one in some thousand of these sums is a half.

    Args:
        dim: Channels, a multiple of ``num_heads``.
        num_heads: Attention heads.
        neuron: Neuron config.
        norm_cfg: Norm config.

    Shape:
        [T, B, C, H, W] in and out.
    """

    scale = 0.125

    def __init__(self, dim: int, num_heads: int, neuron: dict, norm_cfg: dict) -> None:
        up = neuron | dict(rounding='up') if isinstance(build_neuron(neuron), SFA) else neuron
        hidden = int(1.5 * dim)
        super().__init__(dim, num_heads, lambda name: RepPointwise(dim, hidden, norm_cfg, last_norm=True), neuron, up)


def transformer_block(
    dim: int,
    num_heads: int,
    mlp_ratio: float,
    rep_conv: bool,
    layer_scale: float | None,
    neuron: dict,
    norm_cfg: dict,
    drop_path: float,
) -> Residual:
    """By choice x + Rep(N(x)) first, then x + attention(x), then x + MLP(x), the two with layer scale and drop path.

    Args:
        rep_conv: Whether the block begins with x + Rep(N(x)), as in the model of 83 M.
        layer_scale: Initial layer scale of the other two branches; None: no layer scale.
    """
    first = []
    if rep_conv:
        first = [dict(rep_neuron=build_neuron(neuron), rep_conv=RepPointwise(dim, dim, norm_cfg, last_norm=False))]
    attn = RepSpikeSelfAttention(dim, num_heads, neuron, norm_cfg)
    modules = dict(attn=attn, mlp=MLP(dim, mlp_ratio, neuron, norm_cfg))
    return Residual(*first, *branches(modules, drop_path, layer_scale, dim))


def _settings(dims: tuple[int, ...], rep_conv: bool) -> dict:
    return dict(dims=dims, depths=(1, 1, 2, 12), num_heads=8, mlp_ratio=4, rep_conv=rep_conv)


@MODELS.register_module()
class ESpikeFormerLarge(SpikingBackbone):
    """E-SpikeFormer backbone of 83 M and 173 M: three convolutional parts and a plain trunk of transformer blocks at stride 16.

    Stem: 7x7 stride 2 and a block of two 3x3 convolutions at width d0 / 2. Stages: such blocks at d0 (stride 4) and d1 (8),
    transformer blocks at d2 (16). With a classifier of 1000 classes they have 82.5 M and 170.8 M parameters.

    Args:
        arch: 'espikeformer-83m', '-173m' (the prefix may be left out), or a dict with ``dims`` (d0, d1, d2) and optionally
            ``depths`` (blocks of stem and stages, default (1, 1, 2, 12)), ``num_heads`` 8, ``mlp_ratio`` 4, ``rep_conv``
            True (whether transformer blocks begin with two pointwise convolutions, as in the smaller model).
        T: Time steps; 1 with the integer neuron, whose levels are not a time axis.
        strides: Of the four downsampling convolutions; smaller ones suit small images.
        layer_scale: Initial layer scale of attention and MLP; None: none, as in pretraining. A checkpoint without layer
            scale starts it at 1, so that pretrained blocks keep their function.
        neuron: Neuron config, see :func:`mmspike.models.neurons.build_neuron`. The published results have 4 or 8 levels.
        drop_path_rate: Stochastic depth of the last transformer block; it grows linearly from 0 at the first.
        in_channels, norm_cfg, kwargs: See :class:`SpikingBackbone`.

    Shape:
        Images [B, C, H, W] or frames [T, B, C, H, W] -> a tuple of features, one a stage in ``out_indices``. Their channels
        and strides are ``out_channels`` and ``out_strides``: 4, 8, 16 by default.

    Example:
        >>> import torch
        >>> from mmspike.models import ESpikeFormerLarge
        >>> model = ESpikeFormerLarge(dict(dims=(16, 16, 32), depths=(1, 1, 1, 1), num_heads=2))
        >>> [tuple(f.shape) for f in model(torch.randn(2, 3, 32, 32))]
        [(2, 16, 8, 8), (2, 16, 4, 4), (2, 32, 2, 2)]
    """

    merges_layers = True
    default_neuron = dict(type='SFA', levels=4)
    arch_settings = {
        'espikeformer-83m': _settings((128, 256, 512), rep_conv=True),
        'espikeformer-173m': _settings((192, 384, 768), rep_conv=False),
    }

    def __init__(
        self,
        arch: str | dict = 'espikeformer-83m',
        T: int = 1,
        in_channels: int = 3,
        strides: Sequence[int] = (2, 2, 2, 2),
        layer_scale: float | None = None,
        neuron: dict | None = None,
        norm_cfg: dict | None = None,
        drop_path_rate: float = 0.0,
        **kwargs,
    ) -> None:
        super().__init__(T=T, in_channels=in_channels, **kwargs)
        arch, neuron, norm_cfg = self._resolved(arch, neuron, norm_cfg)
        rates = drop_path_rates(drop_path_rate, arch['depths'][-1])

        def conv_block(dim: int) -> nn.Module:
            return SparseConvBlock(dim, neuron, norm_cfg)

        def attention_block(dim: int) -> nn.Module:
            heads, ratio, rep_conv = arch['num_heads'], arch['mlp_ratio'], arch['rep_conv']
            return transformer_block(dim, heads, ratio, rep_conv, layer_scale, neuron, norm_cfg, next(rates))

        self._build_stages(arch, strides, neuron, norm_cfg, SparseDownsample, [conv_block] * 3 + [attention_block])

    def forward(self, x: Tensor, visible: Tensor | None = None) -> tuple[Tensor, ...]:
        """Features of the requested stages, see :meth:`SpikingBackbone.forward`.

        Args:
            x: Images or frames.
            visible: Mask [B, H / s, W / s] of patches, s the stride of the last stage; H and W must then be multiples of s.
                True: visible. Hidden patches of the image count as 0, and the convolutional parts compute visible positions
                only (:class:`SparseConvNorm`); transformer blocks compute all tokens. None: all is visible.

        Raises:
            ValueError: The mask does not fit the image.
        """
        if visible is None:
            return super().forward(x)
        self._check_input(x)
        B, _, H, W = x.shape[-4:]
        stride = prod(stage[0].conv.conv.stride[0] for stage in [self.stem, *self.stages])
        if H % stride or W % stride or visible.shape != (B, H // stride, W // stride):
            raise ValueError(
                f'a masked image must be a multiple of {stride} px and its mask [B, H / {stride}, W / {stride}], got images '
                f'{tuple(x.shape)} and a mask {tuple(visible.shape)}'
            )
        return self._features(x * enlarge(visible, H, W).unsqueeze(1), visible.bool())

    def get_layer_depth(self, param_name: str, prefix: str = '') -> tuple[int, int]:
        """Depth of a parameter and the number of depths, for layer-wise decay of the learning rate.

        Depth 0 holds the convolutional parts and the downsampling to the trunk, depth i + 1 its block i, the last one
        everything behind the backbone.

        Arguments as :meth:`SpikingBackbone.get_layer_depth`.
        """
        blocks = len(self.stages[-1]) - 1
        if not param_name.startswith(prefix):
            return blocks + 1, blocks + 2
        trunk = f'stages.{len(self.stages) - 1}.'
        name = param_name.removeprefix(prefix)
        # item 0 of the trunk is its downsampling
        return (int(name.removeprefix(trunk).split('.')[0]) if name.startswith(trunk) else 0), blocks + 2
