"""The interface for programs as a table: the application takes its routes from it, and OpenAPI its description."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote

from indifast.web.bounds import BODY, COMMAND_TIME, CURVE_TIME, FRAME_WAIT, LONGEST_COMMAND, PREVIEW_SIZES, UPLOAD

BASE = "/api/v1"
"""What the paths begin with; the number changes when programs that know the former would fail."""

BYTES = "application/octet-stream"
"""The type of what is sent and received as it is."""

SHARED = "/frames/"
"""What the paths begin with for which no token is needed: nobody can guess them."""

_DEVICE = f"{BASE}/devices/{{device}}"
_PROPERTY = f"{_DEVICE}/properties/{{property}}"
_DRIVER = f"{BASE}/drivers/{{driver}}"
_FRAME = f"{_PROPERTY}/frames/{{member}}"


@dataclass(frozen=True)
class Parameter:
    """A word after the question mark."""

    name: str
    about: str
    kind: str = "integer"
    default: float | str | bool | None = None
    most: float | None = None


@dataclass(frozen=True)
class Endpoint:
    """One method of one path.

    Attributes:
        handler: The name of the function in `api.py` that answers.
        method: GET, POST, PUT or DELETE.
        path: The path; names in braces are single words, see `name_in`.
        about: What it does, in one sentence.
        answers: The definition in the schema of the JSON that comes with status 200, or types of something else.
        body: The definition of the JSON that is sent, or the type of something else.
        largest: Bytes that may be sent.
        parameters: Words after the question mark.
        open: Whether it needs no token.
        failures: Statuses of failures that are peculiar to it, with their codes.
    """

    handler: str
    method: str
    path: str
    about: str
    answers: str | None
    body: str | None = None
    largest: int = BODY
    parameters: tuple[Parameter, ...] = ()
    open: bool = False
    failures: Mapping[int, str] = field(default_factory=dict)

    @property
    def commands(self) -> bool:
        """Whether only operators may use it."""
        return self.method != "GET" and not self.open


_AFTER = Parameter("after", "only a frame with a higher number than this", default=0)
_WAIT = Parameter("wait", "seconds to wait for such a frame", "number", 0, FRAME_WAIT)
_VIEW = (
    Parameter("size", "pixels of the longer side, about", default=640, most=PREVIEW_SIZES[-1]),
    Parameter("region", "left,top,width,height in pixels of the frame; empty: all of it", "string", ""),
    Parameter("stretch", "black,middle,white: values of pixels; empty: automatic", "string", ""),
    Parameter(
        "bayer", "the mosaic of colors: auto (as the camera says), off, or a pattern such as RGGB", "string", "auto"
    ),
)
_NO_FRAME = {204: "there is no such frame (yet)"}
_COMMAND_FAILURES = {400: "invalid", 409: "alert", 410: "deleted", 504: "timeout"}

ENDPOINTS = (
    Endpoint("description", "GET", f"{BASE}/openapi.json", "This description.", "application/json", open=True),
    Endpoint("site", "GET", BASE, "What is served: the server, and whether there is a connection to it.", "web_site"),
    Endpoint("devices", "GET", f"{BASE}/devices", "All devices.", "devices"),
    Endpoint("device", "GET", _DEVICE, "A device with all its properties and messages.", "web_device"),
    Endpoint("messages", "GET", f"{BASE}/messages", "The newest messages of the server and its devices.",
             "web_messages"),
    Endpoint("property", "GET", _PROPERTY, "A property: its definition, values and state.", "web_property"),
    Endpoint("command", "POST", _PROPERTY,
             f"Set members of a property, and answer when it is Ok or Idle (`wait`, by default true), within `timeout` "
             f"seconds (by default {COMMAND_TIME:g}, at most {LONGEST_COMMAND:g}).",
             "web_answer", "web_command", failures=_COMMAND_FAILURES),
    Endpoint("send_blob", "PUT", f"{_PROPERTY}/blobs/{{member}}",
             "Send a BLOB, and answer as to a command: `format` must be given.", "web_answer", BYTES, UPLOAD,
             parameters=(
                 Parameter("format", "the file suffix that tells what it is, as in .fits", "string", ""),
                 Parameter("size", "bytes when it is inflated; 0: those that are sent", default=0),
                 Parameter("wait", "false: answer when it is sent", "boolean", True),
                 Parameter("timeout", "seconds to wait for the answer", "number", COMMAND_TIME, LONGEST_COMMAND)),
             failures=_COMMAND_FAILURES),
    Endpoint("curves", "GET", f"{_PROPERTY}/curves", "Numbers over the last hours: what was recorded of each.",
             "web_curves",
             parameters=(Parameter("seconds", "how far back", "number", CURVE_TIME, CURVE_TIME),)),
    Endpoint("frame", "GET", _FRAME, "The newest frame, as received; the first request asks the server for frames.",
             BYTES, parameters=(_AFTER, _WAIT), failures=_NO_FRAME),
    Endpoint("measures", "GET", f"{_FRAME}/info", "What is in the newest frame: FITS header, statistics, histogram.",
             "web_frame", parameters=(_AFTER, _WAIT), failures=_NO_FRAME),
    Endpoint("preview", "GET", f"{_FRAME}/preview", "The newest frame as a small picture, stretched for the eye.",
             "image/jpeg, image/webp",
             parameters=(_AFTER, _WAIT, *_VIEW),
             failures=_NO_FRAME | {415: "unreadable"}),
    Endpoint("url", "GET", f"{_FRAME}/url", "The URLs of the newest frame, and of a picture of it.", "web_url",
             parameters=(_AFTER, _WAIT, *_VIEW), failures=_NO_FRAME),
    Endpoint("shared", "GET", f"{SHARED}{{digest}}/{{word}}",
             "What the URL of a frame stands for: always the same bytes, which caches may keep until it lapses.",
             "application/octet-stream, image/jpeg, image/webp", open=True,
             failures={206: "the part that `Range` asks for", 304: "it is what `If-None-Match` names",
                       410: "lapsed", 415: "unreadable", 416: "range"}),
    Endpoint("driver_list", "GET", f"{BASE}/drivers", "The drivers that may be started and stopped.", "web_drivers"),
    Endpoint("driver_start", "POST", f"{_DRIVER}/start", "Start a driver, unless it runs.", "web_driver", "web_nothing",
             failures={409: "failed"}),
    Endpoint("driver_stop", "POST", f"{_DRIVER}/stop", "Stop a driver, and answer when it has ended.", "web_driver",
             "web_nothing"),
    Endpoint("login", "POST", f"{BASE}/session",
             "Show a token, or give a user and password, and get a cookie for it: for browsers.", "web_site",
             "web_login", open=True),
    Endpoint("logout", "DELETE", f"{BASE}/session", "Give the cookie back.", None, open=True),
)  # fmt: skip

_STEPS = re.compile("%(25)*2E(%(25)*2E)?", re.IGNORECASE)


def name_in(word: str) -> str:
    """Return the name that a word of a path stands for.

    Browsers and web servers take `.` and `..` for steps in the path, even if they are percent-encoded. So these names,
    and those that could be taken for them, are encoded once more.
    """
    name = unquote(word)
    return unquote(name) if _STEPS.fullmatch(name) else name


EVENTS = f"{BASE}/events"
"""The path of the WebSocket that tells of changes."""

LIVE = f"{_FRAME}/live"
"""The path of the WebSocket with live frames."""

HAND_OVER = "indifast.hand_over"
"""The extension of a WebSocket's scope that gives its connection away: a descriptor for it."""

FAILURES = {
    400: "invalid",
    401: "token",
    403: "refused",
    404: "unknown",
    413: "large",
    415: "type",
    429: "limited",
    500: "fault",
    503: "unavailable",
}
"""Statuses that any request may be answered with, and their codes."""
