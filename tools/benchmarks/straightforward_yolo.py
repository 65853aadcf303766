"""SpikeYOLO as one writes it down first: every layer a module of its own in PyTorch's eager mode, spikingjelly's I-LIF neurons.

What ``tools/benchmark.py`` compares the package's detector with. Nothing is recomputed, nothing merged. Parameters
carry the names of mmspike's backbone, neck and head, so that one state dict fits both, and the outputs are the same.
"""

import torch
import torch.nn.functional as F
from spikingjelly.activation_based import functional, neuron, surrogate
from torch import Tensor, nn


def spike() -> nn.Module:
    return neuron.ILIFNode(detach_reset=True, step_mode='m')


def norm(channels: int) -> nn.Module:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.03)


class OverTime(nn.Module):
    """Layers of images on [T, B, C, H, W]."""

    def forward(self, x: Tensor) -> Tensor:
        return self.images(x.flatten(0, 1)).unflatten(0, x.shape[:2])

    def images(self, x: Tensor) -> Tensor:
        raise NotImplementedError


class ConvNorm(OverTime):
    def __init__(self, c_in: int, c: int, k: int = 1, s: int = 1, p: int | None = None, groups: int = 1, bias=False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c_in, c, k, s, k // 2 if p is None else p, groups=groups, bias=bias)
        self.norm = norm(c)

    def images(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x))


class SpikingConv(OverTime):
    def __init__(self, c_in: int, c: int, k: int = 1, s: int = 1, bias: bool = False) -> None:
        super().__init__()
        self.neuron = spike()
        self.conv = nn.Conv2d(c_in, c, k, s, k // 2, bias=bias)
        self.norm = nn.Identity() if bias else norm(c)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(self.neuron(x))

    def images(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x))


def padded(x: Tensor, bn: nn.BatchNorm2d) -> Tensor:
    """With what the norm gives for zero around it."""
    x = F.pad(x, [1, 1, 1, 1])
    value = (bn.bias - bn.running_mean * bn.weight / torch.sqrt(bn.running_var + bn.eps)).detach().view(1, -1, 1, 1)
    x[:, :, :1], x[:, :, -1:], x[..., :1], x[..., -1:] = (value,) * 4
    return x


class NormFirstRepConv(OverTime):
    def __init__(self, c_in: int, c: int) -> None:
        super().__init__()
        self.norm1 = norm(c_in)
        self.conv1 = nn.Conv2d(c_in, c, 1, bias=False)
        self.dwconv = nn.Conv2d(c, c, 3, groups=c, bias=False)

    def images(self, x: Tensor) -> Tensor:
        return self.dwconv(self.conv1(padded(self.norm1(x), self.norm1)))


class RepConv(OverTime):
    def __init__(self, c_in: int, c: int) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(c_in, c_in, 1, bias=False), norm(c_in)
        self.dwconv = nn.Conv2d(c_in, c_in, 3, groups=c_in, bias=False)
        self.conv2, self.norm2 = nn.Conv2d(c_in, c, 1, bias=False), norm(c)

    def images(self, x: Tensor) -> Tensor:
        return self.norm2(self.conv2(self.dwconv(padded(self.norm1(self.conv1(x)), self.norm1))))


class RepConvNorm(OverTime):
    def __init__(self, c_in: int, c: int) -> None:
        super().__init__()
        self.rep, self.norm = RepConv(c_in, c), norm(c)

    def images(self, x: Tensor) -> Tensor:
        return self.norm(self.rep.images(x))


