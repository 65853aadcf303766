"""Spiking necks and heads behind the spiking backbone, in configs of the three hosts."""

import pytest
import torch
from swapping import RUNS, SMALL, build, inputs, load, loss_and_prediction, set_keys

from mmspike.config.swap import SwapError, parse_backbone, swap_backbone
from mmspike.deploy import audit, fuse

pytest.importorskip('mmdet')
pytest.importorskip('mmseg')
pytest.importorskip('mmpretrain')

SPIKED = (torch.nn.Conv2d, torch.nn.ConvTranspose2d, torch.nn.Linear)
SPIKING = [
    'mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py',
    'mmdet::cascade_rcnn/cascade-mask-rcnn_r50_fpn_1x_coco.py',
    'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py',
    'mmseg::sem_fpn/fpn_r50_4xb4-160k_ade20k-512x512.py',
    'mmseg::fcn/fcn_r50-d8_4xb4-80k_ade20k-512x512.py',
    'mmpretrain::resnet/resnet50_8xb32_in1k.py',
]


@pytest.mark.parametrize('name', SPIKING)
def test_spiking_heads(name):
    """Behind the backbone, too, every weight reads spikes."""
    cfg, notes = swap_backbone(load(name), parse_backbone(SMALL), spiking_heads=True)
    assert not any('stay' in note for note in notes)
    set_keys(cfg.model, RUNS[name] | ({'data_preprocessor.size': (64, 64)} if cfg.default_scope == 'mmseg' else {}))
    model = loss_and_prediction(cfg)
    assert model.backbone.temporal_output == 'keep'
    read = {}
    norm = 4 if cfg.default_scope == 'mmpretrain' else 1
    for layer, module in model.named_modules():
        assert not isinstance(module, torch.nn.ReLU)
        if not layer.startswith('backbone') and isinstance(module, SPIKED):
            read[layer] = None

            def check(_, args, layer=layer):
                counts = args[0] * norm
                read[layer] = torch.equal(counts, counts.round()) and 0 <= counts.min() and counts.max() <= 4

            module.register_forward_pre_hook(check)
    with torch.no_grad():
        model(**model.data_preprocessor(inputs(cfg), True), mode='loss')
    assert read and all(read.values()), read


def test_spiking_heads_take_the_given_neuron_and_time():
    neuron = dict(type='LIF', tau=1.5)
    backbone = 'mmspike.MetaSpikeFormer,arch=dict(dims=[16, 24, 32, 40], depths=(1, 1, 1, 1, 1)),T=2'
    old = load('mmdet::retinanet/retinanet_r50_fpn_1x_coco.py')
    cfg, _ = swap_backbone(old, parse_backbone(f"{backbone},neuron=dict(type='LIF', tau=1.5)"), spiking_heads=True)
    assert cfg.model.backbone.neuron == cfg.model.neck.neuron == cfg.model.bbox_head.neuron == neuron
    cfg, _ = swap_backbone(old, parse_backbone(backbone), spiking_heads=True)
    assert (cfg.model.neck.neuron.type, cfg.model.neck.neuron.tau) == ('LIF', 2.0)
    feats = build(cfg).extract_feat(torch.zeros(1, 3, 64, 64))
    assert [tuple(f.shape[:3]) for f in feats] == [(2, 1, 256)] * 5


ONE_STAGE = {
    'mmdet::fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py': ('SpikingFPN', [8] * 5, [8, 16, 32, 64, 128]),
    'mmdet::yolox/yolox_s_8xb8-300e_coco.py': ('SpikingYOLOPAFPN', [8, 16, 32], [8, 16, 32]),
    'mmdet::rtmdet/rtmdet_s_8xb32-300e_coco.py': ('SpikingYOLOPAFPN', [8, 16, 32], [8, 16, 32]),
}


@pytest.mark.parametrize(('name', 'steps'), zip(ONE_STAGE, (1, 2, 1), strict=True))
def test_detectors_of_one_stage_get_the_head_of_spikeyolo(name, steps):
    """Of the whole deployed detector the first convolution alone reads floats."""
    neck, channels, strides = ONE_STAGE[name]
    old = load(name)
    old.model.neck.out_channels = 8
    backbone = f'mmspike.MetaSpikeFormer,arch=dict(dims=[8, 8, 16, 16], depths=(1, 1, 1, 1, 1)),T={steps}'
    cfg, notes = swap_backbone(old, parse_backbone(SMALL if steps == 1 else backbone), spiking_heads=True)
    assert not any('stay' in note for note in notes) and any('losses are those of SpikeYOLO' in note for note in notes)
    head = cfg.model.bbox_head
    assert (cfg.model.neck.type, head.type) == (f'mmspike.{neck}', 'mmspike.SpikingYOLOHead')
    assert (head.in_channels, head.strides, head.num_classes) == (channels, strides, 80)
    assert cfg.model.test_cfg.score_thr == old.model.test_cfg.score_thr
    set_keys(cfg.model, {'data_preprocessor.batch_augments': None} if 'yolox' in name else {})
    network = fuse(loss_and_prediction(cfg))
    found = audit(network, lambda: network(torch.rand(1, 3, 64, 64), mode='tensor'))
    (first,) = found.float_fed
    assert first.startswith('backbone.') and 'stem.0' in first and found.spike_driven, str(found)


def test_heads_without_spiking_counterpart_stay_behind_the_mean_over_time():
    cfg, notes = swap_backbone(load('mmdet::gfl/gfl_r50_fpn_1x_coco.py'), parse_backbone(SMALL), True)
    assert [neck.type for neck in cfg.model.neck] == ['mmspike.SpikingFPN', 'mmspike.TemporalMean']
    assert cfg.model.bbox_head.type == 'GFLHead'
    assert any('which stay: bbox_head (GFLHead)' in note for note in notes)
    loss_and_prediction(cfg)


@pytest.mark.parametrize(
    ('name', 'message'),
    [
        ('mmdet::pafpn/faster-rcnn_r50_pafpn_1x_coco.py', r'neck \(PAFPN\) without spiking counterpart'),
        ('mmseg::pspnet/pspnet_r50-d8_4xb4-80k_ade20k-512x512.py', r'decode_head \(PSPHead\) without spiking counterpart'),
    ],
)
def test_nothing_to_make_spiking(name, message):
    with pytest.raises(SwapError, match=f'--spiking-heads: {message}'):
        swap_backbone(load(name), parse_backbone(SMALL), spiking_heads=True)
