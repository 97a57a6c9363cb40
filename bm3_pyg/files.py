"""The one place through which everything is written: files appear whole or not at all, and a failure is one line.

A temporary file or folder stands beside what it will become, as ``.NAME.PID-RANDOM.tmp``, and is locked for as long as
it is being written. What a killed process left can so be told from what a live one writes, and the next writer of the
same name removes it.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import re
import secrets
import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

from bm3_pyg.errors import BM3Error, ConfigError, InUseError, RunError, WriteError, one_line

REASONS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file would be larger than allowed here",
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
    errno.EROFS: "the file system is read-only",
    errno.ENOENT: "there is no such folder",
    errno.ENOTDIR: "its folder is a file",
    errno.EISDIR: "it is a folder",
    errno.EEXIST: "it exists already",
    errno.ENOTEMPTY: "it exists already and is not empty",
    errno.ENAMETOOLONG: "the name is too long",
    errno.EIO: "the disk failed",
    errno.EMFILE: "too many files are open",
}
OF_WRITING = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
"""Errors without a file name that come of writing; others (a lost connection) are not ours to explain."""

OWN_WORDS = re.compile(r"requested and \d+ written|failed writing|unexpected pos")
"""What NumPy and torch say of a write that failed, for when the disk has room again by the time it is asked."""

LOCK = ".lock"
LOCK_ATTEMPTS, LOCK_SECONDS = 200, 0.01
PROBE = 1 << 20  # bytes
NAME_BYTES = 120  # of the final name within a temporary one, so that this stays below the system's 255
_TEMPORARY = re.compile(r"\.(?P<name>.+)\.(?P<pid>\d{1,9})-[0-9a-f]{8}\.tmp(\.[^.]*)?", re.DOTALL)
_guard = threading.Lock()  # between the making of a temporary and its lock, nobody of this process looks for leftovers


def atomic_file(path: str | Path) -> AbstractContextManager[Path]:
    """Yield a temporary path in the folder of ``path``; on success flush it to disk and rename it to ``path``.

    Raises:
        WriteError: whatever the writer within says, if ``path`` cannot be written.
    """
    return _atomic(Path(path), folder=False)


def atomic_folder(path: str | Path) -> AbstractContextManager[Path]:
    """Yield a temporary folder beside ``path``; on success rename it to ``path``, which must not exist or be empty.

    Raises:
        WriteError: as :func:`atomic_file`.
    """
    return _atomic(Path(path), folder=True)


def temporary_folder(path: str | Path) -> AbstractContextManager[Path]:
    """Yield a temporary folder beside ``path``, which never comes to be; at the end the folder is gone.

    Raises:
        WriteError: as :func:`atomic_file`.
    """
    return _temporary(Path(path), folder=True)


def write_text(path: str | Path, text: str) -> None:
    """Write ``text`` to ``path`` whole."""
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def append_text(path: str | Path, text: str) -> None:
    """Append ``text`` to ``path``, all of it or nothing."""
    path = Path(path)
    with writing(path), path.open("ab", buffering=0) as file:
        length, left = file.tell(), memoryview(text.encode())
        try:
            while left:
                left = left[file.write(left) :]
        except OSError:
            file.truncate(length)
            raise


def make_folder(path: str | Path) -> None:
    """Make the folder ``path``, and those above it, unless it is there."""
    path = Path(path)
    with writing(path):
        path.mkdir(parents=True, exist_ok=True)


def is_taken(path: str | Path) -> bool:
    """Whether ``path`` is anything but a folder to come or an empty one; locks and temporaries do not count."""
    path = Path(path)
    return path.exists() and (
        not path.is_dir() or any(file.name != LOCK and not _TEMPORARY.fullmatch(file.name) for file in path.iterdir())
    )


def check_new_folder(
    path: str | Path, error: type[BM3Error] = RunError, advice: str = ", expected a new or empty folder"
) -> None:
    """Raise ``error`` unless ``path`` is a folder to come or an empty one."""
    if is_taken(path):
        raise error(f"{path}: exists already{advice}")


def check_place(path: str | Path) -> None:
    """Raise :class:`WriteError` unless a file or folder can be made at ``path``, folders above it included."""
    if re.search("[\ud800-\udfff]", os.path.abspath(path)):  # other bytes, which not every writer takes
        raise WriteError(f"{path}: cannot be written (the name is not UTF-8)")
    parents = Path(os.path.abspath(path)).parents
    place = next((parent for parent in parents if os.path.lexists(parent)), parents[-1])
    if not place.is_dir():
        raise WriteError(f"{path}: cannot be written ({place} is not a folder)")
    if not os.access(place, os.W_OK | os.X_OK):
        raise WriteError(f"{path}: cannot be written (permission denied)")


def check_parent(path: str | Path) -> None:
    """Raise :class:`~bm3_pyg.errors.ConfigError` unless the folder that the file ``path`` goes into is there."""
    if not (folder := Path(path).parent).is_dir():
        raise ConfigError(f"{path}: no folder {folder}, expected one that exists")


def check_suffix(path: str | Path, suffixes: Sequence[str]) -> None:
    """Raise :class:`~bm3_pyg.errors.ConfigError` unless ``path`` has one of the suffixes."""
    suffix = Path(path).suffix
    if suffix.lower() not in suffixes:
        raise ConfigError(f"{path}: got suffix {suffix or 'none'!r}, expected {', '.join(suffixes)}")


@contextmanager
def locked_folder(path: str | Path) -> Iterator[None]:
    """Hold the folder ``path``, made if need be, for this process and thread alone; at the end it is gone if empty.

    The system lets go of the lock however the process ends. The lock file in it, ``.lock``, says who holds it.

    Raises:
        InUseError: another process or thread holds it.
        WriteError: it cannot be written.
    """
    path = Path(path)
    handle = _lock(path)
    try:
        yield
    finally:
        try:
            with suppress(OSError):
                (path / LOCK).unlink()
        finally:
            os.close(handle)
        with suppress(OSError):
            path.rmdir()


def check_not_in_use(path: str | Path) -> None:
    """Raise :class:`~bm3_pyg.errors.InUseError` if :func:`locked_folder` holds the folder ``path`` now."""
    with suppress(FileNotFoundError, NotADirectoryError, PermissionError), (Path(path) / LOCK).open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InUseError(f"{path}: in use by {_holder(file.fileno()) or 'another process'}") from None
        except OSError:
            return


def _lock(path: Path) -> int:
    """The handle that holds the lock of the folder ``path``."""
    for attempt in range(1, LOCK_ATTEMPTS + 1):
        with writing(path):
            try:
                path.mkdir(parents=True, exist_ok=True)
                handle = os.open(path / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
            except (FileNotFoundError, FileExistsError):
                if path.is_file() or attempt == LOCK_ATTEMPTS:
                    raise
                continue  # whoever held it has just removed the empty folder
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _holder(handle)
            os.close(handle)
            if holder:
                raise InUseError(f"{path}: in use by {holder}") from None
            time.sleep(LOCK_SECONDS)  # it has just begun, or ended
            continue
        except OSError as error:
            logging.getLogger("bm3_pyg").warning("%s: cannot be locked here (%s); let no other process in", path, error)
            return handle
        if _is_still(path / LOCK, handle):
            with suppress(OSError):
                os.truncate(handle, 0)
                os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
            return handle
        os.close(handle)
    raise InUseError(f"{path}: in use by another process")


def _holder(handle: int) -> str | None:
    """Who a lock file says holds it, None if that process is gone or has not said so yet."""
    text = os.pread(handle, 20, 0).strip()
    return f"pid {int(text)}" if text.isdigit() and _is_alive(int(text)) else None


def _is_still(path: Path, handle: int) -> bool:
    """Whether the file that was opened is the one in the folder, and not one that its last holder has removed."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(handle))
    except FileNotFoundError:
        return False


