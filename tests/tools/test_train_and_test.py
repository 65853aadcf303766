"""tools/train.py and tools/test.py on a few drawn shapes, for each of the three hosts, and what they say to bad input."""

import multiprocessing
import os
import pickle
import runpy
import signal
import subprocess
import sys
import traceback
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from types import SimpleNamespace

import cv2
import pytest
import torch

pytest.importorskip('mmdet')
pytest.importorskip('mmseg')
pytest.importorskip('mmpretrain')

# imported here once, and not in every forked process
import matplotlib.backends.backend_agg  # noqa: E402, F401
import mmdet.apis  # noqa: E402, F401
import mmpretrain.apis  # noqa: E402, F401
import mmseg.apis  # noqa: E402, F401
import torchvision  # noqa: E402, F401
from mmengine.registry import TRANSFORMS  # noqa: E402
from torch.utils.data import get_worker_info  # noqa: E402

from mmspike.datasets.shapes import write_shapes  # noqa: E402

REPO = Path(__file__).resolve().parents[2]
FORK = multiprocessing.get_context('fork')

BACKBONE = """
data_root = 'data/nowhere/'
backbone = dict(
    type='mmspike.MetaSpikeFormer', arch=dict(dims=[8, 16, 32, 40], depths=(1, 1, 1, 1, 1)), T=1, out_indices=(3,)
)
test_cfg = dict()
val_cfg = dict()
"""

MMSEG = (
    BACKBONE
    + """
_base_ = '{base}/runtime_mmseg.py'
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(type='SegDataPreProcessor', size=(96, 96), seg_pad_val=255),
    backbone=backbone,
    decode_head=dict(type='FCNHead', in_channels=40, channels=8, in_index=0, num_convs=1, num_classes=5,
                     loss_decode=dict(type='CrossEntropyLoss')),
    train_cfg=dict(),
    test_cfg=dict(mode='slide', crop_size=(96, 96), stride=(64, 64)),
)
load = [dict(type='mmspike.LoadImageFromFile'), dict(type='LoadAnnotations', reduce_zero_label=True)]
metainfo = dict(classes=('background', 'circle', 'rectangle', 'triangle', 'star'))
dataset = dict(type='BaseSegDataset', data_root=data_root, metainfo=metainfo, reduce_zero_label=True,
               img_suffix='.png', seg_map_suffix='.png')
train_dataloader = dict(
    batch_size=2, num_workers=0, sampler=dict(type='InfiniteSampler'),
    dataset=dict(type='RepeatDataset', times=2, dataset=dict(
        **dataset, data_prefix=dict(img_path='train', seg_map_path='semantic/train'),
        pipeline=[*load, dict(type='RandomCrop', crop_size=(96, 96)), dict(type='PackSegInputs')])))
val_dataloader = dict(
    batch_size=1, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(**dataset, data_prefix=dict(img_path='val', seg_map_path='semantic/val'),
                 pipeline=[*load, dict(type='PackSegInputs')]))
test_dataloader = val_dataloader
tta_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='TestTimeAug', transforms=[
        [dict(type='Resize', scale_factor=1.0)],
        [dict(type='RandomFlip', prob=0.0), dict(type='RandomFlip', prob=1.0)],
        [dict(type='LoadAnnotations', reduce_zero_label=True)], [dict(type='PackSegInputs')]])]
val_evaluator = dict(type='IoUMetric')
test_evaluator = val_evaluator
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-3))
train_cfg = dict(type='IterBasedTrainLoop', max_iters=2, val_interval=2)
default_hooks = dict(checkpoint=dict(interval=1), logger=dict(interval=1))
"""
)

MMPRETRAIN = (
    BACKBONE
    + """
_base_ = '{base}/runtime_mmpretrain.py'
model = dict(
    type='ImageClassifier', backbone=backbone, neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=4, in_channels=40),
)
data_preprocessor = dict(num_classes=4, mean=[123, 116, 103], std=[58, 57, 57], to_rgb=True)
pipeline = [dict(type='mmspike.LoadImageFromFile'), dict(type='PackInputs')]
train_dataloader = dict(
    batch_size=4, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=True), num_batch_per_epoch=2,
    dataset=dict(type='CustomDataset', data_root=data_root, data_prefix='classes/train', pipeline=pipeline))
val_dataloader = dict(
    batch_size=4, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='CustomDataset', data_root=data_root, data_prefix='classes/val', pipeline=pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(type='Accuracy', topk=(1,))
test_evaluator = val_evaluator
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-3))
train_cfg = dict(by_epoch=True, max_epochs=1)
default_hooks = dict(logger=dict(interval=1))
"""
)

