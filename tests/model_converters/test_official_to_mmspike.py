import argparse
import itertools
import json
import re

import pytest
import torch

from mmspike.models import official as official_module
from mmspike.models.official import convert_official, official_key
from mmspike.registry import MODELS


def official(dims=(16, 16, 32, 48), **kwargs):
    """A checkpoint in the authors' names, made from a network of ours."""
    model = MODELS.get('MetaSpikeFormer')(arch=dict(dims=dims))
    theirs = {}
    blocks = {0: 'ConvBlock1_2', 2: 'block3', 3: 'block4'}
    names = {ours: theirs for theirs, ours in official_module._LAYERS.items()}
    for key, value in model.state_dict().items():
        part, _, rest = key.removeprefix('stages.').partition('.')
        index, _, rest = rest.partition('.')
        layer, _, leaf = rest.rpartition('.')
        if part == 'stem':
            place = 'downsample1_1' if index == '0' else 'ConvBlock1_1.0'
        elif index == '0':
            place = ['downsample1_2', 'downsample2', 'downsample3', 'downsample4'][int(part)]
        elif part == '1':
            place = f'ConvBlock2_{index}.0'
        else:
            place = f'{blocks[int(part)]}.{int(index) - 1}'
        if layer in ('mlp.fc1.conv', 'mlp.fc2.conv') and leaf == 'weight':
            value = value.squeeze(-1)  # theirs is a 1-D convolution
        theirs[f'{place}.{names[layer]}.{leaf}'] = value
    theirs['head.weight'], theirs['head.bias'] = torch.randn(10, dims[-1]), torch.randn(10)
    return theirs | kwargs


@pytest.fixture
def convert(run_tool):
    return lambda *args: run_tool('model_converters/official_to_mmspike.py', *args)


def test_values_survive_and_second_conversion_changes_nothing():
    theirs = official()
    ours, dropped = convert_official(theirs)
    assert not dropped and len(ours) == len(theirs)
    for key, value in theirs.items():
        assert torch.equal(ours[official_key(key)].reshape(value.shape), value)
    again, dropped = convert_official(ours)
    assert not dropped
    assert list(again) == list(ours) and all(torch.equal(again[k], ours[k]) for k in ours)


@pytest.mark.parametrize('layout', ['bare', 'model', 'state_dict', 'ddp'])
def test_layouts(convert, tmp_path, layout):
    theirs = official()
    checkpoint = dict(
        bare=theirs,
        model=dict(model=theirs, args=argparse.Namespace(lr=0.1), epoch=3),
        state_dict=dict(state_dict={f'backbone.{k}': v for k, v in theirs.items() if 'head' not in k}),
        ddp=dict(model={f'module.{k}': v for k, v in theirs.items()}),
    )[layout]
    src, dst = tmp_path / 'theirs.pth', tmp_path / 'new' / 'ours.pth'
    torch.save(checkpoint, src)
    result = convert(src, dst)
    assert result.returncode == 0, result.stderr
    ours = torch.load(dst, weights_only=True)['state_dict']
    backbone = MODELS.get('MetaSpikeFormer')(arch=dict(dims=(16, 16, 32, 48)), init_cfg=None)
    backbone.load_state_dict({k.removeprefix('backbone.'): v for k, v in ours.items() if 'head' not in k}, strict=True)
    assert ('head.fc.weight' in ours) == (layout != 'state_dict')


def test_dropped_keys_are_named(convert, tmp_path):
    src = tmp_path / 'theirs.pth'
    torch.save(dict(model=official(unrelated=torch.zeros(3))), src)
    result = convert(src, tmp_path / 'ours.pth')
    assert result.returncode == 0
    assert 'dropped: unrelated' in result.stdout


def test_checkpoint_that_does_not_fit(convert, tmp_path):
    theirs = official()
    del theirs['block3.1.mlp.fc1_bn.weight']
    theirs['head.bias'] = torch.zeros(9)
    src, dst = tmp_path / 'theirs.pth', tmp_path / 'ours.pth'
    torch.save(theirs, src)
    result = convert(src, dst)
    assert result.returncode == 1 and not dst.exists()
    assert 'missing: backbone.stages.2.2.mlp.fc1.norm.weight (128,)' in result.stderr
    assert 'shape: head.fc.bias is (9,) in the checkpoint and (10,) in the model' in result.stderr
    assert 'nearest preset: mmspike.' in result.stderr


