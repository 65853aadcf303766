"""Spikformer (ICLR 2023, arXiv 2209.15425)."""

from torch import Tensor, nn

from mmspike.models.layers import ConvNorm, DropPath, attention_neuron
from mmspike.models.neurons import build_neuron
from mmspike.registry import MODELS

from .patch_splitting import MaxPool, PatchSplittingBackbone


class SpikeEmbedding(nn.Module):
    """The last neuron and pool, and a position embedding: x = pool(N(x)), then x + N(BN(3x3(x))).

    Shape:
        [T, B, C, H, W] -> [T, B, C, H / stride, W / stride], rounded up; sums of two spikes.
    """

    def __init__(self, dim: int, stride: int, neuron: dict, norm_cfg: dict) -> None:
        super().__init__()
        self.neuron = build_neuron(neuron)
        self.pool = MaxPool(stride)
        self.conv = ConvNorm(dim, dim, 3, norm_cfg=norm_cfg)
        self.position_neuron = build_neuron(neuron)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.neuron(x))
        return x + self.position_neuron(self.conv(x))


class SpikingSelfAttention(nn.Module):
    """Spiking self-attention (SSA, section 3.3): q, k, v - attention without softmax - N - 1x1 - BN - N.

    Each of q, k, v is N(BN(1x1)) of the sums of spikes. Per head over N tokens, y = N(q (k^T v) / 8), threshold 0.5.

    Args:
        dim: Channels, a multiple of ``num_heads``.
        num_heads: Attention heads.
        neuron: Neuron config; the neuron on the attention takes half its threshold.
        norm_cfg: Norm config.

    Shape:
        [T, B, C, H, W] in, spikes of the same shape out.
    """

    scale = 0.125
    pairs_tokens = True

    def __init__(self, dim: int, num_heads: int, neuron: dict, norm_cfg: dict) -> None:
        super().__init__()
        if dim % num_heads:
            raise ValueError(f'attention width {dim} must be a multiple of num_heads={num_heads}')
        self.num_heads = num_heads
        self.q_conv = ConvNorm(dim, dim, norm_cfg=norm_cfg)
        self.q_neuron = build_neuron(neuron)
        self.k_conv = ConvNorm(dim, dim, norm_cfg=norm_cfg)
        self.k_neuron = build_neuron(neuron)
        self.v_conv = ConvNorm(dim, dim, norm_cfg=norm_cfg)
        self.v_neuron = build_neuron(neuron)
        self.attn_neuron = attention_neuron(neuron)
        self.proj_conv = ConvNorm(dim, dim, bias=True, norm_cfg=norm_cfg)
        self.proj_neuron = build_neuron(neuron)

    def forward(self, x: Tensor) -> Tensor:
        T, B, C, H, W = x.shape
        heads = (T, B, self.num_heads, C // self.num_heads, H * W)
        q = self.q_neuron(self.q_conv(x)).reshape(heads)
        k = self.k_neuron(self.k_conv(x)).reshape(heads)
        v = self.v_neuron(self.v_conv(x)).reshape(heads)
        # heads are [d, N] here: q (k^T v) is the transpose of (v k^T) q
        y = ((v @ k.transpose(-2, -1)) @ q * self.scale).reshape(x.shape)
        return self.proj_neuron(self.proj_conv(self.attn_neuron(y)))


class SpikeMLP(nn.Module):
    """1x1 (d to r d) - BN - N - 1x1 (r d to d) - BN - N: ends with spikes.

    Shape:
        [T, B, C, H, W] in and out.
    """

    def __init__(self, dim: int, ratio: float, neuron: dict, norm_cfg: dict) -> None:
        super().__init__()
        hidden = int(dim * ratio)
        self.fc1 = ConvNorm(dim, hidden, bias=True, norm_cfg=norm_cfg)
        self.neuron1 = build_neuron(neuron)
        self.fc2 = ConvNorm(hidden, dim, bias=True, norm_cfg=norm_cfg)
        self.neuron2 = build_neuron(neuron)

    def forward(self, x: Tensor) -> Tensor:
        return self.neuron2(self.fc2(self.neuron1(self.fc1(x))))


class TransformerBlock(nn.Module):
    """x + SSA(x), then x + MLP(x): spikes are added, so the shortcut carries integers that grow with depth.

    Shape:
        [T, B, C, H, W] in and out.
    """

    def __init__(self, dim: int, num_heads: int, mlp_ratio: float, neuron: dict, norm_cfg: dict, drop_path: float) -> None:
        super().__init__()
        self.attn = SpikingSelfAttention(dim, num_heads, neuron, norm_cfg)
        self.mlp = SpikeMLP(dim, mlp_ratio, neuron, norm_cfg)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop_path(self.attn(x))
        return x + self.drop_path(self.mlp(x))


def _settings(dim: int, depth: int = 8) -> dict:
    return dict(dims=(dim // 8, dim // 4, dim // 2, dim), depth=depth, num_heads=8, mlp_ratio=4)


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
        T, in_channels, strides, neuron, norm_cfg, drop_path_rate: See :class:`PatchSplittingBackbone`.
        out_indices, temporal_output, frozen_stages, norm_eval, with_cp, binary, init_cfg: See :class:`SpikingBackbone`.

    Shape:
        Images [B, C, H, W] or frames [T, B, C, H, W] -> features of strides 4, 8, 16 with d/2, d, d channels.
    """

    arch_settings = {
        'spikformer-8-384': _settings(384),
        'spikformer-8-512': _settings(512),
        'spikformer-8-768': _settings(768),
    }

    def _build_embedding(self, dim: int, stride: int, neuron: dict, norm_cfg: dict) -> nn.Module:
        return SpikeEmbedding(dim, stride, neuron, norm_cfg)

    def _build_block(self, arch: dict, neuron: dict, norm_cfg: dict, drop_path: float) -> nn.Module:
        return TransformerBlock(arch['dims'][-1], arch['num_heads'], arch['mlp_ratio'], neuron, norm_cfg, drop_path)
