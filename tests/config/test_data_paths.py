"""Moving a config's data, and what is said about data that are missing."""

import json

import pytest
from mmengine.config import Config

from mmspike.config.data_paths import check_data_exists, move_data_root
from mmspike.utils.errors import UserError


def detection():
    """As mmdet's configs: nested wrappers, the annotation file of the evaluator with the root in its path."""
    root = 'data/coco/'
    dataset = dict(
        type='CocoDataset',
        data_root=root,
        ann_file='annotations/train.json',
        data_prefix=dict(img='train/'),
        pipeline=[dict(type='LoadImageFromFile'), dict(type='LoadProposals', file=root + 'proposals.pkl', scales=(1, 2))],
    )
    mixed = dict(type='MultiImageMixDataset', dataset=dict(type='RepeatDataset', times=3, dataset=dataset), pipeline=[])
    absolute = dataset | dict(ann_file=root + 'annotations/extra.json', data_prefix=dict(img=root + 'extra'))
    val = dict(batch_size=1, dataset=dataset | dict(ann_file='annotations/val.json'))
    return Config(
        dict(
            default_scope='mmdet',
            data_root=root,
            train_dataloader=dict(dataset=dict(type='ConcatDataset', datasets=[mixed, absolute])),
            val_dataloader=val,
            test_dataloader=val,  # the very same object, as in most configs
            val_evaluator=dict(type='CocoMetric', ann_file='data/coco/annotations/val.json', metric=['bbox']),
            test_evaluator=[dict(type='CocoMetric', ann_file='data/coco/annotations/val.json', outfile_prefix='work/x')],
            work_dir='data/coco_runs',
        )
    )


def segmentation():
    root = 'data/ade/ADEChallengeData2016'
    loader = dict(dataset=dict(type='ADE20KDataset', data_root=root, data_prefix=dict(img_path='images/training')))
    return Config(
        dict(
            default_scope='mmseg', train_dataloader=loader, val_dataloader=loader, test_dataloader=loader,
            val_evaluator=dict(type='IoUMetric', iou_metrics=['mIoU']), test_evaluator=dict(type='IoUMetric'),
        )
    )  # fmt: skip


def classification():
    loader = dict(dataset=dict(type='ImageNet', data_root='data/imagenet', split='train', ann_file='meta/train.txt'))
    return Config(
        dict(
            default_scope='mmpretrain', train_dataloader=loader, val_dataloader=loader, test_dataloader=None,
            val_evaluator=dict(type='Accuracy', topk=(1, 5)), test_evaluator=None,
        )
    )  # fmt: skip


def strings(item):
    if isinstance(item, str):
        yield item
    elif isinstance(item, dict):
        for value in item.values():
            yield from strings(value)
    elif isinstance(item, list | tuple):
        for value in item:
            yield from strings(value)


@pytest.mark.parametrize('directory', ['/disk/mini', '../elsewhere', 'data/coco/mini'])
def test_move_detection(directory):
    before = detection()
    cfg = move_data_root(before, directory)
    first, second = cfg.train_dataloader.dataset.datasets
    inner = first.dataset.dataset
    assert inner.data_root == f'{directory}/'
    assert inner.ann_file == 'annotations/train.json' and inner.data_prefix.img == 'train/'
    assert inner.pipeline[1] == dict(type='LoadProposals', file=f'{directory}/proposals.pkl', scales=(1, 2))
    assert second.ann_file == f'{directory}/annotations/extra.json' and second.data_prefix.img == f'{directory}/extra'
    for name in ('val', 'test'):
        assert cfg[f'{name}_dataloader'].dataset.data_root == f'{directory}/'
    assert cfg.val_evaluator.ann_file == cfg.test_evaluator[0].ann_file == f'{directory}/annotations/val.json'
    assert cfg.test_evaluator[0].outfile_prefix == 'work/x' and cfg.work_dir == 'data/coco_runs'
    assert cfg.data_root == f'{directory}/'
    assert before._cfg_dict == detection()._cfg_dict  # the given config is left alone