def test_checkpoint_of_another_preset(convert, tmp_path):
    src = tmp_path / 'theirs.pth'
    torch.save(official((96, 192, 384, 480)), src)
    result = convert(src, tmp_path / 'ours.pth', '--arch', 'metaspikeformer-15m')
    assert result.returncode == 1
    assert 'shape: backbone.stem.0.conv.conv.weight is (48, 3, 7, 7) in the checkpoint and (32, 3, 7, 7)' in result.stderr
    assert "nearest preset: mmspike.MetaSpikeFormer(arch='metaspikeformer-31m')" in result.stderr
    result = convert(src, tmp_path / 'ours.pth', '--arch', 'bogus')
    assert result.returncode == 1 and "--arch bogus: MetaSpikeFormer has no arch 'bogus'" in result.stderr


class Evil:
    def __reduce__(self):
        return print, ('code of the checkpoint ran',)


def test_code_in_a_checkpoint_is_refused(convert, tmp_path):
    src = tmp_path / 'theirs.pth'
    torch.save(dict(model=official(), extra=Evil()), src)
    result = convert(src, tmp_path / 'ours.pth')
    assert result.returncode == 1
    assert 'which can be loaded only by running code from the file' in result.stderr
    assert 'code of the checkpoint ran' not in result.stdout


def test_file_that_is_no_checkpoint(convert, tmp_path):
    src = tmp_path / 'theirs.pth'
    src.write_bytes(b'not a checkpoint')
    assert 'it is cut off or no checkpoint' in convert(src, tmp_path / 'ours.pth').stderr
    assert 'absent.pth does not exist' in convert(tmp_path / 'absent.pth', tmp_path / 'ours.pth').stderr


def efficient(shared, layout):
    """An E-SpikeFormer checkpoint as the authors' code for a task writes it."""
    manifest = json.loads((shared / 'reference' / 'espikeformer_5m_D4.json').read_text())['manifest']
    weights = {k: torch.randn(s) if s else torch.zeros((), dtype=torch.int64) for k, s in manifest.items()}
    if layout == 'classification':
        return dict(model=weights, args=argparse.Namespace(lr=0.1))
    backbone = {f'backbone.{k}': v for k, v in weights.items() if not k.startswith('head')}
    if layout == 'segmentation':
        for block, n in (('block3', 6), ('block4', 2)):
            for i, j in itertools.product(range(n), (1, 2, 3)):
                backbone[f'backbone.{block}.{i}.layer_scale{j}'] = torch.rand({'block3': 128, 'block4': 192}[block], 1, 1)
    return dict(state_dict=backbone | {'neck.lateral_convs.0.conv.weight': torch.zeros(2, 2)}, meta=dict(epoch=12))


@pytest.mark.parametrize('layout', ['classification', 'detection', 'segmentation'])
def test_layouts_of_e_spikeformer(shared, convert, tmp_path, layout):
    src, dst, again = (tmp_path / f'{n}.pth' for n in ('theirs', 'ours', 'again'))
    torch.save(efficient(shared, layout), src)
    result = convert(src, dst)
    assert result.returncode == 0, result.stderr
    assert ('dropped: neck.lateral_convs.0.conv.weight' in result.stdout) == (layout != 'classification')
    assert "mmspike.ESpikeFormer(arch='espikeformer-s')" in result.stdout
    ours = torch.load(dst, weights_only=True)['state_dict']
    model = MODELS.get('ESpikeFormer')('s', layer_scale=1e-6 if layout == 'segmentation' else None)
    model.load_state_dict({k.removeprefix('backbone.'): v for k, v in ours.items() if 'head' not in k}, strict=True)
    if layout == 'segmentation':
        assert model.stages[2][3].layer_scale2.scale.max() > 1e-3
    assert convert(dst, again).returncode == 0
    second = torch.load(again, weights_only=True)['state_dict']
    assert list(second) == list(ours) and all(torch.equal(second[k], ours[k]) for k in ours)


