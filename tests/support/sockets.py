"""Pairs of connected sockets, and how to reset a connection."""

from __future__ import annotations

import socket


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    """Return both ends of a TCP connection."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        client = socket.create_connection(listening.getsockname())
        server, _ = listening.accept()
    return client, server


def unix_pair() -> tuple[socket.socket, socket.socket]:
    """Return both ends of a connection between Unix sockets."""
    return socket.socketpair()


def reset(sock: socket.socket) -> None:
    """Close a socket so that its peer sees a reset. A Unix socket must still have unread input for that."""
    if sock.family != socket.AF_UNIX:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    sock.close()
