"""The networks as one writes them down first: what ``tools/benchmark.py`` compares the package with.

Every layer is a module of its own in PyTorch's eager mode: spikingjelly's ``LIFNode`` step by step, or an SFA neuron by masked
assignment; an image is repeated T times before the first convolution; E-SpikeFormer's attention is (q k^T) v, quadratic in
the number of tokens, as published. Nothing is recomputed. Parameters carry the names of ``mmspike``'s backbones, so
that one state dict fits both, and the outputs are the same.
"""

import torch
import torch.nn.functional as F
from spikingjelly.activation_based import functional, neuron, surrogate
from torch import Tensor, nn

STRIDES = (2, 2, 2, 2, 1)


class Quantise(torch.autograd.Function):
    """round(clip(x, 0, D)), straight-through within the window."""

    @staticmethod
    def forward(ctx, x, levels):
        ctx.save_for_backward(x)
        ctx.levels = levels
        return torch.round(torch.clamp(x, 0, levels))

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        grad = grad.clone()
        grad[x < 0] = 0
        grad[x > ctx.levels] = 0
        return grad, None


class NaiveSFA(nn.Module):
    def __init__(self, levels: int = 4) -> None:
        super().__init__()
        self.levels = levels

    def forward(self, x: Tensor) -> Tensor:
        return Quantise.apply(x, self.levels) / self.levels


def lif(v_threshold: float = 1.0) -> nn.Module:
    return neuron.LIFNode(
        tau=2.0,
        decay_input=True,
        v_threshold=v_threshold,
        v_reset=0.0,
        surrogate_function=surrogate.Sigmoid(4.0),
        detach_reset=True,
        step_mode='m',
    )


