"""A spiking backbone in configs of the three hosts: what is swapped runs and learns, what is not says why."""

import logging
import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

from mmspike.config.swap import SwapError, config_difference, config_path, parse_backbone, swap_backbone
from mmspike.utils.errors import UserError

pytest.importorskip('mmdet')
pytest.importorskip('mmseg')
pytest.importorskip('mmpretrain')

DOCS = Path(__file__).resolve().parents[2] / 'docs' / 'swapping.md'
CONFIGS = DOCS.parents[1] / 'configs'
SMALL = 'mmspike.ESpikeFormer,arch=dict(dims=[16, 24, 32, 40], depths=(1, 1, 1, 1, 1))'

# Configs that are swapped and run, and what is made smaller for it to be quick: settings that no backbone has to do with.
# docs/swapping.md lists these, with the features, and a test compares them.
DETR = {'num_queries': 20, 'encoder.num_layers': 1, 'decoder.num_layers': 2}
RPN = {'test_cfg.rpn.max_per_img': 50, 'train_cfg.rpn_proposal.max_per_img': 50}
RUNS: dict[str, dict] = {
    'mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py': RPN,
    'mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py': RPN,
    'mmdet::cascade_rcnn/cascade-mask-rcnn_r50_fpn_1x_coco.py': RPN,
    'mmdet::swin/mask-rcnn_swin-t-p4-w7_fpn_1x_coco.py': RPN,
    'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py': {},
    'mmdet::fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py': {},
    'mmdet::atss/atss_r50_fpn_1x_coco.py': {},
    'mmdet::gfl/gfl_r50_fpn_1x_coco.py': {},
    'mmdet::pafpn/faster-rcnn_r50_pafpn_1x_coco.py': RPN,
    'mmdet::deformable_detr/deformable-detr_r50_16xb2-50e_coco.py': DETR,
    'mmdet::dino/dino-4scale_r50_8xb2-12e_coco.py': DETR,
    'mmdet::sparse_rcnn/sparse-rcnn_r50_fpn_1x_coco.py': {},
    'mmdet::solov2/solov2_r50_fpn_1x_coco.py': {'mask_head.stacked_convs': 1, 'mask_head.feat_channels': 64},
    'mmdet::yolox/yolox_s_8xb8-300e_coco.py': {'data_preprocessor.batch_augments': None},
    'mmdet::rtmdet/rtmdet_s_8xb32-300e_coco.py': {},
    'mmseg::upernet/upernet_r50_4xb4-80k_ade20k-512x512.py': {'decode_head.channels': 64},
    'mmseg::pspnet/pspnet_r50-d8_4xb4-80k_ade20k-512x512.py': {},
    'mmseg::deeplabv3plus/deeplabv3plus_r50-d8_4xb4-80k_ade20k-512x512.py': {},
    'mmseg::segformer/segformer_mit-b0_8xb2-160k_ade20k-512x512.py': {},
    'mmseg::fcn/fcn_r50-d8_4xb4-80k_ade20k-512x512.py': {},
    'mmseg::sem_fpn/fpn_r50_4xb4-160k_ade20k-512x512.py': {},
    'mmseg::convnext/convnext-tiny_upernet_8xb2-amp-160k_ade20k-512x512.py': {'decode_head.channels': 64},
    'mmseg::mask2former/mask2former_r50_8xb2-160k_ade20k-512x512.py': {'decode_head.transformer_decoder.num_layers': 1},
    'mmpretrain::resnet/resnet50_8xb32_in1k.py': {},
    'mmpretrain::swin_transformer/swin-tiny_16xb64_in1k.py': {},
    'mmpretrain::convnext/convnext-tiny_32xb128_in1k.py': {},
    'mmpretrain::vision_transformer/vit-base-p16_64xb64_in1k.py': {},
}

REFUSED = {
    'mmdet::faster_rcnn/faster-rcnn_r50-caffe_c4-1x_coco.py': r'roi_head.shared_head \(ResLayer\) with input '
    r'\(\d+, 40, 14, 14\).*layer4.0.conv1 \(Conv2d\).*to have 1024 channels, but got 40',
    'mmdet::ssd/ssd300_coco.py': r'cannot be built: AssertionError: .*assert in_channels == out_channels',
    'mmdet::tridentnet/tridentnet_r50-caffe_1x_coco.py': r"has no attribute 'num_branch'",
    'mmdet::detectors/detectors_htc-r50_1x_coco.py': r'strides \[1, 4, 8, 16, 32\].*\[2, 4, 8, 16, 16\].* none for stride 1',
    'mmdet::soft_teacher/soft-teacher_faster-rcnn_r50-caffe_fpn_180k_semi-0.1-coco.py': r'\(SoftTeacher\) has no backbone',
    'mmseg::dpt/dpt_vit-b16_8xb2-160k_ade20k-512x512.py': r'backbone \(VisionTransformer\) gives .*only feature maps',
    'mmpretrain::vgg/vgg11_8xb32_in1k.py': r'head \(ClsHead\) has no in_channels.*1000 pooled',
    'mmpretrain::mae/mae_vit-base-p16_8xb512-amp-coslr-300e_in1k.py': r'backbone \(MAEViT\) gives \[\(1, 50, 768\)',
    'mmpretrain::arcface/resnet50-arcface_8xb32_inshop.py': r'\(ImageToImageRetriever\) has no backbone',
}


