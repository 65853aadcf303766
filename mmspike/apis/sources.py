"""Inputs: images, arrays, folders, globs and videos as one stream of pictures."""

import glob
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from mmcv.video import VideoReader

from mmspike.datasets.loading import IMAGE_SUFFIXES
from mmspike.utils.errors import UserError
from mmspike.utils.files import reading_fault

VIDEO_SUFFIXES = ('.mp4', '.m4v', '.avi', '.mov', '.mkv', '.webm', '.mpg', '.mpeg')

Input = str | Path | np.ndarray


class InputError(UserError, ValueError):
    """An input, config or checkpoint that cannot be used; the message says which, why and what to do."""


@dataclass(frozen=True)
class Failure:
    """An input that gives no picture: its ``name``, its ``path``, and the ``error`` that says why."""

    name: str
    path: str | None
    error: InputError


@dataclass(frozen=True)
class Frame:
    """One picture.

    Attributes:
        name: What its output files are called, unique among the inputs of a call.
        image: As the config's loader gives it: mostly BGR [H, W, 3], uint8; of a loader of grey pictures [H, W].
        path: The file, of a video's frames the video; None for arrays.
        video: Name of the video, or None.
        number: Of a video's frame, from 0.
        fps: Of the video, frames per second.
    """

    name: str
    image: np.ndarray
    path: str | None = None
    video: str | None = None
    number: int = 0
    fps: float = 0.0


def find_inputs(inputs: Input | Sequence[Input]) -> list[str | np.ndarray]:
    """Files and arrays, with folders (their images, sorted by name) and globs (``**`` looks into folders) resolved.

    Raises:
        InputError: A path does not exist, a folder has no image, a glob matches no file, or an array has no or more than
            three dimensions.
    """
    if isinstance(inputs, list | tuple):
        if not inputs:
            raise InputError('no input: the list is empty')
        return [item for one in inputs for item in find_inputs(one)]
    if isinstance(inputs, np.ndarray):
        if inputs.ndim not in (2, 3) or 0 in inputs.shape:
            raise InputError(f'array of shape {inputs.shape}: expected one picture, [H, W] or [H, W, C]')
        return [inputs]
    if not isinstance(inputs, str | Path):
        raise InputError(f'input of type {type(inputs).__name__}: expected a path, a NumPy array or a list of these')
    text, path = str(inputs), Path(inputs)
    if '://' in text or path.is_file():
        return [text]
    if path.is_dir():
        files = (p for p in path.iterdir() if p.is_file() and not p.name.startswith('.'))  # ._x.png are not pictures
        found = sorted(p for p in files if p.suffix.lower() in IMAGE_SUFFIXES)
        if not found:
            raise InputError(
                f'the folder {text} has no image ({" ".join(IMAGE_SUFFIXES)}). Folders in it are not looked into: '
                f"for those give a glob such as '{path / '**' / '*.png'}', for videos their files"
            )
        return [str(p) for p in found]
    if glob.has_magic(text):
        matches = sorted(p for p in glob.glob(text, recursive=True) if Path(p).is_file())
        if not matches:
            raise InputError(f'no file matches {text}')
        return [*matches]
    raise InputError(f'{text} does not exist')


def count_frames(items: list[str | np.ndarray]) -> int | None:
    """Pictures in ``items``, or None if a video does not say how many frames it has, or is broken."""
    total = 0
    item: Any
    for item in items:
        try:
            frames = _open_video(item).frame_cnt if _is_video(item) else 1
        except InputError:
            return None
        if frames <= 0:
            return None
        total += frames
    return total


