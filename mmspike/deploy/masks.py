"""The mask transformer on whole counts of spikes."""

import torch
from torch import Tensor

from mmspike.models.mask_former import DeformableSampling, MaskProduct

from .folding import affine, unit, unit_neuron
from .rows import LINEAR, places


def whole(spikes: Tensor, T: int) -> Tensor:
    """Counts [T, B, …] of binary steps [D * T, B, …], or of counts: sums of whole numbers, exact in any order."""
    return spikes if len(spikes) == T else spikes.unflatten(0, (-1, T)).sum(0)


class FusedSampling(DeformableSampling):
    """Deformable sampling weighted with counts; the value of a spike is part of what is sampled.

    Args:
        trained: Sampling whose convolutions are folded already.

    Raises:
        ValueError: A norm that is not a batch norm stands behind the convolutions of what is sampled.
    """

    def __init__(self, trained: DeformableSampling) -> None:
        torch.nn.Module.__init__(self)
        self._modules.update(trained._modules)
        last, fires = places(self, ('value',))[-1], places(self, ('modulation',))[-1]
        if not isinstance(last.module, LINEAR):
            raise ValueError(f'DeformableSampling is folded with batch norms only, got {last.module}')
        value = unit(fires.module)
        fires.put(unit_neuron(fires.module))
        if value != 1:
            last.put(affine(last.module, torch.full((1,), value, dtype=torch.float64), like=last.module.weight))

    def sample(self, value: Tensor, offset: Tensor, modulation: Tensor) -> Tensor:
        return super().sample(value, offset, whole(modulation, len(value)))


class FusedMaskProduct(MaskProduct):
    """Sums of mask features by counts."""

    def __init__(self, trained: MaskProduct) -> None:
        torch.nn.Module.__init__(self)
        self.neuron = unit_neuron(trained.neuron)

    def multiply(self, spikes: Tensor, features: Tensor) -> Tensor:
        return super().multiply(whole(spikes, len(features)), features)
