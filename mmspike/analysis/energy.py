"""From counts to millijoules: the field's formula, the exact count, the ordinary twin and a quantised one."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from math import ceil, log2
from typing import Any

from torch import nn

from mmspike.models.inspection import evaluating, is_neuron

from .costs import MJ, MULTIPLY_8X8, PRESETS
from .counter import KINDS, LayerRecord, OpCounter
from .low_bit import low_bit_savings
from .memory import COMPONENTS, LemaireMemory

FORMULAS = (
    'formula = E_MAC x MACs of layers that floats feed + E_AC x sum of SOPs of layers that spikes feed',
    'SOPs (formula) = mean spike count of the input per element and step x T x dense MACs of one step',
    'SOPs (exact) = accumulations that the observed spikes cause: each spike counts for the outputs that it reaches '
    '(padding, stride, dilation and groups respected), a count k for k spikes',
    'MACs (exact) = dense MACs without those on zero padding',
    'products of features: formula with the spikes per element of the factor that spikes (of two, the sparser one); exact: '
    'how often a spike of one factor meets the other factor; where both spike, how often two spikes meet',
    'ordinary twin = E_MAC x dense MACs of one step, the same layers',
)
NOT_COUNTED = (
    'membrane updates, batch norms (they fuse into the layer before), residual additions, biases, upsampling and pooling, '
    'RoIAlign, NMS and other post-processing, memory traffic'
)


@dataclass
class EnergyReport:
    """Measurements per image, ready for tables and JSON.

    Attributes:
        images: Images that were measured.
        preset: Name of the costs, with ``mac`` and ``ac`` in pJ.
        layers: A dict per multiply-accumulate operation, in order of execution. Counts are means per image.
        stages: Sums of the layers by the first part of their names (backbone, neck, heads), in order of execution.
        total: Sums of all.
        neurons: Firing rates: a dict per neuron layer.
        float_fed: Names of the operations that floats feed.
        not_billed: Known operations that the formula leaves out, with calls and output elements per image.
        unknown: Operations on floats that no table knows; empty in a report that can be trusted as it is.
        quantised: The twin with ceil(log2(T * D + 1)) bits, or None.
        memory: The memory-aware estimate, or None.
        spikeyolo: What :func:`spikeyolo_count` gives, or None.
        low_bit: What weights of few bits save, a dict for each number of bits, see
            :func:`mmspike.analysis.low_bit.low_bit_savings`.
        info: What the caller adds: config, checkpoint, a metric.
    """

    images: int
    preset: dict
    layers: list[dict]
    stages: list[dict]
    total: dict
    neurons: list[dict]
    float_fed: list[str]
    not_billed: list[dict]
    unknown: list[dict]
    quantised: dict | None = None
    memory: dict | None = None
    spikeyolo: dict | None = None
    low_bit: list[dict] = field(default_factory=list)
    info: dict[str, Any] = field(default_factory=dict)


def _layer_row(record: LayerRecord, images: int, mac: float, ac: float) -> dict:
    rate = record.spikes / record.elements if record.elements else None
    return dict(
        name=record.name,
        op=record.op,
        stage=record.name.split('.')[0] or '(model)',
        fed=record.fed,
        macs=record.step_macs / images,
        steps=record.steps,
        levels=record.levels,
        firing_rate=rate,
        nonzero=record.active / record.elements if record.elements else None,
        max_count=record.max_count,
        sops=record.sops / images,
        exact_sops=record.events / images,
        mac_operations=record.float_macs / images,
        exact_mac_operations=record.real_float_macs / images,
        energy_mj=(mac * record.float_macs + ac * record.sops) * MJ / images,
        exact_energy_mj=(mac * record.real_float_macs + ac * record.events) * MJ / images,
        twin_energy_mj=mac * record.step_macs * MJ / images,
        neurons=sorted(record.neurons),
    )


SUMMED = (
    'macs',
    'sops',
    'exact_sops',
    'mac_operations',
    'exact_mac_operations',
    'energy_mj',
    'exact_energy_mj',
    'twin_energy_mj',
)


def _sum(rows: list[dict], name: str) -> dict:
    total = dict(name=name) | {key: sum(row[key] for row in rows) for key in SUMMED}
    for prefix in ('', 'exact_'):
        energy = total[f'{prefix}energy_mj']
        # how many times the ordinary twin costs what this network costs; None where it costs nothing
        total[f'{prefix}ratio'] = total['twin_energy_mj'] / energy if energy else None
    return total


def activation_bits(steps: int, levels: int) -> int:
    """Bits of an ordinary activation that carries as much as T steps of counts 0 to D: ceil(log2(T * D + 1))."""
    return ceil(log2(steps * levels + 1))


def _quantised(records: Iterable[LayerRecord], images: int) -> dict:
    """Twin with 8-bit weights and activations of ``activation_bits``, against this network with 8-bit weights.

    A multiplication costs in proportion to the widths of its factors (0.2 pJ at 8 x 8 bit), an addition 0.03 pJ. Layers that
    floats feed have 8-bit inputs in both networks.
    """
    mac8, add = PRESETS['int8']['mac'], PRESETS['int8']['ac']
    twin = spiking = 0.0
    bits_seen = set()
    for record in records:
        if record.fed == KINDS[2]:
            twin += mac8 * record.step_macs
        else:
            bits = activation_bits(record.steps, max(record.levels, record.max_count))
            bits_seen.add(bits)
            twin += (MULTIPLY_8X8 * bits / 8 + add) * record.step_macs
        spiking += mac8 * record.real_float_macs + add * record.events
    return dict(
        bits=sorted(bits_seen),
        energy_mj=spiking * MJ / images,
        twin_energy_mj=twin * MJ / images,
        ratio=twin / spiking if spiking else None,
    )


def _memory(counter: OpCounter, images: int) -> dict:
    spent = {c: 0.0 for c in COMPONENTS}
    twin = dict(spent)
    records: list[Any] = [*counter.layers.values(), *counter.neurons.values()]
    for record in records:
        for component, energy in record.memory.items():
            spent[component] += energy * MJ / images
    for record in counter.layers.values():
        for component, energy in record.twin_memory.items():
            twin[component] += energy * MJ / images
    energy, twin_energy = sum(spent.values()), sum(twin.values())
    return dict(
        energy_mj=energy,
        twin_energy_mj=twin_energy,
        ratio=twin_energy / energy if energy else None,
        components_mj=spent,
        twin_components_mj=twin,
    )


def spikeyolo_count(layers: Iterable[dict], mac: float, ac: float) -> dict:
    """Energy as SpikeYOLO's authors count it (arXiv 2407.20708), on a network whose re-parameterised convolutions are merged.

    It is the field's formula, but for layers that floats feed: they cost E_AC x E_MAC in pJ a MAC, 4.14 instead of 4.6 in
    float32, since the first convolution, too, is multiplied with the price of an accumulation.
    """
    spent = sum(ac * row['sops'] + ac * mac * row['mac_operations'] for row in layers) * MJ
    twin = sum(mac * row['macs'] for row in layers) * MJ
    return dict(energy_mj=spent, twin_energy_mj=twin, ratio=twin / spent if spent else None)


def summarise(
    counter: OpCounter, images: int, preset: str = 'fp32', quantised: bool = False, spikeyolo: bool = False
) -> EnergyReport:
    """The report of what ``counter`` has seen of ``images`` images.

    Raises:
        ValueError: No image, or an unknown preset.
    """
    if preset not in PRESETS:
        raise ValueError(f"unknown energy preset '{preset}': choose one of {list(PRESETS)}")
    if images < 1:
        raise ValueError(f'energy is a mean per image and {images} images were counted')
    mac, ac = PRESETS[preset]['mac'], PRESETS[preset]['ac']
    records = list(counter.layers.values())
    layers = [_layer_row(record, images, mac, ac) for record in records]
    stages = [_sum([r for r in layers if r['stage'] == s], s) for s in dict.fromkeys(r['stage'] for r in layers)]
    return EnergyReport(
        images=images,
        preset=dict(name=preset, mac=mac, ac=ac),
        layers=layers,
        stages=stages,
        total=_sum(layers, 'total'),
        neurons=[
            dict(
                name=n.name,
                type=n.type,
                levels=n.levels,
                steps=n.steps,
                firing_rate=n.spikes / n.elements if n.elements else 0.0,
                nonzero=n.active / n.elements if n.elements else 0.0,
                elements=n.elements / images / n.steps,
            )
            for n in counter.neurons.values()
        ],
        float_fed=[f'{r["name"]} ({r["op"]})' for r in layers if r['fed'] == KINDS[2]],
        not_billed=[
            dict(category=category, op=op, calls=calls / images, elements=elements / images)
            for (category, op), (calls, elements) in sorted(counter.not_billed.items(), key=lambda i: (i[0][0], -i[1][1]))
        ],
        unknown=[
            dict(op=op, module=module, calls=calls / images, elements=elements / images)
            for (op, module), (calls, elements) in counter.unknown.items()
        ],
        quantised=_quantised(records, images) if quantised else None,
        memory=_memory(counter, images) if counter.memory is not None else None,
        low_bit=low_bit_savings(counter.model, layers, ac),
        spikeyolo=spikeyolo_count(layers, mac, ac) if spikeyolo else None,
    )


def measure_energy(
    model: nn.Module,
    batches: Iterable[dict],
    preset: str = 'fp32',
    memory: bool = False,
    quantised: bool = False,
    spikeyolo: bool = False,
) -> EnergyReport:
    """Energy of one image, as a mean over ``batches``, through ``model.test_step``.

    Neurons that keep their membrane are reset before every batch. The model is put into evaluation mode and back.

    Args:
        model: A model of mmdet, mmseg or mmpretrain, or any with mmengine's ``test_step``.
        batches: Batches of one image each, as its data loader gives them.
        preset: Costs, a key of ``PRESETS``.
        memory: Also the memory-aware estimate (needs spikingjelly).
        quantised: Also the comparison with a quantised ordinary network.
        spikeyolo: Also as SpikeYOLO's authors count it, see :func:`spikeyolo_count`.

    Raises:
        ValueError: The network is expanded into binary steps: the one before it sends the same spikes.

    Example:
        >>> import torch
        >>> import mmspike.registry
        >>> from mmpretrain.models import ImageClassifier
        >>> from mmpretrain.structures import DataSample
        >>> from mmspike.analysis import measure_energy
        >>> arch = dict(dims=(4, 8, 8), depths=(2, 1, 1))
        >>> vgg = dict(type='mmspike.SpikingVGG', arch=arch, T=2, temporal_output='keep')
        >>> head = dict(type='mmspike.SpikingLinearClsHead', num_classes=10, in_channels=8)
        >>> model = ImageClassifier(vgg, head=head)
        >>> batch = dict(inputs=[torch.full((3, 32, 32), 255.0)], data_samples=[DataSample()])
        >>> report = measure_energy(model, [batch])
        >>> report.images, len(report.layers), report.layers[-1]['name']
        (1, 5, 'head.fc')
    """
    nested = [n for n, m in model.named_modules() if is_neuron(m) and any(map(is_neuron, m.children()))]
    if nested:
        raise ValueError(f'{nested[0]} sends binary steps: measure the network before expand(), its spikes are the same')
    counter = OpCounter(model, LemaireMemory() if memory else None)
    images = 0
    for batch in batches:
        with evaluating(model), counter:
            model.test_step(batch)
        images += 1
    return summarise(counter, images, preset, quantised, spikeyolo)
