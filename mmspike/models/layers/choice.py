"""Which modules of a row the kernels can take over, and spikes with what is known of them."""

import torch
import torch.nn.functional as F
from mmcv.cnn.bricks import wrappers
from torch import Tensor, nn
from torch.utils._python_dispatch import _get_current_dispatch_mode

from mmspike.kernels import operators
from mmspike.kernels.norm_neuron import LIF as FIRING
from mmspike.kernels.norm_neuron import SFA as COUNTING
from mmspike.kernels.norm_neuron import Neuron, neuron_anew, scaled_neuron
from mmspike.kernels.recompute import Signal, derived
from mmspike.kernels.spike_conv import kept_spikes
from mmspike.models.neurons import IF, ILIF, LIF, NILIF, PLIF, SFA

from .binary import BINARY, is_binary


def described(neuron: nn.Module) -> Neuron | None:
    """A neuron as the kernel of norms knows it; None: it does not."""
    if getattr(neuron, 'stateful', False):
        return None
    if type(neuron) in (LIF, IF):
        leak, tau = (1, neuron.tau) if type(neuron) is LIF else (0, 1.0)
        return Neuron(FIRING, leak, tau=tau, **neuron.firing)
    if type(neuron) is SFA and neuron.rounding == 'even':
        return Neuron(COUNTING, levels=neuron.levels, divisor=neuron.norm)
    return None


def count_divisor(neuron: nn.Module) -> float | None:
    """What a neuron's counts are divided by, if they fit in a byte; else None."""
    if hooked(neuron):  # who may change what it puts out
        return None
    if type(neuron) in (LIF, PLIF, IF):
        return 1.0
    if type(neuron) in (SFA, ILIF, NILIF) and neuron.levels < 256:
        return float(neuron.norm)
    return None


def fire(neuron: nn.Module, signal: Signal, scale: float | Tensor = 1.0, keep: bool = False) -> Signal:
    """The spikes of a neuron on ``scale`` times the tensor of ``signal``.

    Args:
        keep: Keep the spikes as bytes for the backward pass even if they can be computed anew, since that takes long.
    """
    x, kind = signal.x, described(neuron)
    saving = torch.is_grad_enabled() and x.dim() == 5 and fusable(x, neuron)
    if saving and kind is not None and signal.anew is not None and isinstance(scale, float):
        spikes, divisor = scaled_neuron(kind, signal, scale), count_divisor(neuron)
        anew = kept_spikes(spikes, divisor) if keep or divisor is None else neuron_anew(kind, signal, scale)
        return Signal(spikes, divisor, None, anew)
    signal = signal if isinstance(scale, float) and scale == 1 else Signal(x * scale)
    spikes, divisor = neuron(signal.x), count_divisor(neuron)
    if not saving or divisor is None:
        return Signal(spikes, divisor)
    if kind is not None and kind.kind == FIRING:  # has saved its input
        return Signal(spikes, divisor, None, neuron_anew(kind, signal))
    return Signal(spikes, divisor, None, kept_spikes(spikes, divisor))


def add(a: Signal, b: Signal) -> Signal:
    """The sum of a shortcut and a branch."""
    return Signal(a.x + b.x, anew=b.anew and derived(torch.add, a.back(), b.anew))


def pad(signal: Signal, right: int, below: int) -> Signal:
    """Zeros beside and below [T, B, C, H, W]."""
    if right == below == 0:
        return signal

    def enlarged(x: Tensor) -> Tensor:
        return F.pad(x, (0, right, 0, below))

    return Signal(enlarged(signal.x), signal.divisor, None, signal.anew and derived(enlarged, signal.anew))


def hooked(module: nn.Module) -> bool:
    """Somebody listens to a module, who may change what it puts out."""
    return bool(module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks)


#: torch's tables of those who listen to all modules
GLOBAL_HOOKS = tuple(f'_global_{kind}_hooks' for kind in ('forward', 'forward_pre', 'backward', 'backward_pre'))


def fusable(x: Tensor, *modules: nn.Module) -> bool:
    """``modules`` may be bypassed: nobody listens to them, and nothing special is going on."""
    return (
        operators.usable(x)
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()
        and not torch.is_autocast_enabled('cpu')
        and _get_current_dispatch_mode() is None  # which counts operations, or makes tensors without memory
        and type(x) is Tensor
        and x.numel() > 0
        and not any(map(hooked, modules))
        and not any(getattr(nn.modules.module, name) for name in GLOBAL_HOOKS)
    )


def fusable_norm(norm: nn.Module) -> bool:
    """A batch norm of the ordinary kind."""
    ordinary = type(norm) in (nn.BatchNorm2d, nn.BatchNorm1d)
    return ordinary and norm.affine and norm.track_running_stats and norm.momentum is not None


def fusable_layer(layer: nn.Module) -> bool:
    """A convolution, transposed convolution or linear layer of the ordinary kind, of full weights or one bit."""
    if type(layer) in (nn.Linear, wrappers.Linear) or is_binary(layer) and isinstance(layer, nn.Linear):
        return True
    # mmcv's own differ from PyTorch's for empty inputs alone
    plain = nn.Conv2d, nn.ConvTranspose2d, wrappers.Conv2d, wrappers.ConvTranspose2d
    ordinary = type(layer) in plain or type(layer) in BINARY.values()
    return ordinary and layer.padding_mode == 'zeros' and not isinstance(layer.padding, str)


def fusable_pool(pool: nn.Module) -> bool:
    """A pool of the ordinary kind."""
    return type(pool) is nn.AvgPool2d or type(pool) is nn.MaxPool2d and not pool.return_indices
