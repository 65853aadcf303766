"""Max-Former and MS-QKFormer (NeurIPS 2025, arXiv 2505.18608): hierarchical spiking transformers on membrane shortcuts."""

from collections.abc import Callable
from functools import partial

from torch import nn

from mmspike.models.layers import MLP, Chain, ConvNorm, PointwiseAttention, Residual, branches
from mmspike.models.neurons import build_neuron
from mmspike.registry import MODELS

from .base import SpikingBackbone, drop_path_rates
from .patch_splitting import max_pool


class Merge(Residual):
    """Half the size, another width: N - 3x3 - BN - N - 3x3 - BN, and as shortcut N - 1x1 - BN.

    Both rows read the spikes of the same membranes.

    Args:
        in_dim, dim: Channels before and behind it.
        neuron: Neuron config.
        norm_cfg: Norm config.
        pool: How a row halves the size: the convolution's stride ('' for neither), or a max-pool of the membranes behind the
            norm, of the 'branch' alone or of 'both' rows.

    Shape:
        [T, B, C, H, W] -> [T, B, C', H / 2, W / 2], rounded up.
    """

    def __init__(self, in_dim: int, dim: int, neuron: dict, norm_cfg: dict, pool: str) -> None:
        branch, shortcut = pool in ('branch', 'both'), pool == 'both'
        super().__init__(
            dict(
                neuron1=build_neuron(neuron),
                conv1=ConvNorm(in_dim, dim, 3, 1 if branch else 2, norm_cfg=norm_cfg),
                pool=max_pool(2 if branch else 1),
                neuron2=build_neuron(neuron),
                conv2=ConvNorm(dim, dim, 3, norm_cfg=norm_cfg),
            ),
            shortcut=dict(
                shortcut_neuron=build_neuron(neuron),
                shortcut_conv=ConvNorm(in_dim, dim, 1, 1 if shortcut else 2, norm_cfg=norm_cfg),
                shortcut_pool=max_pool(2 if shortcut else 1),
            ),
        )


class SpikingSelfAttention(PointwiseAttention):
    """Spiking self-attention (SSA): y = N(q (k^T v) / 8) for every head, threshold 0.5, then 1x1 - BN.

    Shape:
        [T, B, C, H, W] in and out.
    """

    scale = 0.125


class QKAttention(SpikingSelfAttention):
    """Q-K attention (QKFormer, arXiv 2403.16552): of the spikes k those of tokens pass where the sum of q over a head fires.

    It has no v; the neuron on the sums has half the threshold.

    Shape:
        [T, B, C, H, W] in and out.
    """

    mask = 'k'


def depthwise_mixer(kernel_size: int, dim: int, num_heads: int, neuron: dict, norm_cfg: dict) -> Chain:
    """N - depthwise convolution with bias - BN. It has no heads."""
    conv = ConvNorm(dim, dim, kernel_size, groups=dim, bias=True, norm_cfg=norm_cfg)
    return Chain(neuron=build_neuron(neuron), conv=conv)


