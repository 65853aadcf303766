"""What feeds every operation, before and after deployment."""

import pytest
import torch
from torch import nn

from mmspike.deploy import audit, expand, fuse

from .networks import BACKBONES, build, sample, trained, whole_model


def audited(network, size=64):
    x = torch.randn(1, 3, size, size)
    return audit(network, lambda: network(x))


@pytest.mark.parametrize('name', ['meta', 'meta_sdsa1', 'e', 'e_levels8'])
def test_only_the_first_convolution_reads_floats(name):
    network = fuse(trained(BACKBONES[name]()))
    report = audited(network)
    assert report.float_fed == ['stem.0.conv.conv (conv)'] and report.spike_driven and not report.unknown
    fed = {r.fed for r in report.operations[1:]}
    assert fed == ({'binary spikes'} if name.startswith('meta') else {'integers'})
    assert str(report).splitlines()[-1] == f'float-fed: 1 of {len(report.operations)} operations: stem.0.conv.conv (conv)'


def test_expanded_networks_read_binary_spikes():
    report = audited(expand(fuse(trained(BACKBONES['e']()))))
    assert report.float_fed == ['stem.0.conv.conv (conv)']
    assert {r.fed for r in report.operations[1:]} == {'binary spikes'}
    assert {r.steps for r in report.operations[1:]} == {4}


def test_what_folding_is_for():
    """As trained, RepConv's later parts and the pointwise convolution behind the depthwise one read floats."""
    model = trained(BACKBONES['meta']())
    report = audited(model)
    assert not report.spike_driven and 'Verdict: not spike-driven' in str(report)
    assert any('sepconv.pwconv2' in name for name in report.float_fed)
    assert any('rep.conv2' in name for name in report.float_fed)
    apart = audited(fuse(model, merge_depthwise=False))
    assert {name.rsplit('.', 3)[1:] == ['sepconv', 'pwconv2', 'conv (conv)'] for name in apart.float_fed[1:]} == {True}


def test_exceptions_of_a_detector(repo):
    cfg, model = whole_model(repo, 'mask_rcnn_espike_coco.py')
    network = fuse(build(model))
    batch = sample(cfg.default_scope, (64, 64))
    report = audit(network, lambda: network.test_step(batch))
    assert report.float_fed == ['backbone.stem.0.conv.conv (conv)'] and report.spike_driven
    assert {r.name.split('.')[0] for r in report.operations} == {'backbone', 'neck', 'rpn_head', 'roi_head'}
    places = {(category, module) for category, _, module in report.other}
    assert ('region sampling (RoIAlign)', 'roi_head.bbox_roi_extractor.roi_layers.0') in places
    assert ('region sampling (RoIAlign)', 'roi_head.mask_roi_extractor.roi_layers.0') in places
    assert ('pooling and resampling', 'neck') in places
    assert 'roi_head.mask_roi_extractor.roi_layers.0' in str(report)


def test_ordinary_networks():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.Flatten(), nn.Linear(64, 2)).train()
    x = torch.randn(1, 3, 8, 8)
    report = audit(net, lambda: net(x))
    assert report.float_fed == ['0 (conv)', '2 (conv)', '4 (linear)'] and not report.spike_driven
    assert net.training
    with pytest.raises(ValueError, match='no operation with weights'):
        audit(net, lambda: x + 1)


@pytest.mark.parametrize('name', ['v1_levels4', 'saformer', 'vgg', 'vgg_levels4', 'vgg_max_levels4'])
def test_other_backbones_read_spikes(name):
    """Among them sums over the windows of a pool, and products of two counts."""
    report = audited(fuse(trained(BACKBONES[name]())))
    assert report.float_fed == ['stem.0.conv (conv)'] and not report.unknown, report
