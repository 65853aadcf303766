"""Backbones after published networks: their sizes, and their outputs where spikingjelly has the network, too."""

from inspect import signature

import pytest
import torch
from spikingjelly.activation_based import functional
from spikingjelly.activation_based import model as sj
from torch import nn

from mmspike.models.backbones import (
    MaxFormer,
    MSQKFormer,
    SAFormer,
    SpikeDrivenTransformer,
    Spikeformer,
    Spikformer,
    SpikingResformer,
    SpikingVGG,
)
from mmspike.models.neurons import lif
from mmspike.registry import MODELS

from ..spikes import assert_weights_read_spikes
from .test_backbones import SMALL, small

LIF = dict(type='LIF', v_threshold=0.45)


def millions(cls, arch, classes, without_norms=False, **kwargs):
    """Parameters of the backbone and a linear classifier, in millions."""
    with torch.device('meta'):
        backbone = cls(arch=arch, **kwargs)
        model = nn.ModuleList([backbone, nn.Linear(backbone.out_channels[-1], classes)])
    left_out = nn.BatchNorm2d if without_norms else ()
    return sum(p.numel() for m in model.modules() if not isinstance(m, left_out) for p in m.parameters(False)) / 1e6


@pytest.mark.parametrize(
    ('cls', 'arch', 'published'),
    [
        (Spikformer, '8-384', 16.8),
        (Spikformer, '8-512', 29.7),
        (Spikformer, '8-768', 66.3),
        (SpikeDrivenTransformer, '8-768', 66.3),
        (SpikingResformer, 'l', 60.4),
        (Spikeformer, 'imagenet', 39.3),
    ],
)
def test_size_is_the_published_one(cls, arch, published):
    assert round(millions(cls, arch, 1000), 1) == published


@pytest.mark.parametrize(
    ('cls', 'arch', 'published'),
    [
        (MaxFormer, '10-384', 16_237_240),
        (MaxFormer, '10-512', 28_653_480),
        (MaxFormer, '10-768', 63_992_200),
        (MSQKFormer, '10-384', 16_473_688),
        (MSQKFormer, '10-512', 29_079_336),
        (MSQKFormer, '10-768', 64_962_760),
    ],
)
def test_size_to_the_unit(cls, arch, published):
    assert round(1e6 * millions(cls, arch, 1000)) == published


@pytest.mark.parametrize(('arch', 'published'), [('ti', 11.1), ('s', 17.8), ('m', 35.5)])
def test_published_sizes_without_the_norms(arch, published):
    assert round(millions(SpikingResformer, arch, 1000, without_norms=True), 1) == published


@pytest.mark.parametrize(('arch', 'classes', 'published'), [('cifar10dvs', 10, 8.8), ('dvsgesture', 11, 9.3)])
def test_size_for_events_is_the_published_one(arch, classes, published):
    assert round(millions(Spikeformer, arch, classes, in_channels=2), 1) == published


def randomise(model):
    """Statistics and affine parameters as after a training, and weights that make everything fire."""
    for m in model.modules():
        if isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d)):
            nn.init.normal_(m.running_mean, std=0.2)
            nn.init.uniform_(m.running_var, 0.5, 1.5)
            nn.init.uniform_(m.weight, 1.0, 2.0)
            nn.init.normal_(m.bias, mean=1.0, std=0.3)
        elif isinstance(m, (nn.Conv1d, nn.Conv2d)):
            nn.init.normal_(m.weight, std=m.weight[0].numel() ** -0.5)
            if m.bias is not None:
                nn.init.normal_(m.bias, std=0.1)
    return model.double().eval()


def copy_conv(ours, conv, norm):
    """Weights of their convolution and norm in our ConvNorm; a bias that ours has not moves into the norm."""
    ours.conv.weight.copy_(conv.weight.view_as(ours.conv.weight))
    ours.norm.load_state_dict(norm.state_dict())
    bias = torch.zeros_like(norm.bias) if conv.bias is None else conv.bias
    if ours.conv.bias is None:
        ours.norm.running_mean.sub_(bias)
    else:
        ours.conv.bias.copy_(bias)


