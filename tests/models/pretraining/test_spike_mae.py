"""The spike-masked autoencoder: what it sees, what it learns from, and that nothing is left behind by a call."""

import copy

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS as ROOT_MODELS
from mmengine.registry import init_default_scope
from torch import nn

from mmspike.models import ESpikeFormerLarge
from mmspike.models.backbones.e_spikeformer_large import SparseConvNorm, SparseDownsample
from mmspike.models.pretraining import SpikeMAE, SpikeMAEDecoder
from mmspike.models.pretraining.decoder import sincos_positions
from mmspike.models.pretraining.spike_mae import patchify, unpatchify

ARCH = dict(dims=(8, 8, 16), depths=(1, 1, 2, 2), num_heads=2)


def autoencoder(T=1, neuron=None, seed=0, **kwargs):
    torch.manual_seed(seed)
    backbone = dict(type='mmspike.ESpikeFormerLarge', arch=ARCH, T=T, neuron=neuron or dict(type='SFA', levels=4, divisor=1))
    decoder = dict(type='mmspike.SpikeMAEDecoder', in_channels=16, dim=16, depth=1, num_heads=2)
    return SpikeMAE(backbone | kwargs.pop('backbone', {}), decoder, **kwargs)


def checkerboard(B, h, w):
    return ((torch.arange(h)[:, None] + torch.arange(w)) % 2 == 0).expand(B, h, w)


@pytest.mark.parametrize('training', [True, False])
def test_sparse_convolution_by_definition(training):
    """Batch norm over the visible positions alone, by hand; hidden positions are 0."""
    layer = SparseConvNorm(3, 5, 3, 2, bias=True).double().train(training)
    nn.init.uniform_(layer.norm.weight, 0.5, 1.5)
    nn.init.normal_(layer.norm.bias)
    x, visible = torch.randn(2, 2, 3, 8, 12).double(), checkerboard(2, 2, 3)
    seen = visible.repeat_interleave(2, 1).repeat_interleave(2, 2)
    y = layer.conv(x.flatten(0, 1)).unflatten(0, (2, 2))
    if training:
        mean, var = (torch.stack([f(y[:, :, c][:, seen]) for c in range(5)]) for f in (torch.mean, torch.var))
        n = 2 * int(seen.sum())
        expected_var = var * (n - 1) / n
    else:
        mean, expected_var = layer.norm.running_mean.clone(), layer.norm.running_var.clone()
    shape = (-1, 1, 1)
    expected = (y - mean.view(shape)) / (expected_var.view(shape) + layer.norm.eps).sqrt()
    expected = (expected * layer.norm.weight.view(shape) + layer.norm.bias.view(shape)) * seen.unsqueeze(1)
    torch.testing.assert_close(layer(x, visible), expected)
    if training:
        torch.testing.assert_close(layer.norm.running_mean, 0.1 * mean)
        torch.testing.assert_close(layer.norm.running_var, 0.9 + 0.1 * var)


def test_with_all_visible_it_is_the_plain_network():
    model = ESpikeFormerLarge(ARCH, neuron=dict(type='SFA', levels=4, divisor=1)).double()
    other = copy.deepcopy(model)
    x = torch.randn(2, 3, 32, 48).double()
    for a, b in zip(model(x), other(x, torch.ones(2, 2, 3)), strict=True):
        torch.testing.assert_close(a, b)
    for a, b in zip(model.state_dict().values(), other.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b)


def test_hidden_pixels_are_not_seen():
    """Neither the features nor the running statistics change with them; visible pixels matter."""
    visible = checkerboard(2, 3, 3)
    x = torch.randn(2, 3, 48, 48).double()
    hidden = ~visible.repeat_interleave(16, 1).repeat_interleave(16, 2).unsqueeze(1)
    results = []
    for image in (x, torch.where(hidden, torch.full_like(x, 9.0), x), torch.where(hidden, x, x + 0.5)):
        torch.manual_seed(0)
        model = ESpikeFormerLarge(ARCH, neuron=dict(type='SFA', levels=4, divisor=1)).double()
        feats = model(image, visible)
        for f in feats[:2]:
            factor = f.shape[-1] // 3
            assert not f[(~visible.repeat_interleave(factor, 1).repeat_interleave(factor, 2))[:, None].expand_as(f)].any()
        results.append([*feats, *model.state_dict().values()])
    assert all(torch.equal(a, b) for a, b in zip(results[0], results[1], strict=True))
    assert not torch.equal(results[0][2], results[2][2])


