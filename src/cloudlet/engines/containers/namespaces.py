"""Listening within another network namespace: a socket stays where it was made, whoever uses it."""

from __future__ import annotations

import ctypes
import os
import socket
import threading

_NETWORK = 0x40000000  # CLONE_NEWNET, setns(2)


def listen(namespace: str, address: str, port: int, kind: int = socket.SOCK_STREAM) -> socket.socket:
    """A socket that listens at an address of a namespace, or takes datagrams there. Raises OSError."""
    made: list[socket.socket | OSError] = []

    def work() -> None:
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            descriptor = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
            try:
                if libc.setns(descriptor, _NETWORK) != 0:
                    number = ctypes.get_errno()
                    raise OSError(number, os.strerror(number), namespace)
            finally:
                os.close(descriptor)
            listener = socket.socket(type=kind)
            if kind == socket.SOCK_STREAM:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((address, port))
            if kind == socket.SOCK_STREAM:
                listener.listen(128)
            listener.setblocking(False)
            made.append(listener)
        except (OSError, AttributeError) as error:
            made.append(error if isinstance(error, OSError) else OSError(str(error)))

    # A thread of its own, gone at once: it is the thread that enters the namespace.
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    if isinstance(made[0], OSError):
        raise made[0]
    return made[0]
