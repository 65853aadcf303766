"""Savings of weights of few bits: memory, and accumulations of whole numbers instead of floats."""

from torch import nn

from mmspike.models.layers import weight_bits

from .costs import ADD_INT32, MJ


def low_bit_savings(model: nn.Module, layers: list[dict], ac: float) -> list[dict]:
    """Savings of the layers of ``model`` that compute with weights of few bits, one entry for each number of bits.

    Where such a layer reads spikes, its sums are whole numbers times the scale of the output channel, which merges into the
    norm behind: an accumulation is an addition of integers.

    Args:
        layers: Rows of the energy report.
        ac: pJ of an accumulation of the report.

    Returns:
        ``bits``, ``layers`` and ``weights`` (numbers), ``bytes`` (those bits a weight, a 32-bit scale an output channel) and
        ``full_bytes`` (32 bits a weight), ``energy_mj`` with integer additions and ``full_energy_mj`` as the report has it,
        both of the exact count, of those layers that spikes feed.
    """
    by_bits: dict[int, dict[str, nn.Module]] = {}
    for name, module in model.named_modules():
        if bits := weight_bits(module):
            by_bits.setdefault(bits, {})[name] = module
    found = []
    for bits, modules in sorted(by_bits.items()):
        weights = sum(m.weight.numel() for m in modules.values())
        channels = sum(getattr(m, 'out_channels', getattr(m, 'out_features', 0)) for m in modules.values())
        events = sum(row['exact_sops'] for row in layers if row['name'] in modules and row['fed'] != 'floats')
        found.append(
            dict(
                bits=bits,
                layers=len(modules),
                weights=weights,
                bytes=weights * bits / 8 + 4 * channels,
                full_bytes=4 * weights,
                energy_mj=ADD_INT32 * events * MJ,
                full_energy_mj=ac * events * MJ,
            )
        )
    return found
