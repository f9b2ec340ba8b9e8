"""What people are told about a name or a word that does not exist: those that are similar."""

from __future__ import annotations

from collections.abc import Iterable

_FEW = 12
"""Up to so many names are listed if none is similar."""


def similar(name: str, known: Iterable[str]) -> list[str]:
    """Return up to three known names that are similar, the most similar first; letter case does not count."""
    import difflib

    folded = {each.casefold(): each for each in known}
    return [folded[each] for each in difflib.get_close_matches(name.casefold(), folded, 3, 0.6)]


def unknown(kind: str, name: object, known: Iterable[str], place: str) -> str:
    """Return a sentence that says that a name does not exist, with similar names, or with all of them if they are few.

    Args:
        kind: "device", "property" or "member".
        name: The name that was not found, or what was given in its place.
        known: The names that exist.
        place: Where they exist, such as "on this server".
    """
    names = list(dict.fromkeys(known))
    near = similar(name, names) if isinstance(name, str) else []
    if near:
        more = f"did you mean {' or '.join(map(repr, near))}?"
    elif 0 < len(names) <= _FEW:
        more = f"known: {', '.join(map(repr, names))}"
    else:
        more = f"there are {len(names)} others" if names else f"there is no {kind} at all"
    return f"no {kind} {name!r} {place}: {more}"


def not_a(kind: str, word: object, words: Iterable[str]) -> str:
    """Return a sentence that says that a word is none of those that exist: `'Okay' is not a state: …`."""
    words = list(words)
    near = similar(word, words) if isinstance(word, str) else []
    more = f"; did you mean {near[0]!r}?" if near else ""
    return f"{word!r} is not a {kind}: use {', '.join(words[:-1])} or {words[-1]}{more}"
