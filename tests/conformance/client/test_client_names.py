"""Every public name of indipyclient 0.9.4 exists, with the same arguments and base classes."""

from __future__ import annotations

import importlib
import inspect
import json
import subprocess
from pathlib import Path
from typing import Any

from tests.support.blackbox import LIMIT

MODULES = ("", ".ipyclient", ".events", ".propertyvectors", ".propertymembers", ".queclient")

LIST = """
import importlib, inspect, json, sys

def parameters(function):
    return [[p.name, p.kind.name, repr(p.default)] for p in inspect.signature(function).parameters.values()]

found = {}
for name in json.loads(sys.argv[1]):
    module = importlib.import_module("indipyclient" + name)
    names = getattr(module, "__all__", None) or [
        key for key, value in vars(module).items()
        if getattr(value, "__module__", None) == module.__name__ and not key.startswith("_")
    ]
    entries = found[name] = {}
    for key in names:
        value = getattr(module, key)
        if inspect.isclass(value):
            methods = {
                k: [inspect.iscoroutinefunction(f), parameters(f)]
                for k, f in vars(value).items() if inspect.isfunction(f) and not k.startswith("_")
            }
            entries[key] = {
                "bases": [c.__name__ for c in value.__mro__[1:]],
                "methods": methods,
                "properties": [k for k, p in vars(value).items() if isinstance(p, property)],
            }
        elif inspect.isfunction(value):
            entries[key] = {"parameters": parameters(value)}
        else:
            entries[key] = {"value": repr(value)}
print(json.dumps(found))
"""

INTERNAL = {"rxvector": "takes elements as trees, which are not used here"}
"""Methods that only the peer itself calls, but no program."""


def parameters(function: Any) -> list[list[str]]:
    return [[p.name, p.kind.name, repr(p.default)] for p in inspect.signature(function).parameters.values()]


def test_public_names(peers: dict[str, Path]) -> None:
    listed = subprocess.run(
        [str(peers["d31"]), "-c", LIST, json.dumps(MODULES)], stdout=subprocess.PIPE, check=True, timeout=LIMIT
    )
    faults = []
    for module_name, entries in json.loads(listed.stdout).items():
        module = importlib.import_module("indifast.client" + module_name)
        for name, entry in entries.items():
            if not hasattr(module, name):
                faults.append(f"{module_name} {name} is missing")
                continue
            ours = getattr(module, name)
            if "parameters" in entry and parameters(ours) != entry["parameters"]:
                faults.append(f"{name}{entry['parameters']} is {parameters(ours)}")
            if "value" in entry and repr(ours) != entry["value"]:
                faults.append(f"{name} is {ours!r}, not {entry['value']}")
            if "bases" in entry:
                bases = [cls.__name__ for cls in ours.__mro__[1:]]
                faults += [f"{name} is not derived from {base}" for base in entry["bases"] if base not in bases]
                faults += [f"{name}.{key} is missing" for key in entry["properties"] if not hasattr(ours, key)]
                for key, (awaitable, wanted) in entry["methods"].items():
                    if key not in INTERNAL:
                        faults += compare(f"{name}.{key}", getattr(ours, key, None), awaitable, wanted)
    assert not faults


def compare(name: str, ours: Any, awaitable: bool, wanted: list[list[str]]) -> list[str]:
    """Return what is wrong with a method. It may have more keyword-only arguments, and None for an empty mapping."""
    if ours is None:
        return [f"{name} is missing"]
    found = [[key, kind, "{}" if key == "members" else default] for key, kind, default in parameters(ours)]
    if inspect.iscoroutinefunction(ours) != awaitable:
        return [f"{name}: awaitable {not awaitable}"]
    extra = [one for one in found[len(wanted) :] if one[1] not in ("KEYWORD_ONLY", "VAR_KEYWORD")]
    if found[: len(wanted)] != wanted or extra:
        return [f"{name}{wanted} is {found}"]
    return []