class SepConv(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        self.neuron1, self.pwconv1 = spike(), ConvNorm(c, 2 * c)
        self.neuron2, self.dwconv = spike(), ConvNorm(2 * c, 2 * c, 7, groups=2 * c)
        self.neuron3, self.rep, self.norm = spike(), NormFirstRepConv(2 * c, c), norm(c)

    def forward(self, x: Tensor) -> Tensor:
        y = self.rep(self.neuron3(self.dwconv(self.neuron2(self.pwconv1(self.neuron1(x))))))
        return self.norm(y.flatten(0, 1)).unflatten(0, x.shape[:2])


class WideBlock(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        self.sepconv = SepConv(c)
        self.neuron1, self.conv1 = spike(), ConvNorm(c, 4 * c, 3)
        self.neuron2, self.conv2 = spike(), ConvNorm(4 * c, c, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.sepconv(x)
        return x + self.conv2(self.neuron2(self.conv1(self.neuron1(x))))


class RepBlock(nn.Module):
    def __init__(self, c: int, ratio: float) -> None:
        super().__init__()
        self.sepconv = SepConv(c)
        self.neuron1, self.rep1 = spike(), RepConvNorm(c, int(ratio * c))
        self.neuron2, self.rep2 = spike(), RepConvNorm(int(ratio * c), c)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.sepconv(x)
        return x + self.rep2(self.neuron2(self.rep1(self.neuron1(x))))


class SPPF(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = SpikingConv(c, c // 2), SpikingConv(2 * c, c)

    def forward(self, x: Tensor) -> Tensor:
        levels = [self.conv1(x)]
        for _ in range(3):
            levels.append(F.max_pool2d(levels[-1].flatten(0, 1), 5, 1, 2).unflatten(0, x.shape[:2]))
        return self.conv2(torch.cat(levels, 2))


class First(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        self.conv = ConvNorm(3, c, 7, 4, 2, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class Down(nn.Module):
    def __init__(self, c_in: int, c: int) -> None:
        super().__init__()
        self.neuron, self.conv = spike(), ConvNorm(c_in, c, 3, 2, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.neuron(x))


class Backbone(nn.Module):
    def __init__(self, dims, depths) -> None:
        super().__init__()
        c1, c2, c3, c4 = dims
        self.stem = nn.Sequential(First(c1), *(WideBlock(c1) for _ in range(depths[0])))
        self.stages = nn.ModuleList(
            [
                nn.Sequential(Down(c1, c2), *(WideBlock(c2) for _ in range(depths[1]))),
                nn.Sequential(Down(c2, c3), *(RepBlock(c3, 3) for _ in range(depths[2]))),
                nn.Sequential(Down(c3, c4), *(RepBlock(c4, 2) for _ in range(depths[3])), SPPF(c4)),
            ]
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        x, features = self.stem(x), []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features


def enlarged(x: Tensor) -> Tensor:
    return F.interpolate(x.flatten(0, 1), scale_factor=2, mode='nearest').unflatten(0, x.shape[:2])


class Neck(nn.Module):
    def __init__(self, dims, ratio: float = 1) -> None:
        super().__init__()
        fine, middle, coarse = dims
        c, wide = fine, 2 * fine
        self.reduce5, self.top_down4 = SpikingConv(coarse, wide), RepBlock(wide, 3)
        self.reduce4, self.top_down3 = SpikingConv(wide + middle, c), WideBlock(c)
        self.reduce3, self.out3 = SpikingConv(c + fine, c), WideBlock(c)
        self.down3, self.out4 = SpikingConv(c, c, 3, 2), RepBlock(wide, 3)
        self.down4, self.out5 = SpikingConv(wide, wide, 3, 2), RepBlock(2 * wide, ratio)

    def forward(self, features: list[Tensor]) -> tuple[Tensor, ...]:
        fine, middle, coarse = features
        top = self.reduce5(coarse)
        centre = self.reduce4(torch.cat([self.top_down4(enlarged(top)), middle], 2))
        out3 = self.out3(self.reduce3(torch.cat([self.top_down3(enlarged(centre)), fine], 2)))
        out4 = self.out4(torch.cat([self.down3(out3), centre], 2))
        return out3, out4, self.out5(torch.cat([self.down4(out4), top], 2))


class Head(nn.Module):
    def __init__(self, widths, classes: int, bins: int, box: int, cls: int) -> None:
        super().__init__()
        self.box_branches = nn.ModuleList(self.branch(c, box, 4 * bins) for c in widths)
        self.cls_branches = nn.ModuleList(self.branch(c, cls, classes) for c in widths)

    @staticmethod
    def branch(c_in: int, c: int, outputs: int) -> nn.Sequential:
        return nn.Sequential(SpikingConv(c_in, c, 3), SpikingConv(c, c, 3), SpikingConv(c, outputs, bias=True))

    def forward(self, levels: tuple[Tensor, ...]) -> tuple[list[Tensor], list[Tensor]]:
        scores = [branch(x).mean(0) for branch, x in zip(self.cls_branches, levels, strict=True)]
        return scores, [branch(x).mean(0) for branch, x in zip(self.box_branches, levels, strict=True)]


class SpikeYOLO(nn.Module):
    """Images [B, 3, H, W] with sides divisible by 32 -> scores and distributions of three levels.

    Args:
        dims, depths: As of ``mmspike.SpikingYOLOBackbone``.
        classes: Classes of the head.
        T: Time steps.
        levels: D of the neurons.
        ratio: Width inside the neck's last block over its channels.
    """

    def __init__(self, dims, depths, classes: int = 80, T: int = 1, levels: int = 4, ratio: float = 1, bins: int = 16) -> None:
        super().__init__()
        self.T = T
        self.backbone, self.neck = Backbone(dims, depths), Neck(dims[1:], ratio)
        widths = [dims[1], 2 * dims[1], 4 * dims[1]]
        self.bbox_head = Head(widths, classes, bins, max(widths[0] // 4, 64), max(widths[0], min(classes, 100)))
        for m in self.modules():
            if isinstance(m, neuron.ILIFNode):
                m.surrogate_function = surrogate.MultiLevelSpikeCount(levels)

    def forward(self, images: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        functional.reset_net(self)
        return self.bbox_head(self.neck(self.backbone(images.unsqueeze(0).repeat(self.T, 1, 1, 1, 1))))
