"""Inputs of every kind, and those that are no input."""

import cv2
import numpy as np
import pytest
from mmcv.transforms import LoadImageFromFile
from PIL import Image

from mmspike.apis.sources import Failure, InputError, count_frames, find_inputs, read_frames

BGR = cv2.resize(np.random.default_rng(0).integers(0, 255, (4, 6, 3), np.uint8), (24, 16))
LOAD = LoadImageFromFile()


def write(path, image=BGR):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imencode(path.suffix, image)[1].tofile(path)
    return str(path)


def frames(inputs):
    found = list(read_frames(find_inputs(inputs), LOAD))
    for item in found:
        if isinstance(item, Failure):
            raise item.error
    return found


def test_folders_and_globs(tmp_path):
    for name in ('b.PNG', 'a.jpg', 'sub/c.tif'):
        write(tmp_path / name)
    (tmp_path / 'notes.txt').write_text('no image')
    (tmp_path / '._a.png').write_bytes(b'what macOS writes beside a.png')
    assert [frame.name for frame in frames(tmp_path)] == ['a', 'b']
    assert [frame.name for frame in frames(f'{tmp_path}/**/*.[Pjt][Npi][Ggf]')] == ['a', 'b', 'c']
    assert count_frames(find_inputs(tmp_path)) == 2


def test_a_file_name_with_brackets_is_no_glob(tmp_path):
    assert frames(write(tmp_path / 'a [1].png'))[0].name == 'a [1]'


def test_names_never_repeat(tmp_path):
    paths = [write(tmp_path / folder / name) for folder in ('x', 'y', 'z') for name in ('a.png', 'a_2.png')]
    names = [frame.name for frame in frames(paths)]
    assert names[:3] == ['a', 'a_2', 'a_2_2'] and len(set(names)) == 6


@pytest.mark.parametrize(
    ('array', 'expected'),
    [
        (BGR, BGR),
        (BGR[..., 0], np.dstack([BGR[..., 0]] * 3)),
        (BGR[..., :1], np.dstack([BGR[..., 0]] * 3)),
        (np.dstack([BGR, BGR[..., 0]]), BGR),
        (BGR.astype(np.uint16) * 257, BGR),
    ],
)
def test_arrays(array, expected):
    (frame,) = frames(array)
    assert np.array_equal(frame.image, expected) and frame.image.dtype == np.uint8 and frame.path is None


@pytest.mark.parametrize(
    ('array', 'message'),
    [
        (BGR / np.float32(255), 'dtype float32: expected uint8'),
        (BGR > 9, 'dtype bool'),
        (BGR[..., :2], r"shape \(16, 24, 2\).*color_type='unchanged'"),
        (BGR[None], r'shape \(1, 16, 24, 3\)'),
        (BGR[:0], r'shape \(0, 24, 3\)'),
    ],
)
def test_arrays_that_are_no_picture(array, message):
    with pytest.raises(InputError, match=message):
        frames(array)


GREY = cv2.cvtColor(BGR, cv2.COLOR_BGR2GRAY)
FIVE = np.dstack([BGR, BGR[..., :2]])


@pytest.mark.parametrize(
    ('color_type', 'array', 'expected'),
    [
        ('grayscale', GREY, GREY),
        ('grayscale', GREY[..., None], GREY),
        ('grayscale', BGR, GREY),
        ('grayscale', np.dstack([BGR, GREY]), GREY),
        ('grayscale', GREY.astype(np.uint16) * 257, GREY),
        ('unchanged', GREY, GREY),
        ('unchanged', FIVE, FIVE),
        ('unchanged', FIVE.astype(np.uint16), FIVE.astype(np.uint16)),
        ('unchanged', FIVE / np.float32(255), FIVE / np.float32(255)),
    ],
)
@pytest.mark.parametrize('to_float32', [False, True])
def test_arrays_have_the_channels_that_the_loader_gives(color_type, array, expected, to_float32):
    (frame,) = read_frames(find_inputs(array), LoadImageFromFile(to_float32, color_type))
    assert np.array_equal(frame.image, expected) and frame.image.shape == expected.shape
    assert frame.image.dtype == (np.float32 if to_float32 else expected.dtype)


