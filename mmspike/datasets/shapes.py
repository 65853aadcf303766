"""An embedded data set of drawn shapes: one generator for detection, segmentation and classification.

Every picture is a textured, noisy grey background with a few circles, rectangles, triangles and stars of various sizes that
overlap. Each class has a colour of its own, give or take, so that a small network learns them in minutes. A picture is
annotated in three formats::

    root/
      annotations/instances_{train,val}.json   COCO: boxes and RLE masks of what is visible
      {train,val}/000000.png                   the pictures
      semantic/{train,val}/000000.png          1 background, 2 + class index; 0 is unused, as in ADE20K
                                               (load with ``reduce_zero_label=True``)
      classes/{train,val}/<class>/*.png        a square crop around each shape, for classification
      shapes.json                              the parameters it was written with
"""

import json
import math
import os
import shutil
from pathlib import Path

import cv2
import numpy as np
from pycocotools import mask as rle

CLASSES = ('circle', 'rectangle', 'triangle', 'star')
COLOURS = ((60, 60, 230), (60, 200, 60), (255, 110, 70), (40, 190, 240))  # BGR, about which the shapes of a class vary
COLOUR_JITTER = 30  # grey values in each channel

VERSION = 2  # raise when the drawings or the files change: an older data set is then not taken for a current one
CROP_SIZE = 64  # px, side of the pictures in classes/
MIN_VISIBLE = 0.7  # of a shape's area: a placement that hides more of any shape is not taken
SUBPIXEL_BITS = 4  # cv2.fillPoly takes fixed-point corners


def _texture(rng: np.random.Generator, size: int, colour: np.ndarray, contrast: int) -> np.ndarray:
    """A uint8 picture [size, size, 3] that wanders around ``colour`` by ``contrast`` grey values at most.

    Only integer arithmetic and bit-exact resizing, so that every machine draws the same.
    """
    cells = int(rng.integers(3, 13))
    grid = rng.integers(0, 2 * contrast + 1, (cells, cells, 3), dtype=np.uint8)
    wander = cv2.resize(grid, (size, size), interpolation=cv2.INTER_LINEAR_EXACT)
    return np.clip(colour + wander.astype(np.int64) - contrast, 0, 255).astype(np.uint8)


def _corners(rng: np.random.Generator, label: int, size: int) -> np.ndarray:
    """Corners [N, 2] in px (x, y) of a random shape of class ``label`` that lies within the picture."""
    # Log-uniform from 1/6 to 1/2 of the picture: as many small shapes as large ones.
    diameter = size / 6 * 3 ** rng.random()
    angle = 2 * math.pi * rng.random()
    radius = [diameter / 2]
    if CLASSES[label] == 'circle':
        angles = [2 * math.pi * i / 64 for i in range(64)]
    elif CLASSES[label] == 'rectangle':
        half = math.atan(0.4 + 0.6 * rng.random())  # of the angle between the diagonals: sides 2:5 to 1:1
        angles = [half, math.pi - half, math.pi + half, -half]
    elif CLASSES[label] == 'triangle':
        angles = [2 * math.pi * i / 3 for i in range(3)]
    else:
        angles = [math.pi * i / 5 for i in range(10)]
        radius = [diameter / 2, 0.42 * diameter / 2]  # tips and notches in turn
    x, y = diameter / 2 + (size - diameter) * rng.random(2)
    return np.array(
        [
            (x + radius[i % len(radius)] * math.cos(a + angle), y + radius[i % len(radius)] * math.sin(a + angle))
            for i, a in enumerate(angles)
        ]
    )


def _fill(corners: np.ndarray, size: int) -> np.ndarray:
    """The bool mask [size, size] of a polygon."""
    mask = np.zeros((size, size), np.uint8)
    points = np.rint(corners * (1 << SUBPIXEL_BITS)).astype(np.int32)
    cv2.fillPoly(mask, [points], 1, shift=SUBPIXEL_BITS)
    return mask.astype(bool)


