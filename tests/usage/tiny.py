"""Shipped configs that are spiking from end to end, shrunk, on a few drawn pictures."""

from copy import deepcopy
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner

from mmspike.config import launch
from mmspike.config.data_paths import config_datasets, move_data_root
from mmspike.datasets.shapes import CLASSES

REPO = Path(__file__).resolve().parents[2]
SIZE = 96
NEURONS = ('SFA', 'LIF')
LIF = dict(type='LIF', tau=2.0, v_threshold=0.5)
DIMS = (16, 24, 32, 48)
DEPTHS = (1, 1, 1, 1, 1)


def config(host: str, neuron: str, data: Path) -> Config:
    """The config of a host ('mmdet', 'mmseg', 'mmpretrain') with SFA at T = 1 or LIF at T = 2, on the shapes in ``data``."""
    cfg = {'mmdet': _mask_rcnn, 'mmseg': _fpn, 'mmpretrain': _classifier}[host](neuron)
    cfg = move_data_root(cfg, str(data / 'classes' if host == 'mmpretrain' else data))
    for dataset in config_datasets(cfg):
        if host != 'mmpretrain':
            names = CLASSES if host == 'mmdet' else ('background', *CLASSES)
            dataset.metainfo = dict(classes=names, palette=[(50 * i, 0, 0) for i in range(len(names))])
        for transform in dataset.pipeline:
            if transform['type'] == 'Resize':
                transform['scale'] = (SIZE, SIZE)
    for name in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        cfg[name].update(batch_size=2 if name == 'train_dataloader' else 1, num_workers=0, persistent_workers=False)
    cfg.default_hooks.pop('visualization')
    cfg.default_hooks.update(logger=None, checkpoint=None)
    cfg.log_level = 'ERROR'
    init_default_scope(host)
    return cfg


def _load(name: str) -> Config:
    return Config.fromfile(REPO / 'configs' / name)


SMALL_SFA = 'espike/espikeformer-t_mask-rcnn_fpn_1xb4-24e_nuclei'


def _mask_rcnn(neuron: str) -> Config:
    cfg = _load(f'{SMALL_SFA}.py' if neuron == 'SFA' else 'mask_rcnn_metaspike_nuclei.py')
    model = cfg.model
    model.backbone.arch = dict(dims=DIMS, depths=DEPTHS)
    model.neck.update(in_channels=[DIMS[0], DIMS[1], DIMS[3]], out_channels=16)
    model.rpn_head.update(in_channels=16, feat_channels=16)
    roi = model.roi_head
    roi.bbox_roi_extractor.out_channels = roi.mask_roi_extractor.out_channels = 16
    roi.bbox_head.update(in_channels=16, fc_out_channels=32, num_classes=len(CLASSES))
    roi.mask_head.update(in_channels=16, conv_out_channels=16, num_classes=len(CLASSES))
    model.train_cfg.rpn_proposal.max_per_img = 50
    model.train_cfg.rcnn.sampler.num = 16
    model.test_cfg.rpn.max_per_img = 50
    model.test_cfg.rcnn.update(score_thr=0.0, max_per_img=20)
    return cfg


def _fpn(neuron: str) -> Config:
    cfg = _load('fpn_espike_nuclei.py')
    model = cfg.model
    model.data_preprocessor.size = (SIZE, SIZE)
    model.backbone.arch = dict(dims=DIMS, depths=DEPTHS)
    model.neck.update(in_channels=[DIMS[0] // 2, DIMS[0], DIMS[1], DIMS[3]], out_channels=16)
    model.decode_head.update(in_channels=[16] * 4, channels=16, num_classes=1 + len(CLASSES))
    model.decode_head.loss_decode.class_weight = None
    if neuron == 'LIF':
        model.backbone.update(type='mmspike.MetaSpikeFormer', T=2)
        model.backbone.neuron = model.neck.neuron = model.decode_head.neuron = LIF
    for dataset in config_datasets(cfg, ('train_dataloader',)):
        for transform in dataset.pipeline:
            if transform['type'] == 'RandomCrop':
                transform['crop_size'] = (SIZE, SIZE)
    return cfg


def _classifier(neuron: str) -> Config:
    cfg = _load('espike_cifar10.py')
    model = cfg.model
    model.backbone.arch = dict(dims=DIMS, depths=DEPTHS)
    model.head.update(in_channels=DIMS[3], num_classes=len(CLASSES))
    cfg.data_preprocessor.num_classes = len(CLASSES)
    if neuron == 'LIF':
        model.backbone.update(type='mmspike.MetaSpikeFormer', T=2)
        model.backbone.neuron = model.head.neuron = LIF
    return cfg


def build(cfg: Config) -> BaseModel:
    """The model in evaluation mode, with running statistics with which its neurons fire."""
    model_cfg = cfg.model.copy()
    if 'data_preprocessor' in cfg:
        model_cfg.setdefault('data_preprocessor', cfg.data_preprocessor)
    model = MODELS.build(model_cfg)
    model.init_weights()
    batch = samples(cfg, 'train_dataloader', 4)
    data = model.data_preprocessor(batch, True)
    norms = [m for m in model.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        model.train()(**data, mode='loss')
    for norm in norms:
        norm.momentum = 0.1
    return model.eval()


def samples(cfg: Config, loader: str, n: int):
    """A batch of the first ``n`` images of a data loader of ``cfg``, as the host's runner hands it to the model."""
    if cfg.default_scope == 'mmpretrain':
        launch.complete_mmpretrain_loaders(cfg)
    loader_cfg = cfg[loader].copy()
    loader_cfg.update(batch_size=n, sampler=dict(type='DefaultSampler', shuffle=False))
    loader_cfg.pop('batch_sampler', None)
    return next(iter(Runner.build_dataloader(loader_cfg)))


@torch.no_grad()
def predict(model: BaseModel, batch: dict) -> list:
    """Predictions of the images of a batch, which stays as it is."""
    return model.test_step(deepcopy(batch))


def pick(batch: dict, indices: list[int]) -> dict:
    """The images ``indices`` of a batch, in this order, as a batch."""
    inputs = batch['inputs']
    picked = inputs[indices] if isinstance(inputs, torch.Tensor) else [inputs[i] for i in indices]
    return dict(inputs=picked, data_samples=[batch['data_samples'][i] for i in indices])


def save(model: BaseModel, path: Path, classes: tuple[str, ...]) -> str:
    """A checkpoint as the runner writes it."""
    meta = dict(dataset_meta=dict(classes=classes, palette=[(50 * i, 0, 0) for i in range(len(classes))]))
    torch.save(dict(state_dict=model.state_dict(), meta=meta), path)
    return str(path)


def assert_same(one, two, exact: bool = True) -> None:
    """Two predictions of an image: equal bit for bit, or close with batches of another size."""
    close = dict(rtol=0, atol=0) if exact else dict(rtol=1e-5, atol=1e-5)
    for name in ('pred_instances', 'pred_sem_seg', 'seg_logits'):
        assert (name in one) == (name in two)
        for key, value in one.get(name, {}).items():
            torch.testing.assert_close(value, two.get(name).get(key), **close)
    if 'pred_score' in one:
        torch.testing.assert_close(one.pred_score, two.pred_score, **close)
