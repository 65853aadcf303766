"""Pictures without a prediction among others: the rest is predicted, and files of others are not replaced."""

import json

import cv2
import numpy as np
import pytest

for host in ('mmdet', 'mmseg', 'mmpretrain'):
    pytest.importorskip(host)

from mmspike.apis import InputError, inference  # noqa: E402

from .networks import change_config  # noqa: E402


@pytest.fixture(scope='module')
def net(network):
    return network('mmpretrain')


@pytest.fixture(scope='module')
def infer(net, tmp_path_factory):
    """A classifier that takes pictures in the size that they have."""
    folder = tmp_path_factory.mktemp('classifier')
    pipeline = [dict(type='LoadImageFromFile'), dict(type='PackInputs')]
    config = change_config(net, folder / 'config.py', test_dataloader__dataset__pipeline=pipeline)
    return inference(config, net.checkpoint, 'cpu')


@pytest.fixture
def pictures(tmp_path):
    """Good ones, one that is no image, one that is too small, a video that is none."""
    rng = np.random.default_rng(0)
    folder = tmp_path / 'pictures'
    folder.mkdir()
    for name, size in (('a', 48), ('b', 48), ('small', 20), ('z', 64)):
        cv2.imwrite(str(folder / f'{name}.png'), rng.integers(0, 256, (size, size, 3), np.uint8))
    (folder / 'broken.png').write_bytes(b'no image')
    (folder / 'film.mp4').write_bytes(b'no video')
    return folder


@pytest.mark.parametrize('batch_size', [1, 3])
def test_the_rest_is_predicted(infer, pictures, tmp_path, batch_size):
    out, inputs = tmp_path / 'out', [pictures, pictures / 'film.mp4']
    with pytest.warns(UserWarning) as warned:
        results = infer(inputs, batch_size, out, show_progress=False)
    assert [result['name'] for result in results] == ['a', 'b', 'broken', 'small', 'z', 'film']
    faults = {result['name']: result['error'] for result in results if 'error' in result}
    assert faults.keys() == {'broken', 'small', 'film'}
    assert 'broken.png as an image' in faults['broken'] and 'film.mp4' in faults['film']
    assert 'small.png: images must be at least 32 x 32 px, got 20 x 20' in faults['small']
    assert {str(warning.message) for warning in warned} >= {f'no prediction: {fault}' for fault in faults.values()}
    for result in results:
        assert json.loads((out / 'preds' / f'{result["name"]}.json').read_text()) == result
    assert sorted(path.name for path in (out / 'vis').iterdir()) == ['a.png', 'b.png', 'z.png']
    alone = infer(pictures / 'z.png', show_progress=False)[0]
    assert results[4] == alone | dict(name='z') and 'pred_score' in alone


def test_without_any_prediction_it_raises(infer, pictures):
    for name, message in (('broken', 'cannot read'), ('small', 'at least 32 x 32')):
        with pytest.raises(InputError, match=f'{name}.png.*{message}' if name == 'small' else f'{message}.*{name}.png'):
            infer(pictures / f'{name}.png', show_progress=False)
    with pytest.raises(InputError, match='array 000000: images must be at least 32'):
        infer(np.zeros((8, 8, 3), np.uint8), show_progress=False)
    with pytest.raises(InputError, match='broken'):
        list(infer.stream(pictures))


def test_a_small_video_is_one_failure(infer, tmp_path):
    path = str(tmp_path / 'small.avi')
    video = cv2.VideoWriter(path, cv2.VideoWriter.fourcc(*'MJPG'), 5, (16, 16))
    for _ in range(3):
        video.write(np.zeros((16, 16, 3), np.uint8))
    video.release()
    for batch_size in (1, 2):
        with pytest.warns(UserWarning, match='small.avi: images must be'):
            results = infer([path, np.zeros((32, 32, 3), np.uint8)], batch_size, show_progress=False)
        assert [(result['name'], 'error' in result) for result in results] == [('small', True), ('000001', False)]


def test_results_of_another_picture_are_not_replaced(infer, pictures, tmp_path):
    out = tmp_path / 'out'
    for folder in ('day', 'night'):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / '0.png').write_bytes((pictures / 'a.png').read_bytes())
    for _ in range(2):  # the same once more is no other
        (result,) = infer(tmp_path / 'day' / '0.png', out_dir=out, show_progress=False)
    with pytest.raises(InputError, match='0.json has the prediction of .*day/0.png, .*night/0.png would replace it'):
        infer(tmp_path / 'night' / '0.png', out_dir=out, show_progress=False)
    assert json.loads((out / 'preds' / '0.json').read_text()) == result


def test_a_folder_that_cannot_be_written(infer, pictures, tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(InputError, match=r'out_dir .*file/out cannot be written \(Not a directory\)'):
        infer(pictures / 'a.png', out_dir=tmp_path / 'file' / 'out', show_progress=False)