def draw_scene(rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Draw one picture.

    Returns:
        image: uint8 [size, size, 3], BGR.
        owner: int [size, size], which shape is seen at a pixel: 0 background, k the k-th shape.
        labels: the class index of each shape, ``labels[k - 1]`` belongs to ``owner == k``.
    """
    image = _texture(rng, size, np.full(3, rng.integers(40, 120)), contrast=24)
    owner = np.zeros((size, size), np.int64)
    labels: list[int] = []
    areas: list[int] = []
    wanted = int(rng.integers(2, 7))
    for _ in range(4 * wanted):
        label = int(rng.integers(len(CLASSES)))
        mask = _fill(_corners(rng, label, size), size)
        below = owner[mask]
        if any(
            np.count_nonzero(owner == k) - np.count_nonzero(below == k) < MIN_VISIBLE * areas[k - 1]
            for k in np.unique(below[below > 0])
        ):
            continue
        colour = COLOURS[label] + rng.integers(-COLOUR_JITTER, COLOUR_JITTER + 1, 3)
        image[mask] = _texture(rng, size, colour, contrast=16)[mask]
        labels.append(label)
        areas.append(int(mask.sum()))
        owner[mask] = len(labels)
        if len(labels) == wanted:
            break
    noise = rng.integers(-12, 13, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8), owner, labels


def _square_crop(image: np.ndarray, box: tuple[int, int, int, int]) -> np.ndarray:
    """The square around ``box`` (x, y, w, h) with a margin of 1/8, moved into the picture, as CROP_SIZE pixels."""
    x, y, w, h = box
    height, width = image.shape[:2]
    side = min(max(w, h) * 5 // 4, height, width)
    left = min(max(x + w // 2 - side // 2, 0), width - side)
    top = min(max(y + h // 2 - side // 2, 0), height - side)
    crop = image[top : top + side, left : left + side]
    return cv2.resize(crop, (CROP_SIZE, CROP_SIZE), interpolation=cv2.INTER_LINEAR_EXACT)


def _write_png(path: Path, image: np.ndarray) -> None:
    # cv2.imwrite reports a failure (a full disk, say) by returning False only.
    if not cv2.imwrite(str(path), image):
        raise OSError(f'could not write {path}')


def _write_split(root: Path, split: str, num: int, size: int, rng_seed: tuple[int, int]) -> None:
    (root / split).mkdir()
    (root / 'semantic' / split).mkdir(parents=True)
    for name in CLASSES:
        (root / 'classes' / split / name).mkdir(parents=True)

    images: list[dict] = []
    annotations: list[dict] = []
    for index in range(num):
        # A generator for each picture: it does not depend on how many others there are.
        image, owner, labels = draw_scene(np.random.default_rng([*rng_seed, index]), size)
        stem = f'{index:06d}'
        _write_png(root / split / f'{stem}.png', image)
        semantic = np.array([1, *(2 + label for label in labels)], np.uint8)[owner]
        _write_png(root / 'semantic' / split / f'{stem}.png', semantic)
        images.append(dict(id=index + 1, file_name=f'{stem}.png', height=size, width=size))
        for k, label in enumerate(labels, start=1):
            encoded = rle.encode(np.asfortranarray(owner == k, np.uint8))
            x, y, width, height = (int(v) for v in rle.toBbox(encoded))
            box = (x, y, width, height)
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=index + 1,
                    category_id=label + 1,
                    bbox=box,
                    area=int(rle.area(encoded)),
                    segmentation=dict(size=[size, size], counts=encoded['counts'].decode()),
                    iscrowd=0,
                )
            )
            crop_path = root / 'classes' / split / CLASSES[label] / f'{stem}_{k}.png'
            _write_png(crop_path, _square_crop(image, box))
    coco = dict(
        info=dict(description='Drawn shapes', version=str(VERSION)),
        images=images,
        annotations=annotations,
        categories=[dict(id=i + 1, name=name) for i, name in enumerate(CLASSES)],
    )
    (root / 'annotations' / f'instances_{split}.json').write_text(json.dumps(coco))


def _parameters_of(root: Path) -> dict | None:
    """The settings with which the data set in ``root`` was written; None when there is nothing yet."""
    marker = root / 'shapes.json'
    if marker.is_file():
        return json.loads(marker.read_text())
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise FileExistsError(f'{root} exists and holds no shapes data set: choose another folder, or move it away')
    return None


def write_shapes(root: str | Path, num_train: int = 400, num_val: int = 80, size: int = 160, seed: int = 0) -> Path:
    """Write the data set of drawn shapes, or find it already written; see the module for the layout.

    The same parameters give the same bytes with the same versions of numpy, opencv and pycocotools. ``root`` appears
    only when everything in it is written; an interrupted call leaves no half data set.

    Args:
        root: Folder to make.
        num_train: Pictures to train on.
        num_val: Held-out pictures.
        size: Height and width of a picture in px, at least 64.
        seed: Of all drawings. Training and held-out pictures are drawn independently.

    Returns:
        ``root`` as a path.

    Raises:
        ValueError: A number is out of range.
        FileExistsError: ``root`` holds something else, or shapes drawn with other parameters.
    """
    root = Path(root)
    parameters = dict(version=VERSION, num_train=num_train, num_val=num_val, size=size, seed=seed)
    if num_train < 1 or num_val < 1:
        raise ValueError(f'num_train and num_val must be at least 1, got {num_train} and {num_val}')
    if size < 64:
        raise ValueError(f'size must be at least 64 px, got {size}')
    if seed < 0:
        raise ValueError(f'seed must not be negative, got {seed}')

    found = _parameters_of(root)
    if found is None:
        partial = root.with_name(f'.{root.name}.{os.getpid()}')
        try:
            (partial / 'annotations').mkdir(parents=True)
            _write_split(partial, 'train', num_train, size, (seed, 0))
            _write_split(partial, 'val', num_val, size, (seed, 1))
            (partial / 'shapes.json').write_text(json.dumps(parameters))
            partial.rename(root)
        finally:
            # Gone after the rename; what is left of a failed or interrupted call otherwise.
            shutil.rmtree(partial, ignore_errors=True)
    elif found != parameters:
        raise FileExistsError(f'{root} holds shapes written with {found}, not {parameters}: delete it or choose another folder')
    return root
