"""Class folders, lists and files of mmpretrain, and recordings of event cameras, against a config."""

import json
import shutil

import numpy as np
import pytest
from mmpretrain.registry import DATASETS

from mmspike.config.data_check import check_data

from .drawn import classifier, events, folders, picture


def errors(cfg, *loaders) -> str:
    return '\n'.join(map(str, check_data(cfg, loaders or ('train_dataloader', 'val_dataloader')).errors))


def recordings(root, **change):
    for split in ('train', 'val'):
        for name in ('left', 'right'):
            events(root / split / name / '0.npz', **change)
    return root


def event_config(root, **dataset):
    dataset = dict(sensor_size=(34, 34)) | dataset
    return classifier(root, kind='mmspike.EventFolders', loading=('mmspike.LoadEvents',), **dataset)


def test_data_that_fit(tmp_path):
    report = check_data(classifier(folders(tmp_path / 'a')))
    assert not report.findings and report.rows[0][2] == '4 images, 2 folders, 0 files left out'
    assert not check_data(classifier(tmp_path / 'a', kind='mmspike.ClassFolders', classes=('dog', 'cat'))).findings
    report = check_data(event_config(recordings(tmp_path / 'b')))
    assert not report.findings and report.rows[0][2:] == ('2 recordings, 2 of 2 classes', '2 of 2 recordings')


def test_a_hidden_folder_is_no_class(tmp_path):
    folders(tmp_path)
    picture(tmp_path / 'train/.ipynb_checkpoints/0.png')
    picture(tmp_path / 'train/cat/.ipynb_checkpoints/0.png')
    assert 'train/.ipynb_checkpoints would count as a class' in errors(classifier(tmp_path))
    cfg = classifier(tmp_path, kind='mmspike.ClassFolders')
    assert not check_data(cfg).findings
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    assert dataset.CLASSES == ('cat', 'dog') and dataset.get_gt_labels().tolist() == [0, 0, 1, 1]


def test_a_class_folder_that_validation_lacks(tmp_path):
    folders(tmp_path, ('cat', 'cow', 'dog'))
    shutil.rmtree(tmp_path / 'val/cat')
    for kind in ('CustomDataset', 'mmspike.ClassFolders'):
        text = errors(classifier(tmp_path, 3, kind=kind))
        assert (
            "its class folders are 'cow', 'dog', those of train_dataloader 'cat', 'cow', 'dog' (missing: 'cat'; more: none)"
            in text
        )
    # with classes the labels go by the names
    cfg = classifier(tmp_path, 3, kind='mmspike.ClassFolders', classes=('cat', 'cow', 'dog'))
    report = check_data(cfg)
    assert not report.errors and "there is no folder for 'cat'" in str(report)
    assert DATASETS.build(cfg.val_dataloader.dataset).get_gt_labels().tolist() == [1, 1, 2, 2]
    assert "there are 2 folders ('cow', 'dog') for 3 classes" in errors(classifier(tmp_path, 3, classes=('cat', 'cow', 'dog')))


def test_names_of_folders_and_classes(tmp_path):
    folders(tmp_path)
    assert "'cat' would be called 'dog': write classes=('cat', 'dog',)" in errors(classifier(tmp_path, classes=('dog', 'cat')))
    text = errors(classifier(tmp_path, kind='mmspike.ClassFolders', classes=('cat', 'dgo')))
    assert "the folder 'dog' is no class of the config ('cat', 'dgo'): is 'dgo' meant?" in text
    report = check_data(classifier(tmp_path, classes=('cat', 'hound')))
    assert not report.errors and "the folder 'dog' is called 'hound'" in str(report)
    # as ImageNet's: the names are no folders
    assert not check_data(classifier(tmp_path, classes=('tench', 'shark'))).findings


def test_classes_as_a_text(tmp_path):
    folders(tmp_path, ('cat',))
    assert "classes is the text 'cat', not a list of names" in errors(classifier(tmp_path, 1, classes='cat'))
    (tmp_path / 'names').write_text('cat')
    assert not errors(classifier(tmp_path, 1, classes=str(tmp_path / 'names')))


