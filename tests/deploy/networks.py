"""Small networks that tests of deployment share, with norms that do something and attention that fires."""

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmspike.models.backbones import (
    ESpikeFormer,
    ESpikeFormerLarge,
    ExtraStages,
    MaxFormer,
    MetaSpikeFormer,
    MSQKFormer,
    SAFormer,
    SpikeDrivenTransformer,
    Spikeformer,
    Spikformer,
    SpikingResformer,
    SpikingVGG,
    SpikingYOLOBackbone,
)
from mmspike.models.neurons import BaseNeuron

ARCH = dict(dims=(8, 16, 32, 32), depths=(1, 1, 1, 1, 1))
PATCHES = dict(dims=(8, 8, 16, 32), depth=1)
RESFORMER = dict(dims=(16, 16, 32), num_heads=(1, 2, 2), depths=(1, 1, 1), group_size=8)
YOLO = dict(dims=(8, 8, 16, 24), depths=(1, 1, 1, 1))
HIERARCHY = dict(dims=(8, 16, 32), depths=(1, 1, 1), num_heads=2)
LIF = dict(type='LIF', tau=2.0)
EASY = LIF | dict(v_threshold=0.3)


def sfa(levels, divisor=None):
    return dict(type='SFA', levels=levels, divisor=divisor)


BACKBONES = {
    'meta': lambda: MetaSpikeFormer(ARCH, T=2, neuron=LIF),
    'meta_sdsa1': lambda: MetaSpikeFormer(ARCH, T=2, sdsa=1, neuron=LIF),
    'meta_sdsa4': lambda: MetaSpikeFormer(ARCH, T=2, sdsa=4, neuron=LIF),
    'meta_sfa_sdsa1': lambda: MetaSpikeFormer(ARCH, T=2, sdsa=1, neuron=sfa(4, 2)),
    'meta_plif': lambda: MetaSpikeFormer(ARCH, T=2, neuron=dict(type='PLIF')),
    'meta_nilif': lambda: MetaSpikeFormer(ARCH, T=2, neuron=dict(type='NILIF', levels=4)),
    'e': lambda: ESpikeFormer(ARCH, neuron=sfa(4)),
    'e_levels8': lambda: ESpikeFormer(ARCH, T=2, neuron=sfa(8, 4), layer_scale=0.5),
    'e_binary': lambda: ESpikeFormer(ARCH, T=2, neuron=sfa(1)),
    'large': lambda: ESpikeFormerLarge(dict(dims=(8, 16, 32), depths=(1, 1, 1, 1)), neuron=sfa(4), layer_scale=0.5),
    'large_levels8': lambda: ESpikeFormerLarge(dict(dims=(8, 16, 32), depths=(1, 1, 1, 1), rep_conv=False), neuron=sfa(8, 2)),
    'maxformer': lambda: MaxFormer(HIERARCHY, T=2, neuron=EASY),
    'maxformer_levels4': lambda: MaxFormer(HIERARCHY, T=2, neuron=sfa(4, 2)),
    'msqkformer': lambda: MSQKFormer(HIERARCHY, T=2, neuron=EASY),
    'msqkformer_levels4': lambda: MSQKFormer(HIERARCHY, T=2, neuron=sfa(4)),
    'saformer': lambda: SAFormer(PATCHES, T=2, neuron=EASY),
    'saformer_levels4': lambda: SAFormer(PATCHES, T=2, neuron=sfa(4)),
    'v1': lambda: SpikeDrivenTransformer(PATCHES, T=2, neuron=EASY),
    'v1_levels4': lambda: SpikeDrivenTransformer(PATCHES, T=2, neuron=sfa(4, 2)),
    'resformer': lambda: SpikingResformer(RESFORMER, T=2, neuron=EASY),
    'resformer_levels4': lambda: SpikingResformer(RESFORMER, T=2, neuron=sfa(4, 2)),
    'vgg': lambda: SpikingVGG(dict(dims=(8, 12, 16), depths=(2, 2, 2)), T=2, neuron=EASY),
    'vgg_levels4': lambda: SpikingVGG(dict(dims=(8, 12, 16), depths=(2, 2, 2)), T=2, neuron=sfa(4)),
    'vgg_max_levels4': lambda: SpikingVGG(dict(dims=(8, 12, 16), depths=(2, 2, 2)), T=2, pool='max', neuron=sfa(4)),
    'yolo': lambda: SpikingYOLOBackbone(YOLO),
    'yolo_steps': lambda: SpikingYOLOBackbone(YOLO, T=2, neuron=dict(type='ILIF', levels=4)),
    'yolo_lif': lambda: SpikingYOLOBackbone(YOLO, T=2, neuron=EASY),
    'spikformer': lambda: Spikformer(PATCHES | dict(num_heads=2), T=2, neuron=EASY),
    'spikeformer': lambda: Spikeformer(PATCHES | dict(num_heads=2), T=2, neuron=dict(type='PLIF', v_threshold=0.3)),
    'extra': lambda: ExtraStages(dict(type='ESpikeFormer', arch=ARCH), 2, neuron=sfa(4)),
}


