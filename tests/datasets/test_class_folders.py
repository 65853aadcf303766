"""Class folders: what is read, and which label it has."""

import pytest
from mmpretrain.registry import DATASETS
from PIL import Image

from mmspike.utils.errors import UserError


@pytest.fixture
def root(tmp_path):
    for name in ('cat/a.png', 'cat/sub/b.webp', 'dog/c.TIF', 'cat/._a.png', 'dog/.thumbs/c.png', '.ipynb_checkpoints/d.png'):
        path = tmp_path / 'val' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new('RGB', (8, 8)).save(path)
    (tmp_path / 'val/dog/notes.txt').write_text('no picture')
    return tmp_path


def samples(root, **options):
    dataset = DATASETS.build(dict(type='mmspike.ClassFolders', data_root=str(root), data_prefix='val') | options)
    items = [dataset.get_data_info(i) for i in range(len(dataset))]
    return dataset, {item['img_path'].split('/val/')[1]: item.get('gt_label') for item in items}


def test_hidden_names_are_left_out_and_webp_and_tiff_are_read(root):
    dataset, found = samples(root)
    assert dataset.CLASSES == ('cat', 'dog') and found == {'cat/a.png': 0, 'cat/sub/b.webp': 0, 'dog/c.TIF': 1}


def test_labels_go_by_the_names_of_the_classes(root):
    assert samples(root, classes=('dog', 'cow', 'cat'))[1] == {'cat/a.png': 2, 'cat/sub/b.webp': 2, 'dog/c.TIF': 0}
    with pytest.raises(UserError, match=r"the folder .*/val/dog is no class: expected some of \['cat', 'cow'\]"):
        samples(root, classes=('cat', 'cow'))


def test_without_labels_and_with_a_list(root):
    assert samples(root, with_label=False)[1] == {'cat/a.png': None, 'cat/sub/b.webp': None, 'dog/c.TIF': None}
    (root / 'list.txt').write_text('cat/a.png 1')
    assert samples(root, ann_file='list.txt', classes=('x', 'y'))[1] == {'cat/a.png': 1}


def test_nothing_to_read_is_named(root):
    with pytest.raises(UserError, match=r'has no picture with a suffix of \.heic'):
        samples(root, extensions=('.heic',))
    with pytest.raises(UserError, match='none does not exist'):
        samples(root, data_prefix='none')
