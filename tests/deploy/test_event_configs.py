"""Networks for boxes and label maps in recordings of events spike from their input to their output."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope

from mmspike.deploy import audit, fuse

from .networks import ARCH, YOLO, build

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
# those of other data sets differ from one of these in classes alone
NAMES = (
    'spikeyolo_gen1',
    'spikeyolo_movingshapes',
    'spikeyolo/spikeyolo-small_t2_state_1xb8-8e_movingshapes',
    'retinanet_metaspike_gen1',
    'retinanet_espike_gen1',
    'fpn_metaspike_dsec',
    'fpn_metaspike_movingshapes',
    'fpn_espike_movingshapes',
)


def narrow(model):
    """The model of a config in a width that takes little time."""
    if model.backbone.type == 'mmspike.SpikingYOLOBackbone':
        model.backbone.arch = dict(YOLO)
        model.neck.update(in_channels=[8, 16, 24], channels=8)
        model.bbox_head.update(in_channels=[8, 16, 32], box_channels=16, cls_channels=8)
    else:
        model.backbone.arch = dict(ARCH)
        dims = [ARCH['dims'][0] // 2 if i == 'stem' else ARCH['dims'][i] for i in model.backbone.out_indices]
        model.neck.update(in_channels=dims, out_channels=16)
        head = model.get('bbox_head') or model.decode_head
        head.in_channels = 16 if 'bbox_head' in model else [16] * len(dims)
        head.update(dict(feat_channels=16, stacked_convs=1) if 'bbox_head' in model else dict(channels=16))
    return model


@pytest.mark.parametrize('name', NAMES)
def test_every_layer_reads_spikes(name):
    cfg = Config.fromfile(CONFIGS / f'{name}.py')
    init_default_scope(cfg.default_scope)
    torch.manual_seed(0)
    network = fuse(build(narrow(cfg.model)))
    backbone = cfg.model.backbone
    frames = torch.randint(0, 3, (backbone.get('T', 1), 1, backbone.in_channels, 64, 64)).float()
    report = audit(network, lambda: network(frames, mode='tensor'))
    # whole numbers of events count as spikes, so that there are no exceptions at all
    assert report.spike_driven and not report.float_fed and not report.unknown, report
    parts = {r.name.split('.')[0] for r in report.operations}
    assert parts == {'backbone', 'neck', 'decode_head' if 'decode_head' in cfg.model else 'bbox_head'}
    assert {r.fed for r in report.operations[1:]} <= {'binary spikes', 'integers'}
