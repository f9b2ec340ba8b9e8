"""Dialogs for files: where a BLOB is saved, and which file is sent."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.suggester import Suggester
from textual.widgets import Button, DirectoryTree, Input, Label, Select, Static, Tree

from indifast.client.formats import dotted

_UNSAFE = re.compile(r"[^\w.+-]+")


def suggested_name(device: str, member: str, timestamp: datetime, form: str) -> str:
    """Return a file name for a BLOB, without characters that are special to file systems or shells."""
    stem = _UNSAFE.sub("_", f"{device}_{member}").strip("._") or "BLOB"
    return f"{stem[:120]}_{timestamp:%Y%m%d_%H%M%S}{_UNSAFE.sub('_', dotted(form))[:20]}"


def free_path(folder: Path, name: str) -> Path:
    """Return the path of `name` in the folder, numbered if the name is taken."""
    stem, dot, suffix = name.partition(".")
    path, number = folder / name, 1
    while os.path.lexists(path):
        path = folder / f"{stem}_{number}{dot}{suffix}"
        number += 1
    return path


def write_new(path: Path, content: Any) -> None:
    """Write a file that does not exist yet.

    Raises:
        OSError: The file exists or cannot be written; a file that was only partly written is removed.
    """
    with path.open("xb") as file:
        try:
            file.write(content)
            file.flush()
        except OSError:
            with contextlib.suppress(OSError):
                path.unlink()
            raise


def told(error: OSError, path: Path) -> str:
    """Return an error with a file as a sentence."""
    if isinstance(error, FileExistsError):
        return f"{path} already exists: choose another name."
    if isinstance(error, FileNotFoundError):
        return f"There is no folder {path.parent}." if not path.parent.is_dir() else f"There is no file {path}."
    return f"{path}: {error.strerror or error}."


def _path(typed: str) -> Path:
    """Return the path that was typed.

    Raises:
        ValueError: It cannot be a path; the message is a sentence for the user.
    """
    if "\0" in typed:
        raise ValueError("A path cannot contain NUL.")
    try:
        return Path(typed).expanduser()
    except RuntimeError:
        raise ValueError(f"There is no home folder for {typed}.") from None


class PathSuggester(Suggester):
    """Completes the path that is being typed."""

    def __init__(self) -> None:
        super().__init__(use_cache=False, case_sensitive=True)

    async def get_suggestion(self, value: str) -> str | None:
        return await asyncio.to_thread(completed, value)


def completed(typed: str) -> str | None:
    """Return the first path, by name, that begins as typed, with a slash at the end if it is a folder.

    None if there is none, or if nothing follows the last slash yet.
    """
    folder, slash, start = typed.rpartition("/")
    if not start:
        return None
    try:
        names = sorted(name for name in os.listdir(Path(folder + slash).expanduser()) if name.startswith(start))
        if not names:
            return None
        found = folder + slash + names[0]
        return found + "/" if Path(found).expanduser().is_dir() else found
    except (OSError, RuntimeError, ValueError):
        return None


class Folders(DirectoryTree):
    """Shows folders and files, including hidden ones; a note reports folders that can't be read."""

    ICON_NODE = "+ "
    ICON_NODE_EXPANDED = "- "
    ICON_FILE = "  "

    def __init__(self, path: Path, note: Static) -> None:
        super().__init__(path)
        self._note = note

    @on(DirectoryTree.NodeExpanded)
    def _expanded(self, event: DirectoryTree.NodeExpanded[Any]) -> None:
        if event.node.data is None:
            return
        path = event.node.data.path
        try:
            os.scandir(path).close()
        except OSError as error:
            self._note.update(told(error, path))
        else:
            self._note.update("")