MMDET = """
_base_ = '{base}/../mask_rcnn_metaspike_shapes.py'
data_root = 'data/nowhere/'
train_dataloader = dict(batch_size=2, num_workers=0, persistent_workers=False, dataset=dict(data_root=data_root))
val_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dict(data_root=data_root))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'annotations/instances_val.json')
test_evaluator = val_evaluator
train_cfg = dict(max_epochs=1, val_interval=1)
default_hooks = dict(logger=dict(interval=1))
"""

CONFIGS = dict(mmdet=MMDET, mmseg=MMSEG, mmpretrain=MMPRETRAIN)


@pytest.fixture(scope='module')
def shapes(tmp_path_factory):
    return write_shapes(tmp_path_factory.mktemp('data') / 'shapes', num_train=4, num_val=2, size=128)


@pytest.fixture(scope='module')
def folders(tmp_path_factory):
    """The same; the images of the test set have one name, in two folders."""
    root = write_shapes(tmp_path_factory.mktemp('folders') / 'shapes', num_train=4, num_val=2, size=128)
    for folder in (root / 'val', root / 'semantic' / 'val'):
        for number, part in enumerate(('day', 'night')):
            (folder / part).mkdir()
            (folder / f'00000{number}.png').rename(folder / part / '0.png')
    annotations = root / 'annotations' / 'instances_val.json'
    annotations.write_text(annotations.read_text().replace('000000.png', 'day/0.png').replace('000001.png', 'night/0.png'))
    return root


@pytest.fixture
def config(tmp_path):
    """Writes the config file of a host and returns its path; ``more`` is appended."""

    def write(host, more=''):
        path = tmp_path / f'{host}.py'
        path.write_text(CONFIGS[host].replace('{base}', str(REPO / 'configs' / '_base_')) + more)
        return path

    return write


def _run(script, args, output):
    os.chdir(output.parent)
    torch.set_num_threads(1)
    sys.argv = [script, *map(str, args)]
    with open(output, 'w') as file, redirect_stdout(file), redirect_stderr(file):
        try:
            runpy.run_path(str(REPO / 'tools' / script), run_name='__main__')
        except SystemExit as error:
            if isinstance(error.code, str):  # as the interpreter does
                print(error.code)
                raise SystemExit(1) from None
            raise
        except Exception:
            traceback.print_exc(file=file)
            raise SystemExit(1) from None


def run(tmp_path, script, *args):
    """Run a script of tools/ in a process of its own, with ``tmp_path`` as its working directory."""
    output = tmp_path / 'output.txt'
    process = FORK.Process(target=_run, args=(script, args, output))
    process.start()
    process.join()
    assert process.exitcode is not None
    return SimpleNamespace(returncode=process.exitcode, output=output.read_text())


def files_in(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob('*') if path.is_file())


def succeed(*args):
    result = run(*args)
    assert result.returncode == 0, result.output
    return result.output


def fail(*args):
    """The message with which the tool leaves, without a stack trace."""
    result = run(*args)
    assert result.returncode == 1 and 'Traceback' not in result.output, result.output
    return result.output


@pytest.mark.parametrize('host', CONFIGS)
def test_train_and_test(host, tmp_path, config, folders):
    path, work = config(host), tmp_path / 'work'
    options = ['--data-root', folders, '--work-dir', work]
    output = succeed(tmp_path, 'train.py', path, *options)
    assert output.count(' loss: ') == 2
    checkpoint = (work / 'last_checkpoint').read_text()
    assert Path(checkpoint).is_file()

    metric = dict(mmdet='coco/bbox_mAP', mmseg='mIoU', mmpretrain='accuracy/top1')[host]
    out = tmp_path / 'predictions' if host == 'mmseg' else tmp_path / 'predictions.pkl'
    plain = succeed(tmp_path, 'test.py', path, checkpoint, *options, '--out', out, '--show-dir', 'pictures')
    assert metric in plain
    images = folders / 'classes' / 'val' if host == 'mmpretrain' else folders / 'val'
    assert files_in(tmp_path / 'pictures') == files_in(images) and len(files_in(images)) > 1
    if host == 'mmseg':
        assert files_in(out) == ['day/0.png', 'night/0.png']
    else:
        assert len(pickle.loads(out.read_bytes())) == len(files_in(images))

    assert metric in succeed(tmp_path, 'test.py', path, checkpoint, *options, '--tta')