@pytest.fixture(autouse=True)
def _no_initialisation_log():
    """mmengine logs a line a parameter."""
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


def load(name: str) -> Config:
    return Config.fromfile(config_path(name))


def strides(notes: list[str]) -> tuple[str, ...]:
    """Strides of the old and the new features, as docs/swapping.md writes them."""
    (note,) = [note for note in notes if note.startswith('features: ')]
    halves = [re.findall(r'at stride (\d+)|(pooled)', half) for half in note.split(' before, ')]
    return tuple(', '.join(a or b for a, b in half) for half in halves)


def set_keys(item, changes: dict) -> None:
    for path, value in changes.items():
        *parents, last = path.split('.')
        target = item
        for key in parents:
            target = target[key]
        assert last in target, path
        target[last] = value


def build(cfg: Config):
    init_default_scope(cfg.default_scope)
    if cfg.model.get('data_preprocessor') is None:
        cfg.model.data_preprocessor = cfg.data_preprocessor  # as mmengine's Runner does
    model = MODELS.build(cfg.model)
    model.init_weights()
    return model


def inputs(cfg: Config, side: int = 64) -> dict:
    if cfg.default_scope == 'mmdet':
        from mmdet.testing import demo_mm_inputs

        with_mask = 'mask_head' in str(cfg.model)
        return demo_mm_inputs(2, [[3, 128, 128]] * 2, num_items=[2, 3], num_classes=80, with_mask=with_mask)
    images = [torch.randint(0, 256, (3, side, side), dtype=torch.uint8) for _ in range(2)]
    if cfg.default_scope == 'mmseg':
        from mmengine.structures import PixelData
        from mmseg.structures import SegDataSample

        meta = dict(img_shape=(side, side), ori_shape=(side, side), pad_shape=(side, side))
        labels = [PixelData(data=torch.randint(0, 19, (1, side, side))) for _ in range(2)]
        return dict(inputs=images, data_samples=[SegDataSample(metainfo=meta, gt_sem_seg=x) for x in labels])
    from mmpretrain.structures import DataSample

    samples = [DataSample(metainfo=dict(img_shape=(side, side))).set_gt_label(i) for i in range(2)]
    return dict(inputs=torch.stack(images), data_samples=samples)


def loss_and_prediction(cfg: Config):
    """The model after one loss, whose gradient reaches the first layer of the backbone, and one prediction."""
    model = build(cfg).train()
    for parameter in model.parameters():
        if parameter.dim() == 2 and not parameter.any():  # a classifier that starts at zero passes no gradient on
            torch.nn.init.normal_(parameter, std=0.01)
    loss, _ = model.parse_losses(model(**model.data_preprocessor(inputs(cfg), True), mode='loss'))
    assert loss.isfinite()
    loss.backward()
    gradient = next(model.backbone.parameters()).grad
    assert gradient.isfinite().all() and gradient.abs().sum() > 0
    model.eval()
    with torch.no_grad():
        results = model(**model.data_preprocessor(inputs(cfg), False), mode='predict')
    assert len(results) == 2
    return model


@pytest.mark.parametrize('name', RUNS)
def test_swapped_config_runs(name):
    old = load(name)
    text = old.pretty_text if name.endswith('retinanet_r50_fpn_1x_coco.py') else None
    cfg, notes = swap_backbone(old, parse_backbone(SMALL))
    assert text is None or old.pretty_text == text  # the given config stays as it is
    for key in ('train_dataloader', 'val_evaluator', 'param_scheduler', 'train_cfg'):
        assert cfg.get(key) == old.get(key)
    assert cfg.optim_wrapper.optimizer == old.optim_wrapper.optimizer
    assert 'Pretrained' not in str(cfg.model) and cfg.model.get('pretrained') is None
    assert {'type': 'mmspike.SpikeResetHook'} in [dict(h) for h in cfg.custom_hooks]
    set_keys(cfg.model, RUNS[name] | ({'data_preprocessor.size': (64, 64)} if cfg.default_scope == 'mmseg' else {}))
    loss_and_prediction(cfg)
    documented = re.search(rf'^\| `{re.escape(name)}` \| (.*) \| (.*) \|$', DOCS.read_text(), re.MULTILINE)
    assert documented and documented.groups() == strides(notes)


