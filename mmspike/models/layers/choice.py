"""The modules of a row that the kernels can take over, and spikes with what is known of them."""

from collections.abc import Callable
from operator import attrgetter
from typing import Any

import torch
import torch.nn.functional as F
from mmcv.cnn.bricks import wrappers
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from mmspike.kernels import gpu, operators
from mmspike.kernels.counts import count, kept_spikes
from mmspike.kernels.gpu import layers
from mmspike.kernels.layout import fold
from mmspike.kernels.norm_neuron import LIF as FIRING
from mmspike.kernels.norm_neuron import SFA as COUNTING
from mmspike.kernels.norm_neuron import Neuron, neuron_anew, scaled_neuron
from mmspike.kernels.recompute import Signal, derived, kept_bits
from mmspike.kernels.sparse import pack
from mmspike.models.neurons import IF, ILIF, LIF, NILIF, PLIF, SFA

from .binary import BINARY
from .low_bit import LOW_BIT
from .repconv import NormFirstRepConv, RepConv
from .temporal import DropPath


def described(neuron: nn.Module, steps: int) -> Neuron | None:
    """A neuron on ``steps`` time steps as the kernel of norms knows it; None: it does not."""
    cls = type(neuron)
    if cls not in (LIF, IF, SFA, ILIF, NILIF) or neuron.stateful:
        return None
    if cls in (ILIF, NILIF):  # one step from rest counts what SFA does
        return Neuron(COUNTING, levels=neuron.levels, divisor=neuron.divisor) if steps == 1 else None
    # written out, since torch.compile traces neither attrgetters of several names nor classes behind a cache
    if cls is LIF:
        return Neuron(FIRING, 1, neuron.surrogate, neuron.tau, neuron.v_threshold, neuron.v_reset, neuron.alpha)
    if cls is IF:
        return Neuron(FIRING, 0, neuron.surrogate, 1.0, neuron.v_threshold, neuron.v_reset, neuron.alpha)
    return Neuron(COUNTING, levels=neuron.levels, divisor=neuron.divisor) if neuron.rounding == 'even' else None


def count_divisor(neuron: nn.Module) -> float | None:
    """The divisor of a neuron's counts, if they fit in a byte; else None."""
    if hooked(neuron):  # who may change what it puts out
        return None
    if type(neuron) in (LIF, PLIF, IF):
        return 1.0
    if type(neuron) in (SFA, ILIF, NILIF) and neuron.levels < 256:
        return float(neuron.divisor)
    return None


def fire(neuron: nn.Module, signal: Signal, scale: float | Tensor = 1.0, keep: bool = False) -> Signal:
    """The spikes of a neuron on ``scale`` times the tensor of ``signal``.

    Args:
        keep: Keep the spikes as bytes for the backward pass even if they can be computed anew, since that takes long.
    """
    x, known = signal.x, described(neuron, signal.x.shape[0])
    saving = torch.is_grad_enabled() and x.dim() == 5 and fusable(x, neuron)
    if saving and gpu.usable(x):
        return _fire_on_cuda(neuron, known, signal if isinstance(scale, float) and scale == 1 else Signal(x * scale))
    if saving and known is not None and signal.anew is not None and isinstance(scale, float):
        spikes, divisor = scaled_neuron(known, signal, scale), count_divisor(neuron)
        if known.binary and (bits := pack(fold(spikes), spikes.dtype)):
            return Signal(spikes, divisor, None, kept_bits(bits, spikes.dtype, x.shape[0]), bits)
        anew = kept_spikes(spikes, divisor) if keep or divisor is None else neuron_anew(known, signal, scale)
        return Signal(spikes, divisor, None, anew)
    signal = signal if isinstance(scale, float) and scale == 1 else Signal(x * scale)
    if saving and known is not None and known.kind == COUNTING and 1 < known.levels < 128:
        return count(signal.x, known.levels, known.divisor)
    spikes, divisor = neuron(signal.x), count_divisor(neuron)
    if not saving or divisor is None:
        return Signal(spikes, divisor)
    if divisor == 1 and (bits := pack(fold(spikes), spikes.dtype)):
        return Signal(spikes, divisor, None, kept_bits(bits, spikes.dtype, x.shape[0]), bits)
    if known is not None and known.kind == FIRING:  # has saved its input
        return Signal(spikes, divisor, None, neuron_anew(known, signal))
    return Signal(spikes, divisor, None, kept_spikes(spikes, divisor))


def _fire_on_cuda(neuron: nn.Module, known: Neuron | None, signal: Signal) -> Signal:
    divisor = count_divisor(neuron)
    if known is not None and divisor is not None and layers.takes(known, signal.x.shape[0]):
        return layers.fire(known, signal.x)
    spikes = neuron(signal.x)
    if divisor is None or getattr(neuron, 'levels', 1) > layers.BYTE_LEVELS:
        return Signal(spikes)
    return Signal(spikes, divisor, None, layers.kept(spikes, divisor))


