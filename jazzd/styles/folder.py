"""The folder of the styles: what in it is a style, and putting one in or taking it out."""

import filecmp
import os
import re
import shutil
from pathlib import Path

from jazzd.errors import StyleError
from jazzd.moonbeam import storage
from jazzd.styles import container, peft, style
from jazzd.styles.style import BaseFacts, Style

SUFFIX = ".safetensors"
NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
Stamp = tuple[tuple[int, ...] | None, ...]
"""Changes when a style's files do."""


def name_of(path: Path) -> str:
    """A style's name: its file's stem. PEFT folders may be called `NAME.safetensors`, too."""
    return path.name.removesuffix(SUFFIX)


def paths(folder: Path) -> list[Path]:
    """Every style in the folder, in name order, whether it is any good or not; none when it is missing.

    Raises OSError when the folder cannot be read.
    """
    try:
        found = [path for path in folder.iterdir() if not path.name.startswith(".") and _is_style(path)]
    except FileNotFoundError:
        return []
    return sorted(found, key=lambda path: (name_of(path), path.is_dir()))


def stamp(path: Path) -> Stamp:
    """What the file system knows of the style's files; None for one that is not there."""
    files = (path / name for name in peft.FILES) if path.is_dir() else (path,)
    return tuple(_stamp(file) for file in files)


def read(path: Path, base: BaseFacts) -> Style:
    """The style in a file or a PEFT folder. Raises StyleError, MisfitError where it is for another base."""
    return peft.read(path, base) if path.is_dir() else style.read(path, base)


def check(path: Path) -> None:
    """Raises StyleError when its name cannot be a style's, or when it leads out of its folder."""
    if not NAME.fullmatch(name_of(path)):
        raise StyleError(f"{path}: a style's name is 1 to 64 of A-Z a-z 0-9 _ -; rename it")
    inside = Path(os.path.realpath(path.parent))
    for file in (path, *(path / name for name in peft.FILES)):
        if not Path(os.path.realpath(file)).is_relative_to(inside):
            raise StyleError(f"{path}: it is a link out of the folder; copy the file itself into it")


def add(source: Path, folder: Path, name: str, base: BaseFacts) -> Path:
    """Put the style in a file or a PEFT folder there as a whole, as a file; returns its path.

    Raises StyleError when it is none for this base, or when another one has that name.
    """
    if not source.exists():
        raise StyleError(f"{source}: there is no such file or folder")
    found = read(source, base)
    if not NAME.fullmatch(name):
        raise StyleError(f"{source}: a style's name is 1 to 64 of A-Z a-z 0-9 _ -; choose one with --name")
    target = folder / f"{name}{SUFFIX}"
    with container.replacing(target) as partial:
        if source.is_dir():
            storage.write(partial, style.tensors(found), found.manifest.texts())
        else:
            shutil.copyfile(source, partial)
        same = target.is_file() and filecmp.cmp(partial, target, shallow=False)
        if not same and any(name_of(path) == name for path in paths(folder)):
            raise StyleError(f"{folder} has another style {name}; remove it first, or choose a --name")
    return target


def remove(folder: Path, name: str) -> bool:
    """Take a style out of the folder; False when its own folder holds more and stays. Raises StyleError."""
    path = find(folder, name)
    if path.is_symlink() or not path.is_dir():
        path.unlink()
        return True
    for file in (*peft.FILES, "README.md"):
        (path / file).unlink(missing_ok=True)
    if any(path.iterdir()):
        return False
    path.rmdir()
    return True


def find(folder: Path, name: str) -> Path:
    """The style of that name. Raises StyleError when there is none."""
    for path in paths(folder):
        if name_of(path) == name:
            return path
    raise StyleError(f"there is no style {name!r} in {folder}; `jazzd styles` lists those that are")


def _is_style(path: Path) -> bool:
    if os.path.isdir(path):  # unlike Path's, false where we may not look
        return any(os.path.exists(path / name) for name in peft.FILES)
    return path.name.endswith(SUFFIX)


def _stamp(file: Path) -> tuple[int, ...] | None:
    try:
        status = file.stat()
    except OSError:
        return None
    # The time of change, too: copying tools set the other back, and some file systems count it in seconds.
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
