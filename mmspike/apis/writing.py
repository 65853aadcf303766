"""Pictures and predictions as files."""

import json
import os.path as osp
from pathlib import Path

import cv2
import mmcv
import mmengine
import numpy as np

from .sources import Failure, Frame, InputError


class Writer:
    """Files of the results; videos stay open until all is done."""

    def __init__(self, out_dir: str | Path) -> None:
        self.folder = Path(out_dir)
        self.videos: dict[str, cv2.VideoWriter] = {}
        try:
            (self.folder / 'preds').mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f'out_dir {out_dir} cannot be written ({error.strerror}): give another folder') from error

    def __enter__(self) -> 'Writer':
        return self

    def __exit__(self, *_) -> None:
        for video in self.videos.values():
            video.release()

    def check_free(self, picture: Frame | Failure) -> None:
        """Refuse to replace the results of another file of the same name, from an earlier call."""
        path = self.folder / 'preds' / f'{picture.name}.json'
        if picture.path is None or not path.is_file():
            return
        try:
            other = json.loads(path.read_text(encoding='utf-8')).get('path')
        except (ValueError, AttributeError):  # not of ours
            return
        if other is not None and osp.abspath(other) != osp.abspath(picture.path):
            raise InputError(
                f'{path} has the prediction of {other}, and that of {picture.path} would replace it: give another out_dir'
            )

    def file(self, subfolder: str, frame: Frame, suffix: str = '.png') -> Path:
        folder = self.folder / subfolder
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f'{frame.name}{suffix}'

    def picture(self, frame: Frame, rgb: np.ndarray) -> None:
        bgr = np.ascontiguousarray(rgb[..., ::-1])
        if frame.video is None:
            mmcv.imwrite(bgr, str(self.file('vis', frame)))
            return
        if frame.video not in self.videos:
            path = self.file('vis', frame).with_name(f'{frame.video}.mp4')
            size = (bgr.shape[1], bgr.shape[0])
            self.videos[frame.video] = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*'mp4v'), frame.fps, size)
            if not self.videos[frame.video].isOpened():
                raise InputError(
                    f'cannot write the video {path}: OpenCV has no encoder for MP4 here. '
                    'The wheels of opencv-python-headless have one; or extract the frames into a folder and give that'
                )
        self.videos[frame.video].write(bgr)

    def prediction(self, result: dict, labels: np.ndarray | None) -> None:
        path = str(self.folder / 'preds' / result['name'])
        mmengine.dump(result, f'{path}.json', ensure_ascii=False)
        if labels is not None:
            mmcv.imwrite(labels, f'{path}.png')
