"""Every config in the tree parses, builds and runs one training step on small images."""

import re
from fnmatch import fnmatch
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, init_default_scope

from mmspike.engine.hooks import check_strides
from mmspike.models.backbones.base import resolve_arch

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
NAMES = sorted(str(p.relative_to(CONFIGS)) for p in CONFIGS.rglob('*.py') if '_base_' not in p.parts)


def detection_inputs(cfg):
    from mmdet.testing import demo_mm_inputs

    inputs = demo_mm_inputs(2, [[3, 64, 64]] * 2, num_items=[3, 2], num_classes=2, with_mask=True)
    for sample in inputs['data_samples']:
        sample.gt_instances.labels.zero_()  # every data set has a class 0
    if cfg.model.data_preprocessor.type == 'mmspike.EventDetDataPreprocessor':
        inputs['inputs'] = event_frames(cfg)
    return inputs


def event_frames(cfg):
    """Two samples [T, C, 64, 64]."""
    backbone = cfg.model.backbone
    return list(torch.poisson(torch.full((2, backbone.get('T', 1), backbone.in_channels, 64, 64), 0.3)))


def classification_inputs(cfg):
    from mmpretrain.structures import DataSample

    labels = [DataSample().set_gt_label(i) for i in range(2)]
    if cfg.model.data_preprocessor.get('type') == 'mmspike.EventDataPreprocessor':
        return dict(inputs=torch.poisson(torch.full((2, cfg.model.backbone.T, 2, 34, 34), 0.3)), data_samples=labels)
    side = 32 if 'cifar' in cfg.filename else 64
    images = [torch.randint(0, 256, (3, side, side), dtype=torch.uint8) for _ in range(2)]
    return dict(inputs=torch.stack(images), data_samples=labels)


def segmentation_inputs(cfg):
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample

    labels = torch.randint(0, 2, (2, 1, 64, 64))  # every data set has classes 0 and 1
    images = [torch.randint(0, 256, (3, 64, 64), dtype=torch.uint8) for _ in range(2)]
    if cfg.model.data_preprocessor.type == 'mmspike.EventSegDataPreprocessor':
        images = event_frames(cfg)
    return dict(inputs=images, data_samples=[SegDataSample(gt_sem_seg=PixelData(data=x)) for x in labels])


INPUTS = dict(mmdet=detection_inputs, mmpretrain=classification_inputs, mmseg=segmentation_inputs)


def make_shallow(backbone):
    """A preset in its full width, with one block where it has several: time."""
    if 'backbone' in backbone:  # of ExtraStages
        return make_shallow(backbone.backbone)
    if isinstance(backbone.get('arch'), str) and backbone.type != 'mmspike.SpikingVGG':  # its stages are its layers
        cls = MODELS.get(backbone.type)
        arch = resolve_arch(backbone.arch, cls.arch_settings, backbone.type)
        blocks = dict(depth=1) if 'depth' in arch else dict(depths=tuple(min(n, 1) for n in arch['depths']))
        backbone.arch = arch | blocks


def load(name, full=False):
    cfg = Config.fromfile(CONFIGS / name)
    init_default_scope(cfg.default_scope)
    if not full:
        make_shallow(cfg.model.backbone)
    for head in (cfg.model.get('decode_head', {}), cfg.model.get('panoptic_head', {})):
        if not full and head.get('type') in ('mmspike.SpikingMaskFormerHead', 'mmspike.SpikingPanopticHead'):
            head.network = dict(head.get('network', {}), encoder_layers=1, decoder_layers=1)
    if 'teacher' in cfg.model:  # the real one downloads its weights
        cfg.model.teacher = dict(
            type='ImageClassifier',
            backbone=dict(type='ShuffleNetV2', widen_factor=0.5),
            neck=dict(type='GlobalAveragePooling'),
            head=dict(type='LinearClsHead', num_classes=cfg.model.head.num_classes, in_channels=1024),
        )
    if 'data_preprocessor' in cfg and 'data_preprocessor' not in cfg.model:  # as mmpretrain's runner does
        cfg.model.data_preprocessor = cfg.data_preprocessor
    if 'rpn_proposal' in (cfg.model.get('train_cfg') or {}):  # few boxes: time
        cfg.model.train_cfg.rpn_proposal.max_per_img = 20
        rcnn = cfg.model.train_cfg.rcnn
        for stage in rcnn if isinstance(rcnn, list) else [rcnn]:
            stage.sampler.num = 8
    if cfg.model.data_preprocessor.get('type') == 'SegDataPreProcessor':  # crops are padded to this size
        cfg.model.data_preprocessor.size = (64, 64)
    return cfg


