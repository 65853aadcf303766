"""Every command of docs/tutorials is run, in the order of the pages, in processes of its own: on a few images and briefly."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from pages import blocks
from pycocotools import mask as rle
from warm import run_warm

from mmspike.config.names import read_file

for host in ('mmdet', 'mmseg', 'mmpretrain'):
    pytest.importorskip(host)

REPO = Path(__file__).resolve().parents[2]
TUTORIALS = REPO / 'docs' / 'tutorials'

# The one thing that is changed in the pages' commands: tools/train.py and tools/test.py get these --cfg-options.
ONE_EPOCH = ['train_cfg.max_epochs=1', 'train_cfg.val_interval=1', 'default_hooks.logger.interval=1']
BRIEFLY = {
    'my/mask_rcnn_mine.py': [*ONE_EPOCH, 'model.test_cfg.rcnn.score_thr=0.0'],  # hardly trained, nothing scores higher
    'my/retinanet_spiking.py': [
        *ONE_EPOCH,
        'model.test_cfg.score_thr=0.0',
        '"train_dataloader.dataset.pipeline.2.scale=(333,200)"',
        '"val_dataloader.dataset.pipeline.1.scale=(333,200)"',
    ],
    'my/classes_mine.py': ONE_EPOCH,
    'my/fpn_mine.py': [
        'train_cfg.max_iters=2',
        'train_cfg.val_interval=2',
        'default_hooks.checkpoint.interval=2',
        'default_hooks.logger.interval=1',
        'train_dataloader.batch_size=4',
    ],
}
PHOTOS, PICTURES = 7, 7  # of nuclei; of each class of CIFAR-10


def shortened(script: str) -> str:
    def append(match: re.Match) -> str:
        return f'{match[0]} --cfg-options {" ".join(BRIEFLY[match[1]])}'

    return re.sub(r'^python tools/(?:train|test)\.py (\S+).*$', append, script, flags=re.MULTILINE)


def run(command: list[str], folder: Path) -> str:
    path = f'{Path(sys.executable).parent}{os.pathsep}{os.environ["PATH"]}'
    result = subprocess.run(command, cwd=folder, env=os.environ | dict(PATH=path), capture_output=True, text=True, check=False)
    assert result.returncode == 0, f'{command[-1]}\n{result.stdout}\n{result.stderr}'
    return result.stdout


def run_bash(command: str, folder: Path) -> str:
    """What a command prints. Bash expands it; a Python script is then started by :func:`run` or :func:`run_warm`."""
    assert command.count('\n') == 1, f'one command a block: {command}'
    shell = f'python() {{ printf "%s\\0" "$@"; }}; {command}'
    printed = run(['bash', '-euo', 'pipefail', '-c', shell], folder)
    if not command.startswith('python '):
        return printed
    arguments = printed.split('\0')[:-1]
    if arguments[0].startswith('tools/'):
        return run_warm(arguments, folder)
    return run([sys.executable, *arguments], folder)


def play(page: str, folder: Path, until: str = '') -> list[str]:
    """Write the files and run the commands of a page in ``folder``, up to the command ``until``; what the commands print."""
    printed = []
    for block in blocks(TUTORIALS / page):
        if block.title:
            (folder / block.title).write_text(block.text)
        elif block.language == 'bash':
            printed.append(run_bash(shortened(block.text), folder))
            if until and until in block.text:
                return printed
        else:
            assert block.language == 'text', f'{page}: a block of {block.language or "no language"}'
    assert not until
    return printed


def write_downloads(shared: Path, data: Path) -> None:
    """A few photos and pictures in the layouts in which they are downloaded."""
    nuclei = shared / 'data' / 'nuclei'
    coco = json.loads((nuclei / 'annotations' / 'instances_train.json').read_text())
    for image in coco['images'][:PHOTOS]:
        folder = data / 'stage1_train' / Path(image['file_name']).stem
        (folder / 'images').mkdir(parents=True)
        (folder / 'masks').mkdir()
        (folder / 'images' / image['file_name']).write_bytes((nuclei / 'train' / image['file_name']).read_bytes())
        for annotation in coco['annotations']:
            if annotation['image_id'] == image['id']:
                mask = rle.decode(annotation['segmentation']) * 255
                assert cv2.imwrite(str(folder / 'masks' / f'{annotation["id"]}.png'), mask)
    folder = data / 'cifar-10-batches-bin'
    folder.mkdir()
    cifar = shared / 'data' / 'cifar10' / 'train'
    classes = sorted(path.name for path in cifar.iterdir())
    (folder / 'batches.meta.txt').write_text('\n'.join(classes) + '\n\n')
    with open(folder / 'data_batch_1.bin', 'wb') as file:
        for label, name in enumerate(classes):
            for path in sorted((cifar / name).iterdir())[:PICTURES]:
                file.write(bytes([label]) + cv2.imread(str(path))[..., ::-1].transpose(2, 0, 1).tobytes())


@pytest.fixture(scope='module')
def clone(tmp_path_factory, shared) -> Path:
    """A folder that looks like the root of a clone, with the example data laid out by the commands of the overview."""
    folder = tmp_path_factory.mktemp('clone')
    for name in ('tools', 'configs'):
        (folder / name).symlink_to(REPO / name)
    write_downloads(shared, folder / 'data')
    _, nuclei, cifar = play('index.md', folder)
    assert re.fullmatch(rf'{PHOTOS} photos, \d+ nuclei\n', nuclei)
    assert cifar == f'{10 * PICTURES} pictures of 10 classes\n'
    return folder


def score(name: str, output: str) -> float:
    """The one value of a metric in the output."""
    (value,) = re.findall(rf' {re.escape(name)}: (\S+)', output)
    return float(value)


def losses(output: str) -> list[float]:
    found = [float(x) for x in re.findall(r'\(train\).* loss: (\S+)', output)]
    assert found and all(0 < x < 10 for x in found)
    return found


def pictures(folder: Path) -> list[np.ndarray]:
    return [cv2.imread(str(path)) for path in sorted(folder.iterdir())]


def test_instances(clone):
    split, trained, tested = play('coco.md', clone)
    assert 'val: 2 images' in split and 'train: 5 images' in split and "('nucleus',)" in split
    parts = [json.loads((clone / 'data' / 'nuclei' / f'{name}.json').read_text()) for name in ('train', 'val')]
    whole = json.loads((clone / 'data' / 'nuclei' / 'annotations.json').read_text())
    for key in ('images', 'annotations'):
        assert sorted(x['id'] for part in parts for x in part[key]) == [x['id'] for x in whole[key]]
    losses(trained)
    for metric in ('coco/bbox_mAP', 'coco/segm_mAP'):
        assert score(metric, trained) == score(metric, tested)
    drawn = pictures(clone / 'pictures')
    assert len(drawn) == 2 and all(x.shape[1] > 1.5 * x.shape[0] for x in drawn)  # two side by side


def test_semantic_labels(clone):
    split, trained, tested = play('semantic.md', clone)
    assert 'value 0' in split and 'value 1' in split and '5 images to train, 2 to validate' in split
    losses(trained)
    assert score('mIoU', trained) == score('mIoU', tested)
    assert '|  nucleus   |' in tested
    assert len(pictures(clone / 'pictures_fpn')) == 2
    labels = pictures(clone / 'labels_fpn')
    assert len(labels) == 2 and set(np.unique(labels[0])) <= {0, 1}


def test_class_folders(clone):
    split, trained, predicted = play('class_folders.md', clone)
    assert 'train: 60 images\n' in split and 'val: 10 images\n' in split
    losses(trained)
    score('accuracy/top1', trained)
    ships = sorted(path.stem for path in (clone / 'data' / 'cifar10' / 'ship').glob('*1.png'))
    assert ships and [path.stem for path in sorted((clone / 'pictures_classes' / 'vis').iterdir())] == ships
    result = json.loads((clone / 'pictures_classes' / 'preds' / f'{ships[0]}.json').read_text())
    assert result['pred_class'] in (clone / 'data' / 'cifar10' / 'classes.txt').read_text().split()
    assert f'{ships[0]}: {result["pred_class"]}' in predicted


def test_own_config(clone):
    play('coco.md', clone, until='split_coco.py')
    swapped, trained, segmentor = play('own_config.md', clone)
    for line in next(block.text for block in blocks(TUTORIALS / 'own_config.md') if block.language == 'text').splitlines():
        assert re.search(re.escape(line).replace('…', '.*'), swapped), line
    losses(trained)
    score('coco/bbox_mAP', trained)
    # by hand it is the same model, but for the norm that the page explains
    models = [Config.fromfile(clone / 'my' / f'retinanet_{name}.py').model for name in ('swapped', 'spiking')]
    assert models[1].neck.pop('norm_cfg') == dict(type='BN')
    for model in models:
        neuron = model.backbone.pop('neuron')
        assert (neuron.type, neuron.levels) == ('SFA', 4)
    assert models[0] == models[1]

    # the same for a segmentor
    assert "+ model.backbone = {'type': 'mmspike.ESpikeFormer', 'arch': 't', 'out_indices': (0, 1, 2, 3)}" in segmentor
    models = [read_file(str(clone / 'my' / f'fpn_{name}.py')).model for name in ('swapped', 'spiking')]
    models[0].setdefault('pretrained', None)
    models[1].pop('_scope_', None)  # of what is inherited by name
    assert models[0] == models[1]
    code = """
