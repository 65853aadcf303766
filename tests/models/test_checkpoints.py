"""Checkpoints against models, wherever a model config names them."""

import re

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.model.weight_init import PretrainedInit
from torch import nn

from mmspike.models.backbones import ExtraStages, MetaSpikeFormer
from mmspike.models.checkpoints import check_checkpoint_fits, mismatch, read, without_pretrained
from mmspike.utils.errors import UserError

ARCH = dict(dims=(8, 8, 8, 8), depths=(1, 1, 1, 1, 1))
KAIMING = dict(type='Kaiming', layer='Conv2d')


def backbone(**kwargs):
    return MetaSpikeFormer(ARCH, T=1, **kwargs)


def extra(**kwargs):
    return ExtraStages(dict(type='MetaSpikeFormer', arch=ARCH, T=1), 1, neuron=dict(type='SFA'), **kwargs)


@pytest.fixture(params=[backbone, extra])
def build(request):
    return request.param


@pytest.fixture
def weights(build, tmp_path):
    """A checkpoint of the model with weights of its own, and the path it is saved at."""
    state = {k: torch.rand_like(v, dtype=torch.float32).to(v) for k, v in build().state_dict().items()}
    return state, str(tmp_path / 'weights.pth')


@pytest.mark.parametrize('others', [[], [KAIMING], [KAIMING, dict(type='Constant', layer='BatchNorm2d', val=7.0)]], ids=len)
@pytest.mark.parametrize('kind', ['Pretrained', PretrainedInit], ids=str)
@pytest.mark.parametrize('prefix', ['', 'backbone.'])
def test_a_list_of_initialisations_loads_entirely(build, weights, others, kind, prefix):
    state, path = weights
    torch.save(dict(state_dict={f'{prefix}{k}': v for k, v in state.items()}), path)
    init_cfg = [dict(type=kind, checkpoint=path), *others]
    model = build(init_cfg=init_cfg)
    model.init_weights()
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())
    assert model.init_cfg == init_cfg


@pytest.mark.parametrize('others', [None, [], [KAIMING]], ids=['dict', 'list', 'list of two'])
def test_a_checkpoint_without_a_stage_is_refused(build, weights, others):
    state, path = weights
    torch.save({k: v for k, v in state.items() if 'stages.3.' not in k}, path)
    pretrained = dict(type='Pretrained', checkpoint=path)
    model = build(init_cfg=pretrained if others is None else [*others, pretrained])
    with pytest.raises(ValueError, match=rf'weights.pth does not fit {type(model).__name__}') as error:
        model.init_weights()
    assert 'stages.3.1.mlp.fc1.norm.weight (32,)' in str(error.value)


def test_initialisations_without_a_checkpoint_are_mmengines():
    model = backbone(init_cfg=[dict(type='Constant', layer='BatchNorm2d', val=0.25)])
    model.init_weights()
    assert {m.weight.unique().item() for m in model.modules() if isinstance(m, nn.BatchNorm2d)} == {0.25}


def test_one_comparison(tmp_path):
    model = nn.ModuleDict(dict(a=nn.Linear(2, 3), b=nn.Linear(3, 1)))
    state = model.state_dict()
    state['a.weight'] = torch.zeros(3, 4)
    state['c.bias'] = state.pop('b.bias')
    found = mismatch(model, state)
    assert found.missing == {'b.bias': (1,)} and found.unexpected == {'c.bias': (1,)}
    assert found.reshaped == {'a.weight': ((3, 4), (3, 2))}
    path = tmp_path / 'c.pth'
    torch.save(dict(state_dict={f'module.{k}': v for k, v in state.items()}), path)
    with pytest.raises(
        UserError,
        match=r'another architecture .*: 2 of 4 entries do not fit.\n  a.weight: \(3, 4\) in .*\n  b.bias: missing\n',
    ):
        check_checkpoint_fits(model, str(path))
    with pytest.raises(UserError, match=r'of other sizes \(such as another number of classes\) .*: 1 of 4 entries'):
        check_checkpoint_fits(model, str(path), 'a.')
    with pytest.raises(UserError, match='none.pth'):
        read(str(tmp_path / 'none.pth'))


