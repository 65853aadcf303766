"""Spikeformer (arXiv 2211.10686): a convolutional tokenizer of spikes, and a space-time transformer with softmax."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmspike.models.layers import Chain, ConvNorm, DropPath, fold, run, unfold
from mmspike.models.neurons import build_neuron
from mmspike.registry import MODELS

from .base import SpikingBackbone, drop_path_rates


def avg_pool_conv(in_dim: int, dim: int, stride: int, norm_cfg: dict) -> Chain:
    """Average pool, which leaves partial windows at the border as they are, then 1x1 convolution - BN."""
    pool = nn.AvgPool2d(stride, ceil_mode=True, count_include_pad=False)
    return Chain(pool=pool, conv=ConvNorm(in_dim, dim, norm_cfg=norm_cfg))


class SEWInput(nn.Module):
    """A SEW block up to its first neurons: convolution - BN of the branch, and the shortcut, side by side.

    Shape:
        [T, B, C, H, W] -> [T, B, 2 C', H / stride, W / stride], rounded up.
    """

    def __init__(self, in_dim: int, dim: int, kernel_size: int, stride: int, norm_cfg: dict) -> None:
        super().__init__()
        self.conv = ConvNorm(in_dim, dim, kernel_size, stride, norm_cfg=norm_cfg)
        self.shortcut = nn.Identity() if in_dim == dim and stride == 1 else avg_pool_conv(in_dim, dim, stride, norm_cfg)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.conv(x), self.shortcut(x)], 2)


class SEWOutput(nn.Module):
    """The rest of a SEW block: N - convolution - BN - N of the branch, N of a shortcut that is not an identity, and their sum.

    Shape:
        [T, B, 2 C, H, W] -> [T, B, C, H, W].
    """

    rows = (('neuron1', 'conv', 'neuron2'),)  # who runs after whom, for mmspike.deploy

    def __init__(self, dim: int, kernel_size: int, neuron: dict, norm_cfg: dict, shortcut_fires: bool) -> None:
        super().__init__()
        self.neuron1 = build_neuron(neuron)
        self.conv = ConvNorm(dim, dim, kernel_size, norm_cfg=norm_cfg)
        self.neuron2 = build_neuron(neuron)
        self.shortcut_neuron = build_neuron(neuron) if shortcut_fires else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        branch, shortcut = x.chunk(2, 2)
        return run([self.neuron1, self.conv, self.neuron2], branch) + self.shortcut_neuron(shortcut)


def sew_block(in_dim: int, dim: int, kernel_size: int, stride: int, neuron: dict, norm_cfg: dict) -> nn.Sequential:
    """A spike-element-wise residual block, in two parts: the first one is linear, so that an image goes through it once."""
    changes = in_dim != dim or stride != 1
    return nn.Sequential(
        SEWInput(in_dim, dim, kernel_size, stride, norm_cfg), SEWOutput(dim, kernel_size, neuron, norm_cfg, changes)
    )


class Embedding(nn.Module):
    """Adds learned embeddings of place and time, stretched to the size at hand: bicubically, and by nearest neighbours.

    Args:
        dim: Channels.
        grid: Side of the square of places that are learned.
        steps: Time steps that are learned.

    Shape:
        [T, B, C, H, W] in and out.
    """

    def __init__(self, dim: int, grid: int, steps: int) -> None:
        super().__init__()
        self.grid = grid
        self.pos_embed = nn.Parameter(torch.zeros(1, grid * grid, dim))
        self.time_embed = nn.Parameter(torch.zeros(1, steps, dim))
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        nn.init.trunc_normal_(self.time_embed, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        T, _, C, H, W = x.shape
        place = self.pos_embed.transpose(1, 2).unflatten(2, (self.grid, self.grid))
        if (H, W) != (self.grid, self.grid):
            place = F.interpolate(place, (H, W), mode='bicubic', align_corners=False)
        time = F.interpolate(self.time_embed.transpose(1, 2), T, mode='nearest')
        return x + (place + time.permute(2, 1, 0).view(T, 1, C, 1, 1)).to(x.dtype)


class SelfAttention(nn.Module):
    """Ordinary multi-head self-attention with softmax, on real values.

    Shape:
        [N, tokens, C] in and out.
    """

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        if dim % num_heads:
            raise ValueError(f'attention width {dim} must be a multiple of num_heads={num_heads}')
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        N, L, C = x.shape
        q, k, v = self.qkv(x).view(N, L, 3, self.num_heads, C // self.num_heads).permute(2, 0, 3, 1, 4)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(N, L, C))


class TransformerBlock(nn.Module):
    """Attention over time, then over space, then linear - N - linear, each on the layer norm of x and added to it.

    The attention over time ends with one more linear layer, which starts at 0: at first a block sees space alone.

    Shape:
        [T, B, C, H, W] in and out.
    """

    rows = (('neuron', 'fc2'),)  # who runs after whom, for mmspike.deploy

    def __init__(self, dim: int, num_heads: int, mlp_ratio: float, neuron: dict, drop_path: float) -> None:
        super().__init__()
        hidden = int(dim * mlp_ratio)
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.time_attn = SelfAttention(dim, num_heads)
        self.time_proj = nn.Linear(dim, dim)
        nn.init.zeros_(self.time_proj.weight)
        nn.init.zeros_(self.time_proj.bias)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = SelfAttention(dim, num_heads)
        self.norm3 = nn.LayerNorm(dim, eps=1e-6)
        self.fc1 = nn.Linear(dim, hidden)
        self.neuron = build_neuron(neuron)
        self.neuron.layout = 'TBNC'
        self.fc2 = nn.Linear(hidden, dim)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        T, B, C, H, W = x.shape
        x = x.flatten(3).transpose(2, 3)  # [T, B, N, C]
        y = self.time_attn(self.norm1(x).permute(1, 2, 0, 3).reshape(B * H * W, T, C))
        y = y.view(B, H * W, T, C).permute(2, 0, 1, 3)
        x = x + self.time_proj(self.drop_path(y))
        x = x + self.drop_path(unfold(self.attn(fold(self.norm2(x))), T))
        x = x + self.drop_path(self.fc2(self.neuron(self.fc1(self.norm3(x)))))
        return x.transpose(2, 3).reshape(T, B, C, H, W)


@MODELS.register_module()
class Spikeformer(SpikingBackbone):
    """Spikeformer backbone: tokens from residual blocks of spikes, then attention over time and over space.

    Not spike-driven: the attention is the ordinary one, on real values with softmax; the first linear layer of an MLP reads
    layer norms; the blocks of the tokenizer add spikes to spikes and average them. Only the tokenizer and the MLPs hold
    neurons, and with PLIAF, as in the published ImageNet model, these give analogue values.

    Args:
        arch: 'spikeformer-imagenet', '-cifar10dvs', '-dvsgesture' (the prefix may be left out), or a dict with ``dims`` (widths
            of the tokenizer, one a halving of the size, four or three; the last one is the transformer's) and optionally
            ``blocks`` (of the tokenizer, a width) 2, ``kernel_size`` (theirs) 3, ``depth`` (of the transformer) 7,
            ``num_heads`` 8, ``mlp_ratio`` 3, and what the embeddings are learned for: ``grid`` (tokens a side) 14 and
            ``steps`` 4. Other sizes of images and other T stretch them.
        neuron: Neuron config; by default PLIF with initial tau 2.
        norm_cfg: Norm config of the tokenizer.
        drop_path_rate: Stochastic depth of the last block; it grows linearly from 0. Published: 0.1.
        T, in_channels, kwargs: See :class:`SpikingBackbone`.

    Shape:
        Images [B, C, H, W] or frames [T, B, C, H, W] -> a tuple of features, one a stage in ``out_indices``. Their channels
        and strides are ``out_channels`` and ``out_strides``: the widths but the first, at strides 4, 8 and, with four, 16.

    Example:
        >>> import torch
        >>> from mmspike.models import Spikeformer
        >>> model = Spikeformer(dict(dims=(8, 8, 16, 32), depth=1, num_heads=2), T=2)
        >>> [tuple(f.shape) for f in model(torch.randn(2, 3, 32, 32))]
        [(2, 8, 8, 8), (2, 16, 4, 4), (2, 32, 2, 2)]
    """

    default_neuron = dict(type='PLIF', tau=2.0)
    arch_settings = {
        'spikeformer-imagenet': dict(
            dims=(64, 128, 256, 512), blocks=2, kernel_size=3, depth=7, num_heads=8, mlp_ratio=3, grid=14, steps=4
        ),
        'spikeformer-cifar10dvs': dict(
            dims=(64, 128, 256), blocks=2, kernel_size=3, depth=7, num_heads=4, mlp_ratio=2, grid=16, steps=4
        ),
        'spikeformer-dvsgesture': dict(
            dims=(64, 128, 256), blocks=1, kernel_size=5, depth=7, num_heads=4, mlp_ratio=2, grid=16, steps=16
        ),
    }

    def __init__(
        self,
        arch: str | dict = 'spikeformer-imagenet',
        T: int = 4,
        in_channels: int = 3,
        neuron: dict | None = None,
        norm_cfg: dict | None = None,
        drop_path_rate: float = 0.0,
        **kwargs,
    ) -> None:
        super().__init__(T=T, in_channels=in_channels, **kwargs)
        arch, neuron, norm_cfg = self._resolved(arch, neuron, norm_cfg)
        dims: Sequence[int] = arch['dims']
        parts = []
        for in_dim, dim in zip((in_channels, *dims), dims, strict=False):
            blocks = [
                sew_block(dim if i else in_dim, dim, arch['kernel_size'], 1 if i else 2, neuron, norm_cfg)
                for i in range(arch['blocks'])
            ]
            parts.append(nn.Sequential(*blocks))
        stem = nn.Sequential(*parts[0][0], *parts[0][1:])
        last = parts[-1]
        last.append(Embedding(dims[-1], arch['grid'], arch['steps']))
        for rate in drop_path_rates(drop_path_rate, arch['depth']):
            last.append(TransformerBlock(dims[-1], arch['num_heads'], arch['mlp_ratio'], neuron, rate))
        self._register_stages(stem, parts[1:], dims, [2 ** (i + 1) for i in range(len(dims))])
