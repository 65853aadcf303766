"""Checks of the places that results are written to, and of files that are not what they are called."""

import contextlib
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


def reading_fault(path: str | os.PathLike, error: BaseException) -> str:
    """The reason why a file cannot be read or decoded: what is seen of it, else what was raised."""
    with contextlib.suppress(OSError):
        if osp.getsize(path) == 0:
            return 'it is empty (0 bytes)'
    return f'{type(error).__name__}: {error}'.strip().removesuffix(':') + stand_in(path)


def stand_in(path: str | os.PathLike) -> str:
    """A sentence on what lies at ``path`` in the place of data, to go behind another one; empty if nothing is recognised.

    Told are pointers of Git LFS, web pages and files that begin with zeros only.

    Example:
        >>> import pathlib, tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp(), 'a.png')
        >>> path.write_text('<html>Log in</html>')
        19
        >>> stand_in(path)[:20]
        '. It is a web page, '
    """
    try:
        with open(path, 'rb') as file:
            start = file.read(4096)
    except OSError:
        return ''
    if start.startswith(b'version https://git-lfs'):
        return '. It is a pointer of Git LFS, not the file itself: fetch that with git lfs pull'
    if start.lstrip()[:14].lower().startswith((b'<!doctype html', b'<html')):
        return '. It is a web page, mostly an error or a login in place of a download: get the file again'
    if len(start) > 16 and not any(start):
        return '. It begins with zeros only, as a broken download or a full disk leaves it: get the file again'
    return ''