def trained(model):
    """The model as if it had been trained: norms have statistics, factors and offsets; everything fires."""
    for m in model.modules():
        if isinstance(m, _BatchNorm):
            nn.init.uniform_(m.weight, 0.5, 1.5)
            nn.init.normal_(m.bias, 0.7, 0.5)
            nn.init.normal_(m.running_mean, 0, 0.2)
            nn.init.uniform_(m.running_var, 0.5, 1.5)
    return model.eval()


def spikes_of(model, run):
    """Name -> output of every neuron during ``run``, of its last call."""
    seen = {}
    handles = [
        m.register_forward_hook(lambda m, args, out, name=name: seen.update({name: out}))
        for name, m in model.named_modules()
        if isinstance(m, BaseNeuron)
    ]
    with torch.no_grad():
        run()
    for handle in handles:
        handle.remove()
    return seen


def whole_model(repo, name):
    """The model of a shipped config with a small backbone and narrow heads."""
    cfg = Config.fromfile(repo / 'configs' / name)
    init_default_scope(cfg.default_scope)
    model = cfg.model
    model.backbone.arch = dict(ARCH)
    if 'Classifier' in model.type:
        model.type = 'ImageClassifier'
        model.pop('teacher', None)
        model.head.update(in_channels=32, num_classes=5)
        model.data_preprocessor = dict(mean=[120.0] * 3, std=[60.0] * 3)
    elif model.type == 'EncoderDecoder':
        model.data_preprocessor.size = (64, 64)
        if model.get('neck'):
            model.neck.update(in_channels=[4, 8, 16, 32], out_channels=16)
            model.decode_head.update(in_channels=[16] * 4, channels=16, num_classes=4)
        else:
            model.decode_head.update(in_channels=32, channels=16, num_classes=4)
    elif model.type == 'RetinaNet':
        model.neck.update(in_channels=[16, 32], out_channels=16)
        model.bbox_head.update(in_channels=16, feat_channels=16, stacked_convs=1, num_classes=4)
        model.test_cfg.update(score_thr=0.0, max_per_img=10)
    else:
        model.neck.update(in_channels=[8, 16, 32], out_channels=16)
        model.rpn_head.update(in_channels=16, feat_channels=16)
        roi = model.roi_head
        for head in roi.bbox_head if isinstance(roi.bbox_head, list) else [roi.bbox_head]:
            head.update(in_channels=16, fc_out_channels=16, num_classes=4)
            if 'Conv' in head.type:
                head.conv_out_channels = 16
        roi.mask_head.update(in_channels=16, conv_out_channels=16, num_convs=1, num_classes=4)
        roi.bbox_roi_extractor.out_channels = roi.mask_roi_extractor.out_channels = 16
        model.test_cfg.rpn.max_per_img = 20
        model.test_cfg.rcnn.update(score_thr=0.0, max_per_img=8)
    return cfg, model


def build(model_cfg):
    model = MODELS.build(model_cfg)
    model.init_weights()
    for m in model.modules():  # outputs that depend on the image
        if isinstance(m, (nn.Conv2d, nn.Linear)) and m.weight.std() < 0.02:
            nn.init.normal_(m.weight, 0, 0.1)
    return trained(model)


def sample(scope, size=(64, 96), picture=None):
    """A batch of one image: ``picture`` [H, W, 3], or a random one."""
    from mmspike.config.loading import random_batch

    batch = random_batch(scope, 3, size)
    if picture is not None:
        batch['inputs'] = [torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1)))]
    return batch