def add(a: Signal, b: Signal) -> Signal:
    """The sum of a shortcut and a branch."""
    # on a GPU the sum is kept, where the neuron behind it has to keep its input
    anew = None if gpu.usable(a.x) else b.anew
    return Signal(a.x + b.x, anew=anew and derived(torch.add, a.back(), anew))


def pad(signal: Signal, right: int, below: int) -> Signal:
    """Zeros beside and below [T, B, C, H, W]."""
    if right == below == 0:
        return signal

    def enlarged(x: Tensor) -> Tensor:
        return F.pad(x, (0, right, 0, below))

    return Signal(enlarged(signal.x), signal.divisor, None, signal.anew and derived(enlarged, signal.anew))


#: torch's tables of those who listen to all modules
_global_listeners = attrgetter(*(f'_global_{kind}_hooks' for kind in ('forward', 'forward_pre', 'backward', 'backward_pre')))


def hooked(*modules: nn.Module) -> bool:
    """Somebody listens to one of the modules, who may change what it puts out."""
    return any(m._forward_hooks or m._forward_pre_hooks or m._backward_hooks or m._backward_pre_hooks for m in modules)


def _on_the_cpu(x: Tensor) -> bool:
    return operators.usable(x) and not torch.is_autocast_enabled('cpu') and not operators.watched(x)


def fusable(x: Tensor, *modules: nn.Module) -> bool:
    """``modules`` may be bypassed: nobody listens to them, and nothing special is going on."""
    return (
        not torch.compiler.is_compiling()  # first: what follows cannot be traced
        and (gpu.fuses(x) or _on_the_cpu(x))
        and not torch.jit.is_tracing()
        and x.numel() > 0
        and not any(_global_listeners(nn.modules.module))
        and not hooked(*modules)
    )


#: the classes that kernels take over
ROLES: dict[type, str] = {
    nn.BatchNorm2d: 'norm',
    nn.BatchNorm1d: 'norm',
    nn.AvgPool2d: 'pool',
    nn.MaxPool2d: 'pool',
    RepConv: 'repconv',
    NormFirstRepConv: 'norm-first repconv',
    DropPath: 'drop path',
    # mmcv's own differ from PyTorch's for empty inputs alone
    **dict.fromkeys((nn.Conv2d, nn.ConvTranspose2d, wrappers.Conv2d, wrappers.ConvTranspose2d), 'layer'),
    **dict.fromkeys((nn.Linear, wrappers.Linear, *BINARY.values(), *LOW_BIT.values()), 'layer'),
    **dict.fromkeys((IF, ILIF, LIF, NILIF, PLIF, SFA), 'neuron'),
}


def role(module: nn.Module) -> str:
    """The role of a module for the kernels: a value of :data:`ROLES` if its settings are ordinary; '': none."""
    found = ROLES.get(type(module), '')
    if found == 'norm':
        ordinary = module.affine and module.track_running_stats and module.momentum is not None
    elif found == 'layer' and not isinstance(module, nn.Linear):
        ordinary = module.padding_mode == 'zeros' and not isinstance(module.padding, str)
    elif found in ('repconv', 'norm-first repconv'):
        ordinary = role(module.norm1) == 'norm'
    else:
        ordinary = not getattr(module, 'return_indices', False)
    return found if ordinary else ''


def several(norm: nn.Module, x: Tensor) -> bool:
    """There is more than one value a channel of x [T, B, C, ...], which the statistics of a batch need."""
    return not norm.training or x.numel() > x.shape[2]


def norms_and_neuron(parts: list[tuple[nn.Module, str]], i: int, steps: int) -> tuple[list[nn.Module], Neuron | None]:
    """The norm ``parts[i]``, with the one behind it if both are in the same mode, and the neuron behind them."""
    norms = [parts[i][0]]
    following = parts[i + 1 : i + 3]
    if following and following[0][1] == 'norm' and following[0][0].training == norms[0].training:
        norms.append(following.pop(0)[0])
    return norms, described(following[0][0], steps) if following and following[0][1] == 'neuron' else None


def settings(module: nn.Module) -> Callable[[Any], tuple] | None:
    """A getter of those attributes of a module on which its :func:`role` depends beside its class."""
    if isinstance(module, _BatchNorm):
        return attrgetter('affine', 'track_running_stats', 'momentum')
    if isinstance(module, _ConvNd):
        return attrgetter('padding_mode', 'padding')
    return attrgetter('return_indices', 'ceil_mode') if isinstance(module, nn.MaxPool2d) else None
