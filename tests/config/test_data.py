"""Errors that data cause are explained; all others pass as they are."""

import errno

import numpy as np
import pytest
from data_check.drawn import classifier, coco, detector, folders, picture, segmentor, semantic, stripes
from mmdet.registry import DATASETS, MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmseg.models.losses import CrossEntropyLoss
from PIL import Image
from torch import tensor, zeros

from mmspike.config.data import data_faults_explained
from mmspike.utils.errors import UserError


def explained(cfg, body, *args):
    with pytest.raises(UserError) as info, data_faults_explained(cfg):
        body(*args)
    return info.value


def first_sample(cfg):
    init_default_scope(cfg.default_scope)
    return DATASETS.build(cfg.train_dataloader.dataset)[0]


def batches(cfg, **changes):
    init_default_scope(cfg.default_scope)
    loader = dict(cfg.train_dataloader, sampler=dict(type='DefaultSampler', shuffle=False), **changes)
    return list(Runner.build_dataloader(loader))


@pytest.mark.parametrize(
    'text,fault',
    [
        ('', r'is empty \(0 bytes\)'),
        ('{"images": [{"id": 1}, {"id"', 'no valid JSON at line 1, column 29'),
        ('[1, 2]', 'top level is a list'),
        ('{"images": [], "annotations": [], "categories": [{}]}', '"images" is empty'),
        ('{"images": [{}], "categories": [{}]}', '"annotations" is missing'),
        ('{"images": [[1]], "annotations": 7, "categories": "a"}', '"images" holds'),
    ],
)
def test_broken_files(tmp_path, text, fault):
    cfg = detector(coco(tmp_path))
    (tmp_path / 'train.json').write_text(text)
    error = explained(cfg, first_sample, cfg)
    cause = error.__cause__
    assert fault.replace('\\', '') in str(error) and 'train.json' in str(error)
    assert cause is not None and f'(The error was {type(cause).__name__}: {cause})' in str(error)


def change(**values):
    def apply(content):
        content['annotations'][3] |= values

    return apply


@pytest.mark.parametrize(
    'faulty,cause,message',
    [
        (lambda c: c['annotations'][3].pop('area'), KeyError, "annotation 4 has no 'area'"),
        (lambda c: c['annotations'][3].pop('segmentation'), KeyError, 'annotation 4 has no mask'),
        (change(segmentation=[1.0, 2, 3, 4, 5, 6]), TypeError, 'annotation 4 cannot be read: segmentation is one flat'),
        (lambda c: c.update(categories=['cell', 'debris']), TypeError, "\"categories\" holds 'cell', a str"),
        (lambda c: [a.update(image_id=str(a['image_id'])) for a in c['annotations']], ValueError, "image_id '1' (text)"),
    ],
)  # fmt: skip
def test_annotations_are_named(tmp_path, faulty, cause, message):
    cfg = detector(coco(tmp_path, faulty))

    error = explained(cfg, lambda: batches(cfg, num_workers=0))
    assert message in str(error) and isinstance(error.__cause__, cause)


def test_a_worker_process_that_fails_on_data_is_no_dead_one(tmp_path):
    cfg = detector(coco(tmp_path, change(segmentation=[1.0, 2.0, 3.0, 4.0, 5.0, 6.0])))
    text = str(explained(cfg, lambda: batches(cfg, num_workers=1)))
    assert 'annotation 4 cannot be read' in text and 'in DataLoader worker process' in text and 'memory' not in text


@pytest.mark.parametrize(
    'error,advice',
    [
        ('DataLoader worker (pid 12) is killed by signal: Killed. ', 'memory is short'),
        ('DataLoader worker (pid 12) is killed by signal: Bus error. It is possible that', '/dev/shm'),
        ('DataLoader worker (pid 12) is killed by signal: Segmentation fault. ', 'num_workers=0'),
        ('DataLoader worker (pid(s) 12, 13) exited unexpectedly', 'num_workers=0'),
    ],
)
def test_dead_workers(tmp_path, error, advice):
    def die(kind):
        raise kind(error)

    cfg = detector(coco(tmp_path))
    text = str(explained(cfg, die, RuntimeError))
    assert text.startswith('A worker of a data loader died') and advice in text
    assert ('memory is short' in text) == (advice == 'memory is short')
    with pytest.raises(ValueError, match='DataLoader worker'), data_faults_explained(cfg):
        die(ValueError)


