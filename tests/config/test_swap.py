"""A spiking backbone in configs of the three hosts: what is swapped runs and learns, what is not says why."""

import re

import pytest
from swapping import DOCS, REFUSED, RUNS, SMALL, build, inputs, load, loss_and_prediction, narrow, set_keys, strides

from mmspike.config.swap import SwapError, parse_backbone, swap_backbone

pytest.importorskip('mmdet')
pytest.importorskip('mmseg')
pytest.importorskip('mmpretrain')


@pytest.mark.parametrize('name', RUNS)
def test_swapped_config_runs(name):
    old = load(name)
    if old.default_scope == 'mmdet':
        narrow(old.model)
    set_keys(old.model, RUNS[name])
    text = old.pretty_text if name.endswith('retinanet_r50_fpn_1x_coco.py') else None
    cfg, notes = swap_backbone(old, parse_backbone(SMALL))
    assert text is None or old.pretty_text == text  # the given config stays as it is
    for key in ('train_dataloader', 'val_evaluator', 'param_scheduler', 'train_cfg'):
        assert cfg.get(key) == old.get(key)
    assert cfg.optim_wrapper.optimizer == old.optim_wrapper.optimizer
    assert 'Pretrained' not in str(cfg.model) and cfg.model.get('pretrained') is None
    assert {'type': 'mmspike.SpikeResetHook'} in [dict(h) for h in cfg.custom_hooks]
    set_keys(cfg.model, {'data_preprocessor.size': (64, 64)} if cfg.default_scope == 'mmseg' else {})
    loss_and_prediction(cfg)
    documented = re.search(rf'^\| `{re.escape(name)}` \| (.*) \| (.*) \|$', DOCS.read_text(), re.MULTILINE)
    assert documented and documented.groups() == strides(notes)


@pytest.mark.parametrize('name', REFUSED)
def test_refused_config_says_why(name):
    with pytest.raises(SwapError, match=REFUSED[name]):
        swap_backbone(load(name), parse_backbone(SMALL))


def test_masks_that_mmdet_cannot_paste_are_no_fault_of_the_backbone():
    """QueryInst's boxes lie outside of the image before it is trained, with its own backbone, too."""
    cfg = load('mmdet::queryinst/queryinst_r50_fpn_1x_coco.py')
    narrow(cfg.model)
    cfg.model.rpn_head.num_proposals = cfg.model.test_cfg.rcnn.max_per_img = 10
    cfg, _ = swap_backbone(cfg, parse_backbone(SMALL))
    model = build(cfg).train()
    losses = model(**model.data_preprocessor(inputs(cfg), True), mode='loss')
    masks = [loss for name, loss in losses.items() if 'loss_mask' in name]
    assert masks and all(loss.isfinite() for loss in masks)


def test_docs_list_what_was_tried():
    runs, refused = DOCS.read_text().split('## Refused')
    row = re.compile(r'^\| `(\w+::\S+)`', re.MULTILINE)
    assert row.findall(runs) == list(RUNS)
    assert row.findall(refused) == list(REFUSED)
