"""`indifast serve` on an event loop of one's choice.

python -m tests.soak.programs.serve (ours | uvloop | asyncio) [ARGUMENTS OF SERVE]
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable

from indifast.cli import main


def maker(name: str) -> Callable[[], asyncio.AbstractEventLoop]:
    """What makes the loop of this name. Only that loop is imported: the memory of this process is measured."""
    if name == "uvloop":
        import uvloop

        return uvloop.new_event_loop
    if name == "asyncio":
        return asyncio.SelectorEventLoop
    from indifast.transport.epoll import EventLoop

    return EventLoop


if __name__ == "__main__":
    from indifast.cli.serve import supervisor
    from indifast.server.ipyserver import IPyServer

    # Only this timeout has no option. It is to be so long that it does not hide that something was forgotten.
    IPyServer.__init__.__kwdefaults__["read_timeout"] = 36_000.0
    loop, *arguments = sys.argv[1:]
    supervisor.new_event_loop = maker(loop)  # type: ignore[attr-defined]
    sys.argv = ["indifast", "serve", *arguments]
    sys.exit(main.run())
