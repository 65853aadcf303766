"""What spiking attentions share."""

from torch import nn

from mmspike.models.neurons import build_neuron


def attention_neuron(neuron: dict) -> nn.Module:
    """The neuron on the sums of an attention: half the threshold of the others, where it has one."""
    module = build_neuron(neuron)
    if hasattr(module, 'v_threshold'):
        module.v_threshold *= 0.5
    return module