def _settings(dim: int) -> dict:
    return dict(dims=(dim // 4, dim // 2, dim), depths=(1, 2, 7), num_heads=dim // 64, mlp_ratio=4)


class _Hierarchy(SpikingBackbone):
    """Both networks: a convolution, then three stages of a :class:`Merge` and blocks of a mixer and an MLP.

    Published code has an argument for drop path and never uses it; here it works, hence the default 0. The shortcut of a merge
    has a neuron of its own on the same membranes, which sends the same spikes as that of the branch; only if neurons learn
    (PLIF) do the two differ.
    """

    #: of a stage its mixer: dim, num_heads, neuron, norm_cfg -> module
    mixers: tuple[Callable[..., nn.Module], ...]
    #: how the merges of the three stages halve the size
    pools: tuple[str, ...]
    #: the first convolution keeps the size, and a max-pool halves it
    pools_first = False

    def __init__(
        self,
        arch: str | dict | None = None,
        T: int = 4,
        in_channels: int = 3,
        neuron: dict | None = None,
        norm_cfg: dict | None = None,
        drop_path_rate: float = 0.0,
        **kwargs,
    ) -> None:
        super().__init__(T=T, in_channels=in_channels, **kwargs)
        arch, neuron, norm_cfg = self._resolved(arch, neuron, norm_cfg)
        dims, depths, heads = arch['dims'], arch['depths'], arch['num_heads']
        rates = drop_path_rates(drop_path_rate, sum(depths))

        def block(mixer: Callable[..., nn.Module], dim: int) -> nn.Module:
            parts = dict(mixer=mixer(dim, heads, neuron, norm_cfg), mlp=MLP(dim, arch['mlp_ratio'], neuron, norm_cfg))
            return Residual(*branches(parts, next(rates)))

        widths = [dims[0] // 2, *dims]
        first = ConvNorm(in_channels, widths[0], 3, 1 if self.pools_first else 2, norm_cfg=norm_cfg)
        stem = nn.Sequential(Chain(conv=first, pool=max_pool(2)) if self.pools_first else first)
        stages = [
            nn.Sequential(Merge(widths[i], dim, neuron, norm_cfg, pool), *[block(mixer, dim) for _ in range(depth)])
            for i, (dim, depth, mixer, pool) in enumerate(zip(dims, depths, self.mixers, self.pools, strict=True))
        ]
        self._register_stages(stem, stages, widths, [2, 4, 8, 16])


@MODELS.register_module()
class MaxFormer(_Hierarchy):
    """Max-Former backbone: depthwise convolutions at strides 4 and 8, spiking self-attention at 16, max-pools between them.

    Every convolution but the first reads binary spikes, and shortcuts add membranes. A block is x + mixer(x), then
    x + MLP(x); the mixers are depthwise 7x7, depthwise 5x5, and attention with heads of 64 channels (sections 4 and 5).

    Args:
        arch: 'maxformer-10-384', '-10-512', '-10-768' (blocks, channels; the prefix may be left out), or a dict with ``dims``
            (of the three stages) and optionally ``depths`` (1, 2, 7), ``num_heads`` 6, ``mlp_ratio`` 4.
        neuron: Neuron config, see :func:`mmspike.models.neurons.build_neuron`; by default LIF with tau 2.
        T, in_channels, norm_cfg, drop_path_rate, kwargs: See :class:`SpikingBackbone`.

    Shape:
        Images [B, C, H, W] or frames [T, B, C, H, W] -> features of strides 4, 8, 16 with C/4, C/2, C channels; the stem has
        C/8 at stride 2. A level of stride 32 comes from :class:`ExtraStages`.

    Example:
        >>> import torch
        >>> from mmspike.models import MaxFormer
        >>> backbone = MaxFormer(dict(dims=(16, 32, 64), depths=(1, 1, 1), num_heads=2), T=2)
        >>> [tuple(f.shape) for f in backbone(torch.randn(1, 3, 64, 64))]
        [(1, 16, 16, 16), (1, 32, 8, 8), (1, 64, 4, 4)]
    """

    arch_settings = {f'maxformer-10-{dim}': _settings(dim) for dim in (384, 512, 768)}
    mixers = (partial(depthwise_mixer, 7), partial(depthwise_mixer, 5), SpikingSelfAttention)
    pools = ('', 'both', 'both')


@MODELS.register_module()
class MSQKFormer(_Hierarchy):
    """MS-QKFormer backbone: QKFormer (arXiv 2403.16552) on membrane shortcuts, as the authors of Max-Former built it.

    Its mixers are Q-K attention at strides 4 and 8, spiking self-attention at 16; all stages have the same number of heads.
    The published QKFormer itself lets the state of its neurons run over the images of a batch, so that an image's result
    depends on its neighbours; here it does not.

    Args:
        arch: 'msqkformer-10-384', '-10-512', '-10-768' (the prefix may be left out), or a dict with ``dims`` (of the three
            stages) and optionally ``depths`` (1, 2, 7), ``num_heads`` 6, ``mlp_ratio`` 4.
        T, in_channels, neuron, norm_cfg, drop_path_rate, kwargs: See :class:`MaxFormer`.

    Shape:
        Images [B, C, H, W] or frames [T, B, C, H, W] -> features of strides 4, 8, 16 with C/4, C/2, C channels; the stem has
        C/8 at stride 2.

    Example:
        >>> import torch
        >>> from mmspike.models import MSQKFormer
        >>> backbone = MSQKFormer(dict(dims=(16, 32, 64), depths=(1, 1, 1), num_heads=2), T=2, out_indices=(-1,))
        >>> backbone(torch.randn(1, 3, 64, 64))[0].shape
        torch.Size([1, 64, 4, 4])
    """

    arch_settings = {f'msqkformer-10-{dim}': _settings(dim) for dim in (384, 512, 768)}
    mixers = (QKAttention, QKAttention, SpikingSelfAttention)
    pools = ('branch', 'branch', 'branch')
    pools_first = True
