"""Backbones and classifiers as ONNX, checked in onnxruntime."""

import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from mmspike.models.backbones.base import SpikingBackbone
from mmspike.models.backbones.extra_stages import ExtraStages
from mmspike.utils.optional import is_installed

from .check import difference
from .engines import open_session
from .layers import Accumulate
from .plain import plain


def require(packages: Sequence[str], what: str) -> None:
    """Raise ImportError naming those of ``packages`` that are not installed."""
    missing = [p for p in packages if not is_installed(p)]
    if missing:
        raise ImportError(f'{what} needs {", ".join(missing)}, not installed here: pip install {" ".join(missing)}')


class _Traced(nn.Module):
    """Preprocessed input -> a tuple: features of a backbone, or the logits of a classifier."""

    def __init__(self, network: nn.Module, classifier: bool) -> None:
        super().__init__()
        self.network = network
        self.classifier = classifier

    def forward(self, inputs: Tensor) -> tuple[Tensor, ...]:
        return (self.network(inputs, mode='tensor'),) if self.classifier else self.network(inputs)


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
        expanded = next((name for name, m in model.named_modules() if isinstance(m, Accumulate)), None)
        if expanded is None:
            return False
        raise ValueError(f'{expanded} adds up in float64, for expanded networks: export the network that fuse() returns')
    raise ValueError(
        f'{type(model).__name__} cannot be exported to ONNX: spiking backbones and mmpretrain classifiers can. '
        'Of a detector or segmentor, export its backbone'
    )


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
    require(('onnx', 'onnxscript', 'onnxruntime'), 'ONNX export')
    classifier = _check_kind(model)
    from .onnx_layout import keep_folded  # needs onnx_ir, which comes with onnxscript

    traced = _Traced(plain(model), classifier).eval().cpu().float().requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    batch = 0 if len(shape) == 4 else 1
    # torch.export takes a batch of 1 for fixed
    inputs = {n: torch.randn(*shape[:batch], n, *shape[batch + 1 :], generator=generator) for n in (1, 2, 3)}
    with torch.no_grad():
        expected = {n: traced(x) for n, x in inputs.items()}
    names = ['logits'] if classifier else [f'features_{i}' for i in range(len(expected[1]))]
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # of the exporter about itself
        program = torch.onnx.export(
            traced,
            (inputs[2],),
            input_names=['inputs'],
            output_names=names,
            dynamic_shapes=({batch: torch.export.Dim('batch')},),
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    keep_folded(program.model)
    program.save(path, external_data=False)
    return max(_difference(path, inputs[n], expected[n]) for n in (1, 3))


def _difference(path: str | Path, inputs: Tensor, expected: Sequence[Tensor]) -> float:
    results = open_session(path)(inputs.numpy()).values()
    return max(difference(torch.from_numpy(r), e).largest for r, e in zip(results, expected, strict=True))
