"""Mixed precision on a machine without accelerator, and weight decay that spares norms and biases everywhere."""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper
from mmengine.registry import OPTIM_WRAPPERS
from mmengine.runner.amp import autocast
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from mmspike.registry import OPTIM_WRAPPER_CONSTRUCTORS

NORMS = (_BatchNorm, _InstanceNorm, nn.GroupNorm, nn.LayerNorm)


def _cast(values: Any, source: torch.dtype, target: torch.dtype) -> Any:
    """Tensors of ``source`` among ``values`` (one or a tuple) cast to ``target``; all else as it is."""
    if isinstance(values, tuple):
        return tuple(_cast(v, source, target) for v in values)
    return values.to(target) if isinstance(values, Tensor) and values.dtype == source else values


def _in_float32(function: Callable) -> Any:
    """A forward or backward of an operator that computes bfloat16 in float32; the result has the first tensor's dtype."""

    @functools.wraps(function)
    def wrapped(ctx, *args):
        out = function(ctx, *_cast(args, torch.bfloat16, torch.float32))
        first = next((a for a in args if isinstance(a, Tensor) and a.is_floating_point()), None)
        return _cast(out, torch.float32, torch.bfloat16) if first is not None and first.dtype == torch.bfloat16 else out

    return staticmethod(wrapped)


@functools.cache
def run_mmcv_operators_in_float32() -> None:
    """Let mmcv's compiled operators (NMS, RoIAlign, …) accept bfloat16 on the CPU, which they do not know."""
    import mmcv.ops  # noqa: F401  (defines the operators)

    operator: Any
    for operator in Function.__subclasses__():
        if operator.__module__.startswith('mmcv.ops.'):
            operator.forward = _in_float32(operator.forward)
            operator.backward = _in_float32(operator.backward)


@OPTIM_WRAPPERS.register_module()
class CPUAmpOptimWrapper(OptimWrapper):
    """Mixed precision on a machine without accelerator, in bfloat16.

    mmengine's ``AmpOptimWrapper`` refuses the CPU. bfloat16 has the exponent range of float32: no loss scaling is needed.
    Takes the arguments of ``OptimWrapper``. It is registered with mmengine, so the type has no prefix.
    """

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        run_mmcv_operators_in_float32()

    @contextmanager
    def optim_context(self, model: torch.nn.Module) -> Iterator[None]:
        with super().optim_context(model), autocast(dtype=torch.bfloat16):
            yield


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class OptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """mmengine's constructor, whose ``norm_decay_mult`` and ``bias_decay_mult`` hold under custom keys, too.

    mmengine drops them for every parameter that one of ``custom_keys`` matches, so that ``'head': dict(lr_mult=2.0)`` lets
    weight decay at the norms and biases of the head. A key with a ``decay_mult`` of its own still decides alone. In a config:
    ``optim_wrapper = dict(constructor='mmspike.OptimWrapperConstructor', …)``.
    """

    def add_params(self, params: list[dict], module: nn.Module, prefix: str = '', is_dcn_module: bool | None = None) -> None:
        """Append the parameter groups of ``module`` to ``params``, as mmengine does."""
        super().add_params(params, module, prefix, is_dcn_module)
        if prefix or self.base_wd is None:  # mmengine comes here again for every child, the whole model is last
            return
        mults = {}
        for child in module.modules():
            is_norm = isinstance(child, NORMS)
            for name, parameter in child.named_parameters(recurse=False):
                if is_norm or name == 'bias':
                    mults[parameter] = self.paramwise_cfg.get('norm_decay_mult' if is_norm else 'bias_decay_mult')
        for group in params:
            mult = mults.get(group['params'][0])
            if mult is not None and 'decay_mult' not in group:
                group['weight_decay'] = self.base_wd * mult
