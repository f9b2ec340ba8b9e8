"""Properties, changes and messages as JSON: the one definition, for all commands and programs that write JSON.

`docs/reference/json.md` describes it, and `json.schema.json` beside this module says it to programs. Whoever changes
what stands here changes those, and `VERSION` if programs that read the former would misread the new.

The functions take the objects of the client's model or of its snapshots, and return plain data; `text` writes it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeAlias

from indifast.protocol.escape import json_escaped
from indifast.protocol.kinds import kinds_of
from indifast.protocol.numbers import read_number

VERSION = 1
"""Version of the definition, which each document and each line carries."""

Plain = dict[str, Any]

Secrets: TypeAlias = "Callable[[Any], Container[str]]"
"""Returns the members of a property whose values are not to be told."""


def no_secrets(vector: Any) -> Container[str]:
    """Return no members: everything is told."""
    return ()


def text(content: Mapping[str, Any], *, indent: int | None = 2) -> str:
    """Return a document, or without `indent` a line, as JSON text, which begins with the version.

    Infinity and nan are null. Characters that command a terminal, or end a line, are escaped.
    """
    return json_escaped(json.dumps(finite({"version": VERSION, **content}), ensure_ascii=False, indent=indent))


def finite(value: Any) -> Any:
    """Return plain data with None for infinity and nan, which JSON cannot represent."""
    if isinstance(value, dict):
        return {key: finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [finite(each) for each in value]
    return number(value) if isinstance(value, float) else value


def number(value: float | None) -> float | None:
    """Return a number as JSON can hold it: None for infinity and nan."""
    return value if value is not None and math.isfinite(value) else None


def moment(timestamp: datetime | None) -> str | None:
    """Return a time: UTC, with a Z."""
    if timestamp is None:
        return None
    if timestamp.tzinfo is not None:
        timestamp = timestamp.astimezone(UTC).replace(tzinfo=None)
    return f"{timestamp.isoformat()}Z"


def kind_of(name: str) -> str:
    """Return the type of a vector, or of the messages about it: `switch` for SwitchVector and newSwitchVector."""
    word = name.removesuffix("Vector")
    return (word[3:] if word[:3] in ("def", "set", "new") else word).casefold()


def value(kind: str, content: Any, form: str = "") -> Any:
    """Return the value of a member.

    Args:
        kind: The type, as `kind_of` returns it.
        content: What stands for the value in the client: text, or the content of a BLOB.
        form: The format of a BLOB.

    Returns:
        A number, True or False for a switch, text, or for a BLOB its size and format. None if the text is not a number,
        or if no BLOB has arrived.
    """
    match kind:
        case "number":
            return number(read_number(content))
        case "switch":
            return content == "On"
        case "blob":
            return None if content is None else blob(len(content), form)
    return content


def blob(size: int, form: str) -> Plain:
    """Return what stands for the content of a BLOB."""
    return {"size": size, "format": form}


def of_vector(vector: Any, names: Iterable[str] | None = None, secrets: Secrets = no_secrets) -> Plain:
    """Return a property with all that is known about it.

    Args:
        vector: The property.
        names: Its members that are wanted, by default all.
        secrets: Which of them have secret values.
    """
    kind = kind_of(vector.vectortype)
    secret = secrets(vector)
    plain: Plain = {
        "device": vector.devicename,
        "property": vector.name,
        "type": kind,
        "label": vector.label,
        "group": vector.group,
        "state": vector.state,
        "perm": vector.perm,
    }
    if kind == "switch":
        plain["rule"] = vector.rule
    plain |= {
        "timeout": number(vector.timeout),
        "time": moment(vector.timestamp),
        "received": moment(vector.arrived),
        "message": vector.message or None,
        "members": {
            name: _member(kind, vector.member(name), name in secret) for name in (vector if names is None else names)
        },
    }
    return plain


def _member(kind: str, member: Any, secret: bool) -> Plain:
    plain: Plain = {"label": member.label}
    if secret:
        plain |= {"secret": True, "value": None}
        if kind == "number":
            plain |= {"shown": "", "text": "", "format": member.format, "min": None, "max": None, "step": None}
        return plain
    if kind == "number":
        plain |= {
            "value": number(member.getfloatvalue()),
            "shown": member.getshownvalue().strip(),
            "text": member.membervalue,
            "format": member.format,
            **{name: number(read_number(getattr(member, name))) for name in ("min", "max", "step")},
        }
    else:
        plain["value"] = value(kind, member.membervalue, getattr(member, "blobformat", "") or "")
    if member.received is not None:
        plain["unreadable"] = member.received
    return plain


def of_device(device: Any) -> Plain:
    """Return what a device says about itself."""
    info = _enabled(device, "DRIVER_INFO")
    connection = _enabled(device, "CONNECTION")
    switched = connection is not None and "CONNECT" in connection
    return {
        "device": device.devicename,
        "connected": connection["CONNECT"] == "On" if switched else None,
        "state": None if connection is None else connection.state,
        "interfaces": kinds_of(device),
        "driver": None if info is None else info.get("DRIVER_EXEC"),
        "driver_name": None if info is None else info.get("DRIVER_NAME"),
        "driver_version": None if info is None else info.get("DRIVER_VERSION"),
        "property_count": sum(vector.enable for vector in device.values()),
    }


def of_whole_device(device: Any, secrets: Secrets = no_secrets) -> Plain:
    """Return all that is known of a device: what it says about itself, its messages and its properties."""
    return of_device(device) | {
        "messages": of_messages(device),
        "properties": {vector.name: of_vector(vector, secrets=secrets) for vector in device.values() if vector.enable},
    }


def of_server(client: Any, names: Iterable[str]) -> Plain:
    """Return all that is known of some devices of a server, with the messages that name none."""
    return {
        "host": client.indihost,
        "port": client.indiport,
        "messages": of_messages(client),
        "devices": {name: of_whole_device(client[name]) for name in names},
    }


def of_messages(source: Any) -> list[Plain]:
    """Return the messages of a device, or those of a client that name none; the newest first."""
    return [{"time": moment(timestamp), "message": said} for timestamp, said in source.messages]


def _enabled(device: Any, name: str) -> Any:
    vector = device.get(name)
    return vector if vector is not None and vector.enable else None


def of_change(event: str, sent: Any, contents: Mapping[str, Any], state: str, message: str = "") -> Plain:
    """Return a change or a definition of a property.

    Args:
        event: `set` or `define`.
        sent: The client's event.
        contents: The members to tell, with their values as the client has them.
        state: The state of the property.
        message: The message that came with it, if it is to be told.
    """
    kind = kind_of(sent.vector.vectortype)
    forms = {name: form for name, (_, form) in getattr(sent, "sizeformat", {}).items()}
    plain = _event(event, sent.devicename, sent.timestamp, sent.arrived) | {
        "property": sent.vectorname,
        "type": kind,
        "state": state,
        "members": {name: value(kind, content, forms.get(name, "")) for name, content in contents.items()},
    }
    return plain | ({"message": message} if message else {})


def of_deletion(device: str, name: str | None, timestamp: datetime, received: datetime) -> Plain:
    """Return the deletion of a property, or of a whole device if `name` is None."""
    return _event("delete", device, timestamp, received) | {"property": name}


def of_message(event: Any) -> Plain:
    """Return a message; `device` is None if it names none."""
    return _event("message", event.devicename, event.timestamp, event.arrived) | {"message": event.message}


def of_failure(code: str, message: str, similar: Sequence[str] = ()) -> Plain:
    """Return why something that a program has asked for was not done.

    Args:
        code: A word for programs.
        message: A sentence for people.
        similar: Names like the one that does not exist.
    """
    return {"error": {"code": code, "message": message, "similar": list(similar)}}


def of_frame(frame: Any, number: int, received: datetime) -> Plain:
    """Return what is known of a frame without looking at its content.

    Args:
        frame: The frame, as the client has it.
        number: Its number among those received.
        received: When it was received.
    """
    return {
        "device": frame.devicename,
        "property": frame.vectorname,
        "member": frame.membername,
        "number": number,
        "size": len(frame.data),
        "format": frame.format,
        "state": frame.state,
        "time": moment(frame.timestamp),
        "received": moment(received),
    }


def _event(event: str, device: str | None, timestamp: datetime, received: datetime) -> Plain:
    return {"time": moment(timestamp), "received": moment(received), "event": event, "device": device}


def of_element(element: Any) -> Plain:
    """Return a message of the wire, as it is in a recording."""
    kind = kind_of(element.tag) if element.tag.endswith("Vector") else ""
    plain: Plain = {
        "tag": element.tag,
        "device": element.device,
        "property": element.name,
        "attributes": element.attrs,
        "members": {each.name: _received(kind, each) for each in element.members},
    }
    return plain | ({"text": element.text} if element.text else {})


def _received(kind: str, member: Any) -> Any:
    if kind == "blob":
        return blob(member.blob_size or 0, member.format) if member.tag == "oneBLOB" else None
    return value(kind, member.text.strip())