@pytest.mark.parametrize('neuron', [dict(type='SFA', levels=4), dict(type='LIF', v_threshold=0.3)])
@pytest.mark.parametrize('size', [(64, 64), (32, 80)])
def test_sizes_ratios_and_gradients(neuron, size):
    model = autoencoder(T=1 if neuron['type'] == 'SFA' else 2, neuron=neuron, mask_ratio=0.3)
    x = torch.randn(2, 3, *size)
    n = size[0] * size[1] // 256
    result = model.reconstruct(x)
    assert result['prediction'].shape == (2, n, 768) and result['latent'].shape == (2, n, 16)
    assert result['visible'].sum(1).tolist() == [int(n * 0.7)] * 2
    loss = model(x, mode='loss')['loss']
    loss.backward()
    assert loss.isfinite() and all(p.grad is not None for p in model.parameters())  # DDP needs no search for unused ones
    for ratio, kept in ((0.01, n - 1), (0.99, 1)):
        model.mask_ratio = ratio
        assert model.reconstruct(x)['visible'].sum(1).tolist() == [kept] * 2


def test_loss_by_definition():
    model = autoencoder(mask_ratio=0.5).eval()
    x = torch.randn(1, 3, 32, 32) * 3 + 1
    with torch.no_grad():
        result = model.reconstruct(x, torch.tensor([[0.3, 0.9, 0.1, 0.5]]))
        assert result['visible'].tolist() == [[True, False, True, False]]
        errors = []
        for i, (row, column) in ((1, (0, 16)), (3, (16, 16))):
            patch = x[0, :, row : row + 16, column : column + 16].permute(1, 2, 0).flatten()
            target = (patch - patch.mean()) / patch.std()
            errors.append((result['prediction'][0, i] - target).square().mean())
        torch.testing.assert_close(model.reconstruction_loss(x, result), torch.stack(errors).mean())


def test_patches_there_and_back():
    x = torch.randn(2, 3, 8, 12)
    patches = patchify(x, 4)
    assert torch.equal(patches[0, 4], x[0, :, 4:, 4:8].permute(1, 2, 0).flatten())
    assert torch.equal(unpatchify(patches, 4, (2, 3)), x)


def test_positions():
    """Column first, then row; sines, then cosines; frequencies 1 and 1 / 100 for a width of 8."""
    table = sincos_positions(2, 3, 8, like=torch.zeros(1, dtype=torch.float64))
    a = torch.tensor([2.0, 0.02, 1.0, 0.01], dtype=torch.float64)
    expected = torch.cat([a[:2].sin(), a[:2].cos(), a[2:].sin(), a[2:].cos()])
    torch.testing.assert_close(table[5], expected)
    with pytest.raises(ValueError, match='multiple of 4, got 6'):
        sincos_positions(2, 3, 6, like=table)


def test_order_of_tokens():
    """'shuffled' gives the decoder at place i the token of the place that is the rank of patch i."""
    noise = torch.tensor([[0.3, 0.9, 0.1, 0.5]])  # ranks 1, 3, 0, 2
    for order, places in (('place', [0, 1, 2, 3]), ('shuffled', [1, 3, 0, 2])):
        model = autoencoder(token_order=order).eval()
        seen = {}
        model.neck.embed.register_forward_pre_hook(lambda _, args, seen=seen: seen.update(tokens=args[0]))
        with torch.no_grad():
            latent = model.reconstruct(torch.randn(1, 3, 32, 32), noise)['latent']
        assert torch.equal(seen['tokens'], latent[:, places])