def clear_leftovers(folder: str | Path, name: str | None = None) -> None:
    """Remove what killed processes left in ``folder``: all their temporaries, or those that were to be ``name``."""
    with suppress(OSError), _guard:
        for entry in list(os.scandir(folder)):
            parts = _TEMPORARY.fullmatch(entry.name)
            if not parts or (name is not None and parts["name"] != _short(name)):
                continue
            if _is_leftover(entry.path, int(parts["pid"])):
                shutil.rmtree(entry.path) if entry.is_dir(follow_symlinks=False) else Path(entry.path).unlink()


@contextmanager
def writing(path: str | Path, temporary: Path | None = None) -> Iterator[None]:
    """Within the context a failure to write is a :class:`~bm3_pyg.errors.WriteError` with ``path`` and the reason.

    Libraries tell of a full disk in words of their own (torch: "unexpected pos 64 vs 0", NumPy: "2560 requested and
    2016 written"). So when something fails that has no reason of the system's, the reason is asked for: can
    ``temporary``, the file or folder that stands for ``path`` until it is whole, still grow?
    """
    path = Path(path)
    try:
        yield
    except WriteError as error:
        if temporary is None or str(temporary) not in str(error):
            raise
        raise WriteError(str(error).replace(str(temporary), str(path))) from error
    except BM3Error:
        raise
    except Exception as error:  # any library may be the writer; what is no failure to write goes on as it was
        reason = _reason(error, path, temporary)
        if reason is None:
            raise
        raise WriteError(f"{path}: cannot be written ({reason})") from error


