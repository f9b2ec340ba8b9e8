"""An IPyServer with executable drivers, for the measurements; prints its port.

    python -m benchmarks.serve [--uvloop] [--unix NAME] [--host ADDRESS] [--certificate FILE] [--trust FILE]
        [--senders N] [--no-raw] [--compress HOW] DRIVER ...

A DRIVER is a program, or `[device]@host:port` of another server. The event loop is that of `indifast serve`, or with
`--uvloop` that of uvloop. `--certificate` turns TLS on for clients: a file with a certificate and its key. `--trust`
turns TLS on for other servers: the certificate that they must have. The others are those of `indifast serve`.
"""

from __future__ import annotations

import argparse
import asyncio
import ssl
from collections.abc import Callable

from indifast import IPyServer, new_event_loop


async def serve(
    drivers: list[str],
    unix: str | None,
    host: str,
    certificate: str | None,
    trust: str | None,
    senders: int | None,
    raw_frames: bool,
    compress: str,
) -> None:
    served = trusted = None
    if certificate is not None:
        served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        served.load_cert_chain(certificate)
    if trust is not None:
        trusted = ssl.create_default_context(cafile=trust)
    server = IPyServer(
        host=host,
        port=0,
        maxconnections=None,
        unix_socket=unix,
        ssl=served,
        senders=senders,
        raw_frames=raw_frames,
        compress=compress,
    )
    for program in drivers:
        device, at, address = program.rpartition("@")
        if at:
            remote, _, port = address.rpartition(":")
            server.add_remote(remote, int(port), blob_enable=True, device=device or None, ssl=trusted)
        else:
            server.add_exdriver(program)
    running = asyncio.create_task(server.asyncrun())
    await server.ready()
    print(server.port, flush=True)
    await running


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--uvloop", action="store_true")
    parser.add_argument("--unix", metavar="NAME")
    parser.add_argument("--host", metavar="ADDRESS", default="127.0.0.1")
    parser.add_argument("--certificate", metavar="FILE")
    parser.add_argument("--trust", metavar="FILE")
    parser.add_argument("--senders", type=int, metavar="N")
    parser.add_argument("--no-raw", dest="raw_frames", action="store_false")
    parser.add_argument("--compress", metavar="HOW", default="auto")
    parser.add_argument("drivers", nargs="*")
    given = parser.parse_args()
    factory: Callable[[], asyncio.AbstractEventLoop] = new_event_loop
    if given.uvloop:
        import uvloop  # type: ignore[import-not-found,unused-ignore]

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        words = (given.drivers, given.unix, given.host, given.certificate, given.trust, given.senders)
        runner.run(serve(*words, given.raw_frames, given.compress))


if __name__ == "__main__":
    main()
