"""Recordings that are frames already: folders of images, and arrays."""

from pathlib import Path

import cv2
import numpy as np

from .readers import load_npz
from .recording import FAULTS, unreadable

IMAGES = ('.png', '.jpg', '.jpeg', '.bmp', '.webp')


def choose_frames(number: int, T: int, random: bool) -> np.ndarray:
    """T ascending indices below ``number``: from each of T equal parts its middle one, or a random one.

    With fewer than T frames some are repeated.
    """
    edges = np.arange(T + 1) * number / T
    offsets = np.random.rand(T) if random else 0.5
    return np.minimum(edges[:-1] + offsets * (number / T), number - 1).astype(int)


def read_frames(path: str | Path, T: int, random: bool = False, channels: tuple[int, int] = (0, 2)) -> np.ndarray:
    """T frames of a recording that is frames already.

    Args:
        path: A folder of images in order of their names, or an ``.npz`` with ``frames`` [N, 2, H, W] (as spikingjelly
            integrates them).
        T: Frames to take, one of each of T equal parts of the recording.
        random: A random frame of each part, else its middle one.
        channels: Of an image, B, G, R, which show OFF and ON events. A grey image stands for both.

    Returns:
        float32 [T, 2, H, W], OFF and ON; images in 0 to 1, arrays as they are.

    Raises:
        ValueError: Nothing there, or an image cannot be decoded or has another size; the file is named.
    """
    path = Path(path)
    if path.suffix.lower() == '.npz':
        try:
            (frames,) = load_npz(path, ('frames',))
        except FAULTS as error:
            raise unreadable(path, error) from error
        if frames.ndim != 4 or frames.shape[1] != 2 or not len(frames):
            raise unreadable(path, f'expected frames [N, 2, H, W], got shape {frames.shape}')
        return frames[choose_frames(len(frames), T, random)].astype(np.float32)
    if not path.is_dir():
        raise unreadable(path, 'it is neither a folder of images nor an .npz file')
    files = sorted(f for f in path.iterdir() if f.suffix.lower() in IMAGES and not f.name.startswith('.'))
    if not files:
        raise unreadable(path, f'the folder has no images ({", ".join(IMAGES)})')
    chosen: list[np.ndarray] = []
    for file in (files[i] for i in choose_frames(len(files), T, random)):
        image = cv2.imdecode(np.fromfile(file, np.uint8), cv2.IMREAD_COLOR) if file.stat().st_size else None
        if image is None:
            raise unreadable(file, 'it is no image, or a broken one')
        if chosen and image.shape[:2] != chosen[0].shape[1:]:
            raise unreadable(file, f'{image.shape[:2]} px, the frames before have {chosen[0].shape[1:]}')
        chosen.append(image[..., list(channels)].transpose(2, 0, 1))
    return np.stack(chosen).astype(np.float32) / 255