def test_two_models_do_not_meet():
    """Interleaved forwards and backwards of two models give what each alone gives."""
    x = torch.randn(2, 3, 32, 32)
    noises = torch.rand(2, 2, 4)

    def gradients(order):
        models = [autoencoder(seed=1), autoencoder(seed=2, mask_ratio=0.25)]
        losses = {}
        for i in order:
            losses[i] = models[i].reconstruction_loss(x, models[i].reconstruct(x, noises[i]))
        for loss in losses.values():
            loss.backward()
        return [p.grad for m in models for p in m.parameters()], [b.clone() for m in models for b in m.buffers()]

    (grads, buffers), (other_grads, other_buffers) = gradients((0, 1)), gradients((1, 0))
    assert all(torch.equal(a, b) for a, b in zip(grads + buffers, other_grads + other_buffers, strict=True))


def test_checkpointing_of_a_masked_forward():
    x, noise = torch.randn(2, 3, 32, 32), torch.rand(2, 4)
    results = []
    for with_cp in (False, True):
        model = autoencoder(backbone=dict(with_cp=with_cp))
        model.reconstruction_loss(x, model.reconstruct(x, noise)).backward()
        results.append([p.grad for p in model.parameters()] + list(model.buffers()))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b)


def test_it_learns():
    """Two images whose hidden patches follow from the visible ones; a patch's mean alone has the error 1."""
    model = autoencoder()
    ramp = torch.linspace(-1, 1, 32)
    x = torch.stack([ramp.expand(3, 32, 32), ramp[:, None].expand(3, 32, 32)])
    optimizer = torch.optim.AdamW(model.parameters(), 5e-3)
    losses = []
    for _ in range(50):
        optimizer.zero_grad()
        loss = model(x, mode='loss')['loss']
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] > 0.9 and sum(losses[-10:]) / 10 < 0.7


def test_pictures():
    model = autoencoder().eval()
    x = torch.randn(1, 3, 32, 32)
    pictures = model.paint(x, torch.tensor([[0.3, 0.9, 0.1, 0.5]]))
    masked, pasted, painted = (pictures[k] for k in ('masked', 'pasted', 'painted'))
    assert torch.equal(masked[..., :16], x[..., :16]) and not masked[..., 16:].any()
    assert torch.equal(pasted[..., :16], x[..., :16]) and torch.equal(pasted[..., 16:], painted[..., 16:])
    patches, expected = patchify(painted, 16), patchify(x, 16)
    prediction = model.reconstruct(x, torch.tensor([[0.3, 0.9, 0.1, 0.5]]))['prediction']
    torch.testing.assert_close(patches, prediction * expected.std(-1, keepdim=True) + expected.mean(-1, keepdim=True))


@pytest.mark.parametrize('layer_scale', [None, 1e-6])
def test_encoder_in_all_hosts(layer_scale, tmp_path):
    """A pretrained encoder loads strictly as the backbone of any model, and then computes what it did."""
    model = autoencoder().eval()
    path = str(tmp_path / 'mae.pth')
    torch.save(dict(state_dict=model.state_dict()), path)
    x = torch.randn(1, 3, 64, 64)
    init_cfg = dict(type='Pretrained', checkpoint=path, prefix='backbone.')
    neuron = dict(type='SFA', levels=4, divisor=1)
    backbone = dict(type='mmspike.ESpikeFormerLarge', arch=ARCH, neuron=neuron, layer_scale=layer_scale, init_cfg=init_cfg)
    keep = dict(temporal_output='keep')
    models = dict(
        mmpretrain=dict(
            type='ImageClassifier',
            backbone=backbone | keep,
            head=dict(type='mmspike.SpikingLinearClsHead', num_classes=5, in_channels=16),
        ),
        mmseg=dict(
            type='EncoderDecoder',
            backbone=backbone,
            decode_head=dict(type='FCNHead', in_channels=16, in_index=2, channels=8, num_classes=2),
        ),
        mmdet=dict(
            type='RetinaNet',
            backbone=backbone | keep,
            neck=dict(type='mmspike.SpikingSimplePyramid', in_channels=16, out_channels=8, num_outs=5),
            bbox_head=dict(type='mmspike.SpikingRetinaHead', num_classes=2, in_channels=8, feat_channels=8, stacked_convs=1),
        ),
    )
    with torch.no_grad():
        expected = model.backbone(x)[-1][0]
        for scope, cfg in models.items():
            init_default_scope(scope)
            host = ROOT_MODELS.build(copy.deepcopy(cfg))
            host.init_weights()
            host.eval()
            feature = host.backbone(x)[-1]
            assert torch.equal(feature[0] if feature.dim() == 5 else feature, expected), scope