def test_the_page_on_data_has_the_layout_of_every_config():
    rows = [line for line in (CONFIGS.parent / 'docs' / 'data.md').read_text().splitlines() if line.startswith('| `')]
    patterns = [pattern for row in rows for pattern in re.findall(r'`([^`]+\.py)`', row.split('|')[1])]
    assert not [name for name in NAMES if not any(fnmatch(Path(name).name, pattern) for pattern in patterns)]


# SpikeYOLO of sizes m and l differ from n and s in numbers alone, on other recordings than GEN1's in its data: time
@pytest.mark.parametrize('name', [n for n in NAMES if not re.match('.*spikeyolo(-[ml]_|_(1mpx|dsec|ncaltech101))', n)])
def test_one_training_step(name):
    cfg = load(name)
    model = MODELS.build(cfg.model).train()
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper | dict(accumulative_counts=1))
    before = [p.detach().clone() for p in model.backbone.parameters()]
    logs = model.train_step(INPUTS[cfg.default_scope](cfg), wrapper)
    assert logs['loss'].isfinite() and logs['loss'] > 0
    assert any(not torch.equal(a, b) for a, b in zip(before, model.backbone.parameters(), strict=True))


@pytest.mark.parametrize('name', [n for n in NAMES if 'rcnn' in n])
def test_strides_of_anchors_and_rois_are_those_of_the_features(name):
    model = MODELS.build(load(name).model)
    check_strides(model)
    assert [s[0] for s in model.rpn_head.prior_generator.strides] == [4, 8, 16, 32, 64]
    extractors = [m for m in model.roi_head.modules() if hasattr(m, 'featmap_strides')]
    assert extractors and all(list(m.featmap_strides) == [4, 8, 16, 32] for m in extractors)


@pytest.mark.parametrize('name', [n for n in NAMES if n.startswith('fpn_') or '_fpn_' in n and 'ade20k' in n])
def test_strides_of_the_semantic_fpn_are_those_of_the_features(name):
    model = MODELS.build(load(name).model)
    check_strides(model)
    strides = (4, 8, 16, 32) if 'maxformer' in name else (4, 8, 16) if 'movingshapes' in name else (2, 4, 8, 16)
    assert model.decode_head.feature_strides == strides
    assert model.backbone.out_strides == strides


@pytest.mark.parametrize('name', NAMES)
def test_data_hooks_and_schedule(name):
    """Every name in the config resolves, and every run has our hooks."""
    from mmengine.registry import DATASETS, HOOKS, METRICS, OPTIMIZERS, PARAM_SCHEDULERS, TRANSFORMS, VISUALIZERS

    cfg = load(name)
    assert {'mmspike.SpikeResetHook', 'mmspike.IterationSeedHook'} <= {h.type for h in cfg.custom_hooks}
    assert cfg.default_hooks.checkpoint.type == 'mmspike.SafeCheckpointHook'
    # pretraining has no validation
    loaders = [x for x in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader) if x is not None]
    evaluators = [x for x in (cfg.val_evaluator, cfg.test_evaluator) if x is not None]
    assert len(loaders) == 1 + len(evaluators)
    types = {
        HOOKS: [h.type for h in [*cfg.custom_hooks, *cfg.default_hooks.values()]],
        DATASETS: [loader.dataset.type for loader in loaders],
        TRANSFORMS: [t.type for loader in loaders for t in loader.dataset.pipeline],
        METRICS: [e.type for e in evaluators],
        OPTIMIZERS: [cfg.optim_wrapper.optimizer.type],
        PARAM_SCHEDULERS: [s.type for s in cfg.param_scheduler],
        VISUALIZERS: [cfg.visualizer.type],
    }
    for registry, wanted in types.items():
        with registry.switch_scope_and_registry(cfg.default_scope) as scoped:
            assert not [t for t in wanted if scoped.get(t) is None]
