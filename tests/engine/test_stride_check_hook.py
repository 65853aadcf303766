import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

from mmspike.engine.hooks import check_strides
from mmspike.utils.errors import UserError


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


def test_channels_of_the_neck(repo):
    reason = r'neck \(FPN\) has in_channels=\[48, 96, 360\].*gives features of \[16, 48, 128\] channels: correct'
    with pytest.raises(UserError, match=reason):
        check_strides(detector(repo, **{'model.neck.in_channels': [48, 96, 360]}))


def test_time_steps_before_a_neck_that_knows_none(repo):
    reason = r"temporal_output='keep'\), which the neck FPN does not take.*set temporal_output='mean'"
    with pytest.raises(UserError, match=reason):
        check_strides(detector(repo, **{'model.backbone.temporal_output': 'keep'}))


class Foreign(torch.nn.Module):
    """A backbone of someone else's: strides, and no word on its channels."""

    out_strides = (4,)

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 8, 4, 4)

    def forward(self, x):
        return (self.conv(x),)


def test_backbones_of_ones_own():
    model = torch.nn.ModuleDict(dict(backbone=Foreign(), head=torch.nn.Identity()))
    model.extract_feat = model.backbone
    model.head.featmap_strides = [4]
    check_strides(model)
    model.head.featmap_strides = [8]
    with pytest.raises(
        UserError, match=r'head assumes strides \[8\], but the features it gets have \[4\].*mmspike.ExtraStages'
    ):
        check_strides(model)


def test_other_models_are_left_alone():
    check_strides(torch.nn.Linear(2, 2))
