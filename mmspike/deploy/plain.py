"""Neurons, pools that sum and deformable sampling in operations that every exporter knows, one time step after the other."""

from copy import deepcopy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmspike.models.inspection import is_neuron
from mmspike.models.layers import fold, unfold
from mmspike.models.mask_former import DeformableSampling, Sign
from mmspike.models.mask_former.pixel_decoder import KERNEL
from mmspike.models.neurons import IF, ILIF, LIF, NILIF, PLIF, SFA

from .layers import BinarySteps, PlainPool, ThresholdSFA
from .masks import whole


class PlainFiring(nn.Module):
    """LIF, PLIF or IF as comparisons and sums, without gradient.

    Args:
        neuron: What it computes.

    Shape:
        [T, B, ...] in and out; T is fixed when it is traced.
    """

    def __init__(self, neuron: LIF | PLIF | IF) -> None:
        super().__init__()
        self.v_threshold = neuron.v_threshold
        self.v_reset = neuron.v_reset
        self.tau = neuron.tau if isinstance(neuron, LIF) else None
        # a learned time constant is a constant now
        self.decay = neuron.w.sigmoid().item() if isinstance(neuron, PLIF) else None

    def forward(self, x: Tensor) -> Tensor:
        v: Tensor | None = None  # at rest
        spikes = []
        for gain in x.unbind():  # the order of sums is that of the neuron; nothing is added that is 0
            if v is not None and (self.decay is not None or self.tau is not None):
                gain = gain - (v - self.v_reset if self.v_reset else v)
            if self.decay is not None:
                gain = gain * self.decay
            elif self.tau is not None:
                gain = gain / self.tau
            before = v if v is not None else self.v_reset
            h = gain if v is None and not self.v_reset else before + gain
            fired = h >= self.v_threshold
            v = torch.where(fired, self.v_reset, h)
            spikes.append(fired.to(x.dtype))
        return torch.stack(spikes)


def clip(x: Tensor, levels: int) -> Tensor:
    """``x.clamp(0, levels)`` as one operation. Of two clamps of the same x onnxscript 0.7.2 makes a file that is not valid."""
    return nn.functional.hardtanh(x, 0.0, float(levels))


class PlainSFA(nn.Module):
    """SFA as clip, round and a division."""

    def __init__(self, neuron: SFA) -> None:
        super().__init__()
        self.levels = neuron.levels
        self.divisor = neuron.divisor
        self.rounding = neuron.rounding

    def forward(self, x: Tensor) -> Tensor:
        x = clip(x, self.levels)
        count = x.round() if self.rounding == 'even' else (x + 0.5).floor()
        return count if self.divisor == 1 else count / self.divisor


class PlainIntegerLIF(nn.Module):
    """ILIF or NILIF as clip, round and sums."""

    def __init__(self, neuron: ILIF) -> None:
        super().__init__()
        self.levels = neuron.levels
        self.divisor = neuron.divisor
        self.beta = neuron.beta

    def forward(self, x: Tensor) -> Tensor:
        if len(x) == 1:  # no membrane is handed on
            counts = clip(x, self.levels).round()
        else:
            v: Tensor | None = None
            spikes = []
            for gain in x.unbind():
                h = gain if v is None else self.beta * v + gain
                spikes.append(clip(h, self.levels).round())
                v = h - spikes[-1]
            counts = torch.stack(spikes)
        return counts if self.divisor == 1 else counts / self.divisor


class PlainThresholds(nn.Module):
    """SFA with a folded scale: a factor, clip and round where one factor does the same to every whole number, else as it is."""

    def __init__(self, neuron: ThresholdSFA) -> None:
        super().__init__()
        self.neuron = neuron
        self.levels = neuron.levels
        self.scale = scale_of(neuron.thresholds)

    def forward(self, x: Tensor) -> Tensor:
        return self.neuron(x) if self.scale is None else clip(x * self.scale, self.levels).round()


