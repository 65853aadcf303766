"""Detection and segmentation of a stream of events: an answer every so many us, with membranes that go on."""

import time
from collections.abc import Iterable, Iterator
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.device import get_device
from mmengine.registry import DATASETS, MODELS, DefaultScope
from mmengine.runner.checkpoint import CheckpointLoader, load_state_dict
from mmengine.structures import BaseDataElement

from mmspike.config.loading import model_config
from mmspike.config.names import type_name
from mmspike.datasets.events.plots import frame_picture
from mmspike.datasets.events.readers import open_events
from mmspike.datasets.events.recording import EVENT, in_order
from mmspike.datasets.events.transforms import integrate
from mmspike.deploy import fuse
from mmspike.models.checkpoints import check_checkpoint_fits
from mmspike.models.inspection import reset_spikes, stateful_modules
from mmspike.utils.errors import UserError

from .hosts import READABLE, class_names
from .sources import InputError

#: what loads samples of a data set, for which a stream has no use
LOADERS = ('LoadEventWindow', 'LoadAnnotations', 'LoadEventSegMap')
SCOPES = ('mmdet', 'mmseg')
PALETTE = ((220, 20, 60), (0, 160, 230), (60, 180, 75), (255, 170, 0), (145, 30, 180), (70, 240, 240))


@dataclass(frozen=True)
class Answer:
    """What a network says of a window of events.

    Attributes:
        start, end: Of the window, in us of the recording's clock.
        events: The window's, an array with fields t, x, y, p.
        sample: The host's data sample with ``pred_instances`` or ``pred_sem_seg``, on the CPU.
        seconds: Time that frames and network took.
        idle: Too little happened in the window: the answer is that of the window before.
        lag: us from the end of the window, by the clock of the sensor, to the answer, if events come as they were recorded:
            the time that it took, and that of answers before it which were not done.
    """

    start: int
    end: int
    events: np.ndarray
    sample: BaseDataElement
    seconds: float
    lag: float
    idle: bool = False


