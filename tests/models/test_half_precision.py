"""Every backbone, neck and head under autocast on CUDA tensors without data: half precision from end to end."""

import pytest
import torch
from torch.utils._pytree import tree_map

from mmspike.analysis.fake_cuda import training_step
from mmspike.registry import MODELS

from .backbones.test_backbones import SMALL, backbones
from .test_contracts import INPUTS, build
from .test_state_dicts import NETWORKS

pytestmark = pytest.mark.skipif(not torch.backends.cuda.is_built(), reason='fake CUDA tensors need a CUDA build of PyTorch')
#: neurons on sums of products over all tokens, which half precision would not hold exactly
ON_SUMS = ('attn.attn_neuron', 'mixer.attn_neuron', 'self_attention.attn_neuron', 'cross_attention.attn_neuron')


def check(step, names):
    """All neurons see half precision, nothing lies elsewhere, and every parameter has a float32 gradient."""
    lifted = {name for name, dtype in step.neuron_dtypes.items() if dtype != torch.float16}
    assert not [name for name in lifted if not name.endswith(ON_SUMS)]
    assert not step.elsewhere
    assert set(step.gradients) == set(names)
    assert set(step.gradients.values()) == {torch.float32}


def trained(network):
    return [name for name, p in network.named_parameters() if p.requires_grad]


@pytest.mark.parametrize('name', backbones())
def test_backbones(name):
    def network():
        return MODELS.build(dict(type=f'mmspike.{name}', **NETWORKS.get(name, SMALL[name])))

    check(training_step(network, lambda: torch.zeros(2, 3, 64, 64), torch.float16, neurons=True), trained(network()))


@pytest.mark.parametrize('name', INPUTS)
def test_necks_and_heads(name):
    network, inputs = build(name)
    examples = inputs(2)

    def features():
        return tree_map(lambda x: torch.zeros(x.shape, dtype=torch.float16), examples)

    check(training_step(lambda: build(name)[0], features, torch.float16, neurons=True), trained(network))
