"""The layout of Spikformer and its kin: patch splitting by convolutions and max-pools, then transformer blocks of one width."""

from collections.abc import Sequence
from itertools import accumulate
from operator import mul

from torch import nn

from mmspike.models.layers import Chain, ConvNorm, Residual
from mmspike.models.neurons import build_neuron

from .base import SpikingBackbone, drop_path_rates


def max_pool(stride: int) -> nn.Module:
    """3x3 max-pool; stride 1 does nothing."""
    return nn.MaxPool2d(3, stride, 1) if stride > 1 else nn.Identity()


def patch_settings(dim: int, depth: int = 8, **heads: int) -> dict:
    """The dims of a network of width ``dim``."""
    return dict(dims=(dim // 8, dim // 4, dim // 2, dim), depth=depth, **heads, mlp_ratio=4)


def pool_conv(in_dim: int, dim: int, stride: int, neuron: dict, norm_cfg: dict) -> Chain:
    """N - max-pool - 3x3 convolution - BN: [T, B, C, H, W] -> [T, B, C', H / stride, W / stride], rounded up."""
    return Chain(neuron=build_neuron(neuron), pool=max_pool(stride), conv=ConvNorm(in_dim, dim, 3, norm_cfg=norm_cfg))


class MembraneEmbedding(Residual):
    """The last pool, on membranes, and a position embedding by convolution: x = pool(x), then x + BN(3x3(N(x))).

    Shape:
        [T, B, C, H, W] -> [T, B, C, H / stride, W / stride], rounded up.
    """

    def __init__(self, dim: int, stride: int, neuron: dict, norm_cfg: dict) -> None:
        position = dict(neuron=build_neuron(neuron), conv=ConvNorm(dim, dim, 3, norm_cfg=norm_cfg))
        super().__init__(position, before=dict(pool=max_pool(stride)))


class PatchSplittingBackbone(SpikingBackbone):
    """Base of the transformers on four convolutions with max-pools between them; a subclass has the embedding and the block.

    The features lie where the membranes are: before the neuron that a pool follows. With widths d0 to d3 of the convolutions
    and strides of 2 they are d2 at stride 4, d3 at 8 and, after all transformer blocks, d3 at 16; the stem is d1 at 2.

    Args:
        arch: A preset's name (its prefix may be left out), or a dict with ``dims`` (d0 to d3) and optionally the other keys of
            the presets.
        strides: Of the four max-pools, one after each convolution; 1 leaves a pool out, as (1, 1, 2, 2) for images of 32 px.
        neuron: Neuron config, see :func:`mmspike.models.neurons.build_neuron`; by default LIF with tau 2.
        T, in_channels, norm_cfg, drop_path_rate, kwargs: See :class:`SpikingBackbone`.

    Shape:
        Images [B, C, H, W] or frames [T, B, C, H, W] -> a tuple of features, one a stage in ``out_indices``. Their channels
        and strides are ``out_channels`` and ``out_strides``: 4, 8, 16 by default.
    """

    def __init__(
        self,
        arch: str | dict | None = None,
        T: int = 4,
        in_channels: int = 3,
        strides: Sequence[int] = (2, 2, 2, 2),
        neuron: dict | None = None,
        norm_cfg: dict | None = None,
        drop_path_rate: float = 0.0,
        **kwargs,
    ) -> None:
        super().__init__(T=T, in_channels=in_channels, **kwargs)
        arch, neuron, norm_cfg = self._resolved(arch, neuron, norm_cfg)
        if len(strides) != 4 or not set(strides) <= {1, 2}:
            raise ValueError(f'strides needs 4 entries, 1 or 2 for each max-pool, got {strides}')
        dims = arch['dims']
        stem = nn.Sequential(
            ConvNorm(in_channels, dims[0], 3, norm_cfg=norm_cfg), pool_conv(dims[0], dims[1], strides[0], neuron, norm_cfg)
        )
        rates = drop_path_rates(drop_path_rate, arch['depth'])
        stages = [
            nn.Sequential(pool_conv(dims[1], dims[2], strides[1], neuron, norm_cfg)),
            nn.Sequential(pool_conv(dims[2], dims[3], strides[2], neuron, norm_cfg)),
            nn.Sequential(
                self._build_embedding(dims[3], strides[3], neuron, norm_cfg),
                *[self._build_block(arch, neuron, norm_cfg, rate) for rate in rates],
            ),
        ]
        self._register_stages(stem, stages, [dims[1], dims[2], dims[3], dims[3]], list(accumulate(strides, mul)))

    def _build_embedding(self, dim: int, stride: int, neuron: dict, norm_cfg: dict) -> nn.Module:
        """The last pool and the position embedding."""
        return MembraneEmbedding(dim, stride, neuron, norm_cfg)

    def _build_block(self, arch: dict, neuron: dict, norm_cfg: dict, drop_path: float) -> nn.Module:
        """A transformer block of width ``arch['dims'][-1]``, [T, B, C, H, W] in and out."""
        raise NotImplementedError