@pytest.mark.parametrize('name', REFUSED)
def test_refused_config_says_why(name):
    with pytest.raises(SwapError, match=REFUSED[name]):
        swap_backbone(load(name), parse_backbone(SMALL))


def test_docs_list_what_was_tried():
    runs, refused = DOCS.read_text().split('## Refused')
    row = re.compile(r'^\| `(\w+::\S+)`', re.MULTILINE)
    assert row.findall(runs) == list(RUNS)
    assert row.findall(refused) == list(REFUSED)


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


def test_heads_without_spiking_counterpart_stay_behind_the_mean_over_time():
    cfg, notes = swap_backbone(load('mmdet::fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py'), parse_backbone(SMALL), True)
    assert [neck.type for neck in cfg.model.neck] == ['mmspike.SpikingFPN', 'mmspike.TemporalMean']
    assert cfg.model.bbox_head.type == 'FCOSHead'
    assert any('which stay: bbox_head (FCOSHead)' in note for note in notes)
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


def test_detector_keeps_strides():
    """Features of the same strides and anchors as before; stride 32, which the backbone lacks, is a further stage."""
    old = load('mmdet::retinanet/retinanet_r50_fpn_1x_coco.py')
    cfg, notes = swap_backbone(old, parse_backbone(SMALL))
    backbone = cfg.model.backbone
    assert (backbone.type, backbone.num_stages, backbone.out_indices) == ('mmspike.ExtraStages', 1, (0, 1, 2, 3))
    assert backbone.backbone.out_indices == (0, 1, 3)
    assert backbone.neuron == dict(type='SFA', levels=4, norm=4, rounding='even')
    assert cfg.model.neck == dict(old.model.neck, in_channels=[16, 24, 40, 40])
    assert cfg.model.bbox_head == old.model.bbox_head
    feats = build(cfg).extract_feat(torch.zeros(1, 3, 128, 128))
    assert [128 // f.shape[-1] for f in feats] == [8, 16, 32, 64, 128]
    assert any('channels 256 at stride 4, 512 at stride 8' in note and '40 at stride 32 now' in note for note in notes)
    assert any('model.backbone.init_cfg' in note for note in notes)


def test_only_coarse_features():
    """DETR reads stride 32 alone, C4 detectors stride 16."""
    cfg, _ = swap_backbone(load('mmdet::yolof/yolof_r50-c5_8xb8-1x_coco.py'), parse_backbone(SMALL))
    assert (cfg.model.backbone.backbone.out_indices, cfg.model.backbone.out_indices) == ((3,), (1,))
    assert cfg.model.neck.in_channels == 40
    assert [f.shape[-1] for f in build(cfg).backbone(torch.zeros(1, 3, 128, 128))] == [4]


def test_decode_heads_follow_their_features():
    """A dilated ResNet gives strides 4, 8, 8, 8; every head reads the feature at its index, and DeepLabV3+ the finest, too."""
    old = load('mmseg::deeplabv3plus/deeplabv3plus_r50-d8_4xb4-80k_ade20k-512x512.py')
    cfg, _ = swap_backbone(old, parse_backbone(SMALL))
    model = cfg.model
    assert model.backbone.out_indices == (0, 1, 2, 3)
    assert (model.decode_head.in_channels, model.decode_head.c1_in_channels, model.auxiliary_head.in_channels) == (40, 16, 32)
    old_head = dict(old.model.decode_head, in_channels=40, c1_in_channels=16)
    assert model.decode_head == old_head


def test_semantic_fpn_is_told_the_strides():
    cfg, _ = swap_backbone(load('mmseg::sem_fpn/fpn_r50_4xb4-160k_ade20k-512x512.py'), parse_backbone(SMALL))
    assert cfg.model.neck.in_channels == [16, 24, 32, 40]
    assert cfg.model.decode_head.feature_strides == [4, 8, 16, 16]
    assert cfg.model.decode_head.in_channels == [256] * 4


def test_pooled_backbone_gets_a_pooling_neck():
    cfg, _ = swap_backbone(load('mmpretrain::convnext/convnext-tiny_32xb128_in1k.py'), parse_backbone(SMALL))
    assert cfg.model.neck.type == 'GlobalAveragePooling'
    assert (cfg.model.head.in_channels, cfg.model.backbone.out_indices) == (40, (3,))


def test_reversed_channels():
    """YOLOv3's neck lists the coarsest feature first."""
    cfg, _ = swap_backbone(load('mmdet::yolo/yolov3_d53_8xb8-320-273e_coco.py'), parse_backbone(SMALL))
    assert cfg.model.neck.in_channels == [40, 40, 24]


def test_whole_model_weights_and_layer_decay_are_dropped():
    old = load('mmseg::convnext/convnext-tiny_upernet_8xb2-amp-160k_ade20k-512x512.py')
    old.load_from = 'whole_model.pth'
    old.optim_wrapper.paramwise_cfg.norm_decay_mult = 0.0
    cfg, notes = swap_backbone(old, parse_backbone(SMALL))
    assert cfg.load_from is None
    assert 'constructor' not in cfg.optim_wrapper
    assert cfg.optim_wrapper.paramwise_cfg == dict(norm_decay_mult=0.0)
    assert any('load_from' in note for note in notes)
    assert any('LearningRateDecayOptimizerConstructor' in note for note in notes)
    assert cfg.custom_imports.imports == ['mmpretrain.models', 'mmspike']


def test_pretrained_backbone_stays_in_the_config():
    init_cfg = dict(type='Pretrained', checkpoint='converted.pth')
    cfg, notes = swap_backbone(
        load('mmpretrain::resnet/resnet50_8xb32_in1k.py'), parse_backbone(SMALL) | dict(init_cfg=init_cfg)
    )
    assert cfg.model.backbone.init_cfg == init_cfg
    assert not any('random weights' in note for note in notes)


def test_plain_transformer_whose_neck_makes_the_pyramid():
    cfg = load('mmseg::vit/vit_vit-b16_mln_upernet_8xb2-80k_ade20k-512x512.py')
    cfg.model.backbone.update(embed_dims=24, num_heads=2, num_layers=4, out_indices=(0, 1, 2, 3))
    cfg.model.neck.update(in_channels=[24] * 4, out_channels=24)
    with pytest.raises(SwapError, match=r'neck \(MultiLevelNeck\) gave the heads strides \[4, 8, 16, 32\] .* \[1, 4, 16, 32\]'):
        swap_backbone(cfg, parse_backbone(SMALL))


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'neck.in_channels': [1, 2, 3, 4]}, r'neck \(FPN\).in_channels=\[1, 2, 3, 4\] are not channels .* 256 at stride 4'),
        ({'neck.num_outs': 3}, 'prediction .* fails in RetinaNet: AssertionError: "assert self.num_levels == len'),
        ({'bbox_head.in_channels': 7}, r'bbox_head.cls_convs.0.conv .*to have 7 channels, but got 256'),
        ({'backbone.depth': 51}, r'backbone \(ResNet\) cannot be built: KeyError: .*invalid depth 51'),
    ],
)
def test_faulty_config_is_refused(change, message):
    cfg = load('mmdet::retinanet/retinanet_r50_fpn_1x_coco.py')
    set_keys(cfg.model, change)
    with pytest.raises(SwapError, match=message):
        swap_backbone(cfg, parse_backbone(SMALL))