def _reason(error: BaseException, path: Path, temporary: Path | None) -> str | None:
    """Why ``path`` could not be written, None if ``error`` is about something else."""
    if isinstance(error, OSError) and error.errno is not None:
        ours = error.errno in OF_WRITING if error.filename is None else _is_about(error.filename, path, temporary)
        return REASONS.get(error.errno, str(error.strerror)) if ours else None
    try:
        _probe(temporary)
    except OSError as failure:
        return REASONS.get(failure.errno or 0) or one_line(failure)
    return one_line(error) if OWN_WORDS.search(str(error)) else None


def _is_about(filename: object, path: Path, temporary: Path | None) -> bool:
    """Whether a system error's file is ``path``, a folder above it, or in it or its temporary."""
    if not isinstance(filename, (str, bytes, os.PathLike)):
        return False
    name = Path(os.fsdecode(filename))
    return name in (path, *path.parents) or bool({path, temporary} & {name, *name.parents})


def _probe(temporary: Path | None) -> None:
    """Raise :class:`OSError` if the file, or the largest in the folder, cannot grow by a little."""
    if temporary is None or not temporary.exists():
        return
    grown = temporary
    if temporary.is_dir():
        files = [file for file in temporary.rglob("*") if file.is_file()]
        grown = max(files, key=lambda file: file.stat().st_size, default=temporary / "probe")
    with grown.open("ab", buffering=0) as file:
        left = PROBE
        while left:
            left -= file.write(bytes(left))
        os.fsync(file.fileno())


@contextmanager
def _atomic(path: Path, folder: bool) -> Iterator[Path]:
    with _temporary(path, folder) as temporary:
        yield temporary
        for file in temporary.rglob("*") if folder else [temporary]:
            if file.is_file():
                _flush(file)
        temporary.replace(path)


@contextmanager
def _temporary(path: Path, folder: bool) -> Iterator[Path]:
    """Yield what stands for ``path``, with the permissions that the system gives, and locked; at the end it is gone."""
    suffix = "" if folder else path.suffix  # for writers that go by it
    temporary = path.with_name(f".{_short(path.name)}.{os.getpid()}-{secrets.token_hex(4)}.tmp{suffix}")
    if folder:
        make_folder(path.parent)
    clear_leftovers(path.parent, path.name)
    with writing(path, temporary), _guard:
        if folder:
            temporary.mkdir()
        flags = os.O_RDONLY if folder else os.O_WRONLY | os.O_CREAT | os.O_EXCL
        handle = os.open(temporary, flags, 0o666)
        with suppress(OSError):  # some network file systems have no locks
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    try:
        with writing(path, temporary):
            yield temporary
    finally:
        os.close(handle)
        if folder:
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)


def _is_leftover(path: str, pid: int) -> bool:
    """Whether nobody writes there. A process in another container is not seen by its number, but holds the lock."""
    if pid != os.getpid() and _is_alive(pid):
        return False
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(handle)
    return True


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it is another user's
        pass
    return True


def _short(name: str) -> str:
    return os.fsdecode(os.fsencode(name)[:NAME_BYTES])


def _flush(file: Path) -> None:
    with file.open("rb+") as opened:
        os.fsync(opened.fileno())
