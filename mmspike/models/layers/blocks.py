"""Blocks on membrane shortcuts: a residual module for all of them, and those that several architectures share."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from mmspike.kernels.recompute import Signal
from mmspike.models.neurons import build_neuron

from .chain import Chain, Rowed, check_known, opens, walk, walk_unrolled
from .choice import add
from .conv import ConvNorm
from .temporal import DropPath


class LayerScale(nn.Module):
    """Learnable factor per channel (arXiv 2103.17239). Where a checkpoint has none it starts at 1, which changes nothing.

    Shape:
        [T, B, C, H, W] in and out.

    Example:
        >>> import torch
        >>> from mmspike.models.layers import LayerScale
        >>> LayerScale(8, 0.1)(torch.randn(4, 2, 8, 10, 10)).shape
        torch.Size([4, 2, 8, 10, 10])
    """

    takes_time = True

    def __init__(self, dim: int, init: float) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((dim,), float(init)))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale.view(-1, 1, 1).to(x.dtype)  # not lifted out of half precision by a float32 factor

    def _load_from_state_dict(self, state_dict, prefix, *args) -> None:
        state_dict.setdefault(f'{prefix}scale', torch.ones_like(self.scale))
        super()._load_from_state_dict(state_dict, prefix, *args)


class Residual(Rowed, nn.Module):
    """x + branch(x), for one branch after the other; a branch is a row of modules, as a :class:`Chain` is.

    Args:
        branches: Of each its modules by name, in order; all become children of this module. One that stands in several
            branches, such as a :class:`DropPath`, has the same name in all of them.
        before, after: Rows in front of the first branch and behind the last one, without shortcut.
        shortcut: A row that the first branch is added to, in place of x itself; empty: x.

    Attributes:
        rows: The names of ``before``, of every branch, of ``after`` and of ``shortcut``.

    Shape:
        [T, B, C, H, W] in and out.

    Example:
        >>> import torch
        >>> from mmspike.models.layers import ConvNorm, DropPath, Residual
        >>> from mmspike.models.neurons import LIF
        >>> block = Residual(dict(neuron=LIF(), conv=ConvNorm(8, 8, 3), drop_path=DropPath(0.1)))
        >>> block(torch.randn(4, 2, 8, 10, 10)).shape
        torch.Size([4, 2, 8, 10, 10])
    """

    takes_time = True

    def __init__(
        self,
        *branches: Mapping[str, nn.Module],
        before: Mapping[str, nn.Module] | None = None,
        after: Mapping[str, nn.Module] | None = None,
        shortcut: Mapping[str, nn.Module] | None = None,
    ) -> None:
        super().__init__()
        rows = [before or {}, *branches, after or {}, shortcut or {}]
        self.rows = tuple(tuple(row) for row in rows)
        modules = {name: module for row in rows for name, module in row.items()}
        # layer scales last: the order of parameters is that of the states of optimizers in checkpoints
        for name, module in sorted(modules.items(), key=lambda item: isinstance(item[1], LayerScale)):
            check_known(module, f'{type(self).__name__}.{name}')
            self.add_module(name, module)

    def row(self, names: Sequence[str]) -> list[nn.Module]:
        """The modules of these names."""
        return [self._modules[name] for name in names]

    def unrolled(self) -> list[nn.Module | tuple[nn.Module, str]] | None:
        if not opens(self, Residual):
            return None
        before, *branches, after, shortcut = (self.row(names) for names in self.rows)
        steps: list[nn.Module | tuple[nn.Module, str]] = [*before]
        for i, branch in enumerate(branches):
            steps.append((self, 'fork'))
            steps += [*shortcut, (self, 'swap')] if shortcut and i == 0 else []
            steps += [*branch, (self, 'join')]
        return [*steps, *after]

    def forward(self, x: Tensor) -> Tensor:
        done = walk_unrolled(self, x)
        if done is not None:
            return done
        before, *branches, after, shortcut = self.rows
        signal = walk(self.row(before), Signal(x))
        for i, names in enumerate(branches):
            kept = walk(self.row(shortcut), signal) if shortcut and i == 0 else signal
            signal = add(kept, walk(self.row(names), signal))
        return walk(self.row(after), signal).x


def branches(modules: Mapping[str, nn.Module], drop_path: float, layer_scale: float | None = None, dim: int = 0) -> list[dict]:
    """A branch of :class:`Residual` for each module, with drop path and by choice layer scale behind it.

    Args:
        modules: By name.
        drop_path: Rate of the one :class:`DropPath` of all.
        layer_scale: Initial value of a :class:`LayerScale` each, ``layer_scale1`` and so on, of ``dim`` channels; None: none.
    """
    drop, rows = DropPath(drop_path), []
    for i, (name, module) in enumerate(modules.items()):
        scale = {} if layer_scale is None else {f'layer_scale{i + 1}': LayerScale(dim, layer_scale)}
        rows.append({name: module, **scale, 'drop_path': drop})
    return rows


class Downsample(Chain):
    """N - 3x3 convolution - BN; the first of a network is 7x7 and has no neuron, since it sees the image.

    Shape:
        [T, B, C, H, W] -> [T, B, C', H / stride, W / stride], rounded up.

    Example:
        >>> import torch
        >>> from mmspike.models.layers import Downsample
        >>> Downsample(8, 16, 2, dict(type='LIF'), dict(type='BN'))(torch.randn(4, 2, 8, 10, 10)).shape
        torch.Size([4, 2, 16, 5, 5])
    """

    #: makes the convolution and its norm
    conv_norm: type[ConvNorm] = ConvNorm

    def __init__(self, in_dim: int, dim: int, stride: int, neuron: dict | None, norm_cfg: dict) -> None:
        kernel_size = 7 if neuron is None else 3
        conv = self.conv_norm(in_dim, dim, kernel_size, stride, bias=True, norm_cfg=norm_cfg)
        super().__init__(neuron=nn.Identity() if neuron is None else build_neuron(neuron), conv=conv)


class ConvBlock(Residual):
    """x + SepConv(x), then x + (N - 3x3 - BN - N - 3x3 - BN)(x) with four times the width inside.

    Args:
        sepconv: The architecture's own separable convolution.

    Shape:
        [T, B, C, H, W] in and out.
    """

    def __init__(self, dim: int, sepconv: nn.Module, neuron: dict, norm_cfg: dict, drop_path: float) -> None:
        drop = DropPath(drop_path)
        convs = dict(
            neuron1=build_neuron(neuron),
            conv1=ConvNorm(dim, 4 * dim, 3, norm_cfg=norm_cfg),
            neuron2=build_neuron(neuron),
            conv2=ConvNorm(4 * dim, dim, 3, norm_cfg=norm_cfg),
        )
        super().__init__(dict(sepconv=sepconv, drop_path=drop), dict(**convs, drop_path=drop))


class MLP(Chain):
    """N - 1x1 (d to r d) - BN - N - 1x1 (r d to d) - BN.

    Shape:
        [T, B, C, H, W] in and out.

    Example:
        >>> import torch
        >>> from mmspike.models.layers import MLP
        >>> MLP(8, 4, dict(type='LIF'), dict(type='BN'))(torch.randn(4, 2, 8, 10, 10)).shape
        torch.Size([4, 2, 8, 10, 10])
    """

    def __init__(self, dim: int, ratio: float, neuron: dict, norm_cfg: dict) -> None:
        hidden = int(dim * ratio)
        super().__init__(
            neuron1=build_neuron(neuron),
            fc1=ConvNorm(dim, hidden, bias=True, norm_cfg=norm_cfg),
            neuron2=build_neuron(neuron),
            fc2=ConvNorm(hidden, dim, bias=True, norm_cfg=norm_cfg),
        )
