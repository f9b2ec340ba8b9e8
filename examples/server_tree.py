"""Two servers of a tree, linked over TLS: one at the telescope, one at the observatory for everyone else.

At the telescope, which admits only those who have a certificate:

    python examples/server_tree.py telescope --port 7624 --name server

At the observatory, to which clients on the same machine connect without TLS:

    python examples/server_tree.py observatory --port 7625 --telescope localhost:7624 --name desk
    indifast devices -p 7625

docs/howto/tls.md has the recipe for the certificates. The files of each machine (`ca.pem`, NAME.pem and NAME.key) are
in the current folder, or in the one given with `--certificates`.
"""

from __future__ import annotations

import argparse
import asyncio
import ssl
import sys
from pathlib import Path

from focuser_sdk import make_driver as make_focuser
from simulated_camera import CameraDriver
from thermostat import make_driver as make_thermostat

from indifast import IPyServer


def context(purpose: ssl.Purpose, folder: Path, name: str) -> ssl.SSLContext:
    """Return a context in which both sides must have a certificate of our authority."""
    authority, certificate, key = (folder / each for each in ("ca.pem", f"{name}.pem", f"{name}.key"))
    for file in (authority, certificate, key):
        file.open("rb").close()  # the ssl module does not say which file is missing
    found = ssl.create_default_context(purpose, cafile=authority)
    found.load_cert_chain(certificate, key)
    found.verify_mode = ssl.CERT_REQUIRED
    return found


def telescope(options: argparse.Namespace) -> IPyServer:
    """Return the server with the camera and the focuser. Other machines can connect, if they have a certificate."""
    tls = context(ssl.Purpose.CLIENT_AUTH, options.certificates, options.name)
    return IPyServer(CameraDriver(), make_focuser(), host="", port=options.port, ssl=tls)


def observatory(options: argparse.Namespace) -> IPyServer:
    """Return the server that links to the one at the telescope. Only clients on this machine can connect."""
    server = IPyServer(make_thermostat(), host="localhost", port=options.port)
    host, _, port = options.telescope.rpartition(":")
    tls = context(ssl.Purpose.SERVER_AUTH, options.certificates, options.name)
    server.add_remote(host, int(port), blob_enable=True, ssl=tls)
    return server


async def main(server: IPyServer) -> None:
    async with server:
        print(f"listening on port {server.port}", flush=True)
        await server.stopped.wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Two servers of a tree, linked over TLS.")
    parser.add_argument("place", choices=["telescope", "observatory"])
    parser.add_argument("--port", type=int, default=7624)
    parser.add_argument("--telescope", default="localhost:7624", metavar="HOST:PORT", help="where the telescope is")
    parser.add_argument("--certificates", type=Path, default=Path(), metavar="FOLDER")
    parser.add_argument("--name", required=True, help="the name of this machine's certificate")
    options = parser.parse_args()
    try:
        server = telescope(options) if options.place == "telescope" else observatory(options)
        asyncio.run(main(server))
    except OSError as error:
        sys.exit(f"server_tree: {error}")  # no such certificate; the port is in use
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
