"""Files that a power failure does not take away: once a write returns, they and the way to them are on the disk.

Border: bytes below one folder. A file is written beside its place under a name that listings leave out, flushed, and renamed;
then the folder is flushed, once for all files of a batch. A file that is there is thus whole, whatever happened.
"""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Final

# `#` and digits: obstore's listings take such a file for one that is being written.
_UNFINISHED: Final = "*#[0-9]*"
_LARGEST_SUFFIX: Final = 10**18
_KNOWN_FOLDERS: Final = 10_000
# What file systems answer that keep folders in order by themselves.
_NOT_FOR_FOLDERS: Final = (errno.EINVAL, errno.ENOTSUP)


@dataclass(frozen=True, slots=True)
class Draft:
    """A file that is being written, and where it will be."""

    file: BinaryIO
    path: Path
    place: Path


class DurableFiles:
    """Writes files below a folder. Its calls block; any thread may make them.

    Args:
        root: the folder.
        flush: brings an open file or folder to the disk, by its descriptor.
    """

    def __init__(self, root: Path, flush: Callable[[int], None] = os.fsync) -> None:
        self._root = root
        self._flush = flush
        # Folders that are known to be on the disk: nobody removes one.
        self._known: set[Path] = set()

    def begin(self, key: str) -> Draft:
        """A draft of a file; `finish` puts it into its place, `discard` forgets it."""
        place = self._root / key
        place.parent.mkdir(parents=True, exist_ok=True)
        path = place.with_name(f"{place.name}#{secrets.randbelow(_LARGEST_SUFFIX)}")
        return Draft(path.open("xb"), path, place)

    def write(self, key: str, data: bytes) -> Draft:
        """A whole draft, on the disk."""
        draft = self.begin(key)
        try:
            draft.file.write(data)
            self.close(draft)
        except BaseException:
            self.discard(draft)
            raise
        return draft

    def close(self, draft: Draft) -> None:
        """Nothing more comes: bring what was written to the disk."""
        draft.file.flush()
        self._flush(draft.file.fileno())
        draft.file.close()

    def finish(self, drafts: Collection[Draft]) -> None:
        """Put closed drafts into their places; when this returns, they stay there."""
        for draft in drafts:
            draft.path.replace(draft.place)
        folders: set[Path] = set()
        for folder in {draft.place.parent for draft in drafts}:
            folders |= {folder, *self._unknown(folder)}
        # From below: what a folder holds is there before the folder is.
        for folder in sorted(folders, key=lambda path: -len(path.parts)):
            self._flush_folder(folder)
        if len(self._known) > _KNOWN_FOLDERS:
            self._known.clear()
        self._known |= folders

    def discard(self, draft: Draft) -> None:
        """Remove a draft."""
        with suppress(OSError):
            draft.file.close()
        with suppress(OSError):
            draft.path.unlink()

    def remove_unfinished(self, before: datetime) -> int:
        """Remove the drafts that nobody has written to since then, which a crash left; how many there were."""
        removed = 0
        for path in self._root.rglob(_UNFINISHED):
            with suppress(FileNotFoundError):
                if path.name.rpartition("#")[2].isdigit() and path.stat().st_mtime < before.timestamp():
                    path.unlink()
                    removed += 1
        return removed

    def _unknown(self, folder: Path) -> list[Path]:
        """Those above a folder, if any of them may have an entry that is not on the disk, whoever made it."""
        if folder in self._known:
            return []
        top = self._root.parent if os.access(self._root.parent, os.R_OK) else self._root
        return [parent for parent in folder.parents if parent.is_relative_to(top)]

    def _flush_folder(self, folder: Path) -> None:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            self._flush(descriptor)
        except OSError as error:
            if error.errno not in _NOT_FOR_FOLDERS:
                raise
        finally:
            os.close(descriptor)
