"""COCO files against a config of mmdet: classes, keys, masks, ids, sizes, what is left."""

import json
import re

import pytest
from mmdet.registry import DATASETS
from PIL import Image

from mmspike.config.data_check import check_data

from .drawn import box, coco, detector, picture


def errors(cfg, *loaders) -> str:
    return '\n'.join(map(str, check_data(cfg, *([loaders] if loaders else [])).errors))


def drop(where, *keys):
    def change(content):
        for item in content[where]:
            for key in keys:
                del item[key]

    return change


def each(**values):
    """A change of every annotation; a function gets the old value."""

    def change(content):
        for annotation in content['annotations']:
            for key, value in values.items():
                annotation[key] = value(annotation[key]) if callable(value) else value

    return change


def test_data_that_fit(tmp_path):
    report = check_data(detector(coco(tmp_path)))
    assert not report.findings
    # validation and test share a data set: one row
    assert [row[0] for row in report.rows] == ['train_dataloader', 'val_dataloader']
    assert '2 classes, 3 of 3 images, 6 of 6 objects' in str(report) and '3 of 3 pictures' in str(report)
    assert 'nothing found that does not fit' in str(report)


@pytest.mark.parametrize(
    'change,message',
    [
        (
            drop('annotations', 'area'),
            r"train\.json: annotation 1 has no 'area': mmdet leaves out .* \(and 5 annotations more\)",
        ),
        (drop('annotations', 'bbox'), r"annotation 1 has no 'bbox': \[x, y, width, height\]"),
        (drop('annotations', 'segmentation'), 'annotation 1 has no mask'),
        (drop('annotations', 'category_id'), "annotation 1 has no 'category_id'"),
        (drop('images', 'height', 'width'), r"\"images\" \(id 1\) has no 'height', 'width'"),
        (drop('images', 'file_name'), "has no 'file_name'"),
        (drop('categories', 'id'), 'in "categories" has no \'id\''),
        (each(bbox=[1, 2, 3]), r'annotation 1 has the bbox \[1, 2, 3\]'),
        (each(bbox=lambda old: dict(x=old[0])), 'annotation 1 has the bbox'),
        (each(iscrowd='0'), r"annotation 1 has iscrowd '0', a text, which counts as 1"),
        (each(area=float('nan')), 'annotation 1 has the area nan: expected a number'),
        (
            each(segmentation=lambda old: [[value / 64 for value in old[0]]]),
            r'the polygons of 6 of 6 objects lie outside their boxes: are they shares',
        ),
        (each(area='12'), "annotation 1 has the area '12'"),
        (each(image_id=lambda old: str(old)), r"first has image_id '1' \(text\), the ids of the images are 1, 2, 3 \(number\)"),
        (each(category_id='1'), r"first has category_id '1' \(text\)"),
        (each(id=1), r'1 annotation ids are given more than once, the first is 1'),
        (
            each(segmentation=lambda old: old[0]),
            r'annotation 1 cannot be read: segmentation is one flat list \[10, 20, 30, 20, …\]',
        ),
        (each(segmentation=[[[1, 2], [3, 4], [5, 6]]]), r'points of a polygon are pairs'),
        (each(segmentation=[[1, 2], [3, 4], [5, 6]]), r'points of a polygon are pairs'),
        (each(segmentation=[['1', '2']]), r"a polygon is \['1', '2'\]"),
        (each(segmentation='abc'), 'segmentation is a str'),
        (
            each(segmentation=dict(size=[64, 63], counts=[64 * 63])),
            r'run lengths of size \[64, 63\], but the image has .* \[64, 64\]',
        ),
        (each(segmentation=dict(size=[64, 64], counts=[1, 2])), r'run lengths add up to 3, expected height x width = 4096'),
        (each(segmentation=dict(counts=[1])), r"need \"counts\" and \"size\", got 'counts'"),
        (
            lambda c: c.update(categories=['cell', 'debris']),
            r"\"categories\" holds 'cell', a str: expected objects with \"id\" and",
        ),
        (lambda c: c.update(annotations=[[1, 2]]), '"annotations" holds .*a list: expected objects'),
        (lambda c: c.update(annotations=dict(a=1)), '"annotations" is missing or no list'),
        (lambda c: c['images'][1].update(id=1), '1 ids of "images" are given more than once, the first is 1'),
        (lambda c: c['categories'][1].update(id=1), '1 ids of "categories" are given more than once'),
        (lambda c: c['categories'][1].update(id=[1]), r'"categories" has the id \[1\]'),
        (lambda c: c['categories'][0].update(name=1), r'"categories" has the name 1 \(id 1\): expected a text'),
        (lambda c: c['categories'][0].update(name='celľ'), r"'cell' of .*: did you mean 'celľ' \('cel\\u013e', not 'cell'\)\?"),
        (
            each(bbox=lambda old: [*old[:2], old[0] + old[2], old[1] + old[3]]),
            r'6 of 6 boxes are corners \[x1, y1, x2, y2\] of their polygons',
        ),
        (lambda c: c['images'][0].update(file_name='train\\0.png'), r'its name has the \\ of Windows, write /'),
        (lambda c: c['images'][0].update(file_name='train/0.png'), r'train/train/0.png: there is .*/train/0.png\.'),
        (lambda c: c.update(images=[]), '"images" is empty'),
        (lambda c: c.update(annotations=[]), r'0 of 3 images are left after filter_cfg=.*: 3 have no object of a class'),
        (each(bbox=[80, 2, 10, 10]), r'0 of 6 objects are left to learn: 6 outside their image'),
        (each(bbox=[0.1, 0.1, 0.2, 0.2]), r'0 of 6 objects are left to learn: 6 smaller than a pixel'),
        (each(segmentation=[[1, 2, 3, 4]]), r'0 of 6 objects are left to learn: 6 without a polygon of three points'),
    ],
)
def test_faults_of_a_file_are_named(tmp_path, change, message):
    assert re.search(message, errors(detector(coco(tmp_path, change)), 'train_dataloader'))


