"""Predictions of a segmentor as label images."""

import os
import os.path as osp
from collections.abc import Callable, Sequence

import numpy as np
from mmengine.evaluator import BaseMetric
from PIL import Image


class LabelImages(BaseMetric):
    """Writes the predicted labels of each image, [H, W], as a PNG; it has no score.

    The files are those of mmseg's ``IoUMetric(output_dir=…)``: grey, with ``reduce_zero_label`` classes from 1. From 256 values
    on they have 16 bits, where mmseg's wrap.

    Args:
        out_dir: Their folder.
        name: Gives the name of the file for an image's path, :meth:`mmspike.config.output_names.OutputNames.labels`.
    """

    def __init__(self, out_dir: str, name: Callable[[str], str]) -> None:
        super().__init__()
        self.out_dir = out_dir
        self.name = name

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        for sample in data_samples:
            labels = sample['pred_sem_seg']['data'].squeeze(0).cpu().numpy().astype(np.int64)
            labels += bool(sample.get('reduce_zero_label', False))
            path = osp.join(self.out_dir, self.name(sample['img_path']))
            os.makedirs(osp.dirname(path), exist_ok=True)
            Image.fromarray(labels.astype(np.uint8 if labels.max() < 256 else np.uint16)).save(path)
            self.results.append(path)

    def compute_metrics(self, results: list) -> dict:
        return {}
