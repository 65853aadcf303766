"""What every registered backbone must do."""

import copy
from inspect import signature

import pytest
import torch

from mmspike.models.backbones import SpikingBackbone
from mmspike.registry import MODELS

# name -> a small instance of it, with a threshold at which all of it fires, and not always: a layer whose input is
# constant has batch norms without variance, and gradients that explode through them
LIF = dict(type='LIF', v_threshold=0.45)
SMALL = dict(
    ESpikeFormer=dict(arch=dict(dims=(16, 16, 32, 48), depths=(1, 1, 2, 2, 1), num_heads=2)),
    ESpikeFormerLarge=dict(
        arch=dict(dims=(16, 16, 32), depths=(1, 1, 2, 2), num_heads=2), neuron=dict(type='SFA', levels=4, divisor=1)
    ),
    MSQKFormer=dict(arch=dict(dims=(8, 16, 32), depths=(1, 1, 1), num_heads=2), T=2, neuron=LIF),
    MaxFormer=dict(arch=dict(dims=(8, 16, 32), depths=(1, 1, 1), num_heads=2), T=2, neuron=LIF),
    MetaSpikeFormer=dict(arch=dict(dims=(16, 16, 32, 48), depths=(1, 1, 2, 2, 1), num_heads=2), T=2, neuron=LIF),
    SAFormer=dict(arch=dict(dims=(8, 8, 16, 32), depth=2, num_heads=2), T=2, neuron=LIF),
    SpikeDrivenTransformer=dict(arch=dict(dims=(8, 8, 16, 32), depth=2), T=2, neuron=LIF),
    Spikeformer=dict(arch=dict(dims=(8, 8, 16, 32), depth=2, num_heads=2), T=2, neuron=dict(type='PLIF', v_threshold=0.45)),
    Spikformer=dict(arch=dict(dims=(8, 8, 16, 32), depth=2, num_heads=2), T=2, neuron=LIF),
    SpikingVGG=dict(arch=dict(dims=(8, 12, 16), depths=(2, 2, 2)), T=2, neuron=LIF),
    SpikingResformer=dict(arch=dict(dims=(16, 32, 48), num_heads=(1, 2, 2), group_size=16), T=2, neuron=LIF),
    SpikingYOLOBackbone=dict(arch=dict(dims=(8, 8, 16, 24), depths=(1, 1, 2, 1)), T=2, neuron=LIF),
)


def small(name, **kwargs):
    torch.manual_seed(1)
    return MODELS.get(name)(**(SMALL[name] | kwargs))


def backbones():
    MODELS.import_from_location()
    return [k for k, cls in MODELS.module_dict.items() if isinstance(cls, type) and issubclass(cls, SpikingBackbone)]


@pytest.fixture(params=backbones())
def name(request):
    return request.param


def images(size=(64, 64), batch=2):
    return torch.randn(batch, 3, *size)


def test_every_backbone_has_a_small_instance():
    assert set(backbones()) == set(SMALL)


