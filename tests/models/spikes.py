"""What tests of necks and heads share."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

NEURONS = [
    dict(type='LIF', tau=2.0, v_threshold=0.5),
    dict(type='SFA', levels=4, divisor=1),
    dict(type='SFA', levels=8, divisor=4),
]


@contextmanager
def assert_weights_read_spikes(model: nn.Module) -> Iterator[dict[str, float]]:
    """Within, every convolution and linear layer of ``model`` must get counts 0 to 8, divided by 1 or 4, and each is called.

    Yields a dict that has the share of non-zero inputs of each layer afterwards.
    """
    layers = {n: m for n, m in model.named_modules() if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear))}
    rates: dict[str, float] = {}
    handles = []
    for name, layer in layers.items():

        def check(_, inputs, name=name):
            x = inputs[0].detach()
            counts = 4 * x
            assert torch.equal(counts, counts.round()) and counts.min() >= 0 and counts.max() <= 16, name
            rates[name] = (x != 0).float().mean().item()

        handles.append(layer.register_forward_pre_hook(check))
    yield rates
    for handle in handles:
        handle.remove()
    assert set(rates) == set(layers)
    assert not [m for m in model.modules() if isinstance(m, nn.ReLU)]