def test_errors_of_other_kinds_pass_beside_broken_data(tmp_path):
    """The file is broken, but that is not why these were raised."""
    cfg = detector(coco(tmp_path, change(segmentation=None)))
    for error in (
        FloatingPointError('The loss of iteration 1 is not finite'),
        NotADirectoryError(errno.ENOTDIR, 'Not a directory', str(tmp_path / 'work/file/x')),
        OSError(errno.ENOSPC, 'No space left on device'),
        KeyError('area'),
        KeyboardInterrupt(),
        SystemExit(3),
        UserError('said already'),
    ):
        with pytest.raises(type(error)) as info, data_faults_explained(cfg):
            raise error
        assert info.value is error


def test_an_error_of_loading_without_a_fault_passes(tmp_path):
    cfg = detector(coco(tmp_path))
    cfg.train_dataloader.dataset.pipeline[1] = dict(type='LoadProposals', num_max_proposals='many')
    with pytest.raises(KeyError), data_faults_explained(cfg):
        first_sample(cfg)


def test_a_check_that_fails_itself_does_not_hide_the_error(tmp_path, monkeypatch):
    cfg = detector(coco(tmp_path, lambda c: c['annotations'][0].pop('area')))
    monkeypatch.setattr('mmspike.config.data.check_data', lambda *args, **kwargs: 1 / 0)
    with pytest.raises(KeyError, match='area'), data_faults_explained(cfg):
        first_sample(cfg)


def test_empty_images_are_listed(tmp_path):
    cfg = detector(coco(tmp_path))
    cfg.train_dataloader.dataset.pipeline[0].type = 'LoadImageFromFile'
    for name in ('0.png', '1.png'):
        (tmp_path / 'train' / name).write_bytes(b'')
    text = str(explained(cfg, first_sample, cfg))
    assert '2 image files are empty (0 bytes): ' in text and 'train/0.png, ' in text


def test_a_label_out_of_range_is_found_in_any_file(tmp_path):
    cfg = segmentor(semantic(tmp_path, stripes(0, 1)))
    Image.fromarray(stripes(0, 5)).save(tmp_path / 'labels/train/2.png')
    logits = tensor(np.zeros((1, 2, 4, 4), np.float32))
    target = tensor(np.full((1, 4, 4), 5))
    text = str(explained(cfg, CrossEntropyLoss(), logits, target))
    assert 'labels/train/2.png has the value 5' in text and 'Target 5 is out of bounds' in text


def test_pictures_of_different_sizes_in_a_batch(tmp_path):
    folders(tmp_path)
    picture(tmp_path / 'train/cat/0.png', (20, 30))
    cfg = classifier(tmp_path)
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        loader.dataset.pipeline.append(dict(type='PackInputs'))
    cfg.train_dataloader.batch_size = 4
    text = str(explained(cfg, lambda: batches(cfg, num_workers=0, collate_fn=dict(type='default_collate'))))
    assert 'different sizes, [3, 30, 20] and [3, 64, 64]' in text and "dict(type='Resize'" in text


def test_an_error_in_a_worker_is_told_without_its_traceback(tmp_path):
    cfg = detector(coco(tmp_path))
    path = tmp_path / 'train/1.png'
    path.write_bytes(path.read_bytes()[:60])
    text = str(explained(cfg, lambda: batches(cfg, num_workers=1, collate_fn=dict(type='pseudo_collate'))))
    assert text.startswith(f'cannot load image {path} (') and 'Traceback' not in text and text.endswith('to train without it')


def test_features_that_a_neck_cannot_bring_together():
    neck = dict(type='CSPNeXtPAFPN', in_channels=[4, 8, 16], out_channels=4, num_csp_blocks=1)
    cfg = Config(dict(default_scope='mmdet', model=dict(neck=neck)))
    module = MODELS.build(neck)
    text = str(explained(cfg, module, [zeros(1, c, s, s) for c, s in ((4, 11), (8, 6), (16, 3))]))
    assert text.startswith('CSPNeXtPAFPN enlarges features') and 'model.data_preprocessor.pad_size_divisor=32' in text
    with pytest.raises(RuntimeError, match='must match'), data_faults_explained(cfg):
        zeros(2) + zeros(3)