@pytest.mark.parametrize('make,root', [(segmentation, 'data/ade/ADEChallengeData2016'), (classification, 'data/imagenet')])
def test_move_others(make, root):
    cfg = move_data_root(make(), '/disk/mini')
    assert cfg.train_dataloader.dataset.data_root == cfg.val_dataloader.dataset.data_root == '/disk/mini'
    assert not [text for text in strings(cfg._cfg_dict.to_dict()) if text.startswith(root)]


@pytest.mark.parametrize('name', ['mask_rcnn_metaspike_coco', 'mask_rcnn_metaspike_nuclei', 'mask_rcnn_metaspike_shapes'])
def test_move_our_configs(repo, name):
    cfg = Config.fromfile(repo / 'configs' / f'{name}.py')
    old = cfg.data_root
    moved = move_data_root(cfg, '/disk/mini')
    moved_texts = [text for text in strings(moved._cfg_dict.to_dict()) if text.startswith('/disk/mini/')]
    assert len(moved_texts) == 6  # 3 loaders, 2 evaluators, the variable data_root
    assert not [text for text in strings(moved._cfg_dict.to_dict()) if text.startswith(old)]


def test_move_is_refused_when_ambiguous():
    cfg = detection()
    cfg.val_dataloader.dataset.data_root = 'data/objects365'
    with pytest.raises(ValueError, match=r"several data_roots: \['data/coco', 'data/objects365'\].*--cfg-options"):
        move_data_root(cfg, '/disk')
    with pytest.raises(ValueError, match='no data_root'):
        move_data_root(Config(dict(train_dataloader=dict(dataset=dict(type='CIFAR10')))), '/disk')


def coco(tmp_path, content=None):
    for name in ('train', 'annotations'):
        (tmp_path / name).mkdir(exist_ok=True)
    path = tmp_path / 'annotations' / 'train.json'
    if content is None:
        content = json.dumps(dict(images=[dict(id=1)], annotations=[], categories=[dict(id=1, name='a')]))
    path.write_text(content)
    dataset = dict(
        type='CocoDataset', data_root=str(tmp_path), ann_file='annotations/train.json', data_prefix=dict(img='train/')
    )
    return Config(dict(train_dataloader=dict(dataset=dataset), val_evaluator=dict(type='CocoMetric', ann_file=str(path))))


def test_missing_data(tmp_path):
    cfg = coco(tmp_path)
    check_data_exists(cfg)
    cfg.train_dataloader.dataset.data_root = str(tmp_path / 'none')
    with pytest.raises(UserError) as info:
        check_data_exists(cfg)
    message = str(info.value)
    assert str(tmp_path / 'none') in message
    for help in ('https://cocodataset.org', '--data-root', 'make demo'):
        assert help in message
    check_data_exists(cfg, ('val_dataloader',))  # of no interest there
    cfg = coco(tmp_path)
    cfg.val_evaluator.ann_file = 's3://bucket/train.json'
    check_data_exists(cfg, (), ('val_evaluator',))
    cfg.val_evaluator.ann_file = 'data/nowhere.json'
    with pytest.raises(UserError, match='data/nowhere.json'):
        check_data_exists(cfg, ())
    # downloads itself
    check_data_exists(Config(dict(train_dataloader=dict(dataset=dict(type='mmpretrain.CIFAR10', data_root='data/none')))))


def test_data_of_another_layout(tmp_path):
    cfg = coco(tmp_path)
    cfg.train_dataloader.dataset.data_prefix.img = 'photos/'
    (tmp_path / '.cache').mkdir()
    with pytest.raises(UserError) as info:
        check_data_exists(cfg)
    message = str(info.value)
    assert f'The data in {tmp_path} are laid out in another way than the config expects: ' in message
    assert (
        'Expected in it: annotations/train.json, photos (missing)' in message and 'There is: annotations/, train/.' in message
    )
    assert 'ann_file and data_prefix' in message and '--data-root' not in message