def test_iscrowd_is_needed_where_the_file_is_scored(tmp_path):
    cfg = detector(coco(tmp_path, drop('annotations', 'iscrowd')))
    (error,) = check_data(cfg).errors
    assert error.place.startswith('val_dataloader') and "annotation 1 has no 'iscrowd'" in error.text
    assert not check_data(cfg, ('train_dataloader',), ()).findings


def test_legal_annotations_are_let_through(tmp_path):
    def change(content):
        first, second, third, *_ = content['annotations']
        first['segmentation'].append([1, 2, 3, 4])  # mmdet takes the other one
        second['segmentation'] = dict(size=[64, 64], counts=[1000, 50, 64 * 64 - 1050])
        second['iscrowd'] = 1
        third['segmentation'] = dict(size=[64, 64], counts='PPYo1')
        content['annotations'][3]['bbox'] = [float('nan'), 1, 2, 3]
        content['annotations'].append(box(90, 90, 5, 5) | dict(id=99, image_id=3))
        content['annotations'].append(dict(id=100, image_id=3, category_id=1, ignore=1))
        content['images'].append(dict(id='x', file_name='0.png', height=64, width=64))
        content['categories'] = [dict(c, supercategory='') for c in content['categories']]

    report = check_data(detector(coco(tmp_path, change)), ('train_dataloader',), ())
    assert not report.errors
    assert '3 of 4 images, 4 of 8 objects' in report.rows[0][2] and '1 crowd' in report.rows[0][2]
    assert '3 of 8 objects are not learned' in str(report)


def test_boxes_without_masks_need_none(tmp_path):
    cfg = detector(coco(tmp_path, drop('annotations', 'segmentation')), masks=False)
    assert not check_data(cfg).findings


