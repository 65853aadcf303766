"""The neurons of detection heads."""


def head_neuron(neuron: dict | None) -> dict:
    """The neuron config of a detection head; the default is SFA with D = 4 and divisor 1.

    Raises:
        ValueError: It is stateful. A head goes over the scales of a pyramid, or over boxes: the next call is not the next
            moment of the same membrane.
    """
    if neuron and neuron.get('stateful'):
        raise ValueError(
            f'a detection head takes no stateful neuron, got {dict(neuron)}: its next call is another scale or other boxes. '
            'Keep stateful=True for backbone and neck'
        )
    return neuron or dict(type='SFA', levels=4, divisor=1)
