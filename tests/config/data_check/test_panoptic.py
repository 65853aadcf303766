"""Panoptic annotations, and label images beside objects, against a config of mmdet."""

import json
import re
from types import MappingProxyType

import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image

from mmspike.config.data_check import check_data

from .drawn import SIDE, coco, detector, picture, segmentor, semantic, stripes

BOX, THING, STUFF = (10, 20, 20, 30), 70000, 300


def panoptic(root, change=None, names=('cell', 'sky'), things=(1, 0), grey=False):
    """Pictures with a thing on stuff; ``change`` edits the JSON."""
    ids = np.full((SIDE, SIDE), STUFF)
    ids[20:50, 10:30] = THING
    colours = np.stack([ids % 256, ids // 256 % 256, ids // 65536], -1).astype(np.uint8)
    content = dict(
        images=[dict(id=7, file_name='0.jpg', height=SIDE, width=SIDE)],
        categories=[dict(id=i, name=name, isthing=thing) for i, name, thing in zip((1, 2), names, things, strict=True)],
        annotations=[
            dict(
                image_id=7, file_name='0.png',
                segments_info=[
                    dict(id=THING, category_id=1, bbox=[*BOX], area=600, iscrowd=0),
                    dict(id=STUFF, category_id=2, bbox=[0, 0, SIDE, SIDE], area=3496, iscrowd=0),
                ],
            )
        ],
    )  # fmt: skip
    if change:
        change(content)
    picture(root / 'train/0.jpg')
    (root / 'segments').mkdir()
    Image.fromarray(colours[..., 0] if grey else colours).save(root / 'segments/0.png')
    (root / 'train.json').write_text(json.dumps(content))
    return root


def config(root, classes=('cell', 'sky'), heads=(1, 1), seg=MappingProxyType(dict(seg='segments'))) -> Config:
    cfg = detector(root, classes, masks=False)
    head = dict(type='MaskFormerHead', num_things_classes=heads[0], num_stuff_classes=heads[1])
    cfg.model = dict(type='MaskFormer', panoptic_head=head)
    cfg.train_dataloader.dataset |= dict(type='CocoPanopticDataset', data_prefix=dict(img='train', **seg))
    cfg.train_dataloader.dataset.metainfo |= dict(thing_classes=('cell',), stuff_classes=('sky',))
    return cfg


def objects(content):
    """A change to COCO's instance form: an annotation of each object, categories without "isthing"."""
    segments = content['annotations'][0]['segments_info']
    content['annotations'] = [dict(s, image_id=7, segmentation=[[10, 20, 30, 20, 30, 50]]) for s in segments]
    for category in content['categories']:
        del category['isthing']


def segments(**values):
    """A change of every segment; None takes the key out."""

    def change(content):
        for segment in content['annotations'][0]['segments_info']:
            segment.update(values)
            for key in [key for key, value in values.items() if value is None]:
                del segment[key]

    return change


def look(cfg):
    return check_data(cfg, ('train_dataloader',), ())


def test_panoptic_data_that_fit(tmp_path):
    report = look(config(panoptic(tmp_path)))
    assert not report.findings
    assert report.rows[0][2:] == ('1 things, 1 stuff, 1 images, 2 segments', '1 of 1 segment images, 1 of 1 pictures')


@pytest.mark.parametrize(
    'data,options,message',
    [
        (dict(names=('Cell', 'sky')), {}, r"'cell' of the config is no category of the file: did you mean 'Cell'"),
        (dict(), dict(classes=('sky', 'cell')), r"Write classes=\('cell', 'sky',\)"),
        (dict(things=(0, 1)), {}, r"the stuff 'cell' stands before things"),
        (dict(), dict(heads=(2, 0)), r'model\.panoptic_head: it has 2 classes of things and 0 of stuff, .* 1 and 1'),
        (dict(), dict(heads=(1, 5)), r'num_stuff_classes: it is 6, but train_dataloader has 2 classes'),
        (dict(change=lambda c: c['categories'][1].pop('isthing')), {}, r"the category 'sky' has no \"isthing\""),
        (dict(change=objects), {}, r"it is in COCO's instance form, 2 annotations of an object each.*panoptic_\*2017\.json"),
        (dict(change=segments(bbox=None)), {}, r"image 7: segment 70000 has no 'bbox' \(and 1 cases more\)"),
        (dict(change=segments(bbox=[1, 2])), {}, r'segment 70000 has the bbox \[1, 2\]: expected \[x, y, width, height\]'),
        (dict(change=segments(category_id=9)), {}, r'segment 70000 has the category_id 9 of no category'),
        (dict(change=segments(id=5)), {}, r'0\.png has no pixel of 1 of 1 segments, the first has the id 5'),
        (dict(grey=True), {}, r'0\.png has no pixel of 2 of 2 segments.*it is a grey image, expected colours of red'),
        (dict(change=lambda c: c['annotations'][0].pop('segments_info')), {}, r'image 7 has no list "segments_info"'),
        (dict(change=lambda c: c['annotations'][0].update(image_id=8)), {}, r"'0\.png' has the image_id 8 of no image"),
        (dict(change=lambda c: c['images'][0].update(width=60)), {}, r'0\.png has 64 x 64 px, "images" says 60 x 64'),
        (dict(change=lambda c: c['images'][0].update(file_name='1.jpg')), {}, r'1 of 1 segment images do not exist, .*/1\.png'),
        (dict(), dict(seg=dict(seg=None)), r'CocoPanopticDataset cannot be made of this config: .*prefix should be a string'),
        (dict(), dict(seg={}), r"has no folder of segment images: add seg='FOLDER'"),
    ],
)  # fmt: skip
def test_panoptic_data_that_do_not_fit(tmp_path, data, options, message):
    assert re.search(message, '\n'.join(map(str, look(config(panoptic(tmp_path, **data), **options)).errors)))


def test_a_filter_that_nobody_reads_is_doubted(tmp_path):
    cfg = config(panoptic(tmp_path))
    cfg.train_dataloader.dataset.filter_cfg = dict(filter_empty=True)
    (doubt,) = look(cfg).doubts
    assert "filter_cfg has 'filter_empty', which nobody reads" in doubt.text


def test_segments_that_are_partly_lost_are_doubted(tmp_path):
    def change(content):
        content['annotations'][0]['segments_info'][0]['id'] = 5

    report = look(config(panoptic(tmp_path, change)))
    assert not report.errors and 'has no pixel of 1 of 2 segments, the first has the id 5' in str(report.doubts[0])


def beside_objects(root, label, number=2, **loading) -> Config:
    """A hybrid task cascade's semantic head."""
    cfg = detector(coco(root, images=1))
    (root / 'stuff').mkdir()
    Image.fromarray(label).save(root / 'stuff/0.png')
    cfg.model.roi_head.semantic_head = dict(type='FusedSemanticHead', num_classes=number)
    cfg.train_dataloader.dataset.data_prefix.seg = 'stuff'
    cfg.train_dataloader.dataset.pipeline[1] |= dict(with_seg=True) | loading
    return cfg


def test_label_images_beside_objects(tmp_path):
    report = look(beside_objects(tmp_path / 'a', stripes(0, 1, 255)))
    assert not report.findings and report.rows[0][3].endswith('1 of 1 label images')
    for i, (options, message) in enumerate(
        [
            (dict(label=stripes(0, 1, 2)), r'0\.png has the value 2, but the semantic head has 2 classes, 0 to 1, and 255'),
            (dict(label=stripes(1, 2), reduce_zero_label=True, number=1), r'has the value 2, but'),
            (dict(label=stripes(0, 1)[:32]), r'0\.png has 64 x 32 px \(width x height\), its picture 64 x 64'),
        ]
    ):
        assert re.search(message, str(look(beside_objects(tmp_path / str(i), **options)).errors[0]))
    cfg = beside_objects(tmp_path / 'b', stripes(0, 1))
    (tmp_path / 'b/stuff/0.png').rename(tmp_path / 'b/stuff/0_labels.png')
    assert '1 of 1 label images do not exist' in str(look(cfg).errors[0])
    del cfg.train_dataloader.dataset.data_prefix['seg']
    assert "names no label images: add seg='FOLDER'" in str(look(cfg).errors[0])


def test_label_images_of_mmdet(tmp_path):
    def config(root, label, **loading):
        cfg = segmentor(semantic(root, label, images=1))
        cfg.default_scope, cfg.model = 'mmdet', dict(type='PanopticFPN')
        cfg.train_dataloader.dataset.pipeline[1] |= dict(with_bbox=False, with_seg=True) | loading
        return look(cfg)

    def palette(path):
        image = Image.new('P', (SIDE, SIDE))
        image.putpalette([0, 0, 0, 255, 0, 0])
        image.save(path)

    assert not config(tmp_path / 'a', stripes(0, 1)).findings
    assert 'has the value 2' in str(config(tmp_path / 'b', stripes(0, 1, 2)).errors[0])
    assert not config(tmp_path / 'c', stripes(0, 1, 2), reduce_zero_label=True).errors
    text = str(config(tmp_path / 'd', palette).errors)
    assert "a palette, which OpenCV turns into colours: set imdecode_backend='pillow'" in text
    assert not config(tmp_path / 'e', palette, imdecode_backend='pillow').errors
