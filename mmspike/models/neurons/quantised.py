"""The integer neuron of converted networks: quantisation by clip, floor and shift."""

import torch
from torch import Tensor, nn

from .base import BaseNeuron
from .integer import _check_levels, sfa


class ClipFloorShift(BaseNeuron):
    r"""An activation in D steps (QCFS, arXiv 2303.04347), which stands in the place of a ReLU.

    .. math::
        y = \frac{\theta}{D} \lfloor \mathrm{clip}(\frac{(x + v) D}{\theta}, 0, D) + \frac{1}{2} \rfloor

    Half a step of shift makes the expected error zero. The count is :func:`sfa`'s with halves rounded up, a spike has the
    value theta / D. The threshold theta learns; gradients are straight-through. v is what the membrane holds at the start;
    calibration sets it for each channel (arXiv 2106.06984, section 4.2), and it learns, too.

    Args:
        levels: D, the largest count.
        threshold: theta, at the beginning that of all channels.
        channels: Of dimension 1 of the input, each with a v of its own that begins with 0; None: no v.
        per_channel: A theta for each of the channels: layers that read them have the value of a spike in the column of their
            weights that reads its channel.

    Shape:
        Any, elementwise: ordinary features [B, C, H, W], without time.

    Example:
        >>> import torch
        >>> from mmspike.models.neurons import ClipFloorShift
        >>> ClipFloorShift(levels=4, threshold=2.0)(torch.tensor([-1.0, 0.3, 1.2, 9.0])).tolist()
        [0.0, 0.5, 1.0, 2.0]
    """

    leaky = False
    has_memory = False
    takes_time = False
    step_mode = 's'  # it sees no time axis, see mmspike.models.inspection.has_time

    def __init__(self, levels: int, threshold: float = 1.0, channels: int | None = None, per_channel: bool = False) -> None:
        super().__init__()
        self.levels = _check_levels(levels)
        if not threshold > 0:
            raise ValueError(f'threshold must be positive, got {threshold}')
        if per_channel and channels is None:
            raise ValueError('per_channel needs the number of channels')
        shape = (channels,) if per_channel and channels is not None else ()
        self.threshold = nn.Parameter(torch.full(shape, float(threshold)))
        self.start = None if channels is None else nn.Parameter(torch.zeros(channels))

    @property
    def divisor(self) -> float | tuple[float, ...]:
        """Counts are divided by it: D / theta, of each channel where each has a theta."""
        divisor = (self.levels / self.threshold.double()).tolist()
        return tuple(divisor) if self.threshold.dim() else divisor

    def forward(self, x: Tensor) -> Tensor:
        places = [1] * (x.dim() - 2)
        if self.start is not None:
            x = x + self.start.to(x.dtype).view(-1, *places)
        unit = self.threshold.to(x.dtype) / self.levels
        if unit.dim():
            unit = unit.view(-1, *places)
        return sfa(x / unit, self.levels, 1, 'up') * unit

    def extra_repr(self) -> str:
        return f'levels={self.levels}'
