"""Bounds on everything that a browser, or a program in its place, can make grow or last."""

from __future__ import annotations

CONNECTIONS = 1000
"""Connections at once besides those of viewers of live frames, unless somebody says otherwise; more are closed."""

REQUEST_TIME = 10.0
"""Seconds within which a request must arrive as a whole."""

ANSWER_TIME = 30.0
"""Seconds that an answer may still take after its login has ended."""

UNREAD_TIME = 20.0
"""Seconds after which a connection ends whose peer reads nothing."""

UNREAD_BYTES = 16 << 20
"""Bytes that may wait for a WebSocket whose peer goes on sending."""

HEAD = 16 << 10
"""Bytes of the head of a request."""

BODY = 64 << 10
"""Bytes of the body of a request, and of a message of a WebSocket."""

UPLOAD = 64 << 20
"""Bytes of a BLOB that is sent to a driver."""

UPLOAD_RATE = 64 << 10
"""Bytes in a second with which a body may arrive for longer than `REQUEST_TIME`."""

UPLOADS = 2
"""BLOBs that arrive, or wait for their answers, at once."""

UPLOAD_SHARE = 1
"""Of these, BLOBs from one address."""

LONGEST_FORMAT = 100
"""Characters of the format of such a BLOB."""

LIVE_VIEWERS = 10_000
"""WebSockets with live frames at once, unless somebody says otherwise."""

LIVE_VIEWS = 64
"""Different parts, stretches and colors in which frames are looked at: each is a picture of its own."""

LIVE_REQUEST = 4 << 10
"""Bytes of a message of a viewer of live frames."""

LEAST_RATE = 8 << 10
"""Bytes in a second with which a frame may be read for longer than `UNREAD_TIME`."""

HELD = 256 << 20
"""Bytes of frames that slow viewers have not read; beyond that, those who are behind the oldest are disconnected."""

NOTES = 16 << 10
"""Bytes of short messages that may wait for a viewer of live frames."""

UNSENT = 64 << 10
"""Bytes to such a viewer that the system takes before it has sent others."""

LIVE_AHEAD = 4
"""Frames that a viewer may ask for before it has received them."""

LIVE_REQUESTS_PER_SECOND = 500.0
"""Messages of a viewer of frames in a second; for further ones it waits."""

CURVES = 1000
"""Numbers that are recorded as curves; beyond that, the one that has not changed for longest is forgotten."""

CURVE_PARTS = 720
"""Parts of a curve, each with its lowest and highest value."""

CURVE_TIME = 6 * 3600.0
"""Seconds that a curve covers."""

PICTURES = 64
"""Pictures of one frame that are kept: for so many viewers that want different ones, each is made once."""

SUBSCRIPTIONS = 100
"""Subscriptions of a WebSocket, and entries of a message that changes them."""

REQUESTS = 200
"""Entries that a WebSocket may send at once; for further ones it waits."""

REQUESTS_PER_SECOND = 50.0
"""Entries in a second, after that."""

MESSAGES = 100
"""Messages from drivers that wait for a WebSocket; beyond that, the oldest are dropped."""

COMMANDS = 32
"""Commands that wait for their answers at once."""

COMMAND_SHARE = 8
"""Of these, commands from one address."""

COMMAND_TIME = 30.0
"""Seconds that a command waits for its answer, unless it says otherwise."""

LONGEST_COMMAND = 3600.0
"""Most seconds that a command may wait."""

FRAME_SOURCES = 16
"""Properties whose frames are kept, one frame for each member."""

FRAME_WAIT = 25.0
"""Most seconds that a request may wait for a newer frame."""

FRAME_REST = 60.0
"""Seconds without a request after which the frames of a property are no longer asked for."""

URL_LIFE = 300.0
"""Seconds after which the URL of a frame lapses, at most. The frame is kept for so long."""

URL_BYTES = 256 << 20
"""Bytes of frames with URLs, and of what was made of them; beyond that, the oldest are not kept any more."""

MAPPED = 1 << 20
"""Bytes from which on a frame with a URL stays in memory that the server shares, which takes a descriptor."""

DOWNLOADS = 32
"""Frames that are being sent at once: each stays in memory for so long."""

DOWNLOAD_SHARE = 8
"""Of these, frames to one address."""

PIECE = 256 << 10
"""Bytes of a frame that are sent at once: of a frame that nobody reads, no more than this waits."""

PREVIEW_SIZES = (160, 320, 640, 960, 1280, 1920)
"""Sizes of previews, in pixels. Those between are rounded up, so that viewers share them."""

PIXELS_MEASURED = 4_000_000
"""Pixels of a frame of which statistics are made."""

BINS = 256
"""Parts of a histogram."""

SESSIONS = 1000
"""Logins at once with one token or of one user; the oldest ends for a new one."""

SESSION_TIME = 12 * 3600.0
"""Seconds after which a login ends."""

USER_FAILURES = 5
"""Wrong passwords for one user, from one address, before each further one takes a while."""

ADDRESS_FAILURES = 30
"""Wrong passwords and tokens from one address, before each further one takes a while."""

FAILURES_PER_SECOND = 1 / 12
"""Failures that are forgiven in a second, after that."""

LOCAL_FAILURES = 300
"""Wrong passwords from this machine, for which a web server or a tunnel on it asks as well; and as many tokens."""

LOCAL_FAILURES_PER_SECOND = 1.0
"""Failures from this machine that are forgiven in a second, after that."""

FAILURE_KINDS = 10_000
"""Addresses, and users from there, whose failures are counted; beyond that, the oldest are forgiven."""

CHECKS = 8
"""Passwords that wait to be checked, one after the other."""

CHECK_SHARE = 2
"""Of these, passwords from one address, or for one user from this machine."""
