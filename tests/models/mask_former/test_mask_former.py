"""The spiking mask transformer: size, definition, spikes and gradients."""

from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

pytest.importorskip('mmdet')

from mmspike import kernels  # noqa: E402
from mmspike.deploy import audit, difference, expand, fuse, leftovers  # noqa: E402
from mmspike.kernels import products  # noqa: E402
from mmspike.kernels.recompute import Recompute  # noqa: E402
from mmspike.models.layers import Signal, attend  # noqa: E402
from mmspike.models.mask_former import DeformableSampling, MaskProduct, QueryAttention, SpikingMaskTransformer  # noqa: E402
from mmspike.models.mask_former.queries_to_masks import Sign  # noqa: E402

from .networks import BN, CHANNELS, SFA, SIZES, SMALL, features, network, trained  # noqa: E402


def test_published_size():
    with torch.device('meta'):
        parts = SpikingMaskTransformer(150, [32, 64, 128, 360])
    sizes = {name: sum(p.numel() for p in part.parameters()) for name, part in parts.named_children()}
    embeddings = sum(p.numel() for name, p in parts.query_decoder.named_parameters() if '_embed.' in name or '_feat.' in name)
    assert round(sizes['pixel_decoder'], -3) == 9_797_000
    assert round(sizes['query_decoder'] - embeddings, -3) == 9_516_000
    assert round(sum(sizes.values()), -3) == 19_610_000


def test_sampling_by_definition():
    sample = trained(DeformableSampling(4, 2, SFA, BN)).double()
    x = torch.randn(1, 1, 4, 5, 6, dtype=torch.float64)
    value, offset, weight = torch.randn_like(x), torch.randn(1, 1, 36, 5, 6).double() * 2, torch.rand(1, 1, 18, 5, 6).double()
    rows, columns = torch.meshgrid(torch.arange(5.0), torch.arange(6.0), indexing='ij')
    expected = torch.zeros_like(value)
    for group in range(2):
        for tap in range(9):
            dy, dx = offset[0, 0, 18 * group + 2 * tap : 18 * group + 2 * tap + 2]
            y, x = rows + tap // 3 - 1 + dy, columns + tap % 3 - 1 + dx
            grid = torch.stack([2 * x / 5 - 1, 2 * y / 4 - 1], -1)[None]
            part = value[0, :, 2 * group : 2 * group + 2]
            found = F.grid_sample(part, grid, padding_mode='zeros', align_corners=True)
            expected[0, :, 2 * group : 2 * group + 2] += weight[0, 0, 9 * group + tap] * found
    torch.testing.assert_close(sample.sample(value, offset, weight), expected)


def test_a_step_of_training_moves_places_by_little():
    sample, x = DeformableSampling(8, 2, SFA, BN), torch.randn(1, 4, 8, 9, 9) * 2
    sample.init_weights()
    spikes = sample.context(x)
    assert not sample.offset(spikes).any() and (4 * sample.modulation(spikes) == 1).all()
    optimizer = torch.optim.AdamW(sample.parameters(), 1e-3)
    (sample(x) * torch.randn_like(x)).sum().backward()
    assert all(p.grad.any() for conv in (sample.offset, sample.modulation.conv) for p in conv.norm.parameters())
    optimizer.step()
    assert 0 < sample.offset(sample.context(x)).abs().max() < 0.02


def test_the_whole_mask_embedding_learns_from_the_start():
    model = SpikingMaskTransformer(3, CHANNELS, **SMALL | dict(channels=64))
    model.init_weights()
    sum(x.square().sum() for x in model(features(dtype=torch.float32))[1]).backward()
    assert all(p.grad.any() for p in model.queries_to_masks.embed.parameters())


def test_layers_of_queries_start_as_nothing_and_learn():
    model = SpikingMaskTransformer(3, CHANNELS, **SMALL, num_pixels=[n * m for n, m in SIZES[::-1]])
    model.init_weights()
    x = features(B=4, dtype=torch.float32)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    masks = model(x)[1]
    assert all(torch.equal(m, masks[0]) for m in masks[1:])
    for _ in range(2):
        optimizer.zero_grad()
        sum(m.square().sum() for m in model(x)[1]).backward()
        optimizer.step()
    decoder = model.query_decoder
    assert all(layer.cross_attention.v_conv.conv.weight.grad.any() for layer in decoder.layers)
    assert not torch.equal(*model(x)[1][:2])