def test_an_array_that_stays_as_it_is_has_a_known_type():
    with pytest.raises(InputError, match='dtype int64: expected uint8, uint16 or float32'):
        list(read_frames([FIVE.astype(int)], LoadImageFromFile(color_type='unchanged')))


def test_a_grey_file_and_its_array_are_the_same(tmp_path):
    load = LoadImageFromFile(color_type='grayscale')
    path = write(tmp_path / 'grey.png', GREY)
    file, grey, bgr = read_frames([path, GREY, cv2.imread(path)], load)
    assert np.array_equal(file.image, grey.image) and np.array_equal(file.image, bgr.image)


def test_formats(tmp_path):
    """Four channels, 16 bits, grey and CMYK come as three channels of 8 bits."""
    alpha = np.full(BGR.shape[:2], 128, np.uint8)
    paths = [write(tmp_path / 'rgba.png', np.dstack([BGR, alpha])), write(tmp_path / 'wide.png', BGR.astype(np.uint16) * 257)]
    paths.append(write(tmp_path / 'grey.png', BGR[..., 0]))
    Image.fromarray(BGR[..., ::-1]).convert('CMYK').save(tmp_path / 'cmyk.tif')
    read = frames([*paths, str(tmp_path / 'cmyk.tif')])
    for frame, expected in zip(read, (BGR, BGR, np.dstack([BGR[..., 0]] * 3), BGR), strict=True):
        assert np.array_equal(frame.image, expected), frame.name


def test_what_is_no_input(tmp_path):
    (tmp_path / 'empty' / 'folder').mkdir(parents=True)
    cases = {
        str(tmp_path / 'empty'): 'empty has no image .*Folders in it are not looked into',
        str(tmp_path / '*.png'): 'no file matches .*png',
        str(tmp_path / 'none.png'): 'none.png does not exist',
    }
    for inputs, message in cases.items():
        with pytest.raises(InputError, match=message):
            find_inputs(inputs)
    with pytest.raises(InputError, match='the list is empty'):
        find_inputs([])
    with pytest.raises(InputError, match='type int'):
        find_inputs(3)


@pytest.mark.parametrize('content', [b'', b'no image at all', cv2.imencode('.png', BGR)[1].tobytes()[:200]])
def test_files_that_are_no_image(tmp_path, content):
    (tmp_path / 'bad.png').write_bytes(content)
    paths = [write(tmp_path / 'good.png'), tmp_path / 'bad.png', write(tmp_path / 'better.png')]
    good, bad, better = read_frames(find_inputs(paths), LOAD)
    assert (good.name, bad.name, better.name) == ('good', 'bad', 'better') and bad.path == str(tmp_path / 'bad.png')
    with pytest.raises(InputError, match='cannot read .*bad.png as an image'):
        raise bad.error


def test_float_images_are_named(tmp_path):
    with pytest.raises(InputError, match='cannot read .*float.tif as an image'):
        frames(write(tmp_path / 'float.tif', BGR / np.float32(255)))


def test_broken_video(tmp_path):
    path = tmp_path / 'bad.mp4'
    path.write_bytes(b'no video')
    assert count_frames(find_inputs(path)) is None
    with pytest.raises(InputError, match='cannot open the video .*bad.mp4'):
        frames(path)


def test_missing_video_backend(tmp_path, monkeypatch):
    """OpenCV without FFMPEG opens nothing."""
    path = tmp_path / 'a.mp4'
    path.write_bytes(b'whatever')
    monkeypatch.setattr('cv2.videoio_registry.getStreamBackends', lambda: [])
    with pytest.raises(InputError, match=r'OpenCV has no backend for it \(has none\).*come with FFMPEG'):
        frames(path)