def test_boxes_of_another_form_are_doubted(tmp_path):
    def right(content):
        for annotation in content['annotations']:
            annotation['bbox'] = [30, 30, 60, 60]

    report = check_data(detector(coco(tmp_path, right)), ('train_dataloader',), ())
    assert not report.errors and '6 of 6 boxes reach beyond their image' in str(report)


def test_a_test_set_without_annotations(tmp_path):
    def change(content):
        del content['annotations']

    cfg = detector(coco(tmp_path, change))
    cfg.test_evaluator = dict(type='CocoMetric', ann_file=str(tmp_path / 'val.json'), format_only=True)
    report = check_data(cfg, ('test_dataloader',), ('test_evaluator',))
    assert not report.errors and 'there are no annotations: predictions can be made' in str(report)
    assert '"annotations" is missing' in errors(cfg, 'train_dataloader')


def test_pictures_are_missing_broken_or_of_another_size(tmp_path):
    cfg = detector(coco(tmp_path))
    (tmp_path / 'train/0.png').rename(tmp_path / 'train/0.jpg')
    picture(tmp_path / 'train/1.png', (32, 64))
    (tmp_path / 'train/2.png').write_bytes(b'')
    text = errors(cfg, 'train_dataloader')
    assert '1 of 3 pictures do not exist, the first is' in text and '0.png: there is 0.jpg' in text
    assert 'train/1.png is loaded with 32 x 64 px (width x height), but' in text and 'says 64 x 64' in text
    assert 'train/2.png: the file is empty (0 bytes)' in text
    # with on_error='skip' a training goes on without them
    cfg.train_dataloader.dataset.pipeline[0].on_error = 'skip'
    text = errors(cfg, 'train_dataloader')
    assert 'do not exist' not in text and '0 bytes' not in text and '32 x 64' in text


