"""Learning rates that fall with the depth of a layer."""

import pytest
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS as ROOT_MODELS
from mmengine.registry import init_default_scope
from torch import nn

from mmspike.registry import MODELS
from mmspike.utils.errors import UserError

TINY = dict(type='mmspike.MetaSpikeFormer', arch=dict(dims=(8, 8, 16, 16), depths=(1, 1, 1, 2, 1), num_heads=2), T=1)


def _rates(model, constructor='mmspike.LayerDecayOptimWrapperConstructor', **paramwise):
    cfg = dict(constructor=constructor, optimizer=dict(type='SGD', lr=1.0, weight_decay=2.0), paramwise_cfg=paramwise)
    groups = build_optim_wrapper(model, cfg).optimizer.param_groups
    names = {p: name for name, p in model.named_parameters()}
    return {names[g['params'][0]]: g['lr'] for g in groups}


def test_learning_rates_decay_by_depth_in_any_model():
    model = nn.ModuleDict(dict(backbone=MODELS.build(TINY), head=nn.Linear(16, 2)))
    rates = _rates(model, layer_decay_rate=0.5, custom_keys={'head.bias': dict(lr_mult=3)})
    assert rates.keys() == {name for name, _ in model.named_parameters()}
    assert rates['head.weight'] == 1 and rates['head.bias'] == 3
    # the stem; one block each of stages 0 and 1, two of stage 2, one of stage 3
    of_parts = {}
    for name, rate in rates.items():
        if name.startswith('backbone.'):
            of_parts.setdefault(name.split('.')[1] + name.split('.')[2] * name.startswith('backbone.stages'), set()).add(rate)
    assert of_parts == dict(stem={2**-6}, stages0={2**-5}, stages1={2**-4}, stages2={2**-3, 2**-2}, stages3={2**-1})


def test_decay_in_extra_stages():
    backbone = dict(type='mmspike.ExtraStages', backbone=TINY, num_stages=1, neuron=dict(type='LIF'))
    rates = _rates(nn.ModuleDict(dict(backbone=MODELS.build(backbone))), layer_decay_rate=0.5)
    assert {v for k, v in rates.items() if k.startswith('backbone.stages')} == {1}
    assert {v for k, v in rates.items() if k.startswith('backbone.backbone.stem')} == {2**-6}


def test_decay_is_that_of_mmpretrain():
    init_default_scope('mmpretrain')
    head = dict(type='LinearClsHead', num_classes=2, in_channels=16)
    model = ROOT_MODELS.build(dict(type='ImageClassifier', backbone=TINY, neck=dict(type='GlobalAveragePooling'), head=head))
    theirs = _rates(model, 'LearningRateDecayOptimWrapperConstructor', layer_decay_rate=0.75)
    assert _rates(model, layer_decay_rate=0.75) == pytest.approx(theirs)


@pytest.mark.parametrize(
    'paramwise, reason', [(dict(layer_decay_rate=0.5), 'ModuleDict.backbone is Linear'), (dict(bias_lr_mult=2), 'got None')]
)
def test_decay_without_depths_or_rate_is_refused(paramwise, reason):
    with pytest.raises(UserError, match=reason):
        _rates(nn.ModuleDict(dict(backbone=nn.Linear(2, 2))), **paramwise)