@pytest.mark.parametrize(
    ('backbone', 'message'),
    [
        ('mmspike.ESpikeFormer:xxl', r"has no arch 'xxl': choose one of"),
        ('mmspike.ESpikeFormer:t,out_indices=(0,)', 'leave out out_indices'),
        ('mmspike.ESpikeFormer:t,temporal_output="keep"', 'leave out temporal_output'),
        ('mmdet.ResNet,depth=18', 'ResNet is no spiking backbone of mmspike'),
        ('ResNet,depth=18', 'there is no backbone ResNet, did you mean'),
        ('mmspike.ESpikFormer:t', r'no backbone mmspike.ESpikFormer, did you mean mmspike.ESpikeFormer or'),
        ('MetaSpikeformer:15m', r'no backbone MetaSpikeformer, did you mean mmspike.MetaSpikeFormer'),
        ('mmspike.ESpikeFormer:t,neuron=LIF', r'strings in quotes \(LIF is no Python literal\)'),
    ],
)
def test_faulty_backbone_is_refused(backbone, message):
    cfg = load('mmpretrain::resnet/resnet18_8xb16_cifar10.py')
    with pytest.raises(SwapError, match=message):
        swap_backbone(cfg, parse_backbone(backbone))


@pytest.mark.parametrize('name', ['mask_rcnn_espike_nuclei.py', 'fpn_espike_nuclei.py', 'espike_cifar10.py'])
def test_one_spiking_backbone_for_another(name):
    """Necks and heads that read time steps get them from the new backbone, too."""
    arch = dict(dims=(16, 24, 32, 40), depths=(1, 1, 1, 1, 1))
    old = Config.fromfile(CONFIGS / name)
    cfg, notes = swap_backbone(old, dict(type='mmspike.MetaSpikeFormer', arch=arch, T=2))
    assert cfg.model.backbone.type == 'mmspike.MetaSpikeFormer' and cfg.model.backbone.temporal_output == 'keep'
    assert cfg.model.backbone.out_indices == old.model.backbone.out_indices
    if name == 'espike_cifar10.py':
        assert cfg.model.head == old.model.head | dict(in_channels=40)
    else:
        widths = dict(zip(('stem', 0, 1, 3), (8, 16, 24, 40), strict=True))
        assert cfg.model.neck == old.model.neck | dict(in_channels=[widths[i] for i in old.model.backbone.out_indices])
    assert 'neck and heads that read time steps stay as they are, with neurons of their own' in notes


