"""Fetch archives of data sets: resumed where they stopped, checked, unpacked; and say what to do without a network."""

import errno
import hashlib
import http.client
import re
import shutil
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mmspike.utils.errors import UserError

CHUNK = 2**20
TIMEOUT = 60  # seconds without an answer
IDLE_ATTEMPTS = 3  # connections in a row that bring nothing, until we give up


@dataclass(frozen=True)
class Archive:
    """A file of a data set. ``md5`` is its checksum, ``size`` its bytes where they are known."""

    url: str
    md5: str
    size: int | None = None

    @property
    def name(self) -> str:
        return self.url.rpartition('/')[2]

    def __str__(self) -> str:
        size = f'{self.size / 1e9:.2f} GB, ' if self.size else ''
        return f'{self.url} ({size}md5 {self.md5})'


class DownloadError(UserError, OSError):
    """A file could not be fetched. What was fetched of it is kept, and the next attempt goes on from there."""


def md5_of(path: Path) -> str:
    with open(path, 'rb') as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def fetch(archive: Archive, folder: Path) -> Path:
    """The file of ``archive`` in ``folder``: downloaded if it is not there, and its checksum right.

    A download is written to ``NAME.part`` and gets its name when it is complete and right. Interrupted, it goes on from the
    end of that file, by an HTTP range.

    Raises:
        DownloadError: The server cannot be reached or refuses.
        ValueError: The checksum is wrong. A download is then removed; a file that was there before stays.
    """
    path, part = folder / archive.name, folder / f'{archive.name}.part'
    if path.exists():
        print(f'{path}: checking', flush=True)
        if (found := md5_of(path)) != archive.md5:
            raise ValueError(f'{path} has md5 {found}, expected {archive.md5}: remove it, and it is fetched again')
        return path
    folder.mkdir(parents=True, exist_ok=True)
    if archive.size is not None:
        needed = archive.size - (part.stat().st_size if part.exists() else 0)
        if needed > (free := shutil.disk_usage(folder).free):
            raise DownloadError(f'{needed / 1e9:.1f} GB are needed in {folder}, and {free / 1e9:.1f} GB are free')
    _download(archive.url, part)
    if (found := md5_of(part)) != archive.md5:
        part.unlink()
        raise ValueError(
            f'{archive.url} was fetched with md5 {found}, expected {archive.md5}. It was removed; run again. If it happens '
            'twice, something on the way (a proxy, a login page) or the file itself has changed'
        )
    return part.rename(path)


def _download(url: str, part: Path) -> None:
    """Fetch ``url`` into ``part``, from where it ends, with new connections as long as they bring something."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    idle = 0
    columns = ('{task.description}', BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns) as progress:
        task = progress.add_task(url.rpartition('/')[2], total=None)
        while True:
            before = part.stat().st_size if part.exists() else 0
            try:
                if _connect(url, part, lambda done, total: progress.update(task, completed=done, total=total)):
                    return
                reason = 'the connection ended early'
            except urllib.error.HTTPError as error:
                if error.code < 500:
                    raise DownloadError(f'{url}: the server answers {error.code} {error.reason}') from error
                reason = f'{error.code} {error.reason}'
            except (OSError, http.client.HTTPException) as error:
                if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                    raise DownloadError(f'{part}: {error.strerror}') from error
                if isinstance(error, OSError) and error.filename:  # of the disk, not of the network
                    raise
                reason = str(getattr(error, 'reason', error)) or type(error).__name__
            after = part.stat().st_size if part.exists() else 0
            idle = idle + 1 if after <= before else 0
            if idle >= IDLE_ATTEMPTS:
                raise DownloadError(f'{url}: {reason}')
            time.sleep(2**idle - 1)


def _connect(url: str, part: Path, report: Callable[[int, int | None], None]) -> bool:
    """One connection that appends to ``part``, or begins it anew if the server knows no ranges. True if it is complete."""
    start = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={'Range': f'bytes={start}-'} if start else {})
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code != 416 or not start:
            raise
        size = re.fullmatch(r'bytes \*/(\d+)', error.headers.get('Content-Range', ''))
        if size and int(size[1]) == start:  # all of it is there
            return True
        part.unlink()
        return False
    with response:
        if response.status != 206:
            start = 0
        length = response.headers.get('Content-Length')
        total = start + int(length) if length else None
        with open(part, 'r+b' if start else 'wb') as file:
            file.seek(start)
            while chunk := response.read(CHUNK):
                file.write(chunk)
                report(file.tell(), total)
            return total is None or file.tell() >= total


def unpack(path: Path, folder: Path) -> None:
    """Unpack a zip file into ``folder``. What is there in its full size already is left alone.

    Raises:
        zipfile.BadZipFile: The sum of a file in it is wrong.
    """
    with zipfile.ZipFile(path) as archive:
        files = [info for info in archive.infolist() if not info.is_dir()]
        for info in files:
            target = folder / info.filename
            if not target.is_file() or target.stat().st_size != info.file_size:
                archive.extract(info, folder)
    print(f'{path}: {len(files)} files in {folder}', flush=True)


def missing(folder: Path, layout: dict[str, int]) -> list[str]:
    """The part of ``layout`` that is not in ``folder``: path -> number of files in that directory, or 0 for a file."""
    faults = []
    for name, expected in layout.items():
        path = folder / name
        if not expected:
            faults += [] if path.is_file() else [f'{path} does not exist']
            continue
        found = sum(1 for file in path.iterdir() if file.is_file()) if path.is_dir() else 0
        faults += [] if found == expected else [f'{path} has {found} of {expected} files']
    return faults


def prepare(archives: Sequence[Archive], layout: dict[str, int], root: Path, folder: Path, delete: bool = False) -> None:
    """Lay a data set out under ``root``: fetch its archives into ``folder``, unpack them, count the files.

    What has been done before is not done again.

    Args:
        layout: What has to be there in the end, see :func:`missing`.
        delete: Remove each archive when everything is in place.

    Raises:
        UserError: Something failed; the message says what to do.
    """
    if missing(root, layout):
        try:
            for archive in archives:
                unpack(fetch(archive, folder), root)
        except DownloadError as error:
            wanted = [archive for archive in archives if not (folder / archive.name).exists()]
            raise UserError(
                f'{error}\n  The same command goes on from where it stopped. If this machine has no network, download these '
                f'elsewhere, copy them into {folder.absolute()} and run the command again:\n    '
                + '\n    '.join(map(str, wanted))
            ) from error
        except ValueError as error:
            raise UserError(str(error)) from error
        if faults := missing(root, layout):
            raise UserError('The archives are unpacked, and yet:\n  ' + '\n  '.join(faults))
    if delete:
        for archive in archives:
            (folder / archive.name).unlink(missing_ok=True)
    print(f'{root} is complete')