def test_gradients_are_those_of_plain_modules():
    model = network().train()
    x = [f.requires_grad_() for f in features()]
    found = []
    for on in (True, False):
        with kernels.use(on):
            copy = deepcopy(model)
            out = copy(x)
            loss = sum((t * t.detach().cos()).sum() for ts in out for t in ts)
            found.append(torch.autograd.grad(loss, [*x, *copy.parameters()], allow_unused=True))
    names = [*'xyz', *(name for name, _ in model.named_parameters())]
    largest = max(g.abs().max() for g in found[0] if g is not None)
    for name, one, other in zip(names, *found, strict=True):
        assert (one is None) == (other is None), name
        if one is not None:
            torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9 * largest.item(), msg=name)


@pytest.mark.parametrize('groups', [0, 4])
def test_half_precision_on_the_cpu(groups):
    model = network(groups=groups).float().train()
    x = features(dtype=torch.float32)
    with torch.autocast('cpu', torch.bfloat16):
        scores, masks = model(x)
        assert {t.dtype for t in (*scores, *masks)} == {torch.float32}
        sum(t.sum() for t in (*scores, *masks)).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_places_tell_pixels_apart():
    same = [torch.ones(1, 1, c, n, n, dtype=torch.float64) for c, n in zip(CHANNELS, (32, 16, 8), strict=True)]
    for places in (False, True):
        masks, _ = network(encoder_layers=0, dense=True, places=places).pixel_decoder(same)
        inner = masks[0, 0, :, 8:24, 8:24].flatten(1).round(decimals=9)  # without what the border changes
        assert (inner.unique(dim=1).shape[1] > 1) == places


def test_attention_by_definition():
    attention = trained(QueryAttention(8, 2, SFA, BN)).double()
    query, value = torch.randn(2, 3, 8, 5, 1).double() * 2, torch.randn(2, 3, 8, 4, 6).double() * 2
    place = torch.randn(8, 4, 6).double() * 2

    def spikes(name, x):
        x = attention.neuron(x)
        return getattr(attention, f'{name}_neuron')(getattr(attention, f'{name}_conv')(x)).flatten(3).unflatten(2, (2, 4))

    q, k, v = spikes('q', query), spikes('k', value + place), spikes('v', value)
    y = torch.einsum('tbhdn,tbhdm,tbhem->tbhen', q, k, v) / 8**0.5
    expected = attention.proj_conv(attention.attn_neuron(y.flatten(2, 3).unsqueeze(-1)))
    torch.testing.assert_close(attention(query, value, place), expected)


def test_products_of_few_keys_fire():
    x, queries = torch.randn(1, 8, 64, 8, 8), torch.randn(1, 8, 64, 20, 1)
    for num_keys, silent in ((None, True), (64, False)):
        attention = QueryAttention(64, 4, SFA, BN, num_keys)
        counts = []
        attention.attn_neuron.register_forward_hook(lambda m, args, out, counts=counts: counts.append(4 * out))
        attention(queries, x, torch.randn(64, 8, 8))
        assert (counts[0].mean() < 0.1) == silent


@pytest.mark.parametrize('piece', [1000, 80, 1], ids=['all images at once', 'two', 'one'])
def test_products_of_other_numbers_of_queries_and_their_gradients(piece, monkeypatch):
    monkeypatch.setattr(products, 'PIECE', piece)
    q, k, v = torch.randn(1, 3, 4, 3, 1).double(), torch.randn(1, 3, 4, 2, 5).double(), torch.randn(1, 3, 4, 2, 5).double()
    factors = [x.requires_grad_() for x in (q, k, v)]
    # spikes are saved by the kernel, or made again and overwritten, and others are not
    plain = attend(*map(Signal, factors), 2).x
    weight = torch.randn_like(plain)
    expected = torch.autograd.grad((plain * weight).sum(), factors)
    for anew in (None, lambda x: Recompute(torch.clone, (x.detach(),))):
        found = attend(*[Signal(x, 1.0, anew=anew and anew(x)) for x in factors], 2).x
        torch.testing.assert_close(found, plain)
        torch.testing.assert_close(torch.autograd.grad((found * weight).sum(), factors), expected)