def test_event_config_keeps_its_time_steps(recwarn):
    cfg = Config.fromfile(CONFIGS / 'spikformer_nmnist.py')
    new, _ = swap_backbone(cfg, parse_backbone('ESpikeFormer:t'))
    assert (new.model.backbone.T, new.model.backbone.in_channels) == (cfg.model.backbone.T, 2)
    assert new.model.head.in_channels == 128
    assert not [w for w in recwarn if 'computes the same' in str(w.message)]
    with pytest.raises(SwapError, match='T=3, but the pipelines of this config count events in 4 frames: leave T out'):
        swap_backbone(cfg, parse_backbone('ESpikeFormer:t,T=3'))


def test_learning_rate_of_the_old_backbone_is_named():
    _, notes = swap_backbone(load('mmpretrain::resnet/resnet18_8xb16_cifar10.py'), parse_backbone(SMALL))
    assert any(note.startswith('the learning rate 0.1 (SGD) was made for the old backbone') for note in notes)


def test_backbone_from_the_command_line():
    parse = parse_backbone
    assert parse('mmspike.ESpikeFormer:m') == parse('ESpikeFormer:m') == dict(type='mmspike.ESpikeFormer', arch='m')
    assert parse('mmspike.MetaSpikeFormer:metaspikeformer-15m,T=2') == dict(
        type='mmspike.MetaSpikeFormer', arch='metaspikeformer-15m', T=2
    )
    assert parse("mmspike.ESpikeFormer,neuron=dict(type='LIF', tau=2.0), drop_path_rate=0.1") == dict(
        type='mmspike.ESpikeFormer', neuron=dict(type='LIF', tau=2.0), drop_path_rate=0.1
    )
    for faulty in ('', 'a b', 'mmspike.ESpikeFormer:m,T', 'mmspike.ESpikeFormer,T=two', 'mmspike.ESpikeFormer:m,T=open("x")'):
        with pytest.raises(SwapError, match='expected TYPE'):
            parse(faulty)
    with pytest.raises(SwapError, match='given twice'):
        parse('mmspike.ESpikeFormer:m,arch="t"')


def test_config_names(tmp_path):
    assert Config.fromfile(config_path('mmseg::fcn/fcn_r50-d8_4xb4-80k_ade20k-512x512.py')).default_scope == 'mmseg'
    path = tmp_path / 'config.py'
    path.write_text('a = 1')
    assert config_path(str(path)) == str(path)
    for name, message in [
        ('mmseg::fcn/none.py', 'mmseg has no fcn/none.py in its configs'),
        ('mmpose::a/b.py', 'mmpose is none of mmdet, mmseg, mmpretrain'),
        ('none.py', 'config none.py does not exist'),
    ]:
        with pytest.raises(UserError, match=message):
            config_path(name)


def test_difference():
    old = Config(dict(a=1, model=dict(type='A', neck=dict(type='B', c=1, d=[1]), heads=[dict(e=1), dict(e=2)], gone=0)))
    new = Config(dict(a=1, model=dict(type='A', neck=dict(type='C', f=1), heads=[dict(e=1), dict(e=3, g=4)]), h=5))
    assert config_difference(old, new).splitlines() == [
        "- model.neck = {'type': 'B', 'c': 1, 'd': [1]}",
        "+ model.neck = {'type': 'C', 'f': 1}",
        '- model.heads[1].e = 2',
        '+ model.heads[1].e = 3',
        '+ model.heads[1].g = 4',
        '- model.gone = 0',
        '+ h = 5',
    ]
    assert config_difference(old, old) == ''
