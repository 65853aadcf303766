"""Images of unusual formats, and cut-off ones, through the loaders of all three tasks."""

import io

import cv2
import mmcv.transforms
import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image

from mmspike.datasets import LoadImageFromFile

LOADERS = (LoadImageFromFile, mmcv.transforms.LoadImageFromFile)  # of training and of some test pipelines
loaders = pytest.mark.parametrize('loader', LOADERS)
BGR = cv2.resize(np.random.default_rng(0).integers(0, 255, (8, 8, 3), np.uint8), (40, 30))
PICTURE = Image.fromarray(BGR[..., ::-1])


def pillow(image, kind, **kwargs):
    with io.BytesIO() as file:
        image.save(file, kind, **kwargs)
        return file.getvalue()


def opencv(suffix, image):
    return cv2.imencode(suffix, image)[1].tobytes()


alpha = np.random.default_rng(1).integers(0, 255, BGR.shape[:2], np.uint8)
sixteen = BGR.astype(np.uint16) * 257  # the whole range
grey = np.repeat(np.asarray(PICTURE.convert('L'))[..., None], 3, 2)
# file -> its content, the picture, and how far a lossy format may be off
FORMATS = {
    'rgba.png': (pillow(Image.fromarray(np.dstack([BGR[..., ::-1], alpha])), 'PNG'), BGR, 0),
    'rgba16.png': (opencv('.png', np.dstack([sixteen, sixteen[..., 0]])), BGR, 0),
    'rgb16.png': (opencv('.png', sixteen), BGR, 0),
    'rgb16.tif': (opencv('.tiff', sixteen), BGR, 0),
    'grey.png': (pillow(PICTURE.convert('L'), 'PNG'), grey, 0),
    'grey.jpg': (pillow(PICTURE.convert('L'), 'JPEG', quality=95), grey, 12),
    'grey16.tif': (opencv('.tiff', grey[..., 0].astype(np.uint16) * 257), grey, 0),
    'grey_alpha.png': (pillow(PICTURE.convert('LA'), 'PNG'), grey, 0),
    'cmyk.jpg': (pillow(PICTURE.convert('CMYK'), 'JPEG', quality=95), BGR, 20),
    'cmyk.tif': (pillow(PICTURE.convert('CMYK'), 'TIFF'), BGR, 0),
    'palette.png': (pillow(PICTURE.quantize(64), 'PNG'), np.asarray(PICTURE.quantize(64).convert('RGB'))[..., ::-1], 0),
}


@loaders
@pytest.mark.parametrize('name', FORMATS)
def test_three_channels_of_eight_bits(tmp_path, loader, name):
    """Alpha is dropped, grey is repeated, the higher byte of 16 bits is kept, CMYK is converted."""
    content, picture, tolerance = FORMATS[name]
    (tmp_path / name).write_bytes(content)
    image = loader()(dict(img_path=str(tmp_path / name)))['img']
    assert image.dtype == np.uint8 and image.shape == BGR.shape
    assert np.abs(image.astype(int) - picture).max() <= tolerance


@loaders
@pytest.mark.parametrize('name', ['ä ö/图 像 1.png', 'a b.jpg', "it's [1] {x}.tif"])
def test_names(tmp_path, loader, name):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(opencv(path.suffix, BGR))
    assert loader()(dict(img_path=str(path)))['img'].shape == BGR.shape


@loaders
@pytest.mark.parametrize('suffix', ['.png', '.jpg', '.tiff', '.webp', '.bmp'])
@pytest.mark.parametrize('part', [0.3, 0.9, 0.99])
def test_cut_off_images_are_named(tmp_path, loader, suffix, part):
    content = opencv(suffix, BGR)
    path = tmp_path / f'cut{suffix}'
    path.write_bytes(content[: int(part * len(content))])
    with pytest.raises((ValueError, AssertionError), match=f'load image.*cut{suffix}'):
        loader()(dict(img_path=str(path)))


def test_float_images_are_refused(tmp_path):
    path = tmp_path / 'float.tif'
    path.write_bytes(opencv('.tiff', BGR.astype(np.float32) / 255))
    with pytest.raises(ValueError, match='cannot load image .*float.tif'):
        LoadImageFromFile()(dict(img_path=str(path)))


def test_every_config_loads_so(repo):
    """The loaders above, without other settings, are those of all configs of images."""
    found = set()
    for path in sorted((repo / 'configs' / '_base_' / 'datasets').glob('*.py')):
        cfg = Config.fromfile(path)
        for name in ('train_pipeline', 'test_pipeline'):
            for transform in cfg.get(name, ()):
                if transform['type'].endswith('LoadImageFromFile'):
                    assert set(transform) == {'type'}, path
                    found.add(path.stem)
    assert {'coco_instance', 'ade20k', 'imagenet', 'nuclei_instance', 'nuclei_semantic'} <= found