def split_in_three(conv, norm):
    """Their joint convolution and norm of q, k, v as three."""
    dim = conv.out_channels // 3
    for i in range(3):
        part = nn.Conv1d(dim, dim, 1, bias=False)
        part_norm = nn.BatchNorm1d(dim).double().eval()
        part.weight = nn.Parameter(conv.weight[i * dim : (i + 1) * dim])
        part_norm.load_state_dict({k: v if v.dim() == 0 else v[i * dim : (i + 1) * dim] for k, v in norm.state_dict().items()})
        yield part, part_norm


@torch.no_grad()
def copy_spikformer_block(ours, theirs):
    for conv, pair in zip(
        (ours.attn.q_conv, ours.attn.k_conv, ours.attn.v_conv), split_in_three(*theirs.attn.qkv_conv_bn), strict=True
    ):
        copy_conv(conv, *pair)
    copy_conv(ours.attn.proj_conv, *theirs.attn.proj_conv_bn)
    copy_conv(ours.mlp.fc1, *theirs.mlp.fc1)
    copy_conv(ours.mlp.fc2, *theirs.mlp.fc2)


@torch.no_grad()
def spikformer_pair(T):
    torch.manual_seed(0)
    theirs = randomise(sj.Spikformer(T=T, embed_dims=32, num_heads=2, depths=2, num_classes=5))
    ours = Spikformer(arch=dict(dims=(4, 8, 16, 32), depth=2, num_heads=2), T=T, temporal_output='keep').double().eval()
    stages = [stage.conv_bn.block for stage in theirs.patch_embed.stages]
    convs = [ours.stem[0], ours.stem[1].conv, ours.stages[0][0].conv, ours.stages[1][0].conv]
    for conv, block in zip(convs, stages, strict=True):
        copy_conv(conv, block[0], block[1])
    position = theirs.patch_embed.positional_encoding.conv_bn.block
    copy_conv(ours.stages[2][0].conv, position[0], position[1])
    for block, their_block in zip(list(ours.stages[2])[1:], theirs.blocks, strict=True):
        copy_spikformer_block(block, their_block)
    return ours, theirs


@torch.no_grad()
def test_spikformer_is_spikingjellys():
    """It pools before the neuron, the published code after it: with one step the order makes no difference."""
    ours, theirs = spikformer_pair(T=1)
    x = torch.randn(2, 3, 64, 64).double()
    feature = ours(x)[-1]
    torch.testing.assert_close(theirs.head(feature.mean((3, 4))), theirs(x))
    assert 0.1 < feature.mean() < 5


@torch.no_grad()
def test_blocks_of_spikformer_are_spikingjellys_over_time():
    ours, theirs = spikformer_pair(T=4)
    x = torch.randint(0, 3, (4, 2, 32, 5, 6)).double()
    for block, their_block in zip(list(ours.stages[2])[1:], theirs.blocks, strict=True):
        functional.reset_net(theirs)
        y = block(x)
        assert torch.equal(y, their_block(x))
        assert not torch.equal(x, y)


@torch.no_grad()
def test_spike_driven_transformer_is_spikingjellys():
    torch.manual_seed(0)
    theirs = randomise(sj.SpikeDrivenTransformer(T=4, embed_dims=32, num_heads=2, depths=2, num_classes=5))
    ours = SpikeDrivenTransformer(arch=dict(dims=(4, 8, 16, 32), depth=2), temporal_output='keep').double().eval()
    embed = theirs.patch_embed
    pairs = [(stage[0], stage[1]) for stage in embed.stages] + [(embed.final_stage[0], embed.final_stage[1])]
    convs = [ours.stem[0], ours.stem[1].conv, ours.stages[0][0].conv, ours.stages[1][0].conv]
    for conv, pair in zip(convs, pairs, strict=True):
        copy_conv(conv, *pair)
    copy_conv(ours.stages[2][0].conv, embed.rpe_conv, embed.rpe_bn)
    for block, their_block in zip(list(ours.stages[2])[1:], theirs.blocks, strict=True):
        for name in ('q', 'k', 'v', 'proj'):
            attn = their_block.attn
            copy_conv(getattr(block.attn, f'{name}_conv'), getattr(attn, f'{name}_conv'), getattr(attn, f'{name}_bn'))
        copy_conv(block.mlp.fc1, their_block.mlp.fc1, their_block.mlp.bn1)
        copy_conv(block.mlp.fc2, their_block.mlp.fc2, their_block.mlp.bn2)
    x = torch.randn(2, 3, 64, 64).double()
    spikes = theirs.head_lif(ours(x)[-1].mean((3, 4)))
    functional.reset_net(theirs)
    assert spikes.any()
    torch.testing.assert_close(theirs.head(spikes.mean(0)), theirs(x))