def scale_of(thresholds: Tensor) -> float | None:
    """The factor s for which ``round(clip(s * y, 0, D))`` counts how many of D whole ``thresholds`` a whole number y reaches.

    Returns:
        None where there is none, as with one that is not positive.

    Example:
        >>> import torch
        >>> scale_of(torch.tensor([3.0, 7.0, 12.0, 16.0]))
        0.22301136363636365
    """
    thresholds = thresholds.double()
    reach = torch.arange(1, len(thresholds) + 1, dtype=torch.float64, device=thresholds.device) - 0.5
    low = (reach / thresholds).max().item()  # s * t_k >= k - 1/2
    high = min((reach / (thresholds - 1)).min().item(), 2 * low)  # s * (t_k - 1) < k - 1/2, at a half as rounding decides
    y = torch.cat([thresholds - 1, thresholds]).cpu().float()  # both sides of every step: in between neither changes
    count = (y[:, None] >= thresholds.cpu().float()).sum(1)
    for scale in ((low + high) / 2, low, high):
        if 0 < scale < float('inf') and (y * scale).clamp(0, len(thresholds)).round().equal(count.float()):
            return scale
    return None


class PlainSign(nn.Module):
    """The sign as a comparison."""

    def __init__(self, neuron: Sign) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return (x >= 0).to(x.dtype)


class PlainSampling(DeformableSampling):
    """Deformable sampling place by place, by GridSample, which engines have more often than deformable convolutions.

    Args:
        trained: The sampling, folded or not.
    """

    def __init__(self, trained: DeformableSampling) -> None:
        nn.Module.__init__(self)
        self.__dict__['_modules'] = trained._modules  # neurons in it become plain later

    def sample(self, value: Tensor, offset: Tensor, modulation: Tensor) -> Tensor:
        T, points = len(value), KERNEL**2
        value, offset, weight = (fold(x) for x in (value, offset, whole(modulation, T)))
        N, C, H, W = value.shape
        groups = weight.shape[1] // points
        value = value.reshape(N * groups, C // groups, H, W)
        offset, weight = offset.reshape(N * groups, points, 2, H, W), weight.reshape(N * groups, points, H, W)
        rows = torch.arange(H, dtype=value.dtype, device=value.device).view(-1, 1)
        columns = torch.arange(W, dtype=value.dtype, device=value.device)
        total = torch.zeros_like(value)
        for i in range(points):
            y, x = rows + (i // KERNEL - KERNEL // 2) + offset[:, i, 0], columns + (i % KERNEL - KERNEL // 2) + offset[:, i, 1]
            # pixel centres of the image are (2 k + 1) / size - 1
            grid = torch.stack([(2 * x + 1) / W - 1, (2 * y + 1) / H - 1], -1)
            found = F.grid_sample(value, grid, padding_mode='zeros', align_corners=False)
            total = total + weight[:, i : i + 1] * found
        return unfold(total.reshape(N, C, H, W), T)


# exact classes: a subclass may compute something else
PLAIN = {
    LIF: PlainFiring,
    PLIF: PlainFiring,
    IF: PlainFiring,
    SFA: PlainSFA,
    ILIF: PlainIntegerLIF,
    NILIF: PlainIntegerLIF,
    Sign: PlainSign,
    ThresholdSFA: PlainThresholds,
}
AS_THEY_ARE = (BinarySteps,)


def plain(model: nn.Module) -> nn.Module:
    """A copy of ``model`` whose neurons, pools that sum and sampling are plain operations; every call starts from rest.

    Raises:
        ValueError: A neuron has no plain form, or keeps its membrane between calls; it names them.
    """
    model = deepcopy(model)
    refused = []
    for name, module in list(model.named_modules()):
        for child_name, child in list(module._modules.items()):
            full = f'{name}.{child_name}' if name else child_name
            if isinstance(child, AS_THEY_ARE):
                continue
            if type(child) is nn.AvgPool2d and child.divisor_override is not None:
                if child.ceil_mode:
                    refused.append(f'{full} (AvgPool2d with ceil_mode and divisor_override)')
                module._modules[child_name] = PlainPool(child)
            elif isinstance(child, DeformableSampling):
                module._modules[child_name] = PlainSampling(child)
            elif type(child) in PLAIN and not child.stateful:
                module._modules[child_name] = PLAIN[type(child)](child)
            elif is_neuron(child):
                state = ' that keeps its membrane between calls' if getattr(child, 'stateful', False) else ''
                refused.append(f'{full} ({type(child).__name__}{state})')
    if refused:
        raise ValueError(
            f'cannot export {", ".join(refused)}: neurons that can be written out are {[c.__name__ for c in PLAIN]}, '
            'with stateful=False'
        )
    return model
