"""A chain works out once what the kernels take over, and anew where that has changed."""

import copy
import pickle

import pytest
import torch
from torch import nn

from mmspike import kernels
from mmspike.kernels import library
from mmspike.models.layers import (
    MLP,
    Chain,
    ConvNorm,
    DropPath,
    NormFirstRepConv,
    RepConv,
    RepConvNorm,
    Residual,
    SpikeAttention,
    SpikingConv,
    binarise,
    chain,
)
from mmspike.models.neurons import IF, LIF

BN = dict(type='BN')
X = 2 * torch.randn(2, 2, 4, 5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def _compiler():
    if not library.available():
        pytest.skip('needs a C compiler')


@pytest.fixture
def made(monkeypatch):
    """The modules of which a row was worked out."""
    modules, init = [], chain.Row.__init__

    def note(row, module, unroll):
        modules.append(module)
        init(row, module, unroll)

    monkeypatch.setattr(chain.Row, '__init__', note)
    return modules


def mlp():
    torch.manual_seed(0)
    model = Chain(first=MLP(4, 2, dict(type='LIF'), BN), rep=RepConvNorm(4, BN), neuron=LIF(), last=ConvNorm(4, 4, 3))
    for m in model.modules():
        if isinstance(m, nn.BatchNorm2d):
            nn.init.normal_(m.bias, 0.6, 0.8)
    return model.double()


def as_modules_do(model):
    out = model(X)
    with kernels.use(False):
        torch.testing.assert_close(out, copy.deepcopy(model)(X))
    return out


def test_once(made):
    model = mlp().eval()
    for _ in range(3):
        model(X)
    model.float()(X.float())
    model.double().requires_grad_(False)(X)
    model.load_state_dict(mlp().state_dict())
    model.train()(X)
    assert made == [model]


def parametrized(model):
    nn.utils.parametrizations.weight_norm(model.last.conv)


CHANGES = dict(
    neuron=lambda model: setattr(model, 'neuron', IF()),
    neuron_inside=lambda model: setattr(model.first, 'neuron2', IF()),
    neuron_by_index=lambda model: model.first.__setitem__(0, IF()),
    table=lambda model: model.first._modules.update(neuron1=IF()),
    removed=lambda model: delattr(model, 'rep'),
    folded=lambda model: setattr(model.last, 'norm', nn.Identity()),
    appended=lambda model: model.append(IF()),
    reparametrized=lambda model: setattr(model.rep, 'rep', nn.Conv2d(4, 4, 3, padding=1).double()),
    norm_in_repconv=lambda model: setattr(model.rep.rep, 'norm1', nn.SyncBatchNorm(4).double()),
    class_of_a_layer=binarise,
    parametrized=parametrized,
    padding=lambda model: setattr(model.last.conv, 'padding_mode', 'replicate'),
    averaging=lambda model: setattr(model.last.norm, 'momentum', None),
)


@pytest.mark.parametrize('change', CHANGES)
def test_anew_where_something_changed(change, made):
    model = mlp().eval()
    before = model(X)
    model(X)
    assert made.count(model) == 1
    CHANGES[change](model)
    if change == 'padding':
        model.last.conv._reversed_padding_repeated_twice = [1] * 4
    after = as_modules_do(model)
    assert made.count(model) == 2
    assert change in ('norm_in_repconv', 'averaging', 'parametrized') or not torch.equal(before, after)


def test_residual_blocks_and_attentions_are_unrolled_for_cuda():
    neuron = dict(type='LIF')
    attn = SpikeAttention(4, 2, lambda which: ConvNorm(4, 4), neuron)
    branch = dict(conv=SpikingConv(4, 4, neuron=neuron), drop_path=DropPath(0.1))
    block = Residual(branch, dict(attn=attn), shortcut=dict(pool=nn.AvgPool2d(1)), after=dict(last=LIF()))
    roles = ['fork', 'pool', 'swap', 'neuron', 'layer', 'drop path', 'join']
    roles += ['fork', 'neuron', 'attention', 'layer', 'norm', 'join', 'neuron']
    row = block.as_row(unroll=True)
    assert [role for _, role in row.parts] == roles
    assert block.as_row(unroll=True) is row and attn in row.below
    attn.neuron = IF()
    assert block.as_row(unroll=True) is not row
    assert [role for _, role in chain.Row(Chain(block=block), unroll=False).parts] == ['']  # on the CPU it is called
    own = type('Own', (Residual,), dict(forward=lambda self, x: x))(branch)  # a forward of its own
    assert own.unrolled() is None


def test_synchronised_norms_are_called():
    model = mlp().eval()
    expected = model(X)
    model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    seen = []
    handle = model.first.fc1.norm.register_forward_hook(lambda m, args, out: seen.append(m))
    torch.testing.assert_close(model(X), expected)
    handle.remove()
    assert [role for m, role in model.as_row().parts if isinstance(m, nn.SyncBatchNorm)] == [''] * 4
    assert len(seen) == 1


@pytest.mark.parametrize('where', ['neuron1', 'fc1', 'fc1.conv', 'fc2.norm'])
def test_hooks_that_come_later_are_called(where):
    model = mlp()
    model(X)
    seen = []
    module = model.first.get_submodule(where)
    handle = module.register_forward_pre_hook(lambda m, args: seen.append(m))
    model(X)
    handle.remove()
    model(X)
    assert seen == [module]
    module._forward_hooks = type(module._forward_hooks)()  # as some do to be rid of all
    module.register_forward_hook(lambda m, args, out: seen.append(m))
    model(X)
    assert seen == [module] * 2


def test_settings_of_neurons_and_modes_of_norms_are_read_at_every_call():
    model = mlp()
    model(X)
    model.neuron.v_threshold = 0.3
    model.first.neuron2.stateful = True
    model.first.fc1.norm.eval()
    state = copy.deepcopy(model)
    out = model(X)
    with kernels.use(False):
        torch.testing.assert_close(out, state(X))
    assert model.first.neuron2.v is not None


def test_two_norms_in_different_modes():
    model = Chain(a=ConvNorm(4, 4), b=nn.BatchNorm2d(4), neuron=LIF()).double()
    model(X)
    model.b.eval()
    as_modules_do(model)


@pytest.mark.parametrize('copied', [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=['deepcopy', 'pickle'])
def test_copies_have_rows_of_their_own(copied):
    model = mlp().eval()
    expected = model(X)
    other = copied(model)
    assert b'_row' not in pickle.dumps(model)
    assert torch.equal(other(X), expected)
    nn.init.zeros_(other.first.fc1.conv.weight)
    other.neuron = nn.Identity()
    assert not torch.equal(other(X), expected) and torch.equal(model(X), expected)
    assert {id(m) for m, _ in other.as_row().parts} <= {id(m) for m in other.modules()}


def test_a_hook_on_the_chain_itself_does_not_slow_it(monkeypatch):
    model, calls = SpikingConv(4, 4, 3, neuron=dict(type='LIF'), norm_cfg=BN).double(), []
    monkeypatch.setattr(chain, '_call', lambda module, x: calls.append(module))
    model.register_forward_hook(lambda m, args, out: None)
    model(X)
    assert not calls


@pytest.mark.parametrize('row', [[RepConvNorm(4, BN)], [ConvNorm(4, 4), LIF()]], ids=['RepConv', 'ConvNorm'])
def test_one_value_a_channel(row):
    model, x = Chain({str(i): m for i, m in enumerate(row)}), torch.randn(1, 1, 4, 1, 1)
    with pytest.raises(ValueError, match='more than 1 value per channel'):
        model(x)
    assert model.eval()(x).shape == x.shape


@pytest.mark.parametrize('base', [lambda: RepConv(4, BN), lambda: NormFirstRepConv(4, 4, BN)], ids=['RepConv', 'NormFirst'])
def test_a_class_of_its_own_is_called_whole(base):
    """Whoever derives from a re-parameterised convolution may compute something else."""
    plain = base()
    plain.__class__ = type('Doubled', (type(plain),), dict(forward=lambda self, x: 2 * super(type(self), self).forward(x)))
    as_modules_do(Chain(neuron=LIF(), rep=plain, last=ConvNorm(4, 4)).double().eval())
