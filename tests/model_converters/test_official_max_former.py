"""Checkpoints in the names of the authors of Max-Former, written by the tests from networks of ours."""

import pytest
import torch

from mmspike.models import MaxFormer, MSQKFormer
from mmspike.models.official import convert_official, infer_backbone

# a convolution of ours -> theirs, and the norm beside it
STEM = {
    'conv1': ('patch_embed{}.embed2.embed_conv', 'patch_embed{}.embed2.embed_bn'),
    'conv2': ('patch_embed{}.embed3.embed_conv', 'patch_embed{}.embed3.embed_bn'),
    'shortcut_conv': ('patch_embed{}.embed_res.embed_conv', 'patch_embed{}.embed_res.embed_bn'),
}


def their_name(key, stem):
    """Their name for a key of ours."""
    if key.startswith('stem.'):
        name, _, leaf = key.removeprefix(stem + '.').partition('.')
        return f'patch_embed1.embed1.embed_{name.replace("norm", "bn")}.{leaf}'
    _, stage, item, rest = key.split('.', 3)
    stage = int(stage) + 1
    layer, kind, leaf = rest.rsplit('.', 2)
    if item == '0':
        return f'{STEM[layer][kind == "norm"].format(stage)}.{leaf}'
    if layer == 'mixer.conv':
        return f'stage{stage}.{int(item) - 1}.mixer.{"conv" if kind == "conv" else "bn"}.{leaf}'
    name = layer.replace('mixer.', 'attn.') if layer.startswith('mixer') else f'{layer}_conv'
    return f'stage{stage}.{int(item) - 1}.{name if kind == "conv" else name.replace("conv", "bn")}.{leaf}'


@pytest.mark.parametrize(('cls', 'stem'), [(MaxFormer, 'stem.0'), (MSQKFormer, 'stem.0.conv')])
@pytest.mark.parametrize('prefix', ['', 'module.'])
def test_every_value_finds_its_place(cls, stem, prefix):
    model = cls(dict(dims=(32, 64, 128), depths=(1, 2, 1), num_heads=2))
    ours = {key: torch.randn_like(v) if v.is_floating_point() else v + 7 for key, v in model.state_dict().items()}
    theirs = {prefix + their_name(key, stem): value for key, value in ours.items()}
    fc1 = prefix + 'stage3.0.mlp.fc1_conv.weight'
    theirs[fc1] = theirs[fc1].squeeze(-1)  # a 1-D convolution
    theirs |= {
        prefix + 'head.weight': torch.randn(10, 128),
        prefix + 'head.bias': torch.randn(10),
        prefix + 'other.weight': torch.ones(2, 2),
    }
    converted, dropped = convert_official(theirs)
    assert dropped == ['other.weight']
    assert torch.equal(converted.pop('head.fc.weight'), theirs[prefix + 'head.weight'])
    assert torch.equal(converted.pop('head.fc.bias'), theirs[prefix + 'head.bias'])
    assert converted.keys() == {f'backbone.{key}' for key in ours}
    assert all(torch.equal(converted[f'backbone.{key}'], value) for key, value in ours.items())
    inferred = infer_backbone(converted)
    assert inferred == dict(type=cls.__name__, arch=dict(dims=(32, 64, 128), depths=(1, 2, 1), num_heads=2))
