"""The embedded shapes: annotations agree with each other, the bytes with the seed, and a folder is whole or absent."""

import json
from collections import Counter

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO

from mmspike.datasets import shapes
from mmspike.datasets.shapes import CLASSES, write_shapes

SMALL = dict(num_train=6, num_val=3, size=96)


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    return write_shapes(tmp_path_factory.mktemp('shapes') / 'root', **SMALL)


def contents(root):
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob('*')) if p.is_file()}


@pytest.mark.parametrize('split', ['train', 'val'])
def test_formats_agree(root, split):
    coco = COCO(root / 'annotations' / f'instances_{split}.json')
    assert [c['name'] for c in coco.loadCats(coco.getCatIds())] == list(CLASSES)
    assert len(coco.imgs) == SMALL[f'num_{split}'] == len(list((root / split).iterdir()))
    assert len(coco.anns) >= 2 * len(coco.imgs)
    for image_id, info in coco.imgs.items():
        picture = cv2.imread(str(root / split / info['file_name']), cv2.IMREAD_UNCHANGED)
        assert picture.shape == (info['height'], info['width'], 3) == (96, 96, 3)
        semantic = cv2.imread(str(root / 'semantic' / split / info['file_name']), cv2.IMREAD_UNCHANGED)
        times_covered = np.zeros((96, 96), int)
        expected = np.ones((96, 96), int)
        for annotation in coco.imgToAnns[image_id]:
            mask = coco.annToMask(annotation).astype(bool)
            rows, columns = np.nonzero(mask)
            x, y = columns.min(), rows.min()
            assert annotation['bbox'] == [x, y, columns.max() + 1 - x, rows.max() + 1 - y]
            assert annotation['area'] == mask.sum() > 0
            times_covered += mask
            expected[mask] = 1 + annotation['category_id']
        assert times_covered.max() == 1, 'a pixel belongs to the one shape seen there'
        np.testing.assert_array_equal(semantic, expected)

    per_class = Counter(a['category_id'] for a in coco.anns.values())
    for i, name in enumerate(CLASSES):
        files = list((root / 'classes' / split / name).iterdir())
        assert len(files) == per_class[i + 1]
        assert all(cv2.imread(str(f)).shape == (shapes.CROP_SIZE, shapes.CROP_SIZE, 3) for f in files)
    assert {p.name for p in (root / 'classes' / split).iterdir()} == set(CLASSES)


def test_shapes_occlude_but_stay_visible(monkeypatch):
    tried = []
    fill = shapes._fill
    monkeypatch.setattr(shapes, '_fill', lambda corners, size: tried.append(fill(corners, size)) or tried[-1])
    occluded = 0
    for seed in range(40):
        tried.clear()
        _, owner, labels = shapes.draw_scene(np.random.default_rng(seed), 128)
        for k in range(1, len(labels) + 1):
            seen = owner == k
            whole = min(mask.sum() for mask in tried if (seen <= mask).all())
            assert seen.sum() >= shapes.MIN_VISIBLE * whole
            occluded += seen.sum() < whole
    assert occluded > 10


def test_every_class_and_scale_occurs():
    labels, sides = Counter(), []
    for seed in range(60):
        _, owner, found = shapes.draw_scene(np.random.default_rng(seed), 128)
        labels.update(found)
        sides += [np.sqrt((owner == k).sum()) for k in range(1, len(found) + 1)]
    assert set(labels) == set(range(len(CLASSES)))
    assert min(labels.values()) > 0.6 * max(labels.values())
    assert min(sides) < 14 and max(sides) > 40


def test_same_seed_same_bytes(root, tmp_path):
    again = write_shapes(tmp_path / 'again', **SMALL)
    assert contents(again) == contents(root)
    other = write_shapes(tmp_path / 'other', **SMALL, seed=1)
    assert (other / 'train/000000.png').read_bytes() != (root / 'train/000000.png').read_bytes()


def test_pictures_do_not_depend_on_their_number_and_splits_differ(root, tmp_path):
    fewer = write_shapes(tmp_path / 'fewer', num_train=2, num_val=1, size=96)
    assert (fewer / 'train/000001.png').read_bytes() == (root / 'train/000001.png').read_bytes()
    assert (fewer / 'train/000000.png').read_bytes() != (fewer / 'val/000000.png').read_bytes()


def test_existing_is_reused(root):
    before = {p: p.stat().st_mtime_ns for p in root.rglob('*')}
    assert write_shapes(root, **SMALL) == root
    assert {p: p.stat().st_mtime_ns for p in root.rglob('*')} == before


def test_other_parameters_and_other_folders_are_left_alone(root, tmp_path):
    with pytest.raises(FileExistsError, match="'seed': 0.*'seed': 7.*delete it"):
        write_shapes(root, **SMALL, seed=7)
    (tmp_path / 'photo.jpg').write_bytes(b'mine')
    with pytest.raises(FileExistsError, match='holds no shapes data set'):
        write_shapes(tmp_path, **SMALL)
    assert [p.name for p in tmp_path.iterdir()] == ['photo.jpg']


def test_interrupted_leaves_nothing(tmp_path, monkeypatch):
    write_png = shapes._write_png

    def interrupt(path, image):
        if path.parts[-2:] == ('val', '000001.png'):
            raise KeyboardInterrupt
        write_png(path, image)

    monkeypatch.setattr(shapes, '_write_png', interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_shapes(tmp_path / 'root', **SMALL)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    assert len(json.loads((write_shapes(tmp_path / 'root', **SMALL) / 'shapes.json').read_text())) == 5


def test_unwritable_file_is_an_error(tmp_path):
    with pytest.raises(OSError, match='could not write'):
        shapes._write_png(tmp_path / 'absent' / 'a.png', np.zeros((4, 4, 3), np.uint8))


@pytest.mark.parametrize(
    'parameters, message',
    [
        (dict(num_train=0), 'num_train and num_val must be at least 1, got 0'),
        (dict(size=32), 'size must be at least 64 px, got 32'),
        (dict(seed=-1), 'seed must not be negative, got -1'),
    ],
)
def test_bad_numbers(tmp_path, parameters, message):
    with pytest.raises(ValueError, match=message):
        write_shapes(tmp_path / 'root', **parameters)
    assert list(tmp_path.iterdir()) == []
