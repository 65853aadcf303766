"""Tiny drawn data sets of each kind, and configs that read them."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from mmengine.config import Config
from PIL import Image

SIDE = 64
RECTANGLES = ((10, 20, 20, 30), (35, 20, 20, 30))  # x, y, width, height


def box(x: float, y: float, w: float, h: float, category=1, **more) -> dict:
    """A COCO annotation of a rectangle."""
    polygon = [[x, y, x + w, y, x + w, y + h, x, y + h]]
    return dict(bbox=[x, y, w, h], segmentation=polygon, area=w * h, iscrowd=0, category_id=category) | more


def picture(path: Path, size: tuple[int, int] = (SIDE, SIDE), **options) -> None:
    """A grey picture of ``size`` (width, height)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new('RGB', size, (90, 90, 90)).save(path, **options)


def coco(root: Path, change: Callable[[dict], object] | None = None, categories=('cell', 'debris'), images: int = 3) -> Path:
    """Pictures with an object of each category; train and val are the same. ``change`` edits the JSON."""
    content: dict = dict(
        images=[dict(id=i + 1, file_name=f'{i}.png', height=SIDE, width=SIDE) for i in range(images)],
        annotations=[],
        categories=[dict(id=i + 1, name=name) for i, name in enumerate(categories)],
    )
    for image in content['images']:
        for number, rectangle in enumerate(RECTANGLES[: len(categories)]):
            ids = dict(id=len(content['annotations']) + 1, image_id=image['id'])
            content['annotations'].append(box(*rectangle, number + 1) | ids)
    for split in ('train', 'val'):
        for image in content['images']:
            picture(root / split / image['file_name'])
    if change:
        change(content)
    for split in ('train', 'val'):
        (root / f'{split}.json').write_text(json.dumps(content))
    return root


def detector(root: Path, classes=('cell', 'debris'), number: int | None = None, masks: bool = True, **dataset) -> Config:
    """Mask R-CNN's heads in a config of mmdet; ``dataset`` are keys of every data set."""
    number = len(classes) if number is None else number
    pipeline = [
        dict(type='mmspike.LoadImageFromFile'),
        dict(type='LoadAnnotations', with_bbox=True, with_mask=masks),
        dict(type='PackDetInputs'),
    ]

    def loader(split: str, **more) -> dict:
        own = dict(
            type='CocoDataset', data_root=str(root), ann_file=f'{split}.json', data_prefix=dict(img=split), pipeline=pipeline
        )
        if classes:
            own['metainfo'] = dict(classes=classes)
        return dict(batch_size=1, dataset=own | more | dataset)

    evaluator = dict(type='CocoMetric', ann_file=str(root / 'val.json'), metric=['bbox', 'segm'] if masks else 'bbox')
    heads = dict(bbox_head=dict(type='Shared2FCBBoxHead', num_classes=number))
    if masks:
        heads['mask_head'] = dict(type='FCNMaskHead', num_classes=number)
    val = loader('val', test_mode=True)
    return Config(
        dict(
            default_scope='mmdet', custom_imports=dict(imports=['mmspike']),
            model=dict(type='MaskRCNN', rpn_head=dict(type='RPNHead'), roi_head=dict(heads, type='StandardRoIHead')),
            train_dataloader=loader('train', filter_cfg=dict(filter_empty_gt=True, min_size=32)),
            val_dataloader=val, test_dataloader=val, val_evaluator=evaluator, test_evaluator=evaluator,
        )
    )  # fmt: skip


def semantic(root: Path, label: np.ndarray | Callable[[Path], None], images: int = 3, suffix: str = '.png', **options) -> Path:
    """Pictures and label images, train and val alike; ``label`` is an array, or writes one."""
    for split in ('train', 'val'):
        for i in range(images):
            picture(root / split / f'{i}{suffix}', **options)
            path = root / 'labels' / split / f'{i}.png'
            path.parent.mkdir(parents=True, exist_ok=True)
            if callable(label):
                label(path)
            else:
                Image.fromarray(label).save(path)
    return root


def stripes(*values: int) -> np.ndarray:
    """A label image with a stripe of each value."""
    return np.repeat(np.array(values, np.uint8), -(-SIDE // len(values)))[:SIDE][None].repeat(SIDE, 0)


def segmentor(
    root: Path, classes=('background', 'cell'), number: int | None = None, head: dict | None = None, **dataset
) -> Config:
    """A semantic FPN's heads in a config of mmseg; ``dataset`` are keys of every data set."""
    number = len(classes) if number is None else number
    pipeline = [dict(type='mmspike.LoadImageFromFile'), dict(type='LoadAnnotations'), dict(type='PackSegInputs')]

    def loader(split: str) -> dict:
        own = dict(
            type='BaseSegDataset', data_root=str(root), data_prefix=dict(img_path=split, seg_map_path=f'labels/{split}'),
            img_suffix='.png', metainfo=dict(classes=classes), pipeline=pipeline,
        )  # fmt: skip
        return dict(batch_size=1, dataset=own | dataset)

    heads = dict(decode_head=dict(type='FPNHead', num_classes=number) | (head or {}))
    heads['auxiliary_head'] = [dict(type='FCNHead', num_classes=number)]
    return Config(
        dict(
            default_scope='mmseg', custom_imports=dict(imports=['mmspike']), model=dict(type='EncoderDecoder') | heads,
            train_dataloader=loader('train'), val_dataloader=loader('val'), test_dataloader=loader('val'),
            val_evaluator=dict(type='IoUMetric'), test_evaluator=dict(type='IoUMetric'),
        )
    )  # fmt: skip


def folders(root: Path, classes=('cat', 'dog'), splits=('train', 'val'), images: int = 2, suffix: str = '.png') -> Path:
    """Class folders of pictures."""
    for split in splits:
        for name in classes:
            for i in range(images):
                picture(root / split / name / f'{i}{suffix}')
    return root


def classifier(
    root: Path, number: int = 2, kind: str = 'CustomDataset', loading=('mmspike.LoadImageFromFile',), **dataset
) -> Config:
    """A linear head in a config of mmpretrain; ``dataset`` are keys of every data set."""
    pipeline = [dict(type=name) for name in loading]

    def loader(split: str) -> dict:
        return dict(batch_size=1, dataset=dict(type=kind, data_root=str(root), data_prefix=split, pipeline=pipeline) | dataset)

    return Config(
        dict(
            default_scope='mmpretrain', custom_imports=dict(imports=['mmspike']),
            model=dict(type='ImageClassifier', head=dict(type='LinearClsHead', num_classes=number, in_channels=8)),
            train_dataloader=loader('train'), val_dataloader=loader('val'), test_dataloader=loader('val'),
            val_evaluator=dict(type='Accuracy'), test_evaluator=dict(type='Accuracy'),
        )
    )  # fmt: skip


def events(path: Path, number: int = 4000, side: int = 34, **change) -> None:
    """An ``.npz`` of 0.3 s; ``change`` maps one of its arrays t (in us), x, y, p."""
    rng = np.random.default_rng(0)
    arrays = dict(t=np.sort(rng.integers(0, 300000, number)), p=rng.integers(0, 2, number))
    arrays |= {key: rng.integers(0, side, number) for key in 'xy'}
    for key, function in change.items():
        arrays[key] = function(arrays[key])
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **arrays)
