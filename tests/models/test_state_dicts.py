"""Checkpoints stay loadable: names, shapes and order of what networks store do not change.

``python -m tests.models.test_state_dicts`` writes ``state_dicts.json`` anew for networks that it does not hold yet.
"""

import json
from pathlib import Path

import pytest
import torch

from mmspike.registry import MODELS

STORED = Path(__file__).with_name('state_dicts.json')
BN, BN1D, PLIF = dict(type='BN'), dict(type='BN1d'), dict(type='PLIF')
STAGES = dict(dims=(4, 4, 6, 8), depths=(1, 1, 1, 1, 1), num_heads=2)
LARGE = dict(dims=(4, 4, 6), depths=(1, 1, 1, 1), num_heads=2)
PATCHES = dict(dims=(4, 4, 6, 8), depth=1)
MASKS = dict(channels=8, num_queries=3, encoder_layers=1, groups=2, decoder_layers=2, num_heads=2)
ROI = dict(in_channels=4, num_classes=2, neuron=PLIF)
SEG = dict(channels=4, num_classes=2, neuron=PLIF, norm_cfg=BN)
# PLIF has a parameter, so that the places of neurons are told, too
NETWORKS = {
    'MetaSpikeFormer': dict(arch=STAGES, sdsa=4, neuron=PLIF),
    'ESpikeFormer': dict(arch=STAGES, neuron=PLIF, layer_scale=0.5),
    'ESpikeFormerLarge': dict(arch=LARGE, neuron=PLIF, layer_scale=0.5),
    'SAFormer': dict(arch=PATCHES | dict(num_heads=2), neuron=PLIF),
    'SpikeDrivenTransformer': dict(arch=PATCHES, neuron=PLIF),
    'Spikformer': dict(arch=PATCHES | dict(num_heads=2), neuron=PLIF),
    'Spikeformer': dict(arch=PATCHES | dict(num_heads=2, grid=2), neuron=PLIF),
    'SpikingVGG': dict(arch=dict(dims=(4, 4, 6), depths=(2, 2, 2)), neuron=PLIF),
    'SpikingResformer': dict(arch=dict(dims=(4, 8, 8), depths=(1, 1, 1), num_heads=(1, 2, 2), group_size=4), neuron=PLIF),
    'SpikingYOLOBackbone': dict(arch=dict(dims=(4, 4, 6, 8), depths=(1, 1, 1, 1)), neuron=PLIF),
    'ExtraStages': dict(
        backbone=dict(type='SpikingVGG', arch=dict(dims=(4, 4, 6), depths=(2, 1, 1))), num_stages=1, neuron=PLIF
    ),
    'SpikingFPN': dict(in_channels=[4, 6], out_channels=4, num_outs=3, neuron=PLIF),
    'SpikingFPN, norm': dict(in_channels=[4, 6], out_channels=4, num_outs=3, norm_cfg=BN),
    'SpikingSimplePyramid': dict(in_channels=4, out_channels=4, norm_cfg=BN, neuron=PLIF),
    'SpikingYOLOPAFPN': dict(in_channels=[4, 6, 8], channels=4, neuron=PLIF),
    'SpikingRPNHead': dict(in_channels=4, feat_channels=4, norm_cfg=BN, neuron=PLIF),
    'SpikingRetinaHead': dict(num_classes=2, in_channels=4, feat_channels=4, stacked_convs=1, norm_cfg=BN, neuron=PLIF),
    'SpikingYOLOHead': dict(num_classes=2, in_channels=[4, 4, 6], box_channels=4, cls_channels=4, bins=4, neuron=PLIF),
    'SpikingShared2FCBBoxHead': dict(fc_out_channels=4, fc_norm_cfg=BN1D, **ROI),
    'SpikingShared4Conv1FCBBoxHead': dict(fc_out_channels=4, conv_out_channels=4, norm_cfg=BN, **ROI),
    'SpikingFCNMaskHead': dict(num_convs=1, conv_out_channels=4, norm_cfg=BN, **ROI),
    'SpikingFPNHead': dict(feature_strides=(4, 8), in_channels=[4, 6], in_index=[0, 1], **SEG),
    'SpikingFCNHead': dict(in_channels=[4, 6], in_index=[0, 1], **SEG),
    'SpikingFCNHead, auxiliary': dict(in_channels=4, concat_input=True, **SEG),
    'SpikingDeepLabHead': dict(in_channels=4, **SEG),
    'SpikingMaskFormerHead': dict(in_channels=[4, 6], feature_strides=[4, 8], num_classes=2, network=MASKS, neuron=PLIF),
    'SpikingPanopticHead': dict(
        in_channels=[4, 6], feature_strides=[4, 8], num_things_classes=2, num_stuff_classes=1, network=MASKS, neuron=PLIF
    ),
    'SpikingLinearClsHead': dict(in_channels=4, num_classes=2, distilled=True, neuron=PLIF),
    'AttentionPoolClsHead': dict(in_channels=4, num_classes=2),
}


def layout(name: str) -> list[str]:
    """Entries of a network's state dict with their shapes, in order; parameters first, whose order an optimizer stores."""
    with torch.device('meta'):
        model = MODELS.build(dict(type=f'mmspike.{name.split(",")[0]}', **NETWORKS[name]))
    parameters = dict(model.named_parameters())
    rest = {k: v for k, v in model.state_dict().items() if k not in parameters}
    return [f'{k} {"x".join(map(str, v.shape))}'.rstrip() for k, v in (parameters | rest).items()]


@pytest.mark.parametrize('name', NETWORKS)
def test_names_and_shapes_are_those_stored(name):
    assert layout(name) == json.loads(STORED.read_text())[name]


def main() -> None:
    """Store what is not stored yet."""
    stored = json.loads(STORED.read_text()) if STORED.exists() else {}
    for name in NETWORKS:
        if name not in stored:
            try:
                stored[name] = layout(name)
            except ImportError as error:
                print(name, error)
    STORED.write_text(json.dumps(stored, indent=0) + '\n')


if __name__ == '__main__':
    main()
