"""Time as part of the batch: every layer but a neuron or an attention sees [T*B, ...]."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmspike.kernels.layout import fold, unfold


def repeat_time(x: Tensor, T: int) -> Tensor:
    """[B, ...] -> [T, B, ...]: the same values at every step, without a copy.

    Example:
        >>> import torch
        >>> from mmspike.models.layers import repeat_time
        >>> repeat_time(torch.randn(2, 3, 32, 32), 4).shape
        torch.Size([4, 2, 3, 32, 32])
    """
    if x.dim() == 4 and x.stride(1) == 1:  # the backward pass sums over T: see mean_time
        return x.movedim(1, -1).expand(T, *[-1] * 4).movedim(-1, 2)
    return x.expand(T, *x.shape)


def stacked_steps(samples: Sequence[Tensor] | Tensor) -> tuple[list[Tensor], int]:
    """Frames [T, C, H, W] of B samples -> pictures [T C, H, W], as the hosts' preprocessors take them, and T.

    Raises:
        ValueError: The samples have another shape, or different T.

    Example:
        >>> import torch
        >>> from mmspike.models.layers import stacked_steps
        >>> pictures, T = stacked_steps([torch.zeros(5, 2, 32, 32)] * 3)
        >>> len(pictures), pictures[0].shape, T
        (3, torch.Size([10, 32, 32]), 5)
    """
    shapes = [tuple(sample.shape) for sample in samples]
    if any(len(shape) != 4 for shape in shapes) or len({shape[:2] for shape in shapes}) != 1:
        raise ValueError(
            f'expected frames [T, C, H, W] of the same T and C, got shapes {shapes}: end the pipeline with a Pack… of mmspike'
        )
    return [sample.flatten(0, 1) for sample in samples], shapes[0][0]


def unstacked_steps(x: Tensor, T: int) -> Tensor:
    """[B, T C, H, W] -> [T, B, C, H, W].

    Example:
        >>> import torch
        >>> from mmspike.models.layers import unstacked_steps
        >>> unstacked_steps(torch.zeros(3, 10, 32, 32), 5).shape
        torch.Size([5, 3, 2, 32, 32])
    """
    return x.unflatten(1, (T, -1)).transpose(0, 1).contiguous()


def mean_time(x: Tensor) -> Tensor:
    """[T, B, ...] -> [B, ...].

    Example:
        >>> import torch
        >>> from mmspike.models.layers import mean_time
        >>> mean_time(torch.randn(4, 2, 8, 10, 10)).shape
        torch.Size([2, 8, 10, 10])
    """
    if x.shape[0] == 1:
        return x.squeeze(0)
    # PyTorch reduces five dimensions ten times as fast in the order in which they lie in memory
    if x.dim() == 5 and x.stride(2) == 1:
        return x.movedim(2, -1).mean(0).movedim(-1, 1)
    return x.mean(0)


def channels_inside(x: Tensor) -> Tensor:
    """The same values [T, B, C, H, W] with channels innermost in memory, where layers run faster so; they keep the order.

    That is on the CPU, about twice as fast, and on CUDA in half precision, whose matrix units read channels side by side. Else,
    and in float64, the tensor itself.
    """
    half = torch.is_autocast_enabled(x.device.type) or x.dtype in (torch.float16, torch.bfloat16)
    if x.device.type not in ('cpu', 'cuda') or x.is_cuda and not half or x.dtype == torch.float64:
        return x
    return x.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3)


def resized(x: Tensor, size: Sequence[int], **kwargs) -> Tensor:
    """[T, B, C, H, W] -> [T, B, C, *size] of the same dtype, by ``torch.nn.functional.interpolate`` with its ``kwargs``.

    Autocast on CUDA would give float32, which is four bytes of the largest features there are for the precision of two.
    """
    with torch.autocast(x.device.type, enabled=False):
        return unfold(F.interpolate(fold(x), tuple(size), **kwargs), x.shape[0])


class DropPath(nn.Module):
    """Stochastic depth (arXiv 1603.09382): in training, drops a sample's branch at all T steps at once.

    Args:
        p: Probability to drop, in [0, 1). Kept samples are scaled by 1 / (1 - p).

    Shape:
        [T, B, ...] in and out.

    Example:
        >>> import torch
        >>> from mmspike.models.layers import DropPath
        >>> DropPath(0.1)(torch.randn(4, 2, 8, 10, 10)).shape
        torch.Size([4, 2, 8, 10, 10])
    """

    takes_time = True

    def __init__(self, p: float = 0.0) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f'drop path probability must be in [0, 1), got {p}')
        self.p = float(p)

    @property
    def drops(self) -> bool:
        """It is in training, and drops anything."""
        return self.training and self.p > 0

    def forward(self, x: Tensor) -> Tensor:
        if not self.drops:
            return x
        keep = torch.rand(1, x.shape[1], *[1] * (x.dim() - 2), device=x.device) >= self.p
        return x * (keep.to(x.dtype) / (1 - self.p))

    def extra_repr(self) -> str:
        return f'p={self.p}'
