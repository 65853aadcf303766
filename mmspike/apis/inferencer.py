"""One inferencer for detection, segmentation and classification."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from copy import deepcopy
from pathlib import Path
from pickle import UnpicklingError
from typing import IO, Literal, overload

import numpy as np
import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.registry import TRANSFORMS, DefaultScope
from mmengine.runner.checkpoint import CheckpointLoader
from mmengine.structures import BaseDataElement
from rich.progress import track

from mmspike.analysis import EnergyReport, measure_energy
from mmspike.config.loading import model_config, picture
from mmspike.config.names import type_name
from mmspike.config.trained_neurons import name_changed_neurons
from mmspike.deploy.exported import description, exported_config
from mmspike.models.backbones.base import InputShapeError
from mmspike.models.checkpoints import check_checkpoint_fits
from mmspike.models.inspection import reset_spikes, stateful_modules
from mmspike.utils.environment import HOST_PACKAGES
from mmspike.utils.errors import UserError
from mmspike.utils.optional import is_installed

from .event_stream import EventInferencer
from .hosts import HOSTS, class_names, label_map
from .sources import Failure, Frame, Input, InputError, count_frames, find_inputs, read_frames
from .spikes import ALL, plot_overlay, spike_maps
from .writing import Writer
from .zoo import find_config, shipped_checkpoint


@overload
def inference(
    config_or_name: str | Path,
    checkpoint: str | Path | None = None,
    device: str | None = None,
    engine: str | None = None,
    stream: Literal[False] = False,
) -> 'Inferencer': ...
@overload
def inference(
    config_or_name: str | Path,
    checkpoint: str | Path | None = None,
    device: str | None = None,
    engine: str | None = None,
    *,
    stream: Literal[True],
) -> EventInferencer: ...
def inference(
    config_or_name: str | Path,
    checkpoint: str | Path | None = None,
    device: str | None = None,
    engine: str | None = None,
    stream: bool = False,
) -> 'Inferencer | EventInferencer':
    """An inferencer for a detector, segmentor or classifier.

    Args:
        config_or_name: A config file, the name of one of this project's (``'mask_rcnn_espike_nuclei'``), or of a host's
            (``'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'``).
        checkpoint: The file or URL of its weights, or the ONNX file that ``deploy.py --onnx`` wrote of it. Without one the
            weights that come with the package are taken, see :func:`mmspike.apis.list_weights`.
        device: Default: the accelerator if there is one, else 'cpu'.
        engine: What runs an ONNX file: 'onnxruntime' (default) or 'openvino'.
        stream: For recordings and streams of event cameras, see :class:`mmspike.apis.EventInferencer`.

    Raises:
        InputError: There is no such config, or no checkpoint is given and none comes with it, or see :class:`Inferencer`.

    Example:
        >>> import numpy as np
        >>> from mmspike.apis import inference
        >>> inferencer = inference('spikeyolo_nuclei', device='cpu')
        Loads checkpoint by _mmspike backend from path: ...
        >>> result = inferencer(np.zeros((64, 64, 3), 'uint8'), show_progress=False)[0]
        >>> inferencer.task, inferencer.classes, result['size']
        ('detection', ['nucleus'], [64, 64])
    """
    if checkpoint is None:
        checkpoint = shipped_checkpoint(config_or_name)
    if stream:
        return EventInferencer(Config.fromfile(find_config(config_or_name)), checkpoint, device)
    return Inferencer(Config.fromfile(find_config(config_or_name)), checkpoint, device, engine)


class Inferencer:
    """Predictions of images, folders and videos, drawn and as JSON; those of ``tools/test.py``, bit by bit on the CPU.

    It stands on DetInferencer, MMSegInferencer and ImageClassificationInferencer, which build the model and its test pipeline
    and draw. Every image is a sample of its own. With stateful neurons the frames of one video are one stream.

    Args:
        cfg: Config of mmdet, mmseg or mmpretrain; its ``default_scope`` decides which.
        checkpoint: A checkpoint file or URL. It is read without running what is in it. Or an ONNX file of ``deploy.py --onnx``.
        device: Default: the accelerator if there is one, else 'cpu'.
        engine: What runs an ONNX file, 'onnxruntime' (default) or 'openvino', with settings that keep the spikes.

    Attributes:
        task: 'detection', 'segmentation' or 'classification'.
        model: The network, in evaluation mode; of an ONNX file :class:`mmspike.deploy.exported.Exported`.
        classes: Names of the classes, or None if neither checkpoint nor config has any.

    Raises:
        InputError: The config cannot be used for inference, or the checkpoint is refused, or does not fill the model entirely.
        ImportError: The host is not installed.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> import torch
        >>> from mmengine.config import Config
        >>> from mmpretrain.models import ImageClassifier
        >>> from mmspike.apis import Inferencer
        >>> vgg = dict(type='mmspike.SpikingVGG', arch=dict(dims=(4, 8, 8), depths=(2, 1, 1)), T=2, temporal_output='keep')
        >>> head = dict(type='mmspike.SpikingLinearClsHead', num_classes=2, in_channels=8)
        >>> pipeline = [dict(type='LoadImageFromFile'), dict(type='PackInputs')]
        >>> cfg = Config(dict(default_scope='mmpretrain', model=dict(type='ImageClassifier', backbone=vgg, head=head)))
        >>> dataset = dict(type='CustomDataset', pipeline=pipeline, metainfo=dict(classes=['cat', 'dog']))
        >>> cfg.test_dataloader = dict(dataset=dataset)
        >>> folder = tempfile.TemporaryDirectory()
        >>> torch.save(ImageClassifier(vgg, head=head).state_dict(), f'{folder.name}/weights.pth')
        >>> inferencer = Inferencer(cfg, f'{folder.name}/weights.pth', device='cpu')
        Loads checkpoint by _local backend from path: ...
        >>> result = inferencer(np.zeros((32, 32, 3), 'uint8'), show_progress=False)[0]
        >>> result['size'], inferencer.classes, result['pred_class'] in inferencer.classes
        ([32, 32], ['cat', 'dog'], True)
    """

    def __init__(self, cfg: Config, checkpoint: str | Path, device: str | None = None, engine: str | None = None) -> None:
        cfg = deepcopy(cfg)
        self._scope = cfg.get('default_scope')
        if self._scope not in HOSTS:
            raise InputError(f'default_scope of the config is {self._scope!r}: expected one of {", ".join(map(repr, HOSTS))}')
        if not is_installed(self._scope):
            raise ImportError(f'a config of {self._scope} needs it installed: pip install {HOST_PACKAGES[self._scope]}')
        loader = _image_loader(cfg)
        cfg.model = model_config(cfg)
        path = str(checkpoint)
        self._exported = path.lower().endswith('.onnx')
        if engine is not None and not self._exported:
            raise InputError(f'engine={engine!r} runs ONNX files, {path} is none: write one with deploy.py --onnx')
        try:
            if self._exported:
                cfg.model = exported_config(cfg, path, engine or 'onnxruntime')
                content = dict(meta=dict(dataset_meta=dict(classes=description(path)['classes'])))
            else:
                content = CheckpointLoader.load_checkpoint(path, map_location='cpu', logger='silent')
        except (OSError, RuntimeError, UnpicklingError, UserError) as error:
            raise InputError(str(error)) from error
        try:
            with self._in_scope():
                self._load = TRANSFORMS.build(loader)
                self.classes = class_names(cfg, content)
                weights = None if self._exported else path
                self._host = HOSTS[self._scope](cfg, weights, device or get_device(), self.classes)
            self.task, self.model = self._host.task, self._host.model
            if not self._exported:
                check_checkpoint_fits(self.model, path, content=content)
                name_changed_neurons(cfg, content.get('meta') or {}, path)
        except UserError as error:
            raise InputError(str(error)) from None
        self._stateful = next(stateful_modules(self.model), None) is not None
        if self._stateful and (getattr(self.model, 'test_cfg', None) or {}).get('mode') == 'slide':
            # as SpikeResetHook does in tools/test.py
            self.model.backbone.register_forward_pre_hook(lambda module, args: reset_spikes(self.model))

    def _in_scope(self):
        # each host looks its parts up in the scope that is the default at that moment
        return DefaultScope.overwrite_default_scope(self._scope)

    def __call__(
        self,
        inputs: Input | Sequence[Input],
        batch_size: int = 1,
        out_dir: str | Path | None = None,
        score_thr: float = 0.3,
        spikes: str | None = None,
        show_progress: bool = True,
    ) -> list[dict]:
        """Predict, and with ``out_dir`` write.

        ``out_dir`` gets ``vis/NAME.png`` (of a video ``vis/NAME.mp4``) with the prediction drawn, ``preds/NAME.json``, for
        segmentation ``preds/NAME.png`` with the labels, and with ``spikes`` ``spikes/NAME.png``. NAME is the file's, with a
        number behind it where names repeat, and of video frames; arrays are numbered.

        Args:
            inputs: A path of an image or video, a folder of images, a glob, an array, or a list of these. Arrays are grey
                [H, W] or [H, W, 1], or BGR [H, W, 3 or 4], uint8 or uint16; they get the channels that the config's loader
                gives to files (``color_type``). A loader with ``color_type='unchanged'`` takes them with any channels.
            batch_size: Images at once. Only images that have one size behind the test pipeline share a batch: padding would
                be seen by an attention.
            score_thr: Instances with lower scores are not drawn; the JSON has all.
            spikes: Also draw firing rates, of a stage such as 'backbone.stages.2' or of 'all' (one more forward an image).
            show_progress: Show a progress bar.

        Returns:
            For each picture, in their order, what ``preds/NAME.json`` holds: ``name``, ``path``, ``size`` (width, height),
            ``task`` and the prediction. Detection: ``classes``, ``labels``, ``scores``, ``bboxes`` (x1, y1, x2, y2), ``masks``
            (COCO's RLE). Segmentation: of the classes in the picture ``classes``, ``labels``, ``shares`` of the pixels,
            ``masks``. Classification: ``pred_class``, ``pred_label``, ``pred_score``, ``pred_scores``.
            One that cannot be read or is too small has ``error``, the reason, instead, and a warning says so.

        Raises:
            InputError: No input can be predicted: it cannot be read, is too small or has other channels than the network. Or
                there is no such stage, or ``out_dir`` cannot be written, or has the predictions of another picture under the
                same name.
        """
        items = find_inputs(inputs)
        if spikes is not None and out_dir is None:
            raise InputError(f'spikes={spikes!r} draws into out_dir, which is None')
        if spikes is not None:
            self._need_neurons('spikes')
        results: list[dict] = []
        failures: list[Failure] = []
        with nullcontext() if out_dir is None else Writer(out_dir) as writer:

            def note(failure: Failure) -> None:
                failures.append(failure)
                results.append(dict(name=failure.name, path=failure.path, task=self.task, error=str(failure.error)))
                if writer is not None:
                    writer.check_free(failure)
                    writer.prediction(results[-1], None)

            total = count_frames(items) if show_progress else None
            stream = self.stream(items, batch_size, note)
            for frame, sample in track(stream, 'Inference', total, disable=not show_progress):
                result = self.describe(frame, sample)
                results.append(result)
                if writer is None:
                    continue
                writer.check_free(frame)
                writer.picture(frame, self.draw(frame.image, sample, score_thr))
                writer.prediction(result, label_map(sample) if self.task == 'segmentation' else None)
                if spikes is not None:
                    if self._stateful and frame.video is not None:
                        raise InputError(f'{frame.path}: spikes are drawn from rest, which would interrupt stateful neurons')
                    self.draw_spikes(frame.image, writer.file('spikes', frame), spikes)
        if len(failures) == len(results) and failures:
            raise failures[0].error
        for failure in failures:
            warnings.warn(f'no prediction: {failure.error}', stacklevel=2)
        return results

    def stream(
        self, inputs: Input | Sequence[Input], batch_size: int = 1, on_failure: Callable[[Failure], None] | None = None
    ) -> Iterator[tuple[Frame, BaseDataElement]]:
        """Each picture with the host's data sample, as soon as its batch is done: nothing is kept.

        Args:
            on_failure: Called, in the order of the inputs, with each that cannot be read or is too small. By default it raises.
        """
        if batch_size < 1:
            raise InputError(f'batch_size={batch_size}: expected 1 or more')
        on_failure = on_failure or _raise
        frames: list[Frame] = []
        prepared: list[dict] = []
        too_small: set[str] = set()  # videos

        def finish() -> Iterator[tuple[Frame, BaseDataElement]]:
            try:
                yield from zip(frames, self._forward(frames, prepared) if frames else (), strict=True)
            except InputShapeError as error:
                for frame in frames:
                    if frame.video not in too_small:
                        fault = InputError(f'{frame.path or f"array {frame.name}"}: {error}')
                        on_failure(Failure(frame.video or frame.name, frame.path, fault))
                    if frame.video is not None:
                        too_small.add(frame.video)
            frames.clear()
            prepared.clear()

        for frame in read_frames(find_inputs(inputs), self._load):
            if isinstance(frame, Failure):
                yield from finish()
                on_failure(frame)
                continue
            if frame.video in too_small:
                continue
            if self._stateful and frame.video is not None and batch_size > 1:
                raise InputError(f'{frame.path}: the frames of a video are one stream for stateful neurons, use batch_size=1')
            with self._in_scope():
                item = self._host.prepare(frame.image)
            try:
                self._check_channels(frame, item['inputs'])
            except InputError as error:
                yield from finish()
                on_failure(Failure(frame.name, frame.path, error))
                continue
            if frames and (len(frames) == batch_size or item['inputs'].shape != prepared[-1]['inputs'].shape):
                yield from finish()
            if frame.video not in too_small:
                frames.append(frame)
                prepared.append(item)
        yield from finish()

    def _check_channels(self, frame: Frame, image: torch.Tensor) -> None:
        backbone = getattr(self.model, 'backbone', None)  # an exported file has none and looks itself
        wanted = getattr(backbone, 'in_channels', None) if hasattr(backbone, 'out_strides') else None
        if wanted is not None and len(image) != wanted:
            raise InputError(
                f'{frame.path or "array"} {frame.name} has {len(image)} channels behind the test pipeline, the network takes '
                f"{wanted} (model.backbone.in_channels): give it such, or set color_type in the pipeline's LoadImageFromFile"
            )

    @torch.no_grad()
    def _forward(self, frames: list[Frame], prepared: list[dict]) -> list[BaseDataElement]:
        if frames[0].number == 0:  # not further on in a video
            reset_spikes(self.model)
        with self._in_scope():
            return [sample.cpu() for sample in self._host.inferencer.forward(self._host.collate(prepared))]

    def batch(self, image: np.ndarray) -> dict:
        """A batch of one image, as the model's ``test_step`` takes it, for :mod:`mmspike.analysis`."""
        with self._in_scope():
            return self._host.collate([self._host.prepare(image)])

    def energy(self, image: np.ndarray) -> EnergyReport:
        """Energy of one image and firing rates of its neurons, see :func:`mmspike.analysis.measure_energy`."""
        self._need_neurons('energy')
        with self._in_scope():
            return measure_energy(self.model, [self.batch(image)])

    def draw_spikes(self, image: np.ndarray, path: str | Path | IO[bytes], stage: str = ALL) -> None:
        """Write firing rates over the image, as the network sees it, as a PNG; see :func:`mmspike.apis.spikes.spike_maps`."""
        self._need_neurons('spikes')
        batch = self.batch(image)
        with self._in_scope():
            maps = spike_maps(self.model, batch, stage)
            plot_overlay(picture(self.model, batch), maps, path)

    def _need_neurons(self, what: str) -> None:
        if self._exported:
            raise InputError(f'{what}: neurons of an ONNX file cannot be looked at, give the checkpoint that it was made of')

    def draw(self, image: np.ndarray, sample: BaseDataElement, score_thr: float = 0.3) -> np.ndarray:
        """The prediction on its picture: BGR [H, W, 3] -> uint8 RGB [H', W', 3]; small pictures are enlarged.

        Of one or two channels the first is shown in grey, of more than three the first three.
        """
        picture = np.atleast_3d(image)
        picture = np.repeat(picture[..., :1], 3, 2) if picture.shape[2] < 3 else picture[..., :3]
        picture = picture >> 8 if picture.dtype == np.uint16 else picture.clip(0, 255)
        rgb = np.ascontiguousarray(picture[..., ::-1].astype(np.uint8))
        with self._in_scope():
            return self._host.draw(rgb, sample, score_thr)

    def describe(self, frame: Frame, sample: BaseDataElement) -> dict:
        """A prediction as plain data, see :meth:`__call__`."""
        height, width = frame.image.shape[:2]
        return dict(name=frame.name, path=frame.path, size=[width, height], task=self.task) | self._host.describe(sample)


def _image_loader(cfg: Config) -> dict:
    """The transform that loads an image in the config's test pipeline; there it gets the name that the hosts look for."""
    loader = cfg.get('test_dataloader') or {}
    pipeline = (loader.get('dataset') or {}).get('pipeline')
    if not pipeline:
        raise InputError(
            'the config has no test_dataloader.dataset.pipeline, which says how images are prepared: '
            'it is of pretraining, or its data set is wrapped'
        )
    for transform in pipeline:
        if type_name(transform) == 'LoadImageFromFile':
            transform.pop('on_error', None)  # of mmspike.LoadImageFromFile
            transform.type = 'LoadImageFromFile'
            return deepcopy(transform)
    kinds = ', '.join(str(transform['type']) for transform in pipeline)
    raise InputError(f'the test pipeline has no LoadImageFromFile, so the network takes no images (it has {kinds})')


def _raise(failure: Failure) -> None:
    raise failure.error