def test_suffixes_that_are_left_out(tmp_path):
    folders(tmp_path, ('cat',))
    folders(tmp_path, ('dog',), suffix='.webp')
    text = errors(classifier(tmp_path))
    assert '1 of 2 class folders in' in text and 'have no image that is read: dog (2 .webp); read are .bmp .jpeg .jpg' in text
    cfg = classifier(tmp_path, kind='mmspike.ClassFolders')
    assert not check_data(cfg).findings and len(DATASETS.build(cfg.train_dataloader.dataset)) == 4
    for path in tmp_path.rglob('*.webp'):
        path.rename(path.with_suffix('.heic'))
    picture(tmp_path / 'train/dog/0.png')
    picture(tmp_path / 'val/dog/0.png')
    report = check_data(cfg)
    assert not report.errors and '2 files in' in str(report) and 'are left out (2 .heic)' in str(report)
    shutil.rmtree(tmp_path / 'train/cat')
    (tmp_path / 'train/dog/0.png').unlink()
    assert '0 images are left in' in errors(cfg, 'train_dataloader')


@pytest.mark.parametrize(
    'lines,message',
    [
        ('cat/0.png 0\ndog/0.png 1', ''),
        ('cat/0.png 1\ndog/0.png 2', '2 classes are numbered from 0 to 1: the file counts from 1, subtract 1'),
        ('cat/0.png 0\ndog/0.png 7', 'the label 7 does not fit (1 of 2 are out of range)'),
        ('cat/0.png cat', "line 1 is 'cat/0.png cat': expected a path, a space and the number of the class"),
        ('', 'the list is empty'),
        ('cat/0.jpg 0\ndog/0.png 1', '1 of 2 pictures do not exist, the first is'),
    ],
)
def test_lists(tmp_path, lines, message):
    folders(tmp_path)
    (tmp_path / 'list.txt').write_text(lines)
    text = errors(classifier(tmp_path, ann_file='list.txt', classes=('cat', 'dog')))
    assert message in text if message else not text


def test_lists_without_names_go_by_the_head(tmp_path):
    folders(tmp_path)
    for lines, message in [('cat/0.png 0\ndog/0.png 1', ''), ('cat/0.png 1\ndog/0.png 2', 'the label 2 does not fit')]:
        (tmp_path / 'list.txt').write_text(lines)
        text = errors(classifier(tmp_path, ann_file='list.txt'), 'train_dataloader')
        assert message in text if message else not text


def test_folders_of_another_level(tmp_path):
    folders(tmp_path / 'a')
    for kind in ('CustomDataset', 'mmspike.ClassFolders'):
        text = errors(classifier(tmp_path, kind=kind, data_prefix='a'), 'train_dataloader')
        assert "its folders are 'train', 'val', which are no classes: is data_prefix='a/train' meant?" in text
        text = errors(classifier(tmp_path / 'b', kind=kind)) if folders(tmp_path / 'b', splits=('train/all', 'val/all')) else ''
        assert "its only folder is 'all', which would be the only class and holds the folders 'cat', 'dog'" in text
        # pictures below their class's folder
        assert not check_data(classifier(folders(tmp_path / 'c', splits=('train', 'val')), kind=kind)).findings
    recordings(tmp_path / 'd')
    assert "data_prefix='train' meant?" in errors(event_config(tmp_path / 'd', data_prefix=''), 'train_dataloader')
    text = errors(classifier(tmp_path / 'c', 1000, kind='ImageNet', split=''), 'train_dataloader')
    assert "2 class folders, ImageNet the 1000 of the public data set: for classes of your own set type='mmspike" in text