@pytest.mark.parametrize('size', [(64, 64), (33, 50), (32, 47)])
@pytest.mark.parametrize('temporal_output', ['mean', 'keep'])
def test_shapes_and_strides_as_declared(name, size, temporal_output):
    model = small(name, temporal_output=temporal_output).eval()
    with torch.no_grad():
        feats = model(images(size))
    assert len(feats) == len(model.out_channels) == len(model.out_strides) == len(model.stages)
    for feat, channels, stride in zip(feats, model.out_channels, model.out_strides, strict=True):
        shape = (2, channels, -(-size[0] // stride), -(-size[1] // stride))
        assert feat.shape == (shape if temporal_output == 'mean' else (model.T, *shape))
        assert feat.isfinite().all()


def test_mean_is_the_mean_of_keep(name):
    x = images()
    with torch.no_grad():
        mean, keep = (small(name, temporal_output=m).eval()(x) for m in ('mean', 'keep'))
    for a, b in zip(mean, keep, strict=True):
        torch.testing.assert_close(a, b.mean(0))


def test_every_parameter_gets_a_gradient(name):
    model = small(name)
    for m in model.modules():  # a layer that starts at 0 passes no gradient on
        if isinstance(m, torch.nn.Linear) and not m.weight.any():
            torch.nn.init.normal_(m.weight, std=0.1)
    loss = sum((f * torch.randn_like(f)).sum() for f in model(images((96, 96))))
    loss.backward()
    without = [k for k, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all() or not p.grad.any()]
    # a bias before a batch norm has the gradient 0, exactly so only by luck
    assert not [k for k in without if not k.endswith(('conv.bias', 'rep.norm2.bias', '_conv.conv2.norm.bias'))]
    assert all(p.grad is not None for p in model.parameters())


def test_second_sample_is_unaffected_by_the_first(name):
    model = small(name).eval()
    a, b = images(), images()
    with torch.no_grad():
        alone = model(b)
        model(a)
        after = model(b)
        together = model(torch.cat([a, b]))
    for x, y, z in zip(alone, after, together, strict=True):
        assert torch.equal(x, y)
        torch.testing.assert_close(x, z[2:], rtol=1e-4, atol=1e-4)


def test_image_equals_repeated_frames(name):
    # in float64, so that rounding flips no spike
    model = small(name).double()
    x = images().double()
    frames = x.unsqueeze(0).repeat(model.T, 1, 1, 1, 1)
    other = copy.deepcopy(model)
    # training last: the stem sees an image once and frames T times, which its running variance, divided by n - 1, tells
    for mode in (False, True):
        for a, b in zip(model.train(mode)(x), other.train(mode)(frames), strict=True):
            torch.testing.assert_close(a, b)


def test_event_frames_with_two_channels(name):
    model = small(name, in_channels=2)
    feats = model(torch.randn(model.T, 3, 2, 40, 40))
    assert feats[0].shape[0] == 3


def test_out_indices(name):
    x = images()
    stages = len(small(name).stages)
    every = small(name, out_indices=('stem', *range(stages))).eval()
    some = small(name, out_indices=(1, -1)).eval()
    some.load_state_dict(every.state_dict(), strict=True)
    assert (every.out_strides[2], every.out_strides[-1]) == some.out_strides
    assert (every.out_channels[2], every.out_channels[-1]) == some.out_channels
    with torch.no_grad():
        for a, b in zip(some(x), [every(x)[i] for i in (2, -1)], strict=True):
            assert torch.equal(a, b)


def test_checkpointing_changes_nothing(name):
    # in float64: without recomputation layers of neighbouring blocks are fused, and round differently
    plain, recomputed = small(name).double(), small(name, with_cp=True).double()
    x = images().double()
    for model in (plain, recomputed):
        sum(f.square().sum() for f in model(x)).backward()
    for (k, p), q in zip(plain.named_parameters(), recomputed.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, msg=lambda m, k=k: f'{k}: {m}')
    # running statistics are updated once, not once more in the recomputation
    for (k, a), b in zip(plain.state_dict().items(), recomputed.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, msg=lambda m, k=k: f'{k}: {m}')


def test_checkpointing_with_two_forwards_before_the_backward(name):
    plain, recomputed = small(name).double(), small(name, with_cp=True).double()
    a, b = images().double(), images().double() * 3 + 1
    for model in (plain, recomputed):
        sum(f.square().sum() for x in (a, b) for f in model(x)).backward()
    for (k, p), q in zip(plain.named_parameters(), recomputed.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, msg=lambda m, k=k: f'{k}: {m}')
    for (k, u), v in zip(plain.state_dict().items(), recomputed.state_dict().values(), strict=True):
        torch.testing.assert_close(u, v, msg=lambda m, k=k: f'{k}: {m}')


def test_two_backward_passes_through_one_graph_with_checkpointing():
    model = small('ESpikeFormer', with_cp=True).double()
    loss = sum(f.square().sum() for f in model(images().double()))
    weight = next(model.stages[1].parameters())
    once, again = (torch.autograd.grad(loss, weight, retain_graph=True)[0] for _ in range(2))
    assert torch.equal(once, again) and once.any()


def test_empty_batch(name):
    with torch.no_grad():
        feats = small(name).eval()(images(batch=0))
    assert {f.shape[0] for f in feats} == {0}


def test_time_steps_that_change_nothing_are_warned_of(recwarn):
    model = small('ESpikeFormer', T=2).eval()
    with torch.no_grad():
        model(torch.randn(2, 1, 3, 64, 64))  # frames of their own
        small('MetaSpikeFormer').eval()(images())  # with memory
        small('ESpikeFormer').eval()(images())  # T = 1
        assert not [w for w in recwarn if 'time' in str(w.message)]
        for _ in range(2):
            model(images())
    (warning,) = [w for w in recwarn if issubclass(w.category, UserWarning) and 'none of its neurons' in str(w.message)]
    assert 'ESpikeFormer with T=2 on images computes the same 2 times' in str(warning.message)


@pytest.mark.parametrize('size', [(32, 32), (33, 47)])
def test_a_single_small_image_trains(name, size):
    """Few values a channel in the last norms; with one alone a batch norm cannot be trained, and says so."""
    model = small(name, T=1).train()
    if size == (32, 32) and model.out_strides[-1] == 32:
        with pytest.raises(ValueError, match='more than 1 value per channel'):
            model(images(size, 1))
        return
    loss = sum(f.pow(2).mean() for f in model(images(size, 1)))
    loss.backward()
    assert loss.isfinite() and all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def test_memory_formats_and_precisions(name):
    """Channels last and strided inputs compute the same; other types of numbers go through."""
    model = small(name).eval()
    x = images((65, 47))
    strided = torch.randn(2, 3, 130, 94)[..., ::2, ::2]
    last = copy.deepcopy(model).to(memory_format=torch.channels_last)
    with torch.no_grad():
        for one, two in zip(model(x) + model(strided), last(x) + model(strided.contiguous()), strict=True):
            torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-4)
        for dtype in (torch.bfloat16, torch.float16, torch.float64):
            feats = copy.deepcopy(model).to(dtype)(x.to(dtype))
            assert all(f.dtype == dtype and f.isfinite().all() for f in feats), dtype


def test_synchronised_norms_are_plain_ones_in_one_process(name):
    plain, synced = (small(name, norm_cfg=dict(type=kind)).train() for kind in ('BN', 'SyncBN'))
    assert any(isinstance(m, torch.nn.SyncBatchNorm) for m in synced.modules())
    x = images()
    for one, two in zip(plain(x), synced(x), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-4)


def test_depths_of_layers_follow_the_network(name):
    model = small(name).eval()
    ran = []
    items = [(f'{part}.{i}', item) for part, stage in _parts(model) for i, item in enumerate(stage)]
    for item_name, item in items:
        item.register_forward_hook(lambda *_, item_name=item_name: ran.append(item_name))
    with torch.no_grad():
        model(images())
    of_items = {}
    for parameter, _ in model.named_parameters():
        depth, depths = model.get_layer_depth(f'neck.{parameter}', 'neck.')
        item = next((n for n, _ in items if parameter.startswith(f'{n}.')), None)
        of_items.setdefault(item, set()).add(depth)
        assert item is not None or depth in (0, depths - 1), parameter
    assert all(len(found) == 1 for found in of_items.values())  # one depth an item
    along = [min(of_items[item]) for item in ran if item in of_items]
    # from 0 to the last but one, which is the heads', in steps of one
    assert along == sorted(along) and sorted(set(along)) == list(range(depths - 1))
    assert model.get_layer_depth('head.weight', 'neck.') == (depths - 1, depths)


def _parts(model):
    return [('stem', model.stem), *((f'stages.{i}', stage) for i, stage in enumerate(model.stages))]


def test_stages_that_are_not_run_have_no_gradients(name):
    model = small(name, out_indices=(0,)).train()
    sum(f.sum() for f in model(images((96, 96)))).backward()
    unused = {k for k, p in model.named_parameters() if not p.requires_grad}
    assert unused == {k for k, _ in model.named_parameters() if k.startswith('stages.') and not k.startswith('stages.0.')}
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


def test_frozen_stages_and_norm_eval(name):
    model = small(name, frozen_stages=2)
    # before train() is called, since DistributedDataParallel wraps the model first
    trained = {k.split('.')[1] for k, p in model.named_parameters() if k.startswith('stages') and p.requires_grad}
    assert trained == {str(i) for i in range(2, len(model.stages))}
    model.train()
    before = copy.deepcopy(model.state_dict())
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.1)
    sum(f.square().sum() for f in model(images())).backward()
    optimizer.step()
    after = model.state_dict()
    frozen = [k for k in after if k.startswith(('stem.', 'stages.0.', 'stages.1.'))]
    assert frozen
    assert all(torch.equal(before[k], after[k]) for k in frozen)
    assert any(not torch.equal(before[k], after[k]) for k in after if k.startswith('stages.2.'))

    model = small(name, norm_eval=True).train()
    before = copy.deepcopy(model.state_dict())
    model(images())
    after = model.state_dict()
    assert all(torch.equal(before[k], after[k]) for k in after if 'running' in k)


