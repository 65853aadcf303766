"""SpikingResformer (CVPR 2024, arXiv 2403.14302)."""

from torch import Tensor, nn

from mmspike.models.layers import Chain, ConvNorm, Residual, RunningRate, Signal, SpikingConv, branches, fire, pad, run
from mmspike.models.neurons import build_neuron
from mmspike.registry import MODELS

from .base import SpikingBackbone, drop_path_rates


class DualSpikeSelfAttention(nn.Module):
    """Dual spike self-attention (DSSA, section 4): a spike matrix in each product, no separate q, k, v.

    Of the spikes s = N(x) a convolution over p x p patches and BN, the dual spike transformation, gives y1 and y2, [d, N'] per
    head with a token a patch. Then a = N(y1^T s / sqrt(f_s d)), z = N(y2 a / sqrt(f_a N')), out = BN(1x1 z), where f_s and f_a
    are running firing rates of the head: they keep the variance of the sums near 1.

    A side that is not a multiple of p is padded with zeros, so that no pixel is left out.

    Args:
        dim: Channels, a multiple of ``num_heads``.
        num_heads: Attention heads.
        patch_size: p.
        neuron: Neuron config.
        norm_cfg: Norm config.

    Shape:
        [T, B, C, H, W] in and out.
    """

    takes_time = True

    def __init__(self, dim: int, num_heads: int, patch_size: int, neuron: dict, norm_cfg: dict) -> None:
        super().__init__()
        if dim % num_heads:
            raise ValueError(f'attention width {dim} must be a multiple of num_heads={num_heads}')
        self.num_heads = num_heads
        self.patch_size = patch_size
        self.neuron = build_neuron(neuron)
        self.dual_conv = ConvNorm(dim, 2 * dim, patch_size, patch_size, padding=0, norm_cfg=norm_cfg)
        self.input_rate = RunningRate(num_heads)
        self.attn_neuron = build_neuron(neuron)
        self.attn_neuron.layout = 'TBCNN'  # patches and tokens of a head
        self.attn_rate = RunningRate(num_heads)
        self.out_neuron = build_neuron(neuron)
        self.proj_conv = ConvNorm(dim, dim, norm_cfg=norm_cfg)

    def forward(self, x: Tensor) -> Tensor:
        T, B, C, H, W = x.shape
        d = C // self.num_heads
        signal = fire(self.neuron, Signal(x))
        y = run([self.dual_conv], pad(signal, -W % self.patch_size, -H % self.patch_size))
        y = y.reshape(T, B, self.num_heads, 2 * d, y.shape[3] * y.shape[4])
        y1, y2 = y.split(d, dim=3)
        s = signal.x.reshape(T, B, self.num_heads, d, H * W)
        # autocast computes roots in float32, which would lift the matrices out of half precision
        a = self.attn_neuron(y1.transpose(-2, -1) @ s * (self.input_rate(s) * d).rsqrt().to(s.dtype))
        z = y2 @ a * (self.attn_rate(a) * a.shape[3]).rsqrt().to(s.dtype)
        return run([self.out_neuron, self.proj_conv], z.reshape(T, B, C, H, W))


