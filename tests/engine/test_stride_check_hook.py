import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

from mmspike.engine.hooks import check_strides


def detector(repo, **changes):
    cfg = Config.fromfile(repo / 'configs' / 'mask_rcnn_metaspike_shapes.py')
    cfg.merge_from_dict(changes)
    init_default_scope('mmdet')
    return MODELS.build(cfg.model)


def test_strides_that_fit(repo):
    model = detector(repo).train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    check_strides(model)
    assert model.training
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


def test_last_stage_taken_for_stride_32(repo):
    """What the published configs do: strides 4, 8, 16, 16 under anchors of 4, 8, 16, 32."""
    changes = {'model.backbone.out_indices': (0, 1, 2, 3), 'model.neck.in_channels': [16, 48, 96, 128]}
    with pytest.raises(ValueError, match=r'rpn_head assumes strides \[4, 8, 16, 32, 64\].*have \[4, 8, 16, 16, 32\]'):
        check_strides(detector(repo, **changes))


def test_roi_extractor(repo):
    changes = {'model.roi_head.mask_roi_extractor.featmap_strides': [8, 16, 32]}
    with pytest.raises(ValueError, match=r'mask_roi_extractor assumes strides \[8, 16, 32\]'):
        check_strides(detector(repo, **changes))


def test_other_models_are_left_alone():
    check_strides(torch.nn.Linear(2, 2))