# a VGG has no branches to drop
@pytest.mark.parametrize('name', [n for n in SMALL if 'drop_path_rate' in signature(MODELS.get(n).__init__).parameters])
def test_drop_path_works(name):
    x = images(batch=4)
    model = small(name, drop_path_rate=0.5).train()
    assert not torch.equal(model(x)[-1], model(x)[-1])
    assert torch.equal(model.eval()(x)[-1], model(x)[-1])


def test_presets_build(name):
    cls = MODELS.get(name)
    for arch in cls.arch_settings:
        with torch.device('meta'):
            model = cls(arch=arch)
        assert len(model.out_channels) == len(model.stages)


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        (dict(arch='huge'), "no arch 'huge': choose one of"),
        (dict(arch=dict(dims=(16, 32))), 'needs .* entries'),
        (dict(arch=dict(dims=16)), 'needs .* entries'),
        (dict(arch=[16, 32, 48, 64]), r'a dict of dims, got \[16, 32, 48, 64\]'),
        (dict(arch=dict(dim=(16, 32, 48, 64))), "needs 'dims'.*dim"),
        (dict(T=0), 'T must be a positive integer.*0'),
        (dict(T=1.5), 'T must be a positive integer.*1.5'),
        (dict(temporal_output='sum'), "'mean' or 'keep'.*'sum'"),
        (dict(out_indices=(0, 4)), 'got 4'),
        (dict(out_indices=(2, 1)), 'ascend'),
        (dict(frozen_stages=5), r'\[-1, [34]\], got 5'),
        (dict(with_cp=True, neuron=dict(type='LIF', stateful=True)), 'stateful'),
    ],
)
def test_bad_arguments(name, kwargs, message):
    with pytest.raises(ValueError, match=message):
        small(name, **kwargs)


