"""Max-Former as one writes it down first: every layer a module of its own in PyTorch's eager mode, spikingjelly's LIF nodes.

What ``tools/benchmark.py`` compares the package's backbone with. Nothing is recomputed. Parameters carry the names of
``mmspike.models.MaxFormer``, so that one state dict fits both, and the outputs are the same.
"""

from spikingjelly.activation_based import functional, neuron, surrogate
from torch import Tensor, nn


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
    """Convolution, norm and, with ``pool``, a max-pool of their output."""

    def __init__(
        self, in_dim: int, dim: int, kernel: int = 1, stride: int = 1, groups: int = 1, bias: bool = False, pool: bool = False
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_dim, dim, kernel, stride, kernel // 2, groups=groups, bias=bias)
        self.norm = nn.BatchNorm2d(dim)
        self.pool = nn.MaxPool2d(3, 2, 1) if pool else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(self.norm(self.conv(x.flatten(0, 1)))).unflatten(0, x.shape[:2])


class Merge(nn.Module):
    def __init__(self, in_dim: int, dim: int, pool: bool) -> None:
        super().__init__()
        stride = 1 if pool else 2
        self.neuron1, self.conv1 = lif(), ConvNorm(in_dim, dim, 3, stride, pool=pool)
        self.neuron2, self.conv2 = lif(), ConvNorm(dim, dim, 3)
        self.shortcut_conv = ConvNorm(in_dim, dim, 1, stride, pool=pool)

    def forward(self, x: Tensor) -> Tensor:
        s = self.neuron1(x)
        return self.conv2(self.neuron2(self.conv1(s))) + self.shortcut_conv(s)


class Depthwise(nn.Module):
    def __init__(self, dim: int, kernel: int) -> None:
        super().__init__()
        self.neuron, self.conv = lif(), ConvNorm(dim, dim, kernel, groups=dim, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.neuron(x))


class Attention(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.heads = dim // 64
        self.neuron = lif()
        self.q_conv, self.k_conv, self.v_conv = (ConvNorm(dim, dim) for _ in 'qkv')
        self.q_neuron, self.k_neuron, self.v_neuron, self.attn_neuron = lif(), lif(), lif(), lif(0.5)
        self.proj_conv = ConvNorm(dim, dim, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        T, B, C, H, W = x.shape
        s = self.neuron(x)
        q, k, v = (
            spike(conv(s)).reshape(T, B, self.heads, -1, H * W).transpose(-1, -2)
            for conv, spike in ((self.q_conv, self.q_neuron), (self.k_conv, self.k_neuron), (self.v_conv, self.v_neuron))
        )
        y = self.attn_neuron((q @ (k.transpose(-1, -2) @ v)) * 0.125)
        return self.proj_conv(y.transpose(-1, -2).reshape(x.shape))


class MLP(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.neuron1, self.fc1 = lif(), ConvNorm(dim, 4 * dim, bias=True)
        self.neuron2, self.fc2 = lif(), ConvNorm(4 * dim, dim, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.neuron2(self.fc1(self.neuron1(x))))


class Block(nn.Module):
    def __init__(self, dim: int, mixer: nn.Module) -> None:
        super().__init__()
        self.mixer, self.mlp = mixer, MLP(dim)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.mixer(x)
        return x + self.mlp(x)


class MaxFormer(nn.Module):
    """Stem and three stages; features of strides 4, 8 and 16, averaged over T. Heads have 64 channels in the last stage."""

    def __init__(self, dims, depths, T: int) -> None:
        super().__init__()
        self.T = T
        widths = [dims[0] // 2, *dims]
        mixers = (lambda d: Depthwise(d, 7)), (lambda d: Depthwise(d, 5)), Attention
        self.stem = nn.Sequential(ConvNorm(3, widths[0], 3, 2))
        self.stages = nn.ModuleList(
            nn.Sequential(Merge(widths[i], dim, pool=i > 0), *(Block(dim, mixer(dim)) for _ in range(depth)))
            for i, (dim, depth, mixer) in enumerate(zip(dims, depths, mixers, strict=True))
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        functional.reset_net(self)
        x = self.stem(images.unsqueeze(0).repeat(self.T, 1, 1, 1, 1))
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x.mean(0))
        return features