@pytest.mark.parametrize(
    'model',
    [
        SpikeDrivenTransformer(arch=dict(dims=(8, 8, 16, 32), depth=2), neuron=LIF),
        SAFormer(arch=dict(dims=(8, 8, 16, 32), depth=2, num_heads=2), neuron=LIF),
        SpikingResformer(arch=dict(dims=(16, 32, 48), num_heads=(1, 2, 2), group_size=16), neuron=LIF),
    ],
    ids=lambda m: type(m).__name__,
)
def test_only_the_first_convolution_reads_floats(model):
    parts = nn.ModuleList([*list(model.stem)[1:], *model.stages])
    with assert_weights_read_spikes(parts) as rates:
        model(torch.randn(2, 3, 64, 64))
    assert all(rate > 0 for rate in rates.values())


class TestSpikingResformer:
    arch = dict(dims=(16, 32, 48), num_heads=(1, 2, 2), group_size=16)
    neuron = LIF

    def test_attention_by_definition(self):
        """One step, one head, by loops over the tokens."""
        model = SpikingResformer(arch=self.arch, T=1, neuron=self.neuron).double().eval()
        attn = model.stages[0][0].attn
        attn.input_rate.running_rate.fill_(0.3)
        attn.attn_rate.running_rate.fill_(0.2)
        seen = {}
        attn.out_neuron.register_forward_pre_hook(lambda _, args: seen.update(z=args[0]))
        x = torch.randn(1, 1, 16, 8, 8).double()
        with torch.no_grad():
            attn(x)
            spikes = (x / 2 >= 0.45).double()
            y = attn.dual_conv(spikes)[0, 0].flatten(1)  # [32, 4]: two rows of two patches
            flat = spikes[0, 0].flatten(1)
            z = torch.zeros(16, 64).double()
            for patch in range(4):
                for token in range(64):
                    current = y[:16, patch] @ flat[:, token] / (0.3 * 16) ** 0.5
                    if current / 2 >= 0.45:
                        z[:, token] += y[16:, patch]
        torch.testing.assert_close(seen['z'][0, 0].flatten(1), z / (0.2 * 4) ** 0.5)

    def test_rates_move_in_training_alone(self):
        model = SpikingResformer(arch=self.arch, T=2, neuron=self.neuron).train()
        rate = model.stages[1][1].attn.input_rate
        spikes = []
        rate.register_forward_pre_hook(lambda _, args: spikes.append(args[0]))
        for _ in range(2):
            model(torch.randn(2, 3, 64, 64))
        first, second = (s.mean((0, 1, 3, 4)) for s in spikes)
        torch.testing.assert_close(rate.running_rate.flatten(), 0.999 * first + 0.001 * second)
        before = rate.running_rate.clone()
        model.eval()(torch.randn(2, 3, 64, 64))
        assert torch.equal(rate.running_rate, before)


class TestSpikeformer:
    arch = dict(dims=(8, 8, 16), depth=2, num_heads=2, grid=4, steps=4)

    def test_embeddings_stretch(self):
        """An embedding of another grid and another number of steps is stretched; at its own size it is added as it is."""
        model = Spikeformer(arch=self.arch, temporal_output='keep').eval()
        embedding = model.stages[-1][len(model.stages[-1]) - 3]
        x = torch.zeros(4, 1, 16, 4, 4)
        tokens = embedding(x).flatten(3).permute(1, 0, 3, 2)[0]
        assert torch.equal(tokens, embedding.pos_embed + embedding.time_embed[0, :, None])
        place = embedding.pos_embed.mean(1)
        wide = embedding(torch.zeros(2, 1, 16, 8, 8))
        torch.testing.assert_close(wide.mean((3, 4))[:, 0], place + embedding.time_embed[0, ::2], atol=2e-3, rtol=0)

    def test_time_attention_starts_at_zero(self):
        """At first no block of attention mixes time: with neurons without memory the steps are those of single frames."""
        model = Spikeformer(arch=self.arch | dict(steps=1), neuron=dict(type='ReLU'), temporal_output='keep').eval()
        frames = torch.randn(4, 1, 3, 32, 32)
        single = Spikeformer(arch=self.arch | dict(steps=1), T=1, neuron=dict(type='ReLU'), temporal_output='keep').eval()
        single.load_state_dict(model.state_dict())
        with torch.no_grad():
            together = model(frames)[-1]
            for t in range(4):
                torch.testing.assert_close(together[t], single(frames[t : t + 1])[-1][0], rtol=1e-4, atol=1e-4)
            nn.init.normal_(model.stages[-1][-1].time_proj.weight)
            assert not torch.allclose(model(frames)[-1], together, atol=1e-2)

    def test_tokenizer_adds_spikes(self):
        model = Spikeformer(
            arch=self.arch, neuron=dict(type='PLIF', v_threshold=0.45), temporal_output='keep', out_indices=(0,)
        )
        x = model(torch.randn(2, 3, 32, 32))[0]
        assert set(x.unique().tolist()) <= {0.0, 1.0, 2.0, 3.0} and x.any()


