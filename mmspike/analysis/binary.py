"""Savings of weights of one bit: memory, and accumulations of whole numbers instead of floats."""

from torch import nn

from mmspike.models.layers import is_binary

from .costs import ADD_INT32, MJ


def binary_savings(model: nn.Module, layers: list[dict], ac: float) -> dict | None:
    """Savings of the layers of ``model`` that compute with weights of one bit; None without such layers.

    Where such a layer reads spikes, its sums are whole numbers times the scale of the output channel, which merges into the
    norm behind: an accumulation is an addition of integers.

    Args:
        layers: Rows of the energy report.
        ac: pJ of an accumulation of the report.

    Returns:
        ``layers`` and ``weights`` (numbers), ``bytes`` (a bit a weight, a 32-bit scale an output channel) and ``full_bytes``
        (32 bits a weight), ``energy_mj`` with integer additions and ``full_energy_mj`` as the report has it, both of the exact
        count, of those layers that spikes feed.
    """
    binary = {name: m for name, m in model.named_modules() if is_binary(m)}
    if not binary:
        return None
    weights = sum(m.weight.numel() for m in binary.values())
    channels = sum(getattr(m, 'out_channels', getattr(m, 'out_features', 0)) for m in binary.values())
    events = sum(row['exact_sops'] for row in layers if row['name'] in binary)
    return dict(
        layers=len(binary),
        weights=weights,
        bytes=weights / 8 + 4 * channels,
        full_bytes=4 * weights,
        energy_mj=ADD_INT32 * events * MJ,
        full_energy_mj=ac * events * MJ,
    )
