from typing import Final, Self

from typing_extensions import disjoint_base

__all__ = ["NO_FILE", "UNREADABLE", "Descriptor", "reopen_read_only", "size_if_readable", "size_of"]

UNREADABLE: Final = -1
NO_FILE: Final = -2

@disjoint_base
class Descriptor:
    fd: int
    def __new__(cls, *args: object, **keywords: object) -> Self: ...

def size_of(fd: int, /) -> int: ...
def size_if_readable(fd: int, /) -> int: ...
def reopen_read_only(fd: int, /) -> int: ...
