"""The base of all neurons: the layout, and the membrane that ``stateful=True`` keeps between calls."""

import torch
from torch import Tensor, nn

from mmspike.registry import MODELS


class BaseNeuron(nn.Module):
    """A neuron layer on [T, B, ...]: by default every forward is one sample and starts from rest.

    Args:
        stateful: Keep the membrane (detached) between calls, for streams. ``reset`` drops it; ``mmspike.SpikeResetHook``
            calls that before every iteration. The state is not part of the state dict.

    Shape:
        [T, B, ...] in and out, elementwise but for the recursion over T.

    Attributes:
        layout: Axes of input and output where they are not [T, B, C, H, W] or [T, N, C], for those who look at channels from
            outside: a letter an axis, 'C' for the channels and 'N' for positions. 'TBNC' has tokens before channels.
        leaky: True if the membrane decays from step to step, which takes a multiplication for each.
        has_memory: A time step's output depends on the steps before; without it equal steps have equal outputs.
    """

    layout: str | None = None
    leaky = True
    has_memory = True
    takes_time = True  # see :class:`mmspike.models.layers.Chain`

    def __init__(self, stateful: bool = False) -> None:
        super().__init__()
        self.stateful = stateful
        self.v: Tensor | None = None

    def reset(self) -> None:
        """Forget the membrane: the next call starts from rest."""
        self.v = None

    def reset_places(self, places: Tensor) -> None:
        """Forget the membranes of some samples of a batch; those of the others go on.

        Args:
            places: bool [B], True for those that start from rest.

        Example:
            >>> import torch
            >>> from mmspike.models.neurons import LIF
            >>> neuron = LIF(stateful=True)
            >>> spikes = neuron(torch.full((1, 2, 3), 0.8))
            >>> neuron.reset_places(torch.tensor([True, False]))
            >>> neuron.v[:, 0].tolist()
            [0.0, 0.4000000059604645]
        """
        if self.v is not None:
            self.v = torch.where(places.to(self.v.device).view(-1, *[1] * (self.v.dim() - 1)), self.at_rest, self.v)

    @property
    def at_rest(self) -> float:
        """The membrane before the first input."""
        return getattr(self, 'v_reset', 0.0)

    def step(self, x: Tensor, v: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Output [T, B, ...] and last membrane [B, ...] for the input ``x`` and the starting membrane ``v`` (None: rest)."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """[T, B, ...] membrane input -> [T, B, ...] spikes of the same dtype."""
        if not self.stateful:
            return self.step(x, None)[0]
        if self.v is not None and self.v.shape != x.shape[1:]:
            raise ValueError(
                f'this {type(self).__name__} keeps a membrane of shape {tuple(self.v.shape)} from its last call and got '
                f'input {tuple(x.shape)} ([T, B, ...]): call reset() between samples, or use mmspike.SpikeResetHook'
            )
        out, v = self.step(x, None if self.v is None else self.v.to(x.device))
        self.v = None if v is None else v.detach()
        return out


def build_neuron(cfg: dict) -> nn.Module:
    """A neuron from its config: ``dict(type='LIF', tau=2.0)``, or any elementwise module of mmengine's registry ('ReLU').

    The name is looked up in this package first, whatever the default scope is, so it needs no prefix.

    Example:
        >>> from mmspike.models.neurons import build_neuron
        >>> build_neuron(dict(type='SFA', levels=4))
        SFA(levels=4, divisor=4)
    """
    if 'type' not in cfg:
        raise KeyError(f'a neuron config needs a type, for example dict(type="LIF"), got {cfg}')
    kwargs = dict(cfg)
    name = kwargs.pop('type')
    # a registered name first: get() would import every host library for it
    cls = (MODELS.module_dict.get(name) or MODELS.get(name)) if isinstance(name, str) else name
    if cls is None:
        known = sorted(k for k, c in MODELS.module_dict.items() if isinstance(c, type) and issubclass(c, BaseNeuron))
        raise KeyError(f"neuron type '{name}' is unknown: choose one of {known}, or an activation of mmcv such as 'ReLU'")
    neuron = cls(**kwargs)
    if not hasattr(neuron, 'step_mode'):
        neuron.takes_time = True  # whatever is elementwise does
    return neuron


def membrane_dtype(x: Tensor) -> torch.dtype:
    """Membranes are at least float32: half precision shifts spikes."""
    return torch.promote_types(x.dtype, torch.float32)