def test_pictures_that_exif_turns(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6

    def stored(content):
        for image in content['images']:
            image.update(width=96, height=64)

    def upright(content):
        for image in content['images']:
            image.update(width=64, height=96)

    for name, change in dict(stored=stored, upright=upright).items():
        root = coco(tmp_path / name, change)
        for path in root.rglob('*.png'):
            picture(path, (96, 64), exif=exif.tobytes())
        text = errors(detector(root), 'train_dataloader')
        if name == 'stored':
            assert '0.png is loaded with 64 x 96 px (width x height), but' in text and 'says 96 x 64. Its EXIF data' in text
            cfg = detector(root)
            cfg.train_dataloader.dataset.pipeline[0].color_type = 'color_ignore_orientation'
            text = errors(cfg, 'train_dataloader')
        assert not text


def test_small_images_are_filtered_with_the_reason(tmp_path):
    def change(content):
        for image in content['images']:
            image.update(height=24, width=64)

    text = errors(detector(coco(tmp_path, change)), 'train_dataloader')
    assert '0 of 3 images are left after' in text and '3 are smaller than min_size=32 px' in text


def test_wrappers_are_opened_and_other_types_named(tmp_path):
    cfg = detector(coco(tmp_path, categories=('Cell', 'debris')))
    inner = cfg.train_dataloader.dataset
    other = dict(type='OpenImagesDataset', data_root=str(tmp_path), ann_file='train.json', data_prefix=dict(img='train'))
    other |= dict(label_file='names.csv', meta_file='sizes.pkl', hierarchy_file='tree.json')
    cfg.train_dataloader.dataset = dict(
        type='ConcatDataset',
        datasets=[
            dict(type='MultiImageMixDataset', dataset=dict(type='RepeatDataset', times=2, dataset=inner), pipeline=[]),
            dict(type='ClassBalancedDataset', oversample_thr=0.1, dataset=inner),
            other,
        ],
    )
    report = check_data(cfg, ('train_dataloader',), ())
    places = [error.place.split(':')[0] for error in report.errors if 'is no category' in error.text]
    assert places == ['train_dataloader.datasets.0.dataset.dataset', 'train_dataloader.datasets.1.dataset']
    assert ('OpenImagesDataset', 'not checked') == report.rows[2][1:3]
    cfg.train_dataloader.dataset = other
    assert 'nothing found that does not fit, in what was looked at' in str(check_data(cfg, ('train_dataloader',), ()))


def test_images_without_labels_for_pseudo_labels(tmp_path):
    def change(content):
        del content['annotations']

    cfg = detector(coco(tmp_path, change))
    cfg.train_dataloader.dataset.pipeline = [dict(type='mmspike.LoadImageFromFile'), dict(type='LoadEmptyAnnotations')]
    cfg.train_dataloader.dataset.filter_cfg = dict(filter_empty_gt=False)
    assert not check_data(cfg, ('train_dataloader',), ()).findings


def test_a_subclass_that_takes_annotations_in_its_own_way(tmp_path):
    from mmdet.datasets import CocoDataset

    class Own(CocoDataset):
        def parse_data_info(self, raw_data_info):
            return dict(raw_data_info, instances=[])

    DATASETS.register_module(module=Own, force=True)
    cfg = detector(coco(tmp_path, drop('annotations', 'area', 'bbox', 'segmentation')), type='Own')
    assert not check_data(cfg, ('train_dataloader',), ()).findings
    assert "did you mean 'cell'?" in errors(detector(tmp_path, ('cel', 'debris'), type='Own'), 'train_dataloader')


def test_a_form_that_nobody_thought_of_does_not_stop(tmp_path, monkeypatch):
    monkeypatch.setattr('mmspike.config.data_check.check.CocoCheck', lambda *args: 1 / 0)
    report = check_data(detector(coco(tmp_path)), ('train_dataloader',), ())
    assert not report.errors and report.rows[0][2:] == ('not checked', 'the check failed, ZeroDivisionError: division by zero')


def test_loaders_of_mmdets_own_configs_are_checked(tmp_path):
    cfg = detector(coco(tmp_path))
    cfg.train_dataloader.dataset.pipeline[0] = dict(type='LoadImageFromFile', backend_args=None)
    assert '3 of 3 pictures' in check_data(cfg, ('train_dataloader',), ()).rows[0][3]
    cfg.train_dataloader.dataset.pipeline[0]['backend_args'] = dict(backend='http')
    assert 'pictures not checked' in check_data(cfg, ('train_dataloader',), ()).rows[0][3]


def test_classes_of_a_type_of_ones_own(tmp_path):
    from mmdet.datasets import CocoDataset

    class Mine(CocoDataset):
        METAINFO = dict(classes=('cell', 'debrs'))

    class Old(CocoDataset):
        CLASSES = ('cell', 'debris')

    DATASETS.register_module(module=Mine, force=True)
    DATASETS.register_module(module=Old, force=True)
    cfg = detector(coco(tmp_path), classes=None, number=2, type='Mine')
    assert "the class 'debrs' of the config is no category of the file: did you mean 'debris'?" in errors(cfg)
    cfg = detector(tmp_path, classes=None, number=2, type='Old')
    assert 'Old has CLASSES, which mmdet 3 does not read' in errors(cfg)


@pytest.mark.parametrize('number', [1, 3])
def test_heads_with_another_number_of_classes(tmp_path, number):
    text = errors(detector(coco(tmp_path), number=number))
    for key in ('model.roi_head.bbox_head.num_classes', 'model.roi_head.mask_head.num_classes'):
        assert f'{key}: it is {number}, but train_dataloader has 2 classes' in text and f'set {key}=2' in text


def test_an_evaluation_with_another_file(tmp_path):
    cfg = detector(coco(tmp_path / 'a'))
    coco(tmp_path / 'b', lambda c: [image.update(id=image['id'] + 10) for image in c['images']])
    cfg.val_evaluator.ann_file = str(tmp_path / 'b/val.json')
    text = errors(cfg, 'val_dataloader')
    assert 'b/val.json' in text and '3 of the 3 images of' in text and 'are not in it' in text


def test_an_evaluation_with_the_file_of_training(tmp_path):
    root = coco(tmp_path)
    for split in ('train', 'val'):
        content = json.loads((root / f'{split}.json').read_text())
        for image in content['images']:
            (root / split / image['file_name']).rename(root / split / f'{split}_{image["file_name"]}')
            image['file_name'] = f'{split}_{image["file_name"]}'
        (root / f'{split}.json').write_text(json.dumps(content))
    cfg = detector(root)
    assert not check_data(cfg).findings
    cfg.val_evaluator.ann_file = str(root / 'train.json')
    assert '3 of the 3 images of' in errors(cfg, 'val_dataloader')


def test_what_nobody_reads_and_names_given_twice_are_doubted(tmp_path):
    root = coco(tmp_path, lambda content: content['images'][1].update(file_name='0.png'))
    report = check_data(detector(root, filter_cfg=dict(filter_empty=True)), ('train_dataloader',), ())
    assert not report.errors and "filter_cfg has 'filter_empty', which nobody reads" in str(report)
    assert '1 file names are given more than once in "images", the first is \'0.png\'' in str(report)


def test_files_that_are_no_json(tmp_path):
    cfg = detector(coco(tmp_path))
    text = (tmp_path / 'train.json').read_text()
    for content, message in [
        (b'\xef\xbb\xbf' + text.encode(), 'It begins with a byte order mark'),
        (b'version https://git-lfs.github.com/spec/v1\noid sha256:0', 'It is a pointer of Git LFS'),
        (b'<!DOCTYPE html><html></html>', 'It is a web page'),
        (text.encode('utf-16'), 'it is written in UTF-16'),
        (text[:99].encode(), 'perhaps cut off while copying'),
    ]:
        (tmp_path / 'train.json').write_bytes(content)
        assert message in errors(cfg, 'train_dataloader')


def test_names_of_objects365_keep_their_last_folder(tmp_path):
    def change(content):
        for image, folder in zip(content['images'], ('patch0', 'patch0', 'patch6'), strict=True):
            image['file_name'] = f'images/v2/{folder}/{image["file_name"]}'
        content['images'][2]['file_name'] = 'images/v1/patch6/objects365_v1_00320532.jpg'  # mmdet leaves it out

    for name in ('patch0/0.png', 'patch0/1.png'):
        picture(tmp_path / 'train' / name)
    coco(tmp_path, change)
    cfg = detector(tmp_path, type='Objects365V2Dataset', masks=False)
    report = check_data(cfg, ('train_dataloader',), ())
    assert not report.findings and report.rows[0][2:4] == (
        '2 classes, 2 of 2 images, 4 of 4 objects',
        '4 of 4 annotations, 2 of 2 pictures',
    )
    assert len(DATASETS.build(cfg.train_dataloader.dataset)) == 2


def test_classes_of_v3det_stand_in_their_file(tmp_path):
    (tmp_path / 'names.txt').write_text('cell\ndebris\nrod\n')
    cfg = detector(coco(tmp_path), type='V3DetDataset', masks=False, classes=None, number=3, label_file='names.txt')
    errors = check_data(cfg, ('train_dataloader',), ()).errors
    assert "the class 'rod' of the config is no category of the file" in str(errors)
    cfg.train_dataloader.dataset.label_file = 'other.txt'
    assert 'V3DetDataset cannot be made of this config' in str(check_data(cfg, ('train_dataloader',), ()).errors)


def test_a_type_that_does_not_exist(tmp_path):
    (error,) = check_data(detector(coco(tmp_path), type='CocoDatset'), ('train_dataloader',), ()).errors
    assert "sets train_dataloader.dataset.type to 'CocoDatset'" in error.text and "Did you mean 'CocoDataset'?" in error.text
