import cv2
import numpy as np
import pytest
from mmengine.config import Config

from mmspike.datasets.events.plots import film_strip, frame_picture, plot_events
from mmspike.datasets.events.recording import make_events

RECORDED = (np.arange(200) * 1000, np.arange(200) % 30, np.arange(200) % 20, np.arange(200) % 2)

CONFIG = """
default_scope = 'mmpretrain'
test_dataloader = dict(dataset=dict(
    type='mmspike.EventFolders', data_root='nowhere/', sensor_size=(34, 34), pipeline=[
        dict(type='mmspike.LoadEvents'), dict(type='mmspike.EventsToFrames', T=3), dict(type='mmspike.PackEvents')]))
"""


@pytest.fixture
def recordings(tmp_path):
    (tmp_path / 'data' / 'cat').mkdir(parents=True)
    np.savez(tmp_path / 'data' / 'cat' / '0.npz', **dict(zip('txyp', RECORDED, strict=True)))
    (tmp_path / 'data' / 'cat' / '1.npz').write_bytes(b'broken')
    (tmp_path / 'config.py').write_text(CONFIG)
    return tmp_path


def test_colours():
    frame = np.zeros((2, 1, 4))
    frame[0, 0, 1:4] = frame[1, 0, 2:3] = 5
    frame[:, 0, 3] = 0, 5
    assert frame_picture(frame)[0].tolist() == [[1, 1, 1], [0, 0, 1], [0, 0, 0], [1, 0, 0]]  # white, OFF, both, ON
    assert (frame_picture(np.zeros((2, 3, 3))) == 1).all()


def test_film_strip():
    frames = np.zeros((10, 2, 30, 40))
    frames[9, 1] = 1
    picture = film_strip(frames)
    assert picture.shape == (2 * (120 + 4), 8 * (160 + 4), 3) and picture.dtype == np.uint8
    assert (picture[124:244, 164:324] == (255, 0, 0)).all() and (picture[:120, :160] == 255).all()  # ON is red


def test_frames_without_events_and_wrong_shapes(tmp_path):
    plot_events(None, np.ones((10, 2, 8, 8)), tmp_path / 'a.png')
    assert cv2.imread(str(tmp_path / 'a.png')).std() > 0
    with pytest.raises(ValueError, match='frames'):
        plot_events(make_events(*RECORDED), np.ones((10, 3, 8, 8)), tmp_path / 'b.png')


def test_recording_and_config(recordings, run_tool):
    one, two = recordings / 'one.png', recordings / 'two.png'
    out = run_tool('analysis_tools/plot_events.py', recordings / 'data/cat/0.npz', '-o', one, '--T', 5, '--by', 'time')
    assert out.returncode == 0, out.stderr
    data = ('--data-root', recordings / 'data')
    out = run_tool('analysis_tools/plot_events.py', recordings / 'config.py', '-o', two, *data)
    assert out.returncode == 0, out.stderr
    assert all(cv2.imread(str(path)).std() > 0 for path in (one, two))
    out = run_tool('analysis_tools/plot_events.py', recordings / 'config.py', '-o', two, '--index', 1, *data)
    assert out.returncode == 1 and '1.npz' in out.stderr
    out = run_tool('analysis_tools/plot_events.py', recordings / 'config.py', '-o', two, '--index', 2, *data)
    assert out.returncode == 1 and 'has 2 samples' in out.stderr


def test_config_of_images(run_tool, tmp_path):
    pytest.importorskip('mmpretrain')
    (tmp_path / 'data' / 'cat').mkdir(parents=True)
    cv2.imwrite(str(tmp_path / 'data' / 'cat' / '0.png'), np.zeros((32, 32, 3), np.uint8))
    dataset = dict(type='CustomDataset', data_root=str(tmp_path / 'data'), pipeline=[dict(type='LoadImageFromFile')])
    Config(dict(default_scope='mmpretrain', test_dataloader=dict(dataset=dataset))).dump(tmp_path / 'images.py')
    out = run_tool('analysis_tools/plot_events.py', tmp_path / 'images.py', '-o', tmp_path / 'a.png')
    assert out.returncode == 1 and 'images.py is no config of event recordings: draw its images with' in out.stderr
