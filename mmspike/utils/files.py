"""Checks of the places that results are written to."""

import os
import os.path as osp

from .errors import UserError


def check_writable(path: str, option: str) -> None:
    """Look, before anything is computed, whether the file or folder ``path`` can be written; nothing is made.

    Args:
        option: What gave it, for the message, such as '--out'.

    Raises:
        UserError: A folder on the way to it is a file, or must not be written.
    """
    folder = osp.dirname(osp.abspath(path))
    while not osp.exists(folder):
        folder = osp.dirname(folder)
    if not osp.isdir(folder):
        raise UserError(f'{option} {path} cannot be written: {folder} is a file, expected a folder. Give another path')
    if not os.access(path if osp.exists(path) else folder, os.W_OK):
        raise UserError(
            f'{option} {path} cannot be written: no right to write {path if osp.exists(path) else f"into {folder}"}'
        )


def check_folder(path: str, option: str) -> None:
    """As :func:`check_writable`, for a folder."""
    if osp.isfile(path):
        raise UserError(f'{option} {path} is a file, expected a folder. Give another path')
    check_writable(path, option)