def test_numbers_of_classes_and_queries_are_named(tmp_path):
    from mmspike.models.mask_former import SpikingMaskTransformer

    def network(classes, queries):
        small = dict(encoder_layers=1, groups=2, decoder_layers=1, num_heads=2)
        return nn.ModuleDict(dict(decode_head=SpikingMaskTransformer(classes, [4, 4], 8, queries, **small)))

    path = str(tmp_path / 'c.pth')
    torch.save(dict(state_dict=network(5, 6).state_dict()), path)
    with pytest.raises(UserError) as error:
        check_checkpoint_fits(network(2, 9), path)
    text = str(error.value)
    assert '  decode_head: the checkpoint has 5 classes, the config 2. Set num_classes there to 5, or train anew' in text
    assert '  decode_head: the checkpoint has 6 queries, the config 9. Set num_queries there to 6, or train anew' in text
    with pytest.raises(UserError) as error:
        check_checkpoint_fits(nn.ModuleDict(dict(conv_seg=nn.Conv2d(8, 3, 1))), torch_file(tmp_path, nn.Conv2d(8, 2, 1)))
    assert '  conv_seg: the checkpoint has 2 classes, the config 3.' in str(error.value)


def torch_file(folder, conv) -> str:
    torch.save(dict(state_dict=nn.ModuleDict(dict(conv_seg=conv)).state_dict()), folder / 'conv.pth')
    return str(folder / 'conv.pth')


def test_a_config_that_loads_nothing():
    pretrained = dict(type='Pretrained', checkpoint='x.pth')
    cfg = ConfigDict(
        type='EncoderDecoder',
        pretrained='open-mmlab://resnet50',
        init_cfg=pretrained,
        backbone=dict(type='A', init_cfg=[KAIMING, pretrained], style='pytorch', pretrained=None),
        heads=(dict(init_cfg=dict(type=PretrainedInit, checkpoint='y.pth')), [dict(init_cfg=(KAIMING, pretrained))]),
        neck=dict(init_cfg=dict(type='mmengine.Pretrained', checkpoint='z.pth'), note='Pretrained'),
        head=dict(init_cfg=dict(KAIMING, override=dict(type='Constant', name='Pretrained', val=1))),
    )
    given = cfg.to_dict()
    assert without_pretrained(cfg) == dict(
        type='EncoderDecoder',
        backbone=dict(type='A', init_cfg=[KAIMING], style='pytorch', pretrained=None),
        heads=(dict(), [dict(init_cfg=(KAIMING,))]),
        neck=dict(note='Pretrained'),
        head=given['head'],
    )
    assert cfg.to_dict() == given, 'the config itself stays'
    assert isinstance(without_pretrained(cfg).heads, tuple)


def test_weights_that_lie_elsewhere_in_the_file_are_named(tmp_path):
    model, path = nn.Linear(2, 2), str(tmp_path / 'x.pth')
    state = model.state_dict()
    torch.save(dict(model=state, model_ema=state, optimizer=torch.optim.SGD(model.parameters()).state_dict(), epoch=3), path)
    with pytest.raises(UserError, match=r"under: model \(2 entries\), model_ema \(2 entries\).*\['model'\]"):
        check_checkpoint_fits(model, path)
    torch.save(dict(state_dict=[1]), path)
    with pytest.raises(UserError, match='state_dict is a list'):
        check_checkpoint_fits(model, path)
    for whole in (state, dict(state_dict=state), dict(state_dict={f'_orig_mod.{k}': v for k, v in state.items()})):
        torch.save(whole, path)
        check_checkpoint_fits(model, path)


def test_names_with_another_prefix_are_told(tmp_path):
    model, path = nn.ModuleDict(dict(backbone=nn.Linear(2, 2), head=nn.Linear(2, 1))), str(tmp_path / 'x.pth')
    state = model.state_dict()
    torch.save(dict(state_dict={f'{name}.{k}': v for k, v in state.items() for name in ('teacher', 'model')}), path)
    with pytest.raises(UserError, match=r"It has them under names that begin with 'model\.' or 'teacher\.'") as error:
        check_checkpoint_fits(model, path)
    # the line works as it is written
    code = re.search(r'Write them anew: (.*)', str(error.value))[1].replace('weights.pth', str(tmp_path / 'weights.pth'))
    exec(code, dict(torch=torch))
    check_checkpoint_fits(model, str(tmp_path / 'weights.pth'))
    torch.save(model.backbone.state_dict(), path)
    with pytest.raises(UserError, match=r"weights of the backbone alone.*model\.backbone\.init_cfg=dict\(type='Pretrained'"):
        check_checkpoint_fits(model, path)


def test_weights_of_a_training_that_diverged(tmp_path):
    model, path = nn.Linear(2, 2), str(tmp_path / 'x.pth')
    torch.save(dict(state_dict=model.state_dict() | dict(bias=torch.tensor([1.0, float('nan')]))), path)
    with pytest.raises(UserError, match=r'x\.pth has NaN in 1 of 2 entries, the first is bias'):
        check_checkpoint_fits(model, path)
