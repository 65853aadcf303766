"""Files for pictures of the same name in different folders stay apart."""

import os

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.structures import BaseDataElement, PixelData
from PIL import Image

from mmspike.config.output_names import OutputNames, name_pictures
from mmspike.engine.label_images import LabelImages
from mmspike.utils.errors import UserError


def names(*datasets):
    whole = datasets[0] if len(datasets) == 1 else dict(type='ConcatDataset', datasets=list(datasets))
    return OutputNames(Config(dict(test_dataloader=dict(dataset=whole))), 'test_dataloader')


MMDET = dict(type='CocoDataset', data_root='data/coco/', data_prefix=dict(img='val/'))
MMSEG = dict(type='BaseSegDataset', data_root='data/seg', data_prefix=dict(img_path='val', seg_map_path='labels/val'))
MMPRETRAIN = dict(type='CustomDataset', data_root='data/cls', data_prefix='val')


@pytest.mark.parametrize(
    'dataset,path,picture',
    [
        (MMDET, 'data/coco/val/0.jpg', '0.jpg'),
        (MMDET, 'data/coco/val/day/0.jpg', 'day/0.jpg'),
        (MMSEG, 'data/seg/val/night/0.heic', 'night/0.heic.png'),
        (MMPRETRAIN, os.path.abspath('data/cls/val/cat/0.PNG'), 'cat/0.PNG'),
        (dict(type='CustomDataset', data_root='data'), 'data/a/0.png', 'a/0.png'),
        (MMDET, '/elsewhere/valid/0.png', 'elsewhere/valid/0.png'),
        (MMDET, 'data/coco/validation/0.png', f'{os.path.abspath("data/coco/validation/0.png")[1:]}'),
    ],
)
def test_a_name_is_the_path_in_the_folder_of_the_data_set(dataset, path, picture):
    assert names(dataset).picture(path) == picture
    both = names(dict(type='CustomDataset', data_root='other'), dict(type='RepeatDataset', times=2, dataset=dataset))
    assert both.picture(path) == picture


def test_label_images_of_two_suffixes_are_refused():
    labels = names(MMSEG).labels
    assert [labels(f'data/seg/val/{name}') for name in ('a/0.jpg', 'b/0.jpg', 'a/0.jpg')] == ['a/0.png', 'b/0.png', 'a/0.png']
    with pytest.raises(UserError, match='a/0.jpg and data/seg/val/a/0.png would have the same label image, a/0.png'):
        labels('data/seg/val/a/0.png')


def test_pictures_are_named_where_they_are_written(tmp_path):
    calls = []
    draw = name_pictures(lambda name, image, data_sample, out_file=None: calls.append(out_file), names(MMDET))
    sample = BaseDataElement(metainfo=dict(img_path='data/coco/val/day/0.jpg'))
    draw('name', None, data_sample=sample, out_file=str(tmp_path / '0.jpg'))
    draw('name', None, data_sample=sample, out_file=None)
    draw('name', None, data_sample=BaseDataElement(), out_file=str(tmp_path / '7.png'))
    assert calls == [str(tmp_path / 'day' / '0.jpg'), None, str(tmp_path / '7.png')] and (tmp_path / 'day').is_dir()
    calls.clear()
    draw = name_pictures(lambda image, data_sample, out_file=None: calls.append(out_file), names(MMDET), str(tmp_path / 'x'))
    draw(None, sample)
    assert calls == [str(tmp_path / 'x' / 'day' / '0.jpg')]


SIZES = [(3, False, np.uint8), (254, True, np.uint8), (255, True, np.uint16), (300, False, np.uint16)]


@pytest.mark.parametrize('largest,reduced,dtype', SIZES)
def test_label_images(tmp_path, largest, reduced, dtype):
    metric = LabelImages(str(tmp_path), names(MMSEG).labels)
    labels = torch.tensor([[[0, largest]]])
    prediction = PixelData(data=labels).to_dict()
    for folder in ('day', 'night'):
        sample = dict(img_path=f'data/seg/val/{folder}/0.jpg', pred_sem_seg=prediction, reduce_zero_label=reduced)
        metric.process({}, [sample])
        found = np.array(Image.open(tmp_path / folder / '0.png'))
        assert found.dtype == dtype and (found == labels[0].numpy() + reduced).all()
    assert metric.evaluate(2) == {}