def read_frames(items: list[str | np.ndarray], load: Callable[[dict], dict]) -> Iterator[Frame | Failure]:
    """The pictures of ``items``, one at a time, and what cannot be read in its place.

    Args:
        load: The transform of the config's test pipeline that loads an image. Arrays and frames of videos get the channels
            that it gives to files, see :func:`as_loaded`.

    Raises:
        InputError: An array is not a picture.
    """
    used: Counter[str] = Counter()

    def unique(name: str) -> str:
        used[name] += 1
        return name if used[name] == 1 else unique(f'{name}_{used[name]}')

    for index, item in enumerate(items):
        if isinstance(item, np.ndarray):
            yield Frame(unique(f'{index:06d}'), as_loaded(item, load))
        elif _is_video(item):
            video = unique(Path(item).stem)
            try:
                for number, (image, fps) in enumerate(_read_video(item)):
                    yield Frame(unique(f'{video}_{number:06d}'), as_loaded(image, load), item, video, number, fps)
            except InputError as error:
                yield Failure(video, item, error)
        else:
            try:
                image = load(dict(img_path=item))['img']
            except (OSError, AssertionError, ValueError, cv2.error) as error:  # what reading and mmcv's decoders raise
                text = f'cannot read {item} as an image ({reading_fault(item, error.__cause__ or error)})'
                yield Failure(unique(Path(item).stem), item, InputError(text))
            else:
                yield Frame(unique(Path(item).stem), image, item)


def as_loaded(array: np.ndarray, load: Any) -> np.ndarray:
    """A picture as ``load`` would give it if it lay in a file.

    Args:
        array: Grey [H, W] or [H, W, 1], BGR [H, W, 3], with alpha [H, W, 4]; uint8, or uint16 of which the higher byte is kept.
            With ``color_type='unchanged'`` any number of channels, float32 too, and nothing is changed.
        load: The config's ``LoadImageFromFile``: its ``color_type`` and ``to_float32`` decide.

    Returns:
        [H, W, 3], for a loader of grey pictures [H, W].

    Raises:
        InputError: Another shape or type.
    """
    color_type = getattr(load, 'color_type', 'color')
    image = array[..., None] if array.ndim == 2 else array
    if color_type == 'unchanged':
        if array.dtype not in (np.uint8, np.uint16, np.float32):
            raise InputError(f'array of dtype {array.dtype}: expected uint8, uint16 or float32')
        image = array
    else:
        if image.shape[2] not in (1, 3, 4):
            raise InputError(
                f'array of shape {array.shape}: expected [H, W] or [H, W, C], C = 1, 3 (BGR) or 4 (BGR, alpha). For networks '
                "of other channels the test pipeline loads with LoadImageFromFile(color_type='unchanged')"
            )
        if image.dtype == np.uint16:
            image = (image >> 8).astype(np.uint8)
        if image.dtype != np.uint8:
            raise InputError(f'array of dtype {array.dtype}: expected uint8 (0 to 255) or uint16 (0 to 65535)')
        if color_type.startswith('grayscale'):
            bgr = np.ascontiguousarray(image[..., :3])
            image = image[..., 0] if image.shape[2] == 1 else cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY)
        else:
            image = np.repeat(image, 3, 2) if image.shape[2] == 1 else image[..., :3]
    return np.ascontiguousarray(image, np.float32 if getattr(load, 'to_float32', False) else None)


def _is_video(item: str | np.ndarray) -> bool:
    return isinstance(item, str) and item.lower().endswith(VIDEO_SUFFIXES)


def _open_video(path: str) -> VideoReader:
    reader = VideoReader(path)
    if not reader.opened:
        names = [cv2.videoio_registry.getBackendName(b) for b in cv2.videoio_registry.getStreamBackends()]
        raise InputError(
            f'cannot open the video {path}: it is broken, or OpenCV has no backend for it (has {", ".join(names) or "none"}). '
            'The wheels of opencv-python-headless come with FFMPEG; or extract the frames into a folder and give that'
        )
    return reader


def _read_video(path: str) -> Iterator[tuple[np.ndarray, float]]:
    reader = _open_video(path)
    fps = reader.fps if math.isfinite(reader.fps) and reader.fps > 0 else 25.0
    frames = 0
    while (image := reader.read()) is not None:
        frames += 1
        yield image, fps
    if not frames:
        raise InputError(f'cannot read any frame of the video {path}: it is broken, or its codec is not known to OpenCV')