def test_sign_is_the_rounded_sigmoid_at_any_d():
    x = torch.linspace(-3, 3, 50, dtype=torch.float64).view(1, 1, -1).requires_grad_()
    for levels in (1, 4, 8):
        assert torch.equal(Sign()(x), x.sigmoid().clamp(0, levels).round())
    (grad,) = torch.autograd.grad(Sign()(x).sum(), x)
    torch.testing.assert_close(grad, x.sigmoid() * (1 - x.sigmoid()))


@pytest.mark.parametrize('neuron,T', [(SFA, 1), (dict(type='LIF'), 2)], ids=['SFA', 'LIF'])
def test_weights_read_spikes_and_all_learn(neuron, T):
    model, read = network(neuron).train(), {}
    for name, m in model.named_modules():
        if isinstance(m, nn.Conv2d):
            m.register_forward_pre_hook(lambda m, args, name=name: read.update({name: args[0].unique()}))
    outputs = model(features(T))
    assert len(read) == len([m for m in model.modules() if isinstance(m, nn.Conv2d)])
    counts = [4 * values for values in read.values()]
    assert all(torch.equal(c, c.round()) and c.min() >= 0 for c in counts)
    assert [tuple(x.shape) for x in outputs[0]] == [(2, 6, 4)] * 4
    assert [tuple(x.shape) for x in outputs[1]] == [(2, 6, 12, 18)] * 4
    sum(x.square().sum() for x in (*outputs[0], *outputs[1])).backward()
    assert all(p.grad is not None for p in model.parameters())
    assert model.query_decoder.query_feat.weight.grad.any() and model.pixel_decoder.input.conv.weight.grad.any()


def test_evaluation_is_the_last_output_of_training_and_keeps_nothing():
    model, x = network(), features()
    model.train()
    for m in model.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.eval()
    scores, masks = model(x)
    for _ in range(2):
        again = model.eval()(x)
        assert len(again[0]) == len(again[1]) == 1
        assert torch.equal(again[0][0], scores[-1]) and torch.equal(again[1][0], masks[-1])


def test_one_d_in_all_parts():
    for levels in (2, 8):
        model = network(dict(type='NILIF', levels=levels))
        neurons = [m for m in model.modules() if hasattr(m, 'levels')]
        assert len(neurons) > 40 and {m.levels for m in neurons} == {levels}
        # counts in front of weights without norm, rates elsewhere
        counting = [*model.queries_to_masks.embed.modules(), *model.queries_to_masks.product.modules()]
        assert {m.divisor for m in counting if hasattr(m, 'levels')} == {1}


@pytest.mark.parametrize('neuron', [SFA, dict(type='NILIF', levels=4), dict(type='LIF')], ids=lambda n: n['type'])
@pytest.mark.parametrize('groups', [4, 0])
def test_deployed(neuron, groups):
    more = dict(groups=0, dense=True, places=True, num_pixels=[15, 54, 216]) if groups == 0 else dict(groups=groups)
    model, x = network(neuron, **more), features(2 if neuron['type'] == 'LIF' else 1)
    fused = fuse(model)
    assert leftovers(fused) == []
    with torch.no_grad():
        expected = model(x)
        assert all(t.dtype == torch.float64 for pair in expected for t in pair)
        assert difference(expected, fused(x)).largest < 1e-9
        steps, whole = expand(fused)(x), expand(fused, binary=False)(x)
    assert difference(steps, whole).largest == 0
    assert difference(steps, expected).largest < 1e-6
    assert min(t.std() for pair in expected for t in pair) > 0


def test_the_audit_names_what_reads_floats():
    x = features()
    with torch.no_grad():
        spiking, sampling = (fuse(network(groups=groups)) for groups in (0, 4))
        report = audit(spiking, lambda: spiking(x))
        assert report.spike_driven and not report.float_fed
        report = audit(sampling, lambda: sampling(x))
    assert report.float_fed == ['pixel_decoder.encoder.0.sampling (deformable conv)']
    assert not report.unknown and not report.spike_driven


def test_mask_product_adds_features_up():
    product = MaskProduct(SFA)
    counts, feature = torch.tensor([0.0, 3.0, -1.0, 7.0]).view(1, 1, 4, 1, 1), torch.randn(1, 1, 4, 2, 3)
    torch.testing.assert_close(product(counts, feature)[0, 0, 0], 3 * feature[0, 0, 1] + 4 * feature[0, 0, 3])
