"""A trained model as integer ONNX files for an engine, each checked spike by spike and timed."""

# onnx_ir types whatever a node has as optional
# mypy: disable-error-code="union-attr"

import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from mmengine.config import Config
from torch import nn

from mmspike.config.loading import sample_images
from mmspike.models.mask_former import MaskProduct

from .engine_check import EngineCheck, bfloat16_warning, check_engine, mended, with_weights
from .engines import open_session, require_engine
from .onnx_export import export_whole

if TYPE_CHECKING:
    from .int8_graph import Pixels


@dataclass
class Int8File:
    """An integer file beside the float32 one that it was made from.

    Attributes:
        path: Of the integer file.
        module: What was exported, with the weights before rounding.
        check: Its spikes in the engine against PyTorch's with the weights of the file.
        flipped: Its spikes against the folded network's: what rounding the weights has changed.
        bytes: Sizes of the files: float32, integers.
        milliseconds: CPU time for one input on one thread: PyTorch folded, float32 file, integer file.
        warning: What to know of the engine's defaults, see :func:`mmspike.deploy.engine_check.bfloat16_warning`.
        mended: What to do if it computes the file differently, see :func:`mmspike.deploy.engine_check.mended`; else ''.
    """

    path: Path
    module: nn.Module
    check: EngineCheck
    flipped: EngineCheck
    bytes: tuple[int, int]
    milliseconds: tuple[float, float, float]
    warning: str | None
    mended: str

    def __str__(self) -> str:
        before, after = self.bytes
        pytorch, floats, integers = self.milliseconds
        total = self.flipped.spikes.total
        return '\n'.join(
            [
                f'Wrote {self.path}: {after / 1e6:.2f} MB, in float32 {before / 1e6:.2f} MB ({after / before:.2f} x)',
                f'  the file in {self.check}',
                f'  flipped by rounded weights: {total.flipped} of {total.outputs} spikes ({total.share:.2%})',
                f'  CPU time on one thread: {integers:.1f} ms, as float32 in the same engine {floats:.1f} ms '
                f'({integers / floats:.2f} x), in PyTorch {pytorch:.1f} ms ({integers / pytorch:.2f} x)',
                *([] if self.warning is None else [f'  {self.warning}']),
            ]
        )


def export_int8(
    model: nn.Module,
    path: str | Path,
    engine: str,
    size: tuple[int, int] | None,
    steps: int | None = None,
    image: np.ndarray | None = None,
    corrected: bool = False,
    pixels: 'Pixels | None' = None,
) -> list[Int8File]:
    """Write a folded model in integers: of a two-stage detector the heads of regions in files of their own.

    Args:
        model: A folded model of mmpretrain, mmseg or mmdet, see :func:`mmspike.deploy.fuse`.
        path: ONNX file to write.
        engine: 'openvino' or 'onnxruntime': what shall run it.
        size: Height and width of images behind the preprocessor; None: free, see
            :func:`mmspike.deploy.onnx_export.export_whole`.
        steps: Time steps of event frames, see :func:`mmspike.deploy.onnx_export.export_whole`.
        image: Preprocessed input [1, C, H, W] to check and time with; None: a random one, if the size is fixed. Heads of
            regions take random ones.
        corrected: Round weights such that errors of a channel add up to less than a step, see
            :func:`mmspike.deploy.int8_correction.keep_sums`.
        pixels: Of what image convolutions read in 8 bits; None: they stay float32. See :func:`pixels_of`.

    Returns:
        Each file with its check. A file whose check is not ``same`` is written, too.

    Raises:
        ImportError: A package is missing.
        ValueError: The model cannot be exported; or nothing in it reads spikes.
        UserError: The engine is missing, or lacks an operator.
    """
    require_engine(engine)
    for name, module in model.named_modules():
        if isinstance(module, MaskProduct):
            raise ValueError(
                f'{name} adds up mask features, which are floats: the mask transformer cannot be exported in integers. '
                'Export it in float32 with --onnx'
            )
    import onnx_ir as ir

    from .int8_graph import quantize

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    written = []
    with tempfile.TemporaryDirectory() as folder:
        # by the same names: the first file names the others
        for number, source in enumerate(export_whole(model, Path(folder) / path.name, size, steps)):
            floats, module = source.path, source.module
            target = path.with_name(floats.name)
            graph = ir.load(floats)
            shape = [n if isinstance(n, int) else None for n in graph.graph.inputs[0].shape or ()]
            inputs = _inputs(shape, image if number == 0 else None)
            seen = pixels if number == 0 else None
            weights = quantize(graph, engine, corrected, seen)
            ir.save(graph, target)
            rounded = with_weights(module, weights)
            whole = inputs if seen is None else seen.rounded(inputs)
            check = check_engine(target, rounded, whole, engine)
            flipped = check_engine(target, module, inputs, engine)
            warning = bfloat16_warning(target, rounded, whole) if engine == 'openvino' else None
            sessions = [open_session(file, engine, threads=1, batch=1) for file in (floats, target)]
            image_of = torch.from_numpy(inputs)
            runs = [partial(module, image_of), *(partial(session, inputs) for session in sessions)]
            pytorch, float32, integers = cpu_milliseconds(*runs)
            sizes = floats.stat().st_size, target.stat().st_size
            what = '' if check.same else mended(target, rounded, whole, engine)
            written.append(Int8File(target, module, check, flipped, sizes, (pytorch, float32, integers), warning, what))
    return written


def pixels_of(preprocessor: nn.Module) -> 'Pixels':
    """The steps of 8 bits for what a preprocessor makes of pixels from 0 to 255.

    Raises:
        ValueError: It does not normalise images by a mean and a standard deviation, as those of events.
    """
    from .int8_graph import Pixels

    mean, std = (getattr(preprocessor, name, None) for name in ('mean', 'std'))
    if not isinstance(mean, torch.Tensor) or not isinstance(std, torch.Tensor):
        raise ValueError(
            f'the range of its input is not known: {type(preprocessor).__name__} has no mean and std. Leave the first '
            'convolution in float32'
        )
    return Pixels.between(float((-mean / std).min()), float(((255 - mean) / std).max()))


def preprocessed(cfg: Config, preprocessor: nn.Module, window: tuple[int, int] | None = None) -> Iterator[np.ndarray]:
    """All images of the config's test set, preprocessed one by one; of a segmentor that slides their first windows."""
    height, width = window or (None, None)
    for batch in sample_images(cfg, sys.maxsize):
        inputs = preprocessor(deepcopy(batch))['inputs'].cpu().float().numpy()
        yield np.ascontiguousarray(inputs[..., :height, :width])


def _inputs(shape: Sequence[int | None], image: np.ndarray | None) -> np.ndarray:
    """An input of a file: the image, or of a segmentor that slides its first window; random numbers without an image."""
    if image is None:
        return np.random.default_rng(0).standard_normal([1 if n is None else n for n in shape], np.float32)
    return np.ascontiguousarray(image[..., : shape[-2], : shape[-1]])


def cpu_milliseconds(*runs: Callable[[], object], rounds: int = 5) -> list[float]:
    """The least CPU time of each of some functions, called in turn; in PyTorch on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    least = [float('inf')] * len(runs)
    try:
        for _ in range(rounds + 1):  # one to warm up
            for i, once in enumerate(runs):
                start = time.process_time()
                with torch.inference_mode():
                    once()
                least[i] = min(least[i], (time.process_time() - start) * 1000)
    finally:
        torch.set_num_threads(threads)
    return least
