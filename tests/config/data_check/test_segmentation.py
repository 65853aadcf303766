"""Label images against a config of mmseg: values, classes, kind and size of the files."""

import re

import numpy as np
import pytest
from mmseg.datasets.transforms import LoadAnnotations
from PIL import Image

from mmspike.config.data_check import check_data
from mmspike.config.data_check.labels import learned_values
from mmspike.config.data_check.sources import find_sources

from .drawn import SIDE, folders, picture, segmentor, semantic, stripes


def errors(cfg, *loaders) -> str:
    return '\n'.join(map(str, check_data(cfg, loaders or ('train_dataloader',), ()).errors))


def test_labels_that_fit(tmp_path):
    report = check_data(segmentor(semantic(tmp_path, stripes(0, 1, 1, 255))))
    assert not report.findings
    assert report.rows[0][2:] == ('3 images, 2 classes, 25.0% of the pixels not learned (255)', '3 of 3 labels')
    assert not check_data(segmentor(tmp_path / 'none', number=2), (), ()).findings


@pytest.mark.parametrize('reduce', [False, True])
@pytest.mark.parametrize('type', ['BaseSegDataset', 'ADE20KDataset'])
def test_values_become_what_the_host_makes_of_them(tmp_path, reduce, type):
    classes = ('sky', 'wall', 'floor') if type == 'ADE20KDataset' else ('a', 'b')
    values = np.arange(256, dtype=np.uint8)
    Image.fromarray(values[None].repeat(2, 0)).save(tmp_path / 'all.png')
    (source,) = find_sources(segmentor(tmp_path, classes, type=type, reduce_zero_label=reduce), ('train_dataloader',))
    item = dict(seg_map_path=str(tmp_path / 'all.png'), seg_fields=[], reduce_zero_label=reduce)
    loaded = LoadAnnotations()(item | dict(label_map=source.dataset.label_map))['gt_seg_map']
    assert learned_values(source).tolist() == loaded[0].tolist()


@pytest.mark.parametrize(
    'label,options,message',
    [
        (stripes(0, 255), {}, r"values \[0, 255\] only .*255 is 50\.0%.*'cell' occurs in no label\. A mask of 0 and 255"),
        (stripes(0, 255), dict(reduce_zero_label=True), "nothing is left to learn: 'background', 'cell' occur in no label"),
        (stripes(1, 2), {}, r'0\.png has the value 2 \(3 of 3 labels; .*counted from 1: reduce_zero_label=True'),
        (stripes(0, 1, 3), {}, r'0\.png has the value 3 .*values found: \[0, 1, 3\]\), but 2 classes .* take 0 to 1, and 255'),
        (stripes(0, 1, 2, 4), dict(reduce_zero_label=True), r'value 4 .*reduce_zero_label=True take 1 to 2, and 255'),
        (stripes(*range(0, 240, 16)), {}, 'grey values of a mask or colours'),
        (stripes(0, 1)[:32], {}, r'labels/train/0\.png has 64 x 32 px \(width x height\), its picture .* 64 x 64'),
        (stripes(0, 1).astype(np.uint16) * 256, {}, r'0\.png: its values go from 0 to 256 \(uint16\)'),
        (np.stack([stripes(0, 1)] * 3, -1), {}, r'0\.png: it is a colour image of 3 channels.* \(and 2 files more\)'),
        (np.stack([stripes(0, 1)] * 4, -1), {}, r'0\.png: it is a colour image of 4 channels'),
    ],
)  # fmt: skip
def test_labels_that_do_not_fit(tmp_path, label, options, message):
    assert re.search(message, errors(segmentor(semantic(tmp_path, label), **options)))


def test_classes_in_no_label_and_what_is_not_learned_are_doubted(tmp_path):
    report = check_data(segmentor(semantic(tmp_path, stripes(0, 1, 1, 1)), ('background', 'cell', 'debris')))
    assert not report.errors and "'debris' in no label (values found: [0, 1])" in str(report)
    report = check_data(segmentor(semantic(tmp_path, stripes(0, 0, 0, 1)), reduce_zero_label=True))
    assert not report.errors and "'cell' in no label" in str(report)
    assert '0 is not learned (75.0% of the pixels, reduce_zero_label=True)' in str(report)


def test_a_palette_is_no_colour_image(tmp_path):
    def write(path):
        image = Image.fromarray(stripes(0, 1)).convert('P')
        image.putpalette([255, 0, 0, 0, 255, 0] + [0] * 762)
        image.save(path)

    def bits(path):
        Image.fromarray(stripes(0, 1) > 0).save(path)

    assert not check_data(segmentor(semantic(tmp_path / 'a', write))).findings
    assert not check_data(segmentor(semantic(tmp_path / 'b', bits))).findings


def test_suffixes_and_missing_labels(tmp_path):
    cfg = segmentor(semantic(tmp_path, stripes(0, 1), suffix='.jpg'))
    text = errors(cfg)
    assert '0 pictures are left: ' in text and "holds 0.jpg, 1.jpg, 2.jpg, and img_suffix is '.png'" in text
    cfg = segmentor(tmp_path, img_suffix='.jpg', seg_map_suffix='_mask.png')
    text = errors(cfg)
    assert '3 of 3 label images do not exist' in text and "holds 0.png, 1.png, 2.png. seg_map_suffix is '_mask.png'" in text
    # a list of names, with pictures of two suffixes
    (tmp_path / 'train.txt').write_text('0\n1\n7')
    (tmp_path / 'train/1.jpg').rename(tmp_path / 'train/1.JPG')
    text = errors(segmentor(tmp_path, img_suffix='.jpg', ann_file='train.txt'))
    assert '2 of 3 pictures do not exist, the first is' in text and '1.jpg: there is 1.JPG' in text