class EventInferencer:
    """Answers on recordings and streams of events, of a detector or segmentor of events.

    Neurons with ``stateful=True`` keep their membranes from window to window, and start from rest in every stream.

    Args:
        cfg: A config of mmdet or mmseg whose test data are events.
        checkpoint: Its weights, a file or URL.
        device: Default: the accelerator if there is one, else 'cpu'.

    Attributes:
        window: Duration of what the network sees, in us, as in the config.
        late: Events of the last stream that came after the answer which they belong to; they are left out.

    Raises:
        InputError: The config is not of events, or the checkpoint is refused, or does not fill the model entirely.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> import torch
        >>> from mmengine.config import Config
        >>> from mmspike.apis import find_config, inference
        >>> from mmspike.apis.event_stream import EVENT
        >>> from mmdet.registry import MODELS
        >>> weights = tempfile.NamedTemporaryFile(suffix='.pth')
        >>> torch.save(MODELS.build(Config.fromfile(find_config('spikeyolo_movingshapes')).model).state_dict(), weights.name)
        >>> inferencer = inference('spikeyolo_movingshapes', weights.name, device='cpu', stream=True)
        >>> events = np.array([(t, t // 10_000, 5, 1) for t in range(0, 120_000, 1000)], EVENT)
        >>> [(answer.start, answer.end, len(answer.events)) for answer in inferencer.stream([events])]
        [(0, 100000, 100), (100000, 200000, 20)]
    """

    def __init__(self, cfg: Config, checkpoint: str | Path, device: str | None = None) -> None:
        cfg = deepcopy(cfg)
        self._scope = cfg.get('default_scope')
        dataset: Any = (cfg.get('test_dataloader') or {}).get('dataset') or {}
        pipeline = dataset.get('pipeline') or []
        if self._scope not in SCOPES or not any(type_name(step) == 'LoadEventWindow' for step in pipeline):
            raise InputError(
                'stream=True is for configs of mmdet and mmseg whose test pipeline begins with mmspike.LoadEventWindow'
            )
        self.window = int(dataset.window)
        try:
            with DefaultScope.overwrite_default_scope(self._scope):
                content = CheckpointLoader.load_checkpoint(str(checkpoint), map_location='cpu', logger='silent')
                self.classes = class_names(cfg, content) or []
                self.model = MODELS.build(model_config(cfg))
                steps = [step for step in pipeline if type_name(step) not in LOADERS]
                counts = next((i for i, step in enumerate(steps) if type_name(step).startswith('EventsTo')), 0)
                self._filters, self._pipeline = Compose(steps[:counts]), Compose(steps[counts:])
                kind: Any = DATASETS.get(dataset.type) if isinstance(dataset.type, str) else dataset.type
            check_checkpoint_fits(self.model, str(checkpoint), content=content)
            load_state_dict(self.model, content.get('state_dict', content), strict=True)
        except (OSError, RuntimeError, UserError) as error:
            raise InputError(str(error)) from error
        self.model.to(device or get_device()).eval()
        size: Any = dataset.get('sensor_size') or kind.SENSOR_SIZE
        self.sensor_size = int(size[0]), int(size[1])
        image_size: Any = dataset.get('image_size') or getattr(kind, 'IMAGE_SIZE', self.sensor_size)
        self.image_size = int(image_size[0]), int(image_size[1])
        self._stateful = next(stateful_modules(self.model), None) is not None
        self.late = 0

    def fold(self) -> None:
        """Merge norms and re-parameterised convolutions into their neighbours, as deployment does.

        It takes less time, and the answers are the same but for rounding, which may flip a spike.
        """
        self.model = fuse(self.model)

    def stream(self, source: str | Path | Iterable[np.ndarray], every: int | None = None, idle: int = 0) -> Iterator[Answer]:
        """An answer every ``every`` us, as soon as an event at or behind the end of its window has come.

        Args:
            source: A recording, see :func:`mmspike.datasets.events.open_events`, or arrays of events with fields t (us), x, y,
                p as they come, in order of time.
            every: us from one answer to the next; None: the window's duration. Membranes that go on need that.
            idle: A window with fewer events than that, behind the filters of the config's pipeline, is not looked at: the
                answer before it is given again, which costs nothing. The first window always is. 0: all are.

        Raises:
            InputError: ``every`` is not positive, or not the window's duration with stateful neurons; or ``idle`` is negative,
                or not 0 with stateful neurons, which the windows left out would be missing from.
            RecordingError: (a ValueError) The recording is broken, or of another sensor size; it is named.
        """
        every = self.window if every is None else every
        if every < 1 or (self._stateful and every != self.window):
            wanted = 'the window of the network, whose membranes go on,' if self._stateful else 'a positive number, such as'
            raise InputError(f'every={every} us: expected {wanted} {self.window} us')
        if idle < 0 or (self._stateful and idle):
            wanted = '0 for a network whose membranes go on' if self._stateful else 'a number of events from 0 on'
            raise InputError(f'idle={idle}: expected {wanted}')
        reset_spikes(self.model)
        self.late = 0
        ready = 0.0  # when the last answer was done, in us by the clock of the sensor
        sample: Any = None
        for start, end, events in self.windows(source, every):
            begun = time.perf_counter()
            batch = self.batch(events, start, end, idle if sample is not None else 0)
            if batch is not None:
                sample = self._answer(batch)
            seconds = time.perf_counter() - begun
            ready = max(ready, end) + seconds * 1e6
            yield Answer(start, end, events, sample, seconds, ready - end, batch is None)

    def windows(
        self, source: str | Path | Iterable[np.ndarray], every: int | None = None
    ) -> Iterator[tuple[int, int, np.ndarray]]:
        """Start, end and events of each window of :meth:`stream`, without answers."""
        every = every or self.window
        if isinstance(source, str | Path):
            with open_events(source, self.sensor_size) as recording:
                yield from self._cut(recording.blocks(), every)
        else:
            yield from self._cut((_checked(block, self.sensor_size) for block in source), every)

    def _cut(self, blocks: Iterable[np.ndarray], every: int) -> Iterator[tuple[int, int, np.ndarray]]:
        pending, end = np.empty(0, EVENT), None
        for block in blocks:
            if not len(block):
                continue
            if end is None:
                end = int(block['t'][0]) + self.window
            in_time = block['t'] >= end - max(self.window, every)
            self.late += int((~in_time).sum())
            pending = in_order(np.concatenate([pending, block[in_time]]))
            while len(pending) and pending['t'][-1] >= end:
                yield end - self.window, end, pending[(pending['t'] >= end - self.window) & (pending['t'] < end)]
                end += every
                pending = pending[pending['t'] >= end - self.window]
        if end is not None and len(pending):
            yield end - self.window, end, pending

    def batch(self, events: np.ndarray, start: int, end: int, idle: int = 0) -> dict | None:
        """A batch of one window, as ``test_step`` takes it; None where the filters leave fewer than ``idle`` events."""
        height, width = self.image_size
        inside = (events['y'] < height) & (events['x'] < width)
        results = dict(events=events[inside], sensor_size=self.image_size, window=(start, end), t=end, labelled=False)
        with DefaultScope.overwrite_default_scope(self._scope):
            results = self._filters(results)
            return pseudo_collate([self._pipeline(results)]) if len(results['events']) >= idle else None

    @torch.no_grad()
    def _answer(self, batch: dict) -> BaseDataElement:
        with DefaultScope.overwrite_default_scope(self._scope):
            return self.model.test_step(batch)[0].cpu()

    def draw(self, answer: Answer, score_thr: float = 0.3) -> np.ndarray:
        """The events of a window with boxes or labels on them, uint8 RGB; small sensors are enlarged."""
        counts = integrate(answer.events, self.sensor_size, 1, 'count')[0]
        picture = np.ascontiguousarray((frame_picture(counts) * 255).round().astype(np.uint8))
        zoom = -(-READABLE // min(self.sensor_size))
        picture = np.ascontiguousarray(picture.repeat(zoom, 0).repeat(zoom, 1))
        if 'pred_sem_seg' in answer.sample:
            labels = answer.sample.pred_sem_seg.data[0].numpy().repeat(zoom, 0).repeat(zoom, 1)
            for label in np.unique(labels[labels > 0]):
                there = np.zeros(picture.shape[:2], bool)
                there[: labels.shape[0], : labels.shape[1]] = labels == label
                picture[there] = picture[there] // 2 + np.array(PALETTE[(label - 1) % len(PALETTE)], np.uint8) // 2
            return picture
        found = answer.sample.pred_instances
        for box, label, score in zip(found.bboxes.tolist(), found.labels.tolist(), found.scores.tolist(), strict=True):
            if score < score_thr:
                continue
            left, top, right, bottom = (round(value * zoom) for value in box)
            colour = PALETTE[label % len(PALETTE)]
            cv2.rectangle(picture, (left, top), (right, bottom), colour, 2)
            text = f'{self.classes[label] if label < len(self.classes) else label} {score:.2f}'
            cv2.putText(picture, text, (left + 2, max(top - 4, 12)), cv2.FONT_HERSHEY_SIMPLEX, 0.45, colour, 1, cv2.LINE_AA)
        return picture

    def video(
        self,
        source: str | Path | Iterable[np.ndarray],
        path: str | Path,
        every: int | None = None,
        score_thr: float = 0.3,
        idle: int = 0,
    ) -> list[Answer]:
        """Write the answers as a video at the speed of the recording, and give them, without their events.

        Args:
            source, every, idle: See :meth:`stream`.
            path: The video, ``.mp4``.
            score_thr: Boxes with lower scores are not drawn.

        Returns:
            A list of :class:`Answer`.

        Raises:
            InputError: OpenCV has no encoder, or see :meth:`stream`.
        """
        writer, answers = None, []
        try:
            for answer in self.stream(source, every, idle):
                picture = self.draw(answer, score_thr)
                if writer is None:
                    size = (picture.shape[1], picture.shape[0])
                    fps = 1e6 / (every or self.window)
                    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*'mp4v'), fps, size)
                    if not writer.isOpened():
                        raise InputError(f'cannot write the video {path}: no such folder, or OpenCV has no encoder for MP4')
                writer.write(np.ascontiguousarray(picture[..., ::-1]))
                answers.append(replace(answer, events=answer.events[:0]))
        finally:
            if writer is not None:
                writer.release()
        return answers


def _checked(block: np.ndarray, sensor_size: tuple[int, int]) -> np.ndarray:
    """Events that a caller gives, as ``EVENT``.

    Raises:
        InputError: It is no array with the fields t, x, y, p, or an event lies outside the sensor.
    """
    names = getattr(getattr(block, 'dtype', None), 'names', None) or ()
    if not {'t', 'x', 'y', 'p'} <= set(names):
        raise InputError(f'a block of events has {names or type(block).__name__}: expected an array with the fields t, x, y, p')
    events = np.empty(len(block), EVENT)
    for name in 'txyp':
        events[name] = block[name]
    height, width = sensor_size
    if len(block) and (block['x'].max() >= width or block['y'].max() >= height or min(block['x'].min(), block['y'].min()) < 0):
        raise InputError(f'a block has events outside the sensor of {height} x {width} px: set sensor_size in the config')
    return events