def test_widths_are_positive(name):
    dims = (*SMALL[name]['arch']['dims'][:-1], 0)
    with pytest.raises(ValueError, match='positive integers'):
        small(name, arch=SMALL[name]['arch'] | dict(dims=dims))


@pytest.mark.parametrize('name', [n for n in SMALL if 'depths' in SMALL[n]['arch'] or 'depth' in SMALL[n]['arch']])
@pytest.mark.parametrize('bad', [-1, '2', True, 1.5])
def test_depths_are_numbers(name, bad):
    arch = SMALL[name]['arch']
    key = 'depths' if 'depths' in arch else 'depth'
    depths = bad if key == 'depth' else (*arch['depths'][:-1], bad)
    with pytest.raises(ValueError, match=rf"arch\['{key}'\] must be (positive integers|integers of 0 or more), got"):
        small(name, arch=arch | {key: depths})


@pytest.mark.parametrize('name', [n for n in SMALL if 'depths' in SMALL[n]['arch'] and n != 'SpikingVGG'])  # it says so itself
def test_a_stage_may_have_no_blocks(name):
    arch = SMALL[name]['arch']
    model = small(name, arch=arch | dict(depths=(*arch['depths'][:-1], 0))).eval()
    for feature, channels in zip(model(torch.randn(1, 3, 64, 64)), model.out_channels, strict=True):
        assert feature.shape[1] == channels and feature.isfinite().all()


@pytest.mark.parametrize(
    ('x', 'message'),
    [
        (torch.randn(2, 1, 64, 64), 'in_channels=3, not 1'),
        (torch.randn(7, 2, 3, 64, 64), 'T is 7, but the model has T='),
        (torch.randn(2, 3, 31, 64), 'at least 32 x 32 px, got 31 x 64'),
        (torch.randn(3, 64, 64), r'frames \[T, B, C, H, W\], got a tensor of shape \(3, 64, 64\)'),
        (torch.zeros(1, 3, 64, 64, dtype=torch.uint8), 'must be floats'),
        (torch.randn(1, 3, 64, 64).double(), r'float64, the weights torch.float32: .* images.float\(\)'),
    ],
)
def test_bad_input(name, x, message):
    with pytest.raises(ValueError, match=message):
        small(name)(x)


@pytest.mark.parametrize('prefix', ['backbone.', None])
def test_pretrained_weights(name, tmp_path, prefix):
    model = small(name)
    path = str(tmp_path / 'checkpoint.pth')
    torch.save(
        dict(state_dict={f'backbone.{k}': v for k, v in model.state_dict().items()} | {'head.fc.bias': torch.zeros(3)}), path
    )
    init_cfg = dict(type='Pretrained', checkpoint=path) | (dict(prefix=prefix) if prefix else {})
    other = MODELS.get(name)(**SMALL[name], init_cfg=init_cfg)
    other.init_weights()
    for (k, a), b in zip(model.state_dict().items(), other.state_dict().values(), strict=True):
        assert torch.equal(a, b), k


def test_pretrained_weights_that_do_not_fit(name, tmp_path):
    weights = small(name).state_dict()
    missing = [k for k in weights if k.endswith('bias')][-1]
    weights.pop(missing)
    changed = next(k for k in weights if k.startswith('stages.0.') and weights[k].dim() == 4)
    shape = tuple(weights[changed].shape)
    weights[changed] = torch.zeros(3, 3, 3, 3)
    path = str(tmp_path / 'checkpoint.pth')
    torch.save(weights, path)
    with pytest.raises(ValueError, match='does not fit') as error:
        small(name, init_cfg=dict(type='Pretrained', checkpoint=path)).init_weights()
    assert f'missing: {missing}' in str(error.value)
    assert f'shape: {changed} is (3, 3, 3, 3) in the checkpoint and {shape} in the model' in str(error.value)
    assert 'nearest preset: mmspike.' in str(error.value)
