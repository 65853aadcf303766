"""The shipped configs on real photos: COCO's own format with 80 classes, and data of one's own."""

import json
import re

import pytest
from test_train_and_test import fail, succeed

QUICK = [
    *(f'{s}_dataloader.{o}' for s in ('train', 'val', 'test') for o in ('num_workers=0', 'persistent_workers=False')),
    'train_dataloader.batch_size=1',
    'train_dataloader.dataset.indices=3',
    'val_dataloader.dataset.indices=2',
    'test_dataloader.dataset.indices=2',
    'train_cfg.max_epochs=1',
    'default_hooks.logger.interval=1',
]
SMALL_COCO = [  # as small as the attention still fires at
    'model.test_cfg.rcnn.score_thr=0.0',  # hardly trained, nothing scores higher
    'train_dataloader.dataset.pipeline.3.transforms.0.0.scales=[(224,320)]',
    'train_dataloader.dataset.pipeline.3.transforms.1.0.scales=[(224,320)]',
    'train_dataloader.dataset.pipeline.3.transforms.1.1.crop_size=(224,224)',
    'train_dataloader.dataset.pipeline.3.transforms.1.2.scales=[(224,320)]',
    'val_dataloader.dataset.pipeline.1.scale=(320,224)',
    'test_dataloader.dataset.pipeline.1.scale=(320,224)',
]
SMALL_NUCLEI = [
    'train_dataloader.dataset.pipeline.3.scale=(128,128)',
    'train_dataloader.dataset.pipeline.4.crop_size=(128,128)',
    'val_dataloader.dataset.pipeline.2.scale=(128,128)',
    'test_dataloader.dataset.pipeline.2.scale=(128,128)',
]
CASES = dict(
    mask_rcnn_metaspike_coco=('coco_mini', 80, SMALL_COCO),
    mask_rcnn_metaspike_nuclei=('nuclei', 1, []),
    mask_rcnn_espike_nuclei=('nuclei', 1, SMALL_NUCLEI),
)


@pytest.mark.parametrize('name', CASES)
def test_trains_and_tests(name, repo, shared, tmp_path):
    folder, num_classes, options = CASES[name]
    config, work = repo / 'configs' / f'{name}.py', tmp_path / 'work'
    common = ['--data-root', shared / 'data' / folder, '--work-dir', work]
    output = succeed(tmp_path, 'train.py', config, *common, '--cfg-options', *QUICK, *options)
    losses = [float(x) for x in re.findall(r'Epoch\(train\).* loss: (\S+)', output)]
    assert len(losses) == 3 and all(0 < x < 1e3 for x in losses)
    assert 'coco/bbox_mAP' in output and 'coco/segm_mAP' in output
    per_class = ['test_evaluator.classwise=True']
    options = [*QUICK, *options, *per_class]
    output = succeed(tmp_path, 'test.py', config, work / 'epoch_1.pth', *common, '--cfg-options', *options)
    categories = json.loads(
        (shared / 'data' / folder / 'annotations' / f'instances_val{"2017" * (folder == "coco_mini")}.json').read_text()
    )
    assert len(categories['categories']) == num_classes
    assert categories['categories'][-1]['name'] in output


def test_semantic_segmentation_trains_and_tests(repo, shared, tmp_path):
    config, work = repo / 'configs' / 'fpn_espike_nuclei.py', tmp_path / 'work'
    common = ['--data-root', shared / 'data' / 'nuclei', '--work-dir', work]
    quick = [x for x in QUICK if 'epochs' not in x]
    quick += ['train_cfg.max_iters=2', 'train_cfg.val_interval=2', 'default_hooks.checkpoint.interval=2']
    output = succeed(tmp_path, 'train.py', config, *common, '--cfg-options', *quick)
    losses = [float(x) for x in re.findall(r'Iter\(train\).* loss: (\S+)', output)]
    assert len(losses) == 2 and all(0 < x < 10 for x in losses)
    (score,) = re.findall(r'Iter\(val\).* mIoU: (\S+)', output)
    output = succeed(tmp_path, 'test.py', config, work / 'iter_2.pth', *common, '--cfg-options', *quick)
    assert re.findall(r'Iter\(test\).* mIoU: (\S+)', output) == [score]
    assert 'nucleus' in output
    output = succeed(tmp_path, 'test.py', config, work / 'iter_2.pth', *common, '--tta', '--cfg-options', *quick)
    assert len(re.findall(r'Iter\(test\).* mIoU: (\S+)', output)) == 1


def test_missing_coco(repo, tmp_path):
    output = fail(tmp_path, 'train.py', repo / 'configs' / 'mask_rcnn_metaspike_coco.py')
    assert 'data/coco/' in output and 'cocodataset.org' in output
    assert 'make demo' in output and '--data-root' in output


def test_mixed_precision(repo, shared, tmp_path):
    """Mask R-CNN in bfloat16 on the CPU: the loss of the first iteration is that of float32, about."""
    config, losses = repo / 'configs' / 'mask_rcnn_metaspike_nuclei.py', []
    for amp in ([], ['--amp']):
        common = ['--data-root', shared / 'data' / 'nuclei', '--work-dir', tmp_path / f'work{len(amp)}']
        quick = [*QUICK, 'train_dataloader.dataset.indices=1', 'train_cfg.val_interval=2']
        output = succeed(tmp_path, 'train.py', config, *common, *amp, '--cfg-options', *quick)
        losses += [float(x) for x in re.findall(r'Epoch\(train\).* loss: (\S+)', output)]
    assert len(losses) == 2 and losses[1] == pytest.approx(losses[0], rel=0.1)