def test_learning_rate_decays_by_layer():
    init_default_scope('mmpretrain')
    model = ROOT_MODELS.build(
        dict(
            type='ImageClassifier',
            backbone=dict(type='mmspike.ESpikeFormerLarge', arch=ARCH, layer_scale=1e-6, temporal_output='keep'),
            head=dict(type='mmspike.SpikingLinearClsHead', num_classes=5, in_channels=16),
        )
    )
    wrapper = build_optim_wrapper(
        model,
        ConfigDict(
            optimizer=dict(type='AdamW', lr=1.0, weight_decay=0.05),
            constructor='LearningRateDecayOptimWrapperConstructor',
            paramwise_cfg=dict(layer_decay_rate=0.5),
        ),
    )
    rates = {g['param_name']: g['lr'] for g in wrapper.optimizer.param_groups}
    assert rates['head.fc.weight'] == 1
    assert rates['backbone.stages.2.2.layer_scale1.scale'] == rates['backbone.stages.2.2.mlp.fc1.conv.weight'] == 0.5
    assert rates['backbone.stages.2.1.attn.q_conv.conv1.conv.weight'] == 0.25
    first = {v for k, v in rates.items() if k.startswith(('backbone.stem', 'backbone.stages.0', 'backbone.stages.2.0'))}
    assert first == {0.125}


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        (dict(mask_ratio=0.0), r'mask_ratio must be in \(0, 1\), got 0.0'),
        (dict(mask_ratio=1.0), 'got 1.0'),
        (dict(token_order='random'), "'place' or 'shuffled', got 'random'"),
        (dict(backbone=dict(out_indices=(0, 1))), 'put -1 into its out_indices'),
        (dict(backbone=dict(strides=(2, 2, 2, 1))), 'ends at stride 8 with 16 channels'),
    ],
)
def test_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        autoencoder(**kwargs)


def test_bad_backbone():
    with pytest.raises(ValueError, match='needs the backbone mmspike.ESpikeFormerLarge, got ESpikeFormer'):
        SpikeMAE(dict(type='mmspike.ESpikeFormer', arch='t'), SpikeMAEDecoder(16))


@pytest.mark.parametrize('size', [(16, 16), (40, 32)])
def test_bad_images(size):
    with pytest.raises(ValueError, match=f'multiple of 16 px and have two patches or more, got {size[0]} x {size[1]}'):
        autoencoder().reconstruct(torch.randn(1, 3, *size))


def test_mask_that_does_not_fit():
    with pytest.raises(ValueError, match=r'a mask \(2, 3, 3\)'):
        ESpikeFormerLarge(ARCH)(torch.randn(2, 3, 32, 32), torch.ones(2, 3, 3))


def test_batch_norm_is_needed():
    with pytest.raises(ValueError, match='needs a batch norm'):
        ESpikeFormerLarge(ARCH, norm_cfg=dict(type='GN', num_groups=2))


def test_downsampling_without_a_mask():
    assert SparseDownsample(3, 4, 2, None, dict(type='BN'))(torch.randn(1, 2, 3, 9, 9)).shape == (1, 2, 4, 5, 5)


@pytest.mark.parametrize(('arch', 'published'), [('83m', 82.5), ('173m', 170.8)])
def test_published_sizes(arch, published):
    """With a classifier of 1000 classes; the larger one is published as 171 M."""
    with torch.device('meta'):
        backbone = ESpikeFormerLarge(arch)
        model = nn.ModuleList([backbone, nn.Linear(backbone.out_channels[-1], 1000)])
    assert round(sum(p.numel() for p in model.parameters()) / 1e6, 1) == published