class _Dialog(ModalScreen[Any]):
    DEFAULT_CSS = """
    _Dialog { align: center middle; }
    _Dialog > Vertical { width: 90%; max-width: 100; height: auto; max-height: 90%; padding: 0 1;
        border: round $primary; background: $panel; }
    _Dialog Horizontal { height: auto; align-horizontal: right; }
    _Dialog Button { margin-left: 1; }
    _Dialog .note { color: $text-error; height: auto; }
    _Dialog Folders { height: 1fr; min-height: 5; }
    """
    BINDINGS = [("escape", "dismiss(None)", "Cancel")]  # noqa: RUF012 - Textual's way

    def on_mount(self) -> None:
        field = self.query_one("#path", Input)
        field.focus()
        self.call_after_refresh(field.action_end)

    def on_tree_node_highlighted(self, event: Tree.NodeHighlighted[Any]) -> None:
        """Keep the event from the main screen, which has a tree, too."""
        event.stop()


class SaveDialog(_Dialog):
    """Asks where to save a BLOB, and saves it. The result is the path, or None if the user canceled."""

    def __init__(self, path: Path, content: Any) -> None:
        super().__init__()
        self._path = path
        self._content = content

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Label("Save the last BLOB as")
            yield Input(str(self._path), suggester=PathSuggester(), id="path", select_on_focus=False, compact=True)
            yield Static("", classes="note", markup=False)
            with Horizontal():
                yield Button("Cancel", id="cancel", compact=True)
                yield Button("Save", id="save", variant="primary", compact=True)

    @on(Button.Pressed, "#cancel")
    def _cancel(self) -> None:
        self.dismiss(None)

    @on(Button.Pressed, "#save")
    @on(Input.Submitted)
    def _save(self) -> None:
        self.run_worker(self._saving(self.query_one("#path", Input).value.strip()), exclusive=True)

    async def _saving(self, typed: str) -> None:
        try:
            path = await asyncio.to_thread(self._write, typed)
        except ValueError as error:
            self.query_one(".note", Static).update(str(error))
        else:
            self.dismiss(path)

    def _write(self, typed: str) -> Path:
        path = _path(typed)
        try:
            if not typed or path.is_dir():
                raise ValueError("The file needs a name.")
            write_new(path, self._content)
        except OSError as error:
            raise ValueError(told(error, path)) from None
        return path


class SendDialog(_Dialog):
    """Asks for a file and, if there are several, the member to send it as. The result is (path, member), or None."""

    DEFAULT_CSS = """
    SendDialog > Vertical { height: 90%; }
    """

    def __init__(self, folder: Path, members: Sequence[tuple[str, str]]) -> None:
        super().__init__()
        self._folder = folder
        self._members = members

    def compose(self) -> ComposeResult:
        note = Static("", classes="note", markup=False)
        with Vertical():
            yield Label("Send a file")
            if len(self._members) > 1:
                yield Select(
                    [(Content(label or name), name) for name, label in self._members],
                    value=self._members[0][0],
                    allow_blank=False,
                    id="member",
                )
            yield Input(f"{self._folder}/", suggester=PathSuggester(), id="path", select_on_focus=False, compact=True)
            yield Folders(self._folder, note)
            yield note
            with Horizontal():
                yield Button("Cancel", id="cancel", compact=True)
                yield Button("Send", id="send", variant="primary", compact=True)

    @on(DirectoryTree.FileSelected)
    def _selected(self, event: DirectoryTree.FileSelected) -> None:
        field = self.query_one("#path", Input)
        field.value = str(event.path)
        field.focus()

    @on(Button.Pressed, "#cancel")
    def _cancel(self) -> None:
        self.dismiss(None)

    @on(Button.Pressed, "#send")
    @on(Input.Submitted)
    def _send(self) -> None:
        note = self.query_one(".note", Static)
        try:
            path = _path(self.query_one("#path", Input).value.strip())
            if path.exists() and not path.is_file() and not path.is_dir():
                raise ValueError(f"{path} is not a file.")
            path.open("rb").close()
        except OSError as error:
            note.update(told(error, path))
            return
        except ValueError as error:
            note.update(str(error))
            return
        chosen = self.query("#member")
        member = str(chosen.only_one(Select).value) if chosen else self._members[0][0]
        self.dismiss((path, member))