def test_distilled_v2(convert, tmp_path):
    src, dst = tmp_path / 'theirs.pth', tmp_path / 'ours.pth'
    theirs = official()
    torch.save(dict(model=theirs | {f'head_kd.{k}': theirs[f'head.{k}'] for k in ('weight', 'bias')}), src)
    assert convert(src, dst).returncode == 0
    assert 'head.fc_kd.weight' in torch.load(dst, weights_only=True)['state_dict']


@pytest.mark.parametrize('prefix', ['', 'module.'])
def test_masked_autoencoder(shared, convert, tmp_path, prefix):
    """It loads strictly into ours; position tables and the mask token, which nothing reads, are dropped by name."""
    manifest = json.loads((shared / 'reference' / 'spikemae_small_base.json').read_text())['manifest']
    weights = {k: torch.randn(s) if s else torch.zeros((), dtype=torch.int64) for k, s in manifest.items()}
    weights |= dict(pos_embed=torch.zeros(1, 128, 196), decoder_pos_embed=torch.zeros(1, 196, 64))
    src, dst, again = (tmp_path / f'{n}.pth' for n in ('theirs', 'ours', 'again'))
    torch.save(dict(model={prefix + k: v for k, v in weights.items()}), src)
    result = convert(src, dst)
    assert result.returncode == 0, result.stderr
    dropped = re.findall('dropped: (.*)', result.stdout)
    assert sorted(k.removeprefix('module.') for k in dropped) == ['decoder_pos_embed', 'mask_token', 'pos_embed']
    ours = torch.load(dst, weights_only=True)['state_dict']
    arch = dict(dims=(32, 64, 128), depths=(1, 1, 2, 2), num_heads=4)
    decoder = dict(type='mmspike.SpikeMAEDecoder', in_channels=128, dim=64, depth=1)
    model = MODELS.get('SpikeMAE')(dict(type='mmspike.ESpikeFormerLarge', arch=arch), decoder)
    model.load_state_dict(ours, strict=True)
    init_cfg = dict(type='Pretrained', checkpoint=str(dst), prefix='backbone.')
    encoder = MODELS.get('ESpikeFormerLarge')(arch, layer_scale=1e-6, init_cfg=init_cfg)
    encoder.init_weights()
    assert encoder.stages[2][1].layer_scale1.scale.eq(1).all()
    assert convert(dst, again).returncode == 0


def test_fine_tuned_large_model(shared, convert, tmp_path):
    """Layer scales are parameters of the block; the classifier has its distillation output."""
    manifest = json.loads((shared / 'reference' / 'spikemae_small_base.json').read_text())['manifest']
    names = [k for k in manifest if k.startswith(('downsample', 'ConvBlock', 'block3'))]
    theirs = {k: torch.randn(manifest[k]) if manifest[k] else torch.zeros((), dtype=torch.int64) for k in names}
    theirs |= {f'block3.{i}.layer_scale{j}': torch.rand(128) for i in (0, 1) for j in (1, 2)}
    theirs |= {f'{head}.{k}': torch.randn(s) for head in ('head', 'head_kd') for k, s in (('weight', (5, 128)), ('bias', (5,)))}
    src, dst = tmp_path / 'theirs.pth', tmp_path / 'ours.pth'
    torch.save(dict(model=theirs), src)
    result = convert(src, dst)
    assert result.returncode == 0 and 'dropped:' not in result.stdout, result.stdout + result.stderr
    ours = torch.load(dst, weights_only=True)['state_dict']
    arch = dict(dims=(32, 64, 128), depths=(1, 1, 2, 2), num_heads=4)
    model = MODELS.get('ESpikeFormerLarge')(arch, layer_scale=1e-6)
    model.load_state_dict({k.removeprefix('backbone.'): v for k, v in ours.items() if 'head' not in k}, strict=True)
    assert torch.equal(model.stages[2][2].layer_scale1.scale, theirs['block3.1.layer_scale1'])
    assert torch.equal(ours['head.fc_kd.bias'], theirs['head_kd.bias'])
