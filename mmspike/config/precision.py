"""The precision that a command line asks for: float16, bfloat16 and TF32."""

import functools
from collections.abc import Callable
from typing import Any

import torch
from mmengine.config import Config
from torch import nn

from mmspike.engine.optim import run_mmcv_operators_in_float32
from mmspike.utils.errors import UserError

DTYPES = dict(fp16=torch.float16, bf16=torch.bfloat16)


def set_tf32(on: bool) -> None:
    """Let float32 convolutions on NVIDIA cards since Ampere round what they read to TF32, or not.

    PyTorch's own setting is on. Matrix products stay float32 in any case: those of an attention sum spike counts, which TF32
    holds exactly up to 2048 only.

    Example:
        >>> set_tf32(False)
        >>> torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
        (False, False)
    """
    torch.backends.cudnn.allow_tf32 = on
    torch.backends.cuda.matmul.allow_tf32 = False


def amp_dtype(choice: str, device: str) -> torch.dtype:
    """The type that ``--amp CHOICE`` means.

    Args:
        choice: 'bf16', 'fp16' or 'default': float16 on an accelerator, bfloat16 on the CPU.
        device: Type of the device that computes, such as 'cuda' or 'cpu'.

    Raises:
        UserError: The device has no such type.
    """
    dtype = DTYPES.get(choice, torch.bfloat16 if device == 'cpu' else torch.float16)
    if dtype == torch.float16 and device == 'cpu':
        raise UserError('--amp fp16 needs a GPU, and this runs on the CPU: --amp bf16 works there')
    if dtype == torch.bfloat16 and device == 'cuda' and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise UserError(f'--amp bf16: {torch.cuda.get_device_name()} has no bfloat16, cards since Ampere have: use --amp fp16')
    return dtype


def enable_amp(cfg: Config, choice: str = 'default') -> None:
    """Let a config train in mixed precision.

    float16 goes with dynamic loss scaling. bfloat16 has the range of float32 and goes without.

    Args:
        choice: As in :func:`amp_dtype`; with 'default' on an accelerator a ``dtype`` that the config has is kept.

    Raises:
        UserError: The device has no such type, or the config's optimizer wrapper is of another kind.
    """
    wrapper = cfg.optim_wrapper
    if wrapper.get('type', 'OptimWrapper') not in ('OptimWrapper', 'AmpOptimWrapper', 'CPUAmpOptimWrapper'):
        raise UserError(f'--amp needs optim_wrapper.type OptimWrapper, the config has {wrapper.type}')
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    dtype = amp_dtype(choice, accelerator.type if accelerator else 'cpu')
    if accelerator is None:
        wrapper.type = 'CPUAmpOptimWrapper'
        for key in ('loss_scale', 'dtype'):
            wrapper.pop(key, None)
        return
    wrapper.type = 'AmpOptimWrapper'
    if choice == 'default':
        dtype = wrapper.get('dtype') or dtype
    wrapper.dtype = str(dtype).removeprefix('torch.')
    if wrapper.dtype == 'bfloat16':
        wrapper.loss_scale = dict(enabled=False)
        run_mmcv_operators_in_float32()
    else:
        wrapper.setdefault('loss_scale', 'dynamic')


def halve_test_step(model: nn.Module, choice: str) -> None:
    """Let ``model.test_step`` run in mixed precision, and heads make boxes, scores and label maps of outputs in float32.

    A position has 8 bits in bfloat16, steps of 2 pixels from 256 on, and numpy, which scores it, has no such type.

    Args:
        choice: As in :func:`amp_dtype`.

    Raises:
        UserError: The device has no such type, or ``model`` is not a module yet (that of a ``FlexibleRunner``).
    """
    if not isinstance(model, nn.Module):
        raise UserError("--amp: with a FlexibleRunner the config's strategy decides the precision")
    step, device = model.test_step, next(model.parameters()).device.type
    dtype = amp_dtype(choice, device)
    if dtype == torch.bfloat16:
        run_mmcv_operators_in_float32()

    def in_half(data: Any) -> Any:
        with torch.autocast(device, dtype):
            return step(data)

    model.test_step = in_half
    for head in model.modules():
        if hasattr(head, 'predict_by_feat'):
            setattr(head, 'predict_by_feat', _on_floats(head.predict_by_feat))  # noqa: B010 - mypy takes attributes for modules


def _on_floats(function: Callable) -> Callable:
    """The same function, called with tensors in half precision as float32."""

    def lifted(x: Any) -> Any:
        if isinstance(x, (list, tuple)) and not hasattr(x, '_fields'):
            return type(x)(map(lifted, x))
        return x.float() if isinstance(x, torch.Tensor) and x.dtype in DTYPES.values() else x

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*lifted(args), **{k: lifted(v) for k, v in kwargs.items()})

    return wrapper
