"""Classes and heads of detectors: spelling, order, number, training against validation."""

import json

from mmdet.registry import DATASETS

from mmspike.config.data_check import check_data

from .drawn import coco, detector


def errors(cfg, *loaders) -> str:
    return '\n'.join(map(str, check_data(cfg, *([loaders] if loaders else [])).errors))


def test_a_misspelt_class_is_named_with_the_nearest_spelling(tmp_path):
    report = check_data(detector(coco(tmp_path, categories=('Cell', 'debris', 'other'))))
    (train, val), doubts = report.errors, report.doubts
    assert "train.json: the class 'cell' of the config is no category of the file: did you mean 'Cell'?" in str(train)
    assert val.place.startswith('val_dataloader')
    assert "no class learns 2 of 3 categories: 'Cell' (3 objects), 'other' (0 objects)" in str(doubts[0])


def test_a_subset_of_the_categories_is_legal(tmp_path):
    report = check_data(detector(coco(tmp_path), classes=('debris',)))
    assert not report.errors and "no class learns 1 of 2 categories: 'cell' (3 objects)" in str(report.doubts[0])


def test_another_order_of_the_categories_is_refused_with_the_right_one(tmp_path):
    cfg = detector(coco(tmp_path, categories=('debris', 'cell')))
    text = errors(cfg)
    assert "Write classes=('debris', 'cell',) in every data set" in text
    # what is refused: the first object is debris, and would be called a cell
    wrong = DATASETS.build(cfg.train_dataloader.dataset)
    right = DATASETS.build(cfg.train_dataloader.dataset | dict(metainfo=dict(classes=('debris', 'cell'))))
    for dataset, name in ((wrong, 'cell'), (right, 'debris')):
        label = dataset.get_data_info(0)['instances'][0]['bbox_label']
        assert dataset.metainfo['classes'][label] == name
    assert not errors(detector(tmp_path, classes=('debris', 'cell')))


def test_train_and_validation_in_different_orders(tmp_path):
    coco(tmp_path)
    content = json.loads((tmp_path / 'val.json').read_text())
    content['categories'].reverse()
    (tmp_path / 'val.json').write_text(json.dumps(content))
    (error,) = check_data(detector(tmp_path)).errors
    assert 'val.json' in error.place and "in the order 'debris', 'cell'" in error.text


def test_names_of_classes_that_are_written_wrong(tmp_path):
    root = coco(tmp_path, categories=('nucleus',))
    names = tmp_path / 'names.txt'
    names.write_text('nucleus')
    for classes, message in [
        ('nucleus', r"metainfo.classes is the text 'nucleus', not a list of names: a single class needs a comma behind it"),
        ('data/names.txt', 'metainfo.classes is the file data/names.txt, which does not exist'),
        (('nucleus', 'nucleus'), "metainfo.classes has 'nucleus' more than once"),
        ((1,), 'metainfo.classes holds 1'),
    ]:
        assert message in errors(detector(root, classes=classes, number=1), 'train_dataloader')
    assert not errors(detector(root, classes=str(names), number=1))
    assert "metainfo has the key 'CLASSES'" in errors(detector(root, metainfo=dict(CLASSES=('nucleus',))), 'train_dataloader')


def test_classes_that_were_never_set(tmp_path):
    text = errors(detector(coco(tmp_path, categories=('cat', 'dog', 'zebu')), classes=None, number=80), 'train_dataloader')
    assert "78 of the 80 classes are no category of the file: 'person', 'bicycle'" in text and text.count('\n') == 0
    assert "Its categories are 'cat', 'dog', 'zebu'" in text and 'set metainfo=dict(classes=(…)) of every data set' in text


def test_heads_in_lists_by_default_and_of_things(tmp_path):
    cfg = detector(coco(tmp_path))
    cfg.model = dict(
        type='CascadeRCNN',
        rpn_head=dict(type='RPNHead', num_classes=1),
        roi_head=dict(type='CascadeRoIHead', bbox_head=[dict(type='Shared2FCBBoxHead', num_classes=n) for n in (2, 4)]),
        bbox_head=dict(type='mmdet.Shared2FCBBoxHead'),
        panoptic_head=dict(type='Mask2FormerHead', num_things_classes=3, num_stuff_classes=0, loss_cls=dict(num_classes=7)),
    )
    places = [error.place for error in check_data(cfg).errors]
    assert places == [
        'model.roi_head.bbox_head.1.num_classes',
        'model.bbox_head.num_classes (by default)',
        'model.panoptic_head.num_things_classes + num_stuff_classes',
    ]
    cfg.model.language_model = dict(type='BertModel')  # names are texts there
    assert not check_data(cfg).errors


def test_validation_with_other_classes_than_training(tmp_path):
    cfg = detector(coco(tmp_path))
    cfg.val_dataloader.dataset.metainfo = dict(classes=('debris',))
    (error,) = check_data(cfg, ('train_dataloader', 'val_dataloader')).errors
    assert "it has 1 classes, train_dataloader 2 (missing: 'cell'; more: none)" in error.text
    # names that the type has by itself: one finding, no advice on heads
    cfg.val_dataloader.dataset.pop('metainfo')
    found = check_data(cfg, ('train_dataloader', 'val_dataloader')).errors
    assert [error.place.split(':')[0] for error in found] == ['val_dataloader'] * 2
    assert '80 of the 80 classes are no category' in found[0].text and 'it has 80 classes' in found[1].text
