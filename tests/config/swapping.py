"""Configs of the three hosts in which the backbone is swapped, and what runs them."""

import logging
import re
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

from mmspike.config.swap import config_path

DOCS = Path(__file__).resolve().parents[2] / 'docs' / 'swapping.md'
SMALL = 'mmspike.ESpikeFormer,arch=dict(dims=[16, 24, 32, 40], depths=(1, 1, 1, 1, 1))'

# Configs that are swapped and run, and what is made smaller for it to be quick: settings that no backbone has to do with.
# docs/swapping.md lists these, with the features, and a test compares them.
DETR = {'num_queries': 20, 'encoder.num_layers': 1, 'decoder.num_layers': 2}
RPN = {'test_cfg.rpn.max_per_img': 10, 'train_cfg.rpn_proposal.max_per_img': 10}
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
    'mmdet::sparse_rcnn/sparse-rcnn_r50_fpn_1x_coco.py': {'rpn_head.num_proposals': 10},
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
    'mmpretrain::vgg/vgg11_8xb32_in1k.py': {},
}

REFUSED = {
    'mmdet::faster_rcnn/faster-rcnn_r50-caffe_c4-1x_coco.py': r'roi_head.shared_head \(ResLayer\) with input '
    r'\(\d+, 40, 14, 14\).*layer4.0.conv1 \(Conv2d\).*to have 1024 channels, but got 40',
    'mmdet::ssd/ssd300_coco.py': r'cannot be built: AssertionError: .*assert in_channels == out_channels',
    'mmdet::tridentnet/tridentnet_r50-caffe_1x_coco.py': r"has no attribute 'num_branch'",
    'mmdet::detectors/detectors_htc-r50_1x_coco.py': r'strides \[1, 4, 8, 16, 32\].*\[2, 4, 8, 16, 16\].* none for stride 1',
    'mmdet::soft_teacher/soft-teacher_faster-rcnn_r50-caffe_fpn_180k_semi-0.1-coco.py': r'\(SoftTeacher\) has no backbone',
    'mmseg::dpt/dpt_vit-b16_8xb2-160k_ade20k-512x512.py': r'backbone \(VisionTransformer\) gives .*only feature maps',
    'mmpretrain::mae/mae_vit-base-p16_8xb512-amp-coslr-300e_in1k.py': r'backbone \(MAEViT\) gives \[\(1, 50, 768\)',
    'mmpretrain::arcface/resnet50-arcface_8xb32_inshop.py': r'\(ImageToImageRetriever\) has no backbone',
}


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


def narrow(model) -> None:
    """Two stages of a cascade; a pyramid and the heads on it with a quarter of their channels and one convolution in a row."""
    head = model.get('roi_head', {})
    if head.get('num_stages', 0) > 2:
        head.num_stages, model.train_cfg.rcnn = 2, model.train_cfg.rcnn[:2]
        head.update({key: value[:2] for key, value in head.items() if isinstance(value, list)})
    if model.get('neck', {}).get('type') not in ('FPN', 'PAFPN') or 'rpn_head' in model and 'RPNHead' != model.rpn_head.type:
        return
    items = [part for name, part in model.items() if name != 'backbone']
    for item in items:
        if isinstance(item, dict):
            items += item.values()
            changes = dict(stacked_convs=1) | {key: 64 for key in item if key.endswith('channels') and item[key] in (256, 1024)}
            item.update({key: value for key, value in changes.items() if key in item})
        elif isinstance(item, list):
            items += item


def build(cfg: Config):
    init_default_scope(cfg.default_scope)
    if cfg.model.get('data_preprocessor') is None:
        cfg.model.data_preprocessor = cfg.data_preprocessor  # as mmengine's Runner does
    model = MODELS.build(cfg.model)
    logging.disable(logging.WARNING)  # mmengine logs a line a parameter
    try:
        model.init_weights()
    finally:
        logging.disable(logging.NOTSET)
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