def test_labels_of_openmmlab_files(tmp_path):
    folders(tmp_path)
    cfg = classifier(tmp_path, kind='BaseDataset', ann_file='labels.json')
    for item, message in [
        (dict(gt_label=1), ''),
        (dict(gt_label='1'), "has the label '1': expected the number of its class, from 0"),
        (dict(gt_label=None), 'has the label None'),
        (dict(label=1), "item 0 (cat/0.png) has no \"gt_label\": it has 'img_path', 'label'"),
    ]:
        content = dict(metainfo=dict(classes=['cat', 'dog']), data_list=[dict(img_path='cat/0.png') | item])
        (tmp_path / 'labels.json').write_text(json.dumps(content))
        text = errors(cfg, 'train_dataloader')
        assert message in text if message else not text
    cfg.model.head = dict(type='MAEPretrainHead')  # nothing is classified
    assert not errors(cfg, 'train_dataloader')


def test_downloads(tmp_path):
    def look(kind, number=10, **dataset):
        cfg = classifier(tmp_path, number, kind=kind, **dataset)
        cfg.train_dataloader.dataset.data_prefix = ''
        return check_data(cfg, ('train_dataloader',), ())

    report = look('CIFAR10')
    assert not report.findings and 'they are downloaded when the run begins' in report.rows[0][2]
    assert '6 of 6 files do not exist, the first is' in str(look('CIFAR10', download=False).errors[0])
    assert 'it is 10, but train_dataloader has 100 classes' in str(look('CIFAR100').errors[0])
    (tmp_path / 'cifar-10-batches-py').mkdir()
    (tmp_path / 'cifar-10-batches-py/test_batch').write_bytes(b'half')
    (doubt,) = look('CIFAR10').doubts
    assert '5 of 6 files do not exist' in doubt.text and 'test_batch is cut off or another file (4 bytes)' in doubt.text
    (tmp_path / 'train-images-idx3-ubyte').write_bytes(b'')
    assert '3 of 4 files do not exist' in str(look('MNIST', download=False).errors[0])


def test_heads_and_topk(tmp_path):
    cfg = classifier(folders(tmp_path), 1)
    assert 'model.head.num_classes: it is 1, but train_dataloader has 2 classes' in errors(cfg)
    report = check_data(classifier(tmp_path, 10))
    assert not report.errors and 'model.head.num_classes: it is 10, but' in str(report)
    cfg = classifier(tmp_path)
    cfg.val_evaluator.topk = (1, 5)
    assert 'val_evaluator: topk=5 needs at least 5 classes, the head has 2' in errors(cfg)


def test_multi_label_files(tmp_path):
    folders(tmp_path)
    items = [dict(img_path='cat/0.png', gt_label=[0, 1]), dict(img_path='dog/0.png', gt_label=[])]
    content = dict(metainfo=dict(classes=['cat', 'dog']), data_list=items)
    cfg = classifier(tmp_path, kind='MultiLabelDataset', ann_file='labels.json')
    for change, message in [
        ({}, ''),
        (dict(data_list=[dict(items[0], gt_label=[2])]), 'the label 2 does not fit'),
        (dict(data_list=[]), '"data_list" is empty'),
        (dict(data_list=7), '"data_list" is missing or no list'),
        (dict(data_list=['a']), '"data_list" holds'),
        (dict(metainfo=None), '"metainfo" is missing'),
        (dict(data_list=[dict(items[0], img_path='none.png')]), 'pictures do not exist'),
    ]:
        (tmp_path / 'labels.json').write_text(json.dumps(content | change))
        text = errors(cfg, 'train_dataloader')
        assert message in text if message else not text
    (tmp_path / 'labels.json').write_text(json.dumps(content))
    cfg = classifier(tmp_path, kind='MultiLabelDataset', ann_file='labels.json', classes=('dog', 'cat'))
    assert "its metainfo has the classes in the order 'cat', 'dog'" in errors(cfg, 'train_dataloader')