import torch
from mmengine.registry import MODELS, init_default_scope

from mmspike.config.names import read_file

init_default_scope('mmpretrain')
for name in ('spiking', 'tiny'):
    cfg = read_file(f'my/classifier_{name}.py')
    model = MODELS.build(dict(cfg.model, data_preprocessor=cfg.data_preprocessor))
    print(model.extract_feat(torch.randn(2, 3, 32, 32))[0].shape)
"""
    assert 'torch.Size([2, 128])\ntorch.Size([2, 16])' in run([sys.executable, '-c', code], clone)


@pytest.mark.parametrize('name', ['spikes.md', 'python.md'])
def test_sessions(tmp_path, name):
    page = [(block.language, block.text) for block in blocks(TUTORIALS / name)]
    assert [language for language, _ in page] == ['python', 'text'] * (len(page) // 2)
    (tmp_path / 'session.py').write_text('print("=" * 9)\n'.join(text for language, text in page if language == 'python'))
    printed = run([sys.executable, 'session.py'], tmp_path)
    printed = printed.replace('Could not import OneDL\n', '')  # a line of the hosts
    assert printed.split('=' * 9 + '\n') == [text for language, text in page if language == 'text']


def test_no_command_hides_in_the_text():
    """What is not in a block is not run above."""
    for page in TUTORIALS.glob('*.md'):
        assert not re.findall(r'`(?:python|pip|make|mkdocs) -?\w+[ /][^`]*`', page.read_text().replace('`make setup`', '')), (
            page
        )
