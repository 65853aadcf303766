"""From which checkpoint a training goes on, and what of a changed config it obeys."""

import logging
import os.path as osp
import re
from glob import escape, glob

from mmengine.config import Config
from mmengine.logging import print_log

from mmspike.config.resume_settings import resolve_settings
from mmspike.models.checkpoints import read
from mmspike.utils.checkpoint import BrokenCheckpoint, MissingCheckpoint, RefusedCheckpoint, read_checkpoint
from mmspike.utils.errors import UserError

STEP = re.compile(r'(?:^|/)(?:epoch|iter)_\d+\.pth$')


def checkpoints_in(work_dir: str) -> list[str]:
    """The checkpoints that trainings saved into ``work_dir``, the newest first; then the best ones."""
    found = {path for name in ('epoch_*.pth', 'iter_*.pth', 'best_*.pth') for path in glob(osp.join(escape(work_dir), name))}
    return sorted(found, key=lambda path: (STEP.search(path) is not None, osp.getmtime(path)), reverse=True)


def latest_checkpoint(work_dir: str) -> tuple[str, dict] | None:
    """The checkpoint from which a run in ``work_dir`` goes on, as (path, its content), or None if none was saved there.

    First choice is what ``last_checkpoint`` names (the file of this name in ``work_dir``, if that was moved); if it is cut off
    or missing, the newest whole one of ``epoch_*.pth`` and ``iter_*.pth`` there, which the log says.

    Raises:
        UserError: The newest one is refused, or must not be read: an older one would lose what was trained since. Or there are
            checkpoints and none can be read: a run from the beginning would overwrite them.
    """
    present = checkpoints_in(work_dir)
    candidates = [path for path in present if STEP.search(path)]
    record = osp.join(work_dir, 'last_checkpoint')
    if osp.isfile(record):
        with open(record, encoding='utf-8') as file:
            last = file.read().strip()
        moved = osp.join(work_dir, osp.basename(last))
        if last:
            last = moved if osp.exists(moved) else last
            candidates = [last, *(path for path in candidates if osp.abspath(path) != osp.abspath(last))]
    broken = []
    for path in candidates:
        if osp.isdir(path):  # of DeepSpeed, or of FSDP in parts
            return path, {}
        try:
            content = read_checkpoint(path)
        except RefusedCheckpoint as error:
            raise UserError(f'--resume stops at the newest checkpoint: {error}') from error
        except MissingCheckpoint as error:
            print_log(f'{error} (named by {record}): trying the newest one there', 'current', logging.WARNING)
        except BrokenCheckpoint as error:
            print_log(f'{error}. Trying an older one', 'current', logging.WARNING)
            broken.append(path)
        else:
            return path, content
    if not present:
        return None
    raise UserError(
        f'--resume: no checkpoint in {work_dir} can go on ({", ".join(map(osp.basename, present[:5]))}'
        f'{f" and {len(present) - 5} more" if len(present) > 5 else ""}'
        f'{": " + str(len(broken)) + " broken" if broken else ""}), and a training from the beginning would overwrite them. '
        'Name one that is whole (--resume PATH), or move these files away'
    )


def set_resume(cfg: Config, resume: str | None, settings: str | None = None) -> None:
    """Let ``cfg`` continue from the checkpoint ``resume``, or with 'auto' from the latest one in its work_dir.

    ``resume = True`` in the config means the same as 'auto', or with ``load_from`` that checkpoint. The seed of the interrupted
    run goes on as well, unless the config sets one. With 'auto' and no checkpoint the run starts anew, with the config's own
    ``load_from``.

    Args:
        settings: Whose schedules, learning rates and seed count where they differ, see
            :func:`mmspike.config.resume_settings.resolve_settings`.

    Raises:
        UserError: The checkpoint cannot go on, see :func:`latest_checkpoint`, or it holds weights only. The config differs
            from the checkpoint's where its state would count, and ``settings`` is None.
    """
    if resume is None and cfg.get('resume'):
        resume = cfg.get('load_from') or 'auto'
    if resume is None:
        return
    if resume == 'auto':
        found = latest_checkpoint(cfg.work_dir)
        if found is None:
            print(f'No checkpoint in {cfg.work_dir}: training starts from the beginning')
            cfg.resume = False
            return
        path, content = found
    else:
        path, content = resume, {} if osp.isdir(resume) else read(resume)
    missing = [key for key in ('meta', 'message_hub') if key not in content]
    what = ', '.join(missing) or 'no epoch and iteration'
    if content and (missing or not {'epoch', 'iter'} <= set(content['meta'])):
        raise UserError(
            f'--resume {path}: it holds weights and not where a training stood ({what}), '
            f"as published and converted files do. To start a training from these weights: --cfg-options load_from='{path}'"
        )
    meta = content.get('meta', {})
    if settings == 'config' and cfg.get('runner_type', 'Runner') != 'Runner':
        raise UserError(f"--resume-settings config works with a Runner, runner_type is '{cfg.runner_type}'")
    if content:
        resolve_settings(cfg, path, meta, settings)
        for step in ('epoch', 'iter'):
            end = (cfg.get('train_cfg') or {}).get(f'max_{step}s')
            if end is not None and meta[step] >= end:
                print(f'{path} is of {step} {meta[step]} and train_cfg.max_{step}s is {end}: nothing is left to train')
    cfg.resume = True
    cfg.load_from = path
    randomness = dict(cfg.get('randomness', {}))
    if randomness.get('seed') is None and not randomness.get('diff_rank_seed'):
        cfg.randomness = randomness | dict(seed=meta.get('seed'))


def check_not_overwritten(cfg: Config) -> None:
    """Refuse a training that would overwrite the checkpoints of another one.

    Raises:
        UserError: Its folder has checkpoints, and it does not go on from one of them.
    """
    folders = [cfg.work_dir]
    if out_dir := (cfg.get('default_hooks', {}).get('checkpoint') or {}).get('out_dir'):
        folders.append(osp.join(out_dir, osp.basename(cfg.work_dir.rstrip('/'))))
    if cfg.get('resume') and osp.dirname(osp.abspath(cfg.load_from)) in map(osp.abspath, folders):
        return
    for folder in folders:
        if found := checkpoints_in(folder):
            names = ', '.join(map(osp.basename, found[:3])) + (f' and {len(found) - 3} more' if len(found) > 3 else '')
            raise UserError(
                f'{folder} has checkpoints of another training: {names}. --resume goes on '
                'with it, another --work-dir keeps both, --overwrite starts anew and replaces files of the same name'
            )
