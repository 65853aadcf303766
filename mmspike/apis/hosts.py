"""The hosts' inferencers behind one face: build, prepare, draw, describe. Each class needs its host and no other."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.dataset import default_collate
from mmengine.fileio import list_from_file
from mmengine.registry import DATASETS
from mmengine.structures import BaseDataElement

#: an image whose shorter side has fewer pixels is enlarged before names and scores are written on it
READABLE = 384


def class_names(cfg: Config, checkpoint: dict) -> list[str] | None:
    """Names of the classes: those that the checkpoint was trained with, or else those of the config's test data set."""
    meta = checkpoint.get('meta', {}).get('dataset_meta') or {}
    names = {key.lower(): value for key, value in meta.items()}.get('classes')
    if names is None:
        dataset = cfg.test_dataloader.dataset
        names = dataset.get('metainfo', {}).get('classes', dataset.get('classes'))
    if names is None:
        cls = dataset.type
        if isinstance(cls, str):
            with DATASETS.switch_scope_and_registry(None) as registry:
                cls = registry.get(cls)
        names = getattr(cls, 'METAINFO', {}).get('classes')
    if isinstance(names, str):  # a file with one name a line, or one class without the comma behind it
        names = list_from_file(names) if Path(names).is_file() else (names,)
    return None if names is None else list(names)


class _Host:
    """The base of all three. ``inferencer`` is the host's, with ``model``, ``pipeline`` and ``visualizer``."""

    task: str
    visualizer: str

    def __init__(self, cfg: Config, checkpoint: str | None, device: str, classes: list[str] | None) -> None:
        cfg.setdefault('visualizer', dict(type=self.visualizer))
        cfg.visualizer.pop('vis_backends', None)  # it draws, and writes nothing by itself
        self.classes = classes
        with warnings.catch_warnings():
            # of checkpoints without class names the hosts say that they take those of COCO or Cityscapes; we do not
            warnings.filterwarnings('ignore', 'dataset_meta or class names')
            # an ONNX file has its own weights
            warnings.filterwarnings('ignore', 'Checkpoint is not loaded|weights is None')
            self.inferencer = self.build(cfg, checkpoint, device)
        self.model = self.inferencer.model

    def build(self, cfg: Config, checkpoint: str | None, device: str) -> Any:
        raise NotImplementedError

    def prepare(self, image: np.ndarray) -> dict:
        """An image through the test pipeline."""
        return self.inferencer.pipeline(image)

    def collate(self, items: list[dict]) -> dict:
        return self.inferencer.collate_fn(items)

    def draw(self, rgb: np.ndarray, sample: BaseDataElement, score_thr: float) -> np.ndarray:
        """The prediction on the picture, uint8 RGB [H, W, 3]."""
        raise NotImplementedError

    def describe(self, sample: BaseDataElement) -> dict:
        """The prediction as plain data."""
        raise NotImplementedError

    def names(self, labels: Sequence[int]) -> list[str]:
        known = self.classes or []
        return [known[i] if i < len(known) else str(i) for i in labels]