def test_a_label_of_the_size_that_exif_hides(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    root = semantic(tmp_path, stripes(0, 1)[:32], size=(SIDE, 32), exif=exif.tobytes())
    assert 'Its EXIF data say that it is to be turned' in errors(segmentor(root))


@pytest.mark.parametrize(
    'head,message',
    [
        (dict(num_classes=1), 'model.decode_head.num_classes: it is 1, but train_dataloader has 2 classes'),
        (dict(out_channels=1), 'model.decode_head.out_channels is 1 without use_sigmoid'),
        (dict(out_channels=1, loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=True)), ''),
        (dict(loss_decode=dict(type='CrossEntropyLoss', class_weight=[1.0])), 'class_weight has 1 values'),
        (dict(loss_decode=dict(type='CrossEntropyLoss', class_weight=[1.0, 2.0])), ''),
    ],
)
def test_heads(tmp_path, head, message):
    text = errors(segmentor(semantic(tmp_path, stripes(0, 1)), head=head))
    assert message in text if message else not text


def test_more_classes_than_the_data_are_doubted(tmp_path):
    report = check_data(segmentor(semantic(tmp_path, stripes(0, 1)), number=4))
    assert not report.errors and 'model.auxiliary_head.0.num_classes: it is 4, but' in str(report)


def test_classes_that_the_type_does_not_have(tmp_path):
    text = errors(segmentor(semantic(tmp_path, stripes(0, 1)), ('wall', 'bilding'), type='ADE20KDataset'))
    assert "the class 'bilding' is none of ADE20KDataset: did you mean 'building'?" in text


def test_palettes_and_single_names(tmp_path):
    semantic(tmp_path, stripes(0, 1))
    assert 'has 1 colours for 2 classes' in errors(segmentor(tmp_path, metainfo=dict(classes=('a', 'b'), palette=[(1, 2, 3)])))
    assert "metainfo.classes is the text 'cell'" in errors(segmentor(tmp_path, classes='cell'))


def test_validation_in_another_order(tmp_path):
    cfg = segmentor(semantic(tmp_path, stripes(0, 1)))
    cfg.val_dataloader.dataset.metainfo.classes = ('cell', 'background')
    assert "its classes are in the order 'cell', 'background'" in errors(cfg, 'train_dataloader', 'val_dataloader')


def test_a_broken_picture(tmp_path):
    cfg = segmentor(semantic(tmp_path, stripes(0, 1)))
    (tmp_path / 'train/1.png').write_bytes(b'no picture')
    assert 'train/1.png: it is no picture that Pillow or OpenCV can read' in errors(cfg)
    picture(folders(tmp_path, ('.ipynb_checkpoints',)) / 'train/.ipynb_checkpoints/9.png')
    assert 'the hidden folder' in errors(cfg)


def test_pictures_without_labels(tmp_path):
    cfg = segmentor(semantic(tmp_path, stripes(0, 1)), data_prefix=dict(img_path='train'))
    assert "names no label images: add seg_map_path='FOLDER'" in errors(cfg)
    del cfg.train_dataloader.dataset.pipeline[1]
    assert not check_data(cfg, ('train_dataloader',), ()).findings


def test_settings_that_contradict_each_other(tmp_path):
    cfg = segmentor(semantic(tmp_path, stripes(0, 1, 2)))
    cfg.train_dataloader.dataset.pipeline[1].reduce_zero_label = True  # mmseg refuses it at the first picture
    assert 'its reduce_zero_label is False, in LoadAnnotations of its pipeline it is True' in errors(cfg)
    cfg = segmentor(tmp_path, ('a', 'b', 'c'))
    cfg.train_dataloader.dataset.reduce_zero_label = True
    assert 'val_dataloader: its reduce_zero_label is False, that of train_dataloader True' in str(check_data(cfg))


def test_labels_that_a_head_leaves_out(tmp_path):
    semantic(tmp_path, stripes(0, 1, 2))
    assert 'has the value 2' in errors(segmentor(tmp_path))
    assert not errors(segmentor(tmp_path, head=dict(ignore_index=2)))


def test_labels_with_losses_are_doubted(tmp_path):
    cfg = segmentor(semantic(tmp_path, stripes(0, 1)), seg_map_suffix='.jpg')
    for path in (tmp_path / 'labels').rglob('*.png'):
        Image.open(path).save(path.with_suffix('.jpg'))
    report = check_data(cfg, ('train_dataloader',), ())
    assert not report.errors and '3 label images are JPEG' in str(report.doubts[0])


def test_a_list_with_suffixes(tmp_path):
    cfg = segmentor(semantic(tmp_path, stripes(0, 1)))
    cfg.train_dataloader.dataset.ann_file = 'split.txt'
    (tmp_path / 'split.txt').write_text('0.png\n1.png\n')
    text = str(check_data(cfg, ('train_dataloader',), ()))
    assert "img_suffix is '.png'. A line of split.txt is a name without suffix" in text
    (tmp_path / 'split.txt').write_text('0\n1\n')
    assert not check_data(cfg, ('train_dataloader',), ()).findings
