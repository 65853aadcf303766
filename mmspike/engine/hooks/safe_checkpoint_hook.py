"""Checkpoints that a killed run leaves whole, and that can be read again."""

import os
import os.path as osp
import shutil
from collections.abc import Callable
from pathlib import Path

from mmengine.dist import is_main_process
from mmengine.fileio import LocalBackend, register_backend
from mmengine.hooks import CheckpointHook
from mmengine.hooks.hook import DATA_BATCH
from mmengine.runner import BaseLoop, Runner

from mmspike.registry import HOOKS
from mmspike.utils.checkpoint import RefusedCheckpoint, read_checkpoint
from mmspike.utils.errors import UserError
from mmspike.utils.plain import plain_values


def write_atomically(data: bytes, path: str, check: Callable[[str], object] | None = None) -> None:
    """Write ``path`` so that at any moment it holds either its old content or all of ``data``, also after a power cut.

    Args:
        check: Called with the file under its temporary name; if it raises, ``path`` stays as it was.

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
        if check is not None:
            check(temporary)
    except OSError as error:
        if osp.exists(temporary):
            os.remove(temporary)
        raise OSError(
            error.errno,
            f'{error.strerror}: {path} needs {len(data) / 1e6:.3g} MB, {shutil.disk_usage(folder).free / 1e6:.3g} MB are free. '
            'Checkpoints that were saved before are complete: make room, then continue with --resume',
        ) from error
    except Exception:
        os.remove(temporary)
        raise
    os.replace(temporary, path)
    directory = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _check_readable(path: str) -> None:
    """Read the checkpoint just written, as a resumed run will; its tensors stay in the file.

    Raises:
        UserError: It would be refused.
    """
    try:
        read_checkpoint(path, mmap=True)
    except RefusedCheckpoint as error:
        raise UserError(
            f'{path.removesuffix(".tmp")} is not saved: it would hold {error.found}, which can be read only by running code '
            'from the file. A hook put it there in before_save_checkpoint: let it add plain values and tensors'
        ) from error


@register_backend('mmspike.atomic_local')
class AtomicLocalBackend(LocalBackend):
    """mmengine's local files for checkpoints, written atomically, under their name only when they can be read again."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        write_atomically(obj, str(filepath), _check_readable)


@HOOKS.register_module()
class SafeCheckpointHook(CheckpointHook):
    """``CheckpointHook`` after which a readable checkpoint exists at every moment, also one at which the process is killed.

    A file is written under a temporary name, read again, and renamed, ``last_checkpoint`` likewise, and an outdated
    checkpoint is removed only after the new one is complete (mmengine removes it first). What it holds is made plain
    (:func:`mmspike.utils.plain.plain_values`), since checkpoints are read without running code. What cannot be made plain
    stops the run before its first iteration or right behind it, with its name; an info that a hook puts into the message hub
    later is left out, and named in the log.

    Takes the arguments of ``CheckpointHook``. With ``backend_args`` or an ``out_dir`` that is a URI the storage backend is the
    user's, and how safely it writes is up to that.
    """

    backend_args: dict | None

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        if self.backend_args is None and self.file_client_args is None and '://' not in str(self.out_dir):
            self.backend_args = dict(backend='mmspike.atomic_local')
        self._tried = False

    def before_train(self, runner: Runner) -> None:
        super().before_train(runner)
        self._tried = False
        self._try(runner)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: DATA_BATCH = None, outputs: dict | None = None
    ) -> None:
        if not self._tried:  # now the optimizer has a state, and hooks have put their infos
            self._try(runner)
            self._tried = True
        super().after_train_iter(runner, batch_idx, data_batch, outputs)

    def _try(self, runner: Runner) -> None:
        """Make plain what a checkpoint would hold besides weights.

        Raises:
            UserError: Something cannot be made plain.
        """
        plain_values(getattr(runner.train_dataloader.dataset, 'metainfo', {}), 'meta.dataset_meta')
        plain_values(runner.message_hub.state_dict(), 'message_hub')
        optimizer = runner.optim_wrapper
        if isinstance(runner, Runner) and self.save_optimizer:  # a strategy collects the state from all processes
            plain_values(optimizer.state_dict(), 'optimizer')

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

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        infos = checkpoint.get('message_hub', {}).get('runtime_info', {})
        for key in list(infos):
            try:
                infos[key] = plain_values(infos[key], f'message_hub.runtime_info.{key}')
            except UserError as error:  # weights are worth more than an info that came during training
                runner.logger.error(f'Left out of the checkpoint: {error}')
                del infos[key]
        schedulers = checkpoint.get('param_schedulers', [])
        for states in schedulers.values() if isinstance(schedulers, dict) else [schedulers]:
            for state in states:  # the functions of a scheduler come with its class
                for key in [key for key, value in state.items() if callable(value)]:
                    del state[key]
        for key in checkpoint:
            checkpoint[key] = plain_values(checkpoint[key], key)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """mmengine compares data sets by their pickled ``metainfo``, plain in a checkpoint: hand it what is the same."""
        loop = getattr(runner, '_train_loop', None)
        meta = checkpoint.get('meta')
        if isinstance(loop, BaseLoop) and isinstance(meta, dict):
            metainfo = getattr(loop.dataloader.dataset, 'metainfo', None)
            try:
                same = plain_values(metainfo, 'metainfo') == meta.get('dataset_meta')
            except ValueError:  # arrays in it
                same = False
            if same:
                meta['dataset_meta'] = metainfo