def test_resume_amp_and_lr_scaling(tmp_path, config, shapes):
    path, work = config('mmseg', 'auto_scale_lr = dict(base_batch_size=1)\n'), tmp_path / 'work'
    options = ['--data-root', shapes, '--work-dir', work, '--amp', '--auto-scale-lr', '--resume']
    output = succeed(tmp_path, 'train.py', path, *options)
    assert 'training starts from the beginning' in output and 'lr: 2.0000e-03' in output
    output = succeed(tmp_path, 'train.py', path, *options, '--cfg-options', 'train_cfg.max_iters=3')
    assert 'resumed epoch: 0, iter: 2' in output and output.count(' loss: ') == 1
    output = succeed(tmp_path, 'test.py', path, work / 'iter_3.pth', '--data-root', shapes, '--work-dir', work, '--amp', 'bf16')
    assert 'mIoU' in output


def test_runs_from_anywhere_without_installation_and_explains_missing_data(tmp_path):
    environment = {key: value for key, value in os.environ.items() if key != 'PYTHONPATH'}
    result = subprocess.run(
        [sys.executable, REPO / 'tools' / 'train.py', REPO / 'configs' / 'mask_rcnn_metaspike_coco.py'],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 1
    for expected in (str(tmp_path / 'data' / 'coco'), 'https://cocodataset.org', '--data-root', 'make demo'):
        assert expected in result.stderr
    assert 'Traceback' not in result.stderr


def test_missing_data_root(tmp_path, config):
    message = fail(tmp_path, 'train.py', config('mmdet'), '--data-root', tmp_path / 'nothing')
    assert str(tmp_path / 'nothing') in message and 'make demo' in message


@pytest.mark.parametrize('content,fault', [(b'', 'empty'), (b'{"images": [', 'no valid JSON at line 1')])
def test_broken_annotations(tmp_path, config, shapes, content, fault):
    root = tmp_path / 'shapes'
    (root / 'annotations').mkdir(parents=True)
    for name in ('train', 'val'):
        (root / name).symlink_to(shapes / name)
        (root / 'annotations' / f'instances_{name}.json').symlink_to(shapes / 'annotations' / f'instances_{name}.json')
    broken = root / 'annotations' / 'instances_train.json'
    broken.unlink()
    broken.write_bytes(content)
    message = fail(tmp_path, 'train.py', config('mmdet'), '--data-root', root)
    assert f'error: train_dataloader: {broken}: ' in message and fault in message


def test_corrupt_image_is_named(tmp_path, config, shapes):
    root = tmp_path / 'classes' / 'train' / 'circle'
    root.mkdir(parents=True)
    (root / 'bad.png').write_bytes(b'no image')
    cv2.imwrite(str(root / 'good.png'), cv2.imread(str(shapes / 'val' / '000000.png')))
    (tmp_path / 'classes' / 'val').symlink_to(tmp_path / 'classes' / 'train')
    options = ['--data-root', tmp_path, '--cfg-options', 'train_dataloader.batch_size=1']
    # what the loader says of a picture that the check did not open
    result = run(tmp_path, 'train.py', config('mmpretrain'), '--no-data-check', *options)
    assert result.returncode == 1 and f'cannot load image {root / "bad.png"}' in result.output
    message = fail(tmp_path, 'train.py', config('mmpretrain'), *options)
    assert f'error: train_dataloader: {root / "bad.png"}: it is no picture' in message


def test_bad_options(tmp_path, config, shapes):
    seg, data = config('mmseg', "default_hooks['visualization'] = None\n"), ['--data-root', shapes]
    assert 'nothing.py does not exist' in fail(tmp_path, 'train.py', 'nothing.py')
    assert 'base_batch_size' in fail(tmp_path, 'train.py', seg, '--auto-scale-lr', *data)
    assert 'a directory' in fail(tmp_path, 'test.py', seg, 'x.pth', '--out', 'x.pkl', *data)
    assert 'DetVisualizationHook' in fail(tmp_path, 'test.py', seg, 'x.pth', '--show-dir', 'x', *data)
    assert '.pkl' in fail(tmp_path, 'test.py', config('mmpretrain'), 'x.pth', '--out', 'x.json', *data)
    no_tta = config('mmseg', 'del tta_pipeline\n')
    assert 'the config has no tta_pipeline, and mmseg' in fail(tmp_path, 'test.py', no_tta, 'x.pth', '--tta', *data)
    assert 'dist_train.sh' in fail(tmp_path, 'train.py', seg, '--launcher', 'slurm', *data)
    objects = ['--cfg-options', 'optim_wrapper.type=ApexOptimWrapper']
    assert '--amp bf16 works there' in fail(tmp_path, 'train.py', '--amp', 'fp16', seg, *data)
    assert 'ApexOptimWrapper' in fail(tmp_path, 'train.py', seg, '--amp', *objects, *data)


def test_checkpoint_of_another_architecture(tmp_path, config, shapes):
    weights = torch.nn.Linear(2, 2).state_dict() | {'head.fc.weight': torch.zeros(4, 7)}
    torch.save(dict(state_dict=weights), tmp_path / 'other.pth')
    message = fail(tmp_path, 'test.py', config('mmpretrain'), tmp_path / 'other.pth', '--data-root', shapes)
    assert 'other.pth is of another architecture' in message and 'backbone.' in message
    assert 'official_to_mmspike.py' in message
    assert 'x.pth does not exist' in fail(tmp_path, 'test.py', config('mmpretrain'), 'x.pth', '--data-root', shapes)


def test_training_does_not_start_from_another_architecture(tmp_path, config, shapes):
    weights = {'backbone.stem.0.conv.conv.weight': torch.zeros(4, 3, 7, 7)}
    torch.save(dict(state_dict=weights), tmp_path / 'other.pth')
    path = config('mmpretrain', f"load_from = '{tmp_path / 'other.pth'}'\n")
    message = fail(tmp_path, 'train.py', path, '--data-root', shapes)
    assert 'other.pth is of another architecture' in message and 'backbone.stages.3.1.mlp.fc1.conv.weight: missing' in message
    assert 'head.fc' not in message


class Stranger:
    """An object that runs a command when it is loaded as pickles are."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def test_code_in_a_checkpoint_is_refused(tmp_path, config, shapes):
    mark, path = tmp_path / 'executed', tmp_path / 'stranger.pth'
    torch.save(dict(state_dict={}, meta=Stranger(f'touch {mark}')), path)
    data = ['--data-root', shapes]
    load_from = f"load_from = '{path}'\n"
    for script, more, arguments in (('train.py', '', ['--resume', path]), ('train.py', load_from, []), ('test.py', '', [path])):
        message = fail(tmp_path, script, config('mmpretrain', more), *arguments, *data)
        assert 'stranger.pth is refused' in message and 'posix.system' in message and 'weights_only=False' in message
    backbone = f"model['backbone']['init_cfg'] = dict(type='Pretrained', checkpoint='{path}')\n"
    result = run(tmp_path, 'train.py', config('mmpretrain', backbone), *data)
    assert result.returncode == 1 and 'stranger.pth is refused' in result.output
    assert not mark.exists()


def test_wrong_keys_are_named(tmp_path, config, shapes):
    data = ['--data-root', shapes]
    message = fail(tmp_path, 'train.py', config('mmpretrain', "model['backbone']['frozen_stage'] = 1\n"), *data)
    assert "model.backbone.frozen_stage, but mmspike.MetaSpikeFormer takes no 'frozen_stage'" in message
    assert "Did you mean 'frozen_stages'?" in message
    message = fail(tmp_path, 'train.py', config('mmpretrain', 'train_dataloder = dict(batch_size=1)\n'), *data)
    assert "did you mean 'train_dataloader'?" in message
    message = fail(tmp_path, 'test.py', config('mmdet'), 'x.pth', *data, '--cfg-options', 'model.test_cfg.rcnn.score_thrr=0.1')
    assert 'Did you mean model.test_cfg.rcnn.score_thr?' in message


def test_paths_with_spaces_and_other_letters(tmp_path, config, shapes):
    folder = tmp_path / 'mein Ordner (1)' / '数据 é'
    folder.mkdir(parents=True)
    path, data = folder / 'конфиг eins.py', folder / 'böse bilder'
    path.write_text(config('mmpretrain').read_text())
    data.symlink_to(shapes)
    pictures = data / 'classes' / 'train'
    assert pictures.is_dir()
    options = ['--data-root', data, '--work-dir', folder / 'läufe 1']
    succeed(tmp_path, 'train.py', path, *options)
    assert 'accuracy/top1' in succeed(tmp_path, 'test.py', path, folder / 'läufe 1' / 'epoch_1.pth', *options)
    more = ['--cfg-options', 'train_cfg.max_epochs=2']
    assert 'resumed epoch: 1' in succeed(tmp_path, 'train.py', path, *options, '--resume', *more)


@TRANSFORMS.register_module()
class Kill:
    """Kills the worker process that it runs in."""

    def __call__(self, results):
        if get_worker_info() is not None:
            os.kill(os.getpid(), signal.SIGKILL)
        return results


def test_dead_worker(tmp_path, config, shapes):
    more = "train_dataloader['num_workers'] = 1\ntrain_dataloader['dataset']['pipeline'] = [pipeline[0], dict(type='Kill')]\n"
    message = fail(tmp_path, 'train.py', config('mmpretrain', more), '--data-root', shapes)
    assert 'A worker of a data loader died' in message and 'num_workers' in message and '--resume' in message