@pytest.mark.parametrize(
    'change,stops,message',
    [
        (dict(t=lambda t: t * 1e-6), True, '0.npz: t has fractions'),
        (dict(t=lambda t: t // 1000), False, 'more than a sensor gives. Are the times in ms or s?'),
        (dict(t=lambda t: t * 1000), False, 'less than a sensor gives. Are the times in ns?'),
        (dict(t=lambda t: np.where(t == t[5], np.nan, t)), True, 't is nan at event'),
        (dict(t=lambda t: (t + 2**32 - 150000).astype(np.uint32)), True, 't falls from'),
        (dict(t=lambda t: np.where(np.arange(len(t)) == 9, 0, t)), False, 'the time falls at 1 of 4000 events'),
        (dict(p=lambda p: p + 1), True, 'p (polarity) has the values 1, 2'),
        (dict(p=lambda p: p.astype(str)), True, 'p (polarity) is of type <U21: expected 0 and 1'),
        (dict(p=lambda p: p * 0), False, 'all 8000 events looked at are OFF'),
        (dict(x=lambda x: x + 2**16), True, '4000 events lie outside the 34 x 34 px sensor'),
        (dict(x=lambda x: x // 4, y=lambda y: y // 4), False, 'events lie in [9, 9] of [34, 34] px'),
    ],
)
def test_recordings(tmp_path, change, stops, message):
    report = check_data(event_config(recordings(tmp_path, **change)), ('train_dataloader',), ())
    assert len(report.findings) == 1 and report.findings[0].stops == stops and message in str(report)


def test_folders_of_recordings(tmp_path):
    recordings(tmp_path)
    (tmp_path / 'train/left/1.es').write_bytes(b'x')
    assert 'has 1 recordings of formats that are not read, such as 1.es' in errors(event_config(tmp_path))
    (tmp_path / 'train/left/1.es').rename(tmp_path / 'train/left/notes.txt')
    (tmp_path / 'train/.cache').mkdir()
    report = check_data(event_config(tmp_path))
    assert not report.errors and '1 files in' in str(report) and '(1 .txt)' in str(report)
    (tmp_path / 'train/left/0.npz').unlink()
    assert 'has no recording, only 1 .txt' in errors(event_config(tmp_path))
    (tmp_path / 'train/right/0.npz').write_text('<!DOCTYPE html>')
    assert 'It is a web page, mostly an error' in errors(event_config(tmp_path))
    (tmp_path / 'train/right/0.npz').unlink()
    (tmp_path / 'train/right/of_ann').mkdir()
    events(tmp_path / 'train/right/of_ann/0.npz')
    assert 'of_ann: it is a folder: files of events lie in the folder of their class' in errors(event_config(tmp_path))
    shutil.rmtree(tmp_path / 'train/left')
    assert "its class folders are 'left', 'right', those of train_dataloader 'right'" in errors(event_config(tmp_path))
    text = errors(event_config(tmp_path, classes=('left', 'rigth')))
    assert "the folder 'right' is no class of the config ('left', 'rigth'): is 'rigth' meant?" in text


def test_times_beside_the_duration_of_a_frame(tmp_path):
    cfg = event_config(recordings(tmp_path))
    cfg.train_dataloader.dataset.pipeline.append(dict(type='mmspike.EventsToFrames', T=4, by='time', duration=75000))
    assert not check_data(cfg, ('train_dataloader',), ()).findings
    cfg.train_dataloader.dataset.pipeline[-1]['duration'] = 100
    assert 'takes the first T x duration = 400 us, the recordings have' in str(check_data(cfg, ('train_dataloader',), ()))


def test_a_link_to_nowhere_and_a_single_class(tmp_path):
    cfg = classifier(folders(tmp_path, ('cat',)), 1, kind='mmspike.ClassFolders')
    (tmp_path / 'train/cat/9.png').symlink_to('/nowhere.png')
    report = check_data(cfg, ('train_dataloader',), ())
    assert '9.png: it is a link to /nowhere.png, which does not exist' in str(report.errors)
    assert "has the single class folder 'cat': there is nothing to tell apart" in str(report.doubts)