class ConvNorm(nn.Module):
    def __init__(self, in_dim: int, dim: int, kernel: int = 1, stride: int = 1, groups: int = 1, bias: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_dim, dim, kernel, stride, kernel // 2, groups=groups, bias=bias)
        self.norm = nn.BatchNorm2d(dim)

    def forward(self, x: Tensor) -> Tensor:
        T, B = x.shape[:2]
        x = self.norm(self.conv(x.flatten(0, 1)))
        return x.reshape(T, B, *x.shape[1:])


class Downsample(nn.Module):
    def __init__(self, in_dim: int, dim: int, stride: int, spike: nn.Module | None) -> None:
        super().__init__()
        self.neuron = spike
        self.conv = ConvNorm(in_dim, dim, 3 if spike else 7, stride, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.neuron(x) if self.neuron else x)


class MLP(nn.Module):
    def __init__(self, dim: int, spike) -> None:
        super().__init__()
        self.neuron1, self.fc1 = spike(), ConvNorm(dim, 4 * dim, bias=True)
        self.neuron2, self.fc2 = spike(), ConvNorm(4 * dim, dim, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.neuron2(self.fc1(self.neuron1(x))))


class ConvBlock(nn.Module):
    def __init__(self, dim: int, sepconv: nn.Module, spike) -> None:
        super().__init__()
        self.sepconv = sepconv
        self.neuron1, self.conv1 = spike(), ConvNorm(dim, 4 * dim, 3)
        self.neuron2, self.conv2 = spike(), ConvNorm(4 * dim, dim, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.sepconv(x)
        return x + self.conv2(self.neuron2(self.conv1(self.neuron1(x))))


class Network(nn.Module):
    """Stem and four stages; features of all four stages, averaged over T."""

    def __init__(self, dims, depths, T: int, spike, conv_block, transformer_block) -> None:
        super().__init__()
        self.T = T
        widths = [dims[0] // 2, *dims]
        parts = []
        for i, (dim, depth, stride) in enumerate(zip(widths, depths, STRIDES, strict=True)):
            down = Downsample(widths[i - 1] if i else 3, dim, stride, spike() if i else None)
            block = conv_block if i < 3 else transformer_block
            parts.append(nn.Sequential(down, *(block(dim) for _ in range(depth))))
        self.stem, self.stages = parts[0], nn.ModuleList(parts[1:])

    def forward(self, images: Tensor) -> list[Tensor]:
        functional.reset_net(self)
        x = self.stem(images.unsqueeze(0).repeat(self.T, 1, 1, 1, 1))
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x.mean(0))
        return features


class MetaSepConv(nn.Module):
    def __init__(self, dim: int, spike) -> None:
        super().__init__()
        self.neuron1, self.pwconv1 = spike(), ConvNorm(dim, 2 * dim)
        self.neuron2 = spike()
        self.dwconv = nn.Conv2d(2 * dim, 2 * dim, 7, padding=3, groups=2 * dim, bias=False)
        self.pwconv2 = ConvNorm(2 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        T, B = x.shape[:2]
        x = self.neuron2(self.pwconv1(self.neuron1(x)))
        x = self.dwconv(x.flatten(0, 1))
        return self.pwconv2(x.reshape(T, B, *x.shape[1:]))


class RepConv(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(dim, dim, 1, bias=False), nn.BatchNorm2d(dim)
        self.dwconv = nn.Conv2d(dim, dim, 3, groups=dim, bias=False)
        self.conv2, self.norm2 = nn.Conv2d(dim, dim, 1, bias=False), nn.BatchNorm2d(dim)

    def forward(self, x: Tensor) -> Tensor:
        T, B = x.shape[:2]
        x = F.pad(self.norm1(self.conv1(x.flatten(0, 1))), [1, 1, 1, 1])
        n = self.norm1
        value = (n.bias - n.running_mean * n.weight / torch.sqrt(n.running_var + n.eps)).detach().view(1, -1, 1, 1)
        x[:, :, :1], x[:, :, -1:], x[..., :1], x[..., -1:] = (value,) * 4
        x = self.norm2(self.conv2(self.dwconv(x)))
        return x.reshape(T, B, *x.shape[1:])


class RepConvNorm(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.rep, self.norm = RepConv(dim), nn.BatchNorm2d(dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.rep(x).flatten(0, 1)).reshape(x.shape)


class MetaAttention(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.neuron = lif()
        self.q_conv, self.k_conv, self.v_conv, self.proj_conv = (RepConvNorm(dim) for _ in range(4))
        self.q_neuron, self.k_neuron, self.v_neuron = lif(), lif(), lif()
        self.attn_neuron = lif(0.5)

    def forward(self, x: Tensor) -> Tensor:
        T, B, C, H, W = x.shape
        s = self.neuron(x)
        q, k, v = (
            spike(conv(s)).reshape(T, B, 8, C // 8, H * W).transpose(-1, -2)
            for conv, spike in ((self.q_conv, self.q_neuron), (self.k_conv, self.k_neuron), (self.v_conv, self.v_neuron))
        )
        y = self.attn_neuron((q @ (k.transpose(-1, -2) @ v)) * 0.125)
        return self.proj_conv(y.transpose(-1, -2).reshape(T, B, C, H, W))


class MetaTransformerBlock(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.attn, self.mlp = MetaAttention(dim), MLP(dim, lif)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(x)
        return x + self.mlp(x)


def meta_spikeformer(dims, depths, T: int) -> Network:
    """Meta-SpikeFormer with eight heads and an MLP ratio of 4."""
    return Network(dims, depths, T, lif, lambda d: ConvBlock(d, MetaSepConv(d, lif), lif), MetaTransformerBlock)


class ESepConv(nn.Module):
    def __init__(self, dim: int, kernel: int, spike) -> None:
        super().__init__()
        self.neuron1, self.pwconv1 = spike(), ConvNorm(dim, 2 * dim)
        self.neuron2, self.dwconv = spike(), ConvNorm(2 * dim, 2 * dim, kernel, groups=2 * dim)
        self.neuron3, self.pwconv2 = spike(), ConvNorm(2 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        x = self.dwconv(self.neuron2(self.pwconv1(self.neuron1(x))))
        return self.pwconv2(self.neuron3(x))


class EAttention(nn.Module):
    def __init__(self, dim: int, spike) -> None:
        super().__init__()
        self.neuron = spike()
        self.q_conv, self.q_neuron = ConvNorm(dim, dim), spike()
        self.k_conv, self.k_neuron = ConvNorm(dim, dim), spike()
        self.v_conv, self.v_neuron = ConvNorm(dim, 4 * dim), spike()
        self.attn_neuron, self.proj_conv = spike(), ConvNorm(4 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        T, B, C, H, W = x.shape
        s = self.neuron(x)
        q, k, v = (
            spike(conv(s)).reshape(T, B, 8, -1, H * W).transpose(-1, -2)
            for conv, spike in ((self.q_conv, self.q_neuron), (self.k_conv, self.k_neuron), (self.v_conv, self.v_neuron))
        )
        y = (q @ k.transpose(-1, -2)) @ v * (2 * (C // 8) ** -0.5)
        y = self.attn_neuron(y)
        return self.proj_conv(y.transpose(-1, -2).reshape(T, B, 4 * C, H, W))


class ETransformerBlock(nn.Module):
    def __init__(self, dim: int, spike) -> None:
        super().__init__()
        self.sepconv, self.attn, self.mlp = ESepConv(dim, 3, spike), EAttention(dim, spike), MLP(dim, spike)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.sepconv(x)
        x = x + self.attn(x)
        return x + self.mlp(x)


def e_spikeformer(dims, depths, T: int, levels: int = 4) -> Network:
    """E-SpikeFormer with eight heads and an MLP ratio of 4."""

    def spike() -> nn.Module:
        return NaiveSFA(levels)

    return Network(
        dims, depths, T, spike, lambda d: ConvBlock(d, ESepConv(d, 7, spike), spike), lambda d: ETransformerBlock(d, spike)
    )