class TestSpikingVGG:
    arch = dict(dims=(8, 12, 16, 24), depths=(2, 2, 3, 2))

    @pytest.mark.parametrize(('arch', 'thousands'), [('9', 1736.6), ('9-deeplab', 1736.6), ('9-fcn', 13537.2)])
    def test_sizes_of_the_presets(self, arch, thousands):
        """No size is published: nine layers of 3x3 weights and their norms, by hand."""
        widths = [3, 64, 64, 128, 128, 256, 256, 256, *([1024, 1024] if 'fcn' in arch else [])]
        expected = sum(9 * i * o + 2 * o for i, o in zip(widths[:-1], widths[1:], strict=True))
        with torch.device('meta'):
            size = sum(p.numel() for p in SpikingVGG(arch).parameters())
        assert size == expected and round(size / 1e3, 1) == thousands

    @pytest.mark.parametrize('pool', ['avg', 'max'])
    def test_by_definition(self, pool):
        """One layer after the other; at a pool spikes are pooled, and the last stage has dilated convolutions."""
        model = SpikingVGG(self.arch | dict(dilation=2), T=2, pool=pool, neuron=LIF, temporal_output='keep').double()
        x = torch.randn(2, 3, 3, 32, 40).double()
        convs = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
        norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
        pools = dict(avg=nn.functional.avg_pool2d, max=nn.functional.max_pool2d)
        expected, ends = [], (1, 3, 6, 8)
        with torch.no_grad():
            y = norms[0](convs[0](x.flatten(0, 1)))
            for i in range(1, 9):
                spikes, _ = lif(y.unflatten(0, (2, 3)), v_threshold=LIF['v_threshold'])
                spikes = spikes.flatten(0, 1)
                if i - 1 in ends:
                    spikes = pools[pool](spikes, 3, 2, 1)
                dilation = 2 if i == 8 else 1
                y = norms[i](nn.functional.conv2d(spikes, convs[i].weight, padding=dilation, dilation=dilation))
                if i in ends:
                    expected.append(y.unflatten(0, (2, 3)))
            features = model(x)
        assert model.out_strides == (1, 2, 4, 8) and all(f.any() for f in features)
        for ours, theirs in zip(features, expected, strict=True):
            torch.testing.assert_close(ours, theirs)

    def test_weights_read_spikes(self):
        model = SpikingVGG(self.arch, T=2, pool='max', neuron=LIF)
        with assert_weights_read_spikes(nn.ModuleList(model.stages)) as rates:
            model(torch.randn(2, 3, 32, 32))
        assert all(rate > 0 for rate in rates.values())

    @pytest.mark.parametrize(
        ('kwargs', 'message'),
        [
            (dict(pool='mean'), "one of .*'avg', 'max'.*'mean'"),
            (dict(arch=dict(dims=(8, 8, 8), depths=(1, 2, 2))), '2 or more'),
        ],
    )
    def test_bad_arguments(self, kwargs, message):
        with pytest.raises(ValueError, match=message):
            SpikingVGG(**kwargs)


@pytest.mark.parametrize('name', [n for n in SMALL if 'strides' in signature(MODELS.get(n).__init__).parameters])
def test_number_of_strides(name):
    with pytest.raises(ValueError, match='strides needs [45] entries'):
        small(name, strides=(2, 2))