class GroupWiseSpikingFFN(Residual):
    """Group-wise spiking feed-forward network: 1x1 up, u + grouped 3x3(u), 1x1 down; before each N, after each BN.

    Shape:
        [T, B, C, H, W] in and out.
    """

    def __init__(self, dim: int, ratio: int, group_size: int, neuron: dict, norm_cfg: dict) -> None:
        hidden = int(dim * ratio)
        if hidden % group_size:
            raise ValueError(f'{hidden} hidden channels must be a multiple of group_size={group_size}')
        before = dict(neuron1=build_neuron(neuron), up=ConvNorm(dim, hidden, norm_cfg=norm_cfg))
        conv = ConvNorm(hidden, hidden, 3, groups=hidden // group_size, norm_cfg=norm_cfg)
        after = dict(neuron3=build_neuron(neuron), down=ConvNorm(hidden, dim, norm_cfg=norm_cfg))
        super().__init__(dict(neuron2=build_neuron(neuron), conv=conv), before=before, after=after)


def _settings(*dims: int) -> dict:
    heads = tuple(d // 64 for d in dims)
    return dict(dims=dims, depths=(1, 2, 3), num_heads=heads, patch_sizes=(4, 2, 1), mlp_ratio=4, group_size=64)


@MODELS.register_module()
class SpikingResformer(SpikingBackbone):
    """SpikingResformer backbone: three stages of dual spike self-attention and grouped convolutions, as a ResNet's.

    Only the first convolution reads floats. The published classifier reads the mean of the last membrane over space and time
    without a neuron. Running firing rates scale the attention; like the statistics of a batch norm they are buffers, moving in
    training and fixed in evaluation, with ``norm_eval`` and in frozen stages.

    Args:
        arch: 'spikingresformer-ti', '-s', '-m', '-l' (the prefix may be left out), or a dict with ``dims`` (three) and
            optionally ``depths`` (1, 2, 3), ``num_heads`` (one a stage), ``patch_sizes`` (4, 2, 1), ``mlp_ratio`` 4,
            ``group_size`` 64 (channels of a group of the 3x3 convolution).
        neuron: Neuron config; by default LIF with tau 2 and the arctangent surrogate, as published.
        norm_cfg: Norm config.
        T, in_channels, drop_path_rate, kwargs: See :class:`SpikingBackbone`. The stem is at stride 4.

    Shape:
        Images [B, C, H, W] or frames [T, B, C, H, W] -> a tuple of features, one a stage in ``out_indices``. Their channels
        and strides are ``out_channels`` and ``out_strides``: 4, 8, 16.

    Example:
        >>> import torch
        >>> from mmspike.models import SpikingResformer
        >>> model = SpikingResformer(dict(dims=(16, 32, 48), num_heads=(1, 2, 2), group_size=16), T=2)
        >>> [tuple(f.shape) for f in model(torch.randn(2, 3, 32, 32))]
        [(2, 16, 8, 8), (2, 32, 4, 4), (2, 48, 2, 2)]
    """

    default_neuron = dict(type='LIF', tau=2.0, surrogate='atan')
    arch_settings = {
        'spikingresformer-ti': _settings(64, 192, 384),
        'spikingresformer-s': _settings(64, 256, 512),
        'spikingresformer-m': _settings(64, 384, 768),
        'spikingresformer-l': _settings(128, 512, 1024),
    }

    def __init__(
        self,
        arch: str | dict = 'spikingresformer-ti',
        T: int = 4,
        in_channels: int = 3,
        neuron: dict | None = None,
        norm_cfg: dict | None = None,
        drop_path_rate: float = 0.0,
        **kwargs,
    ) -> None:
        super().__init__(T=T, in_channels=in_channels, **kwargs)
        arch, neuron, norm_cfg = self._resolved(arch, neuron, norm_cfg)
        dims = arch['dims']
        rates = drop_path_rates(drop_path_rate, sum(arch['depths']))
        stages = []
        for i, dim in enumerate(dims):
            blocks = [SpikingConv(dims[i - 1], dim, 3, 2, neuron=neuron, norm_cfg=norm_cfg)] if i else []
            for _ in range(arch['depths'][i]):
                attn = DualSpikeSelfAttention(dim, arch['num_heads'][i], arch['patch_sizes'][i], neuron, norm_cfg)
                ffn = GroupWiseSpikingFFN(dim, arch['mlp_ratio'], arch['group_size'], neuron, norm_cfg)
                blocks.append(Residual(*branches(dict(attn=attn, ffn=ffn), next(rates))))
            stages.append(nn.Sequential(*blocks))
        # no neuron: it sees the image
        stem = nn.Sequential(Chain(conv=ConvNorm(in_channels, dims[0], 7, 2, norm_cfg=norm_cfg), pool=nn.MaxPool2d(3, 2, 1)))
        self._register_stages(stem, stages, [dims[0], *dims], [4, 4, 8, 16])
