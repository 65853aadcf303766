"""Networks as ONNX, whole or their backbones, checked in onnxruntime."""

import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mmspike.models.backbones.base import SpikingBackbone
from mmspike.models.backbones.extra_stages import ExtraStages
from mmspike.utils.optional import is_installed

from .check import difference
from .engines import open_session
from .layers import Accumulate
from .plain import plain
from .runner import KEY
from .whole import STRIDE, Calls, Part, example, logits, split

ONNX_PACKAGES = ('onnx', 'onnxscript', 'onnxruntime')


def require(packages: Sequence[str], what: str) -> None:
    """Raise ImportError naming those of ``packages`` that are not installed."""
    missing = [p for p in packages if not is_installed(p)]
    if missing:
        raise ImportError(f'{what} needs {", ".join(missing)}, not installed here: pip install {" ".join(missing)}')


@dataclass
class Written:
    """A file that was exported.

    Attributes:
        path: Where it is.
        gap: Largest absolute difference of its outputs in onnxruntime from PyTorch's, see :func:`export_onnx`.
        module: What was exported, for :func:`mmspike.deploy.engine_check.check_engine`.
    """

    path: Path
    gap: float
    module: nn.Module


def _check_kind(model: nn.Module) -> bool:
    """True for a classifier.

    Raises:
        ValueError: ONNX export knows no such model.
    """
    if is_installed('mmpretrain'):
        from mmpretrain.models import ImageClassifier

        if isinstance(model, ImageClassifier):
            return True
    if isinstance(model, (SpikingBackbone, ExtraStages)):
        _refuse_expanded(model)
        return False
    raise ValueError(
        f'{type(model).__name__} cannot be exported to ONNX: spiking backbones and mmpretrain classifiers can. '
        'Of a detector or segmentor, export its backbone'
    )


def _refuse_expanded(model: nn.Module) -> None:
    expanded = next((name for name, m in model.named_modules() if isinstance(m, Accumulate)), None)
    if expanded is not None:
        raise ValueError(f'{expanded} adds up in float64, for expanded networks: export the network that fuse() returns')


def export_onnx(model: nn.Module, shape: Sequence[int], path: str | Path) -> float:
    """Write an ONNX file and compare its outputs in onnxruntime with PyTorch's.

    The input ``inputs`` is what the data preprocessor gives, normalised images; outputs are ``features_0``, … or ``logits``.
    The batch is free, whatever B is given; height and width are fixed. Neurons become plain operations, the time steps
    written out.

    Args:
        model: A spiking backbone or an mmpretrain classifier, fused or not.
        shape: Of the input: (B, C, H, W), or (T, B, C, H, W) for event frames.
        path: ONNX file to write.

    Returns:
        Largest absolute difference on random inputs, of batches of 1 and of 3. In float32 a membrane that rounding moves
        across a threshold makes it large.

    Raises:
        ImportError: onnx, onnxscript or onnxruntime is missing.
        ValueError: The model, or a neuron in it, cannot be exported; it is named.
    """
    require(ONNX_PACKAGES, 'ONNX export')
    classifier = _check_kind(model)
    traced = Calls(plain(model), logits if classifier else nn.Module.__call__)
    batch = len(shape) - 4
    free: list[int | None] = list(shape)
    free[batch] = None
    with torch.no_grad():
        outputs = traced.eval().cpu().float()(torch.zeros(tuple(shape)))
    names = ['logits'] if classifier else [f'features_{i}' for i in range(len(outputs))]
    return _write(Part('', traced, 'inputs', names, tuple(free)), path)


def export_whole(model: nn.Module, path: str | Path, size: tuple[int, int] | None, steps: int | None = None) -> list[Written]:
    """Write a classifier, segmentor or detector for :class:`mmspike.deploy.runner.Runner`, which needs numpy alone around it.

    The file carries a description of what is done before and behind its graph: normalisation, anchors, thresholds. Of a
    two-stage detector the heads of regions lie beside it, ``model_box.onnx`` and ``model_mask.onnx``. The batch is free, and so
    is the number of regions.

    Args:
        model: A model of mmpretrain, mmseg or mmdet, fused or not.
        path: ONNX file to write.
        size: Height and width of images behind the preprocessor; None: free. A segmentor that slides takes its windows' size.
        steps: Time steps of event frames, the input is [T, B, C, H, W] then.

    Returns:
        The files; the first one reads the image.

    Raises:
        ImportError: onnx, onnxscript or onnxruntime is missing.
        ValueError: The model cannot be exported, or a neuron in it; it is named.
    """
    require(ONNX_PACKAGES, 'ONNX export')
    _refuse_expanded(model)
    parts, about = split(plain(model), size, steps)
    path = Path(path)
    files = {part.name: path.with_stem(f'{path.stem}_{part.name}') for part in parts if part.name}
    if files:
        about['regions']['files'] = {name: file.name for name, file in files.items()}
    written = []
    for part in parts:
        file = files.get(part.name, path)
        written.append(Written(file, _write(part, file, about=None if part.name else about), part.module))
    return written


def _write(part: Part, path: str | Path, about: dict | None = None) -> float:
    """Write a part with the description ``about``; returns how far onnxruntime is from PyTorch, for batches of 1 and of 3."""
    from .onnx_layout import keep_folded, shorten  # needs onnx_ir, which comes with onnxscript

    module = part.module.eval().cpu().float().requires_grad_(False)
    # torch.export takes a batch of 1 for fixed
    inputs = {n: example(part, n) for n in (1, 2, 3)}
    free = {len(part.shape) - 4: torch.export.Dim('batch' if part.input == 'inputs' else 'regions')}
    if part.shape[-1] is None:
        free |= {
            len(part.shape) - 2: STRIDE * torch.export.Dim('rows'),
            len(part.shape) - 1: STRIDE * torch.export.Dim('columns'),
        }
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # of the exporter about itself
        program: Any = torch.onnx.export(
            module,
            (inputs[2],),
            input_names=[part.input],
            output_names=part.outputs,
            dynamic_shapes=(free,),
            dynamo=True,
            verbose=False,
        )
    shorten(keep_folded(program.model))
    if about is not None:
        program.model.metadata_props[KEY] = json.dumps(about)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    program.save(path, external_data=False)
    session = open_session(path)
    gaps = []
    for n in (1, 3):
        with torch.no_grad():
            expected = module(inputs[n])
        results = session(inputs[n].numpy())
        gaps += [difference(torch.from_numpy(results[name]), e).largest for name, e in zip(part.outputs, expected, strict=True)]
    return max(gaps)
