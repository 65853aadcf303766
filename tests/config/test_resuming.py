"""From which checkpoint a training goes on, and when it rather stops."""

import os

import pytest
import torch
from mmengine.config import Config
from torch import nn

from mmspike.config.resuming import check_not_overwritten, latest_checkpoint, set_resume
from mmspike.utils.errors import UserError


def save(folder, name, time=0, **more):
    """A checkpoint as a training leaves it, ``time`` seconds old."""
    path = folder / name
    meta = dict(epoch=1, iter=2, seed=5, name=name)
    torch.save(dict(meta=meta, message_hub={}, state_dict={}) | more, path)
    os.utime(path, (time, time))
    return path


def cut_off(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def latest(folder):
    path, content = latest_checkpoint(str(folder))
    assert content['meta']['name'] == os.path.basename(path)
    return content['meta']['name']


def test_a_cut_off_checkpoint_falls_back_to_an_older_one(tmp_path, capsys):
    one, two = (save(tmp_path, f'epoch_{n}.pth', n) for n in (1, 2))
    (tmp_path / 'last_checkpoint').write_text(str(two))
    assert latest(tmp_path) == 'epoch_2.pth'
    cut_off(two)
    assert latest(tmp_path) == 'epoch_1.pth'
    (tmp_path / 'last_checkpoint').write_text('')
    assert latest(tmp_path) == 'epoch_1.pth'
    one.write_bytes(b'')
    with pytest.raises(UserError, match=r'can go on .*2 broken.*would overwrite them'):
        latest_checkpoint(str(tmp_path))


def test_a_refused_checkpoint_stops(tmp_path):
    save(tmp_path, 'epoch_1.pth', 1)
    save(tmp_path, 'epoch_2.pth', 2, extra=nn.ReLU())
    with pytest.raises(UserError, match=r'stops at the newest checkpoint: .*epoch_2\.pth is refused: .*ReLU'):
        set_resume(Config(dict(work_dir=str(tmp_path))), 'auto')


def test_a_moved_work_dir_goes_on_with_its_own_files(tmp_path):
    for name in ('old', 'new'):
        (tmp_path / name).mkdir()
        save(tmp_path / name, 'epoch_1.pth')
        (tmp_path / name / 'last_checkpoint').write_text(str(tmp_path / 'old' / 'epoch_1.pth'))
    assert latest_checkpoint(str(tmp_path / 'new'))[0] == str(tmp_path / 'new' / 'epoch_1.pth')
    (tmp_path / 'new' / 'last_checkpoint').write_text('/nowhere/iter_8.pth')
    assert latest(tmp_path / 'new') == 'epoch_1.pth'


def test_only_best_checkpoints_are_not_overwritten(tmp_path):
    save(tmp_path, 'best_mIoU_epoch_3.pth')
    with pytest.raises(UserError, match='best_mIoU_epoch_3.pth.*--resume PATH'):
        set_resume(Config(dict(work_dir=str(tmp_path))), 'auto')


def test_weights_alone_do_not_go_on(tmp_path):
    torch.save(nn.Linear(1, 1).state_dict(), tmp_path / 'weights.pth')
    torch.save(dict(meta=dict(epoch=1), message_hub={}, state_dict={}), tmp_path / 'published.pth')
    for name, missing in (('weights', 'meta, message_hub'), ('published', 'no epoch and iteration')):
        with pytest.raises(UserError, match=rf"{name}\.pth: it holds weights .*\({missing}\).*load_from='.*{name}.pth'"):
            set_resume(Config(dict(work_dir=str(tmp_path))), str(tmp_path / f'{name}.pth'))


def test_a_resumed_run_takes_over_the_seed(tmp_path):
    path = str(save(tmp_path, 'epoch_1.pth'))
    cfg = Config(dict(work_dir=str(tmp_path), load_from='pretrained.pth'))
    set_resume(cfg, 'auto')
    assert cfg.resume and cfg.load_from == path and cfg.randomness.seed == 5
    cfg = Config(dict(work_dir=str(tmp_path / 'new'), load_from='pretrained.pth'))
    set_resume(cfg, 'auto')
    assert not cfg.get('resume') and cfg.load_from == 'pretrained.pth'


def test_resume_in_the_config_is_as_on_the_command_line(tmp_path):
    path = str(save(tmp_path, 'epoch_1.pth'))
    cfg = Config(dict(work_dir=str(tmp_path), resume=True))
    set_resume(cfg, None)
    assert cfg.resume and cfg.load_from == path
    cfg = Config(dict(work_dir=str(tmp_path / 'new'), resume=True, load_from=path))
    set_resume(cfg, None)
    assert cfg.resume and cfg.load_from == path
    cfg = Config(dict(work_dir=str(tmp_path / 'new')))
    set_resume(cfg, None)
    assert not cfg.get('resume')


def test_checkpoints_of_another_training_are_not_overwritten(tmp_path):
    def run(work_dir, resume=None, **more):
        cfg = Config(dict(work_dir=str(tmp_path / work_dir), **more))
        set_resume(cfg, resume and str(tmp_path / resume))
        check_not_overwritten(cfg)

    for folder in ('a', 'b', 'out/b'):
        (tmp_path / folder).mkdir(parents=True)
    path = save(tmp_path / 'a', 'epoch_1.pth')
    run('b')
    run('new')
    run('a', 'a/epoch_1.pth')
    run('b', 'a/epoch_1.pth')
    for work_dir, resume in (('a', None), ('a/', None), ('a', 'out/b/iter_1.pth')):
        save(tmp_path / 'out' / 'b', 'iter_1.pth')
        with pytest.raises(UserError, match=r'a/? has checkpoints of another training: epoch_1\.pth\..*--overwrite'):
            run(work_dir, resume)
    hooks = dict(checkpoint=dict(out_dir=str(tmp_path / 'out')))
    with pytest.raises(UserError, match=r'out/b has checkpoints of another training: iter_1\.pth'):
        run('b', default_hooks=hooks)
    run('b', 'out/b/iter_1.pth', default_hooks=hooks)
    path.unlink()
    run('a')
