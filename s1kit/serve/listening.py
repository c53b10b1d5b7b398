"""Where the server listens: a port of an address, or a socket in the file system."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from s1kit.errors import InputError

_BACKLOG = 2048


def listen(host: str, port: int) -> socket.socket:
    """A listening socket of an address. Raises InputError where there is none to be had."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(_BACKLOG)
        except OSError:
            listener.close()
            raise
    except (OSError, OverflowError) as error:
        raise InputError(
            f"cannot listen on {host}:{port}: {error}",
            where="--host, --port",
            fix="Choose another port, or stop the program that uses this one.",
        ) from error
    return listener


@contextmanager
def listening_at(path: Path) -> Iterator[socket.socket]:
    """A listening socket at a path, which is removed at the end. What a program that died left there is replaced.

    Who may call it is up to the process's umask. Raises InputError where there is none to be had.
    """
    listener = _bound(path)
    made = path.stat()
    try:
        with listener:
            yield listener
    finally:
        with suppress(OSError):
            # A server that was started meanwhile may have put its own there.
            if os.path.samestat(path.stat(), made):
                path.unlink()


def _bound(path: Path) -> socket.socket:
    if not hasattr(socket, "AF_UNIX"):
        raise InputError("this system has no Unix sockets", where="--uds", fix="Leave it out; give --host and --port.")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if _is_left_over(path):
            path.unlink()
        listener.bind(str(path))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise InputError(
            f"cannot listen at {path}: {error}",
            where="--uds",
            fix="Give a path of at most 100 bytes in a folder that is there, at which there is nothing.",
        ) from error
    return listener


def _is_left_over(path: Path) -> bool:
    """Whether there is a socket that nobody listens at."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            return False
    except FileNotFoundError:
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as caller:
        try:
            caller.connect(str(path))
        except ConnectionRefusedError:
            return True
    return False


def shown(listener: socket.socket, is_tls: bool) -> str:
    """The address of a listening socket, as people write it."""
    name = listener.getsockname()
    if isinstance(name, str):
        return f"unix:{name}"
    address = f"[{name[0]}]" if ":" in name[0] else name[0]
    return f"{'https' if is_tls else 'http'}://{address}:{name[1]}/"