class Detection(_Host):
    task = 'detection'
    visualizer = 'DetLocalVisualizer'

    def build(self, cfg: Config, checkpoint: str | None, device: str) -> Any:
        from mmdet.apis import DetInferencer

        inferencer = DetInferencer(cfg, checkpoint, device, show_progress=False)
        inferencer.visualizer.dataset_meta = inferencer.model.dataset_meta | dict(classes=self.classes)
        return inferencer

    def draw(self, rgb: np.ndarray, sample: BaseDataElement, score_thr: float) -> np.ndarray:
        zoom = -(-READABLE // min(rgb.shape[:2]))
        if zoom > 1 and 'pred_instances' in sample:
            rgb, sample = rgb.repeat(zoom, 0).repeat(zoom, 1), self.enlarged(sample, zoom)
        return self.inferencer.visualize([rgb], [sample], return_vis=True, pred_score_thr=score_thr)[0]

    @staticmethod
    def enlarged(sample: BaseDataElement, zoom: int) -> BaseDataElement:
        sample = sample.new()
        sample.pred_instances = instances = sample.pred_instances.new()
        if 'bboxes' in instances:
            instances.bboxes = instances.bboxes * zoom
        if 'masks' in instances:
            instances.masks = instances.masks.repeat_interleave(zoom, 1).repeat_interleave(zoom, 2)
        return sample

    def describe(self, sample: BaseDataElement) -> dict:
        result = self.inferencer.pred2dict(sample)
        return dict(classes=self.names(result['labels'])) | result if 'labels' in result else result


class Segmentation(_Host):
    task = 'segmentation'
    visualizer = 'SegLocalVisualizer'

    def build(self, cfg: Config, checkpoint: str | None, device: str) -> Any:
        from mmseg.apis import MMSegInferencer

        inferencer = MMSegInferencer(cfg, checkpoint, device=device, show_progress=False)
        model = inferencer.model
        classes = self.classes or [str(i) for i in range(model.num_classes)]
        model.dataset_meta = dict(classes=classes, palette=self.palette(classes, model.dataset_meta, cfg))
        return inferencer

    @staticmethod
    def palette(classes: list[str], meta: dict, cfg: Config) -> list:
        """A colour for each class: the checkpoint's, else the config's, else random ones, the same every time."""
        for known in (meta, cfg.test_dataloader.dataset.get('metainfo', {})):
            if list(known.get('classes') or ()) == classes and len(known.get('palette') or ()) == len(classes):
                return known['palette']
        return np.random.default_rng(0).integers(0, 256, (len(classes), 3)).tolist()

    def draw(self, rgb: np.ndarray, sample: BaseDataElement, score_thr: float) -> np.ndarray:
        return self.inferencer.visualize([rgb], [sample], return_vis=True, opacity=0.5)[0]

    def describe(self, sample: BaseDataElement) -> dict:
        from pycocotools import mask

        labels = label_map(sample)
        found, counts = (values.tolist() for values in np.unique(labels, return_counts=True))
        masks = []
        for label in found:
            rle = mask.encode(np.asfortranarray(labels == label, dtype=np.uint8))
            masks.append(dict(size=rle['size'], counts=rle['counts'].decode()))
        shares = [count / labels.size for count in counts]
        return dict(classes=self.names(found), labels=found, shares=shares, masks=masks)


def label_map(sample: BaseDataElement) -> np.ndarray:
    """The labels [H, W] of a segmentation, uint8 up to 256 classes."""
    labels = sample.pred_sem_seg.data[0].numpy()
    return labels.astype(np.uint8 if labels.max() < 256 else np.uint16)


class Classification(_Host):
    task = 'classification'
    visualizer = 'UniversalVisualizer'

    def build(self, cfg: Config, checkpoint: str | None, device: str) -> Any:
        from mmpretrain import ImageClassificationInferencer
        from mmpretrain.visualization import UniversalVisualizer

        inferencer = ImageClassificationInferencer(cfg, checkpoint, device, classes=self.classes)
        inferencer.visualizer = UniversalVisualizer()
        return inferencer

    def prepare(self, image: np.ndarray) -> dict:
        return self.inferencer.pipeline(dict(img=image, img_shape=image.shape[:2], ori_shape=image.shape[:2]))

    def collate(self, items: list[dict]) -> dict:
        return default_collate(items)

    def draw(self, rgb: np.ndarray, sample: BaseDataElement, score_thr: float) -> np.ndarray:
        size = READABLE if min(rgb.shape[:2]) < READABLE else None
        return self.inferencer.visualizer.visualize_cls(rgb, sample, self.classes, draw_gt=False, resize=size)

    def describe(self, sample: BaseDataElement) -> dict:
        result = self.inferencer.postprocess([sample], None)[0]
        return {key: value.tolist() if isinstance(value, np.ndarray) else value for key, value in result.items()}


#: default_scope of a config -> what handles it
HOSTS: dict[str, type[_Host]] = dict(mmdet=Detection, mmseg=Segmentation, mmpretrain=Classification)
