"""Checkpoints that a killed run leaves whole, and the latest one that can be read."""

import logging
import os
import os.path as osp
import shutil
from glob import escape, glob
from pathlib import Path

from mmengine.dist import is_main_process
from mmengine.fileio import LocalBackend, register_backend
from mmengine.hooks import CheckpointHook
from mmengine.logging import print_log
from mmengine.runner import Runner

from mmspike.registry import HOOKS
from mmspike.utils.checkpoint import read_checkpoint


def write_atomically(data: bytes, path: str) -> None:
    """Write ``path`` so that at any moment it holds either its old content or all of ``data``, also after a power cut.

    Raises:
        OSError: It cannot be written, for example because the disk is full. What was written of it is removed.
    """
    folder = osp.dirname(osp.abspath(path))
    os.makedirs(folder, exist_ok=True)
    # A fixed name: what a killed run leaves behind is overwritten when the resumed run gets to the same step.
    temporary = f'{path}.tmp'
    try:
        with open(temporary, 'wb') as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        if osp.exists(temporary):
            os.remove(temporary)
        raise OSError(
            error.errno,
            f'{error.strerror}: {path} needs {len(data) / 1e6:.3g} MB, {shutil.disk_usage(folder).free / 1e6:.3g} MB are free. '
            'Checkpoints that were saved before are complete: make room, then continue with --resume',
        ) from error
    os.replace(temporary, path)
    directory = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


@register_backend('mmspike.atomic_local')
class AtomicLocalBackend(LocalBackend):
    """mmengine's local files, written atomically."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        write_atomically(obj, str(filepath))


@HOOKS.register_module()
class SafeCheckpointHook(CheckpointHook):
    """``CheckpointHook`` after which a readable checkpoint exists at every moment, also one at which the process is killed.

    A file is written under a temporary name and renamed when complete, ``last_checkpoint`` likewise, and an outdated
    checkpoint is removed only after the new one is complete (mmengine removes it first). Takes the arguments of
    ``CheckpointHook``. With ``backend_args`` or an ``out_dir`` that is a URI the storage backend is the user's, and how
    safely it writes is up to that.
    """

    backend_args: dict | None

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        if self.backend_args is None and self.file_client_args is None and '://' not in str(self.out_dir):
            self.backend_args = dict(backend='mmspike.atomic_local')

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        outdated = None
        # called twice in one step when the best score has changed
        if self.max_keep_ckpts > 0 and (not self.keep_ckpt_ids or self.keep_ckpt_ids[-1] != step):
            if len(self.keep_ckpt_ids) == self.max_keep_ckpts:
                outdated = self.keep_ckpt_ids.popleft()
            self.keep_ckpt_ids.append(step)
            runner.message_hub.update_info('keep_ckpt_ids', list(self.keep_ckpt_ids))

        filename = self.filename_tmpl.format(step)
        self.last_ckpt = self.file_backend.join_path(self.out_dir, filename)
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        runner.save_checkpoint(
            self.out_dir,
            filename,
            self.file_client_args,
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            meta=meta,
            by_epoch=self.by_epoch,
            backend_args=self.backend_args,
            **self.args,
        )
        if not is_main_process():
            return
        write_atomically(self.last_ckpt.encode(), osp.join(runner.work_dir, 'last_checkpoint'))
        if outdated is not None:
            path = self.file_backend.join_path(self.out_dir, self.filename_tmpl.format(outdated))
            if self.file_backend.isfile(path):
                self.file_backend.remove(path)


def latest_readable_checkpoint(work_dir: str) -> tuple[str, dict] | None:
    """The checkpoint from which a run in ``work_dir`` continues, as (path, its meta), or None if there is none.

    First choice is what ``last_checkpoint`` names; if that is missing or broken, the newest of the ``epoch_*.pth`` and
    ``iter_*.pth`` in ``work_dir`` that can be read. A broken file is named in the log.
    """
    candidates = sorted(
        glob(osp.join(escape(work_dir), 'epoch_*.pth')) + glob(osp.join(escape(work_dir), 'iter_*.pth')),
        key=osp.getmtime,
        reverse=True,
    )
    record = osp.join(work_dir, 'last_checkpoint')
    if osp.isfile(record):
        with open(record, encoding='utf-8') as file:
            last = file.read().strip()
        if last:
            candidates = [last, *(path for path in candidates if osp.abspath(path) != osp.abspath(last))]
    for path in candidates:
        try:
            return path, read_checkpoint(path)['meta']
        except (OSError, RuntimeError, KeyError) as error:
            print_log(f'Checkpoint {path} cannot be read, trying an older one: {error}', 'current', logging.WARNING)
    return None
