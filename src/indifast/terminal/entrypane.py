"""Base of the panes whose members are entered as text: numbers and texts."""

from __future__ import annotations

from typing import Any, ClassVar

from rich.cells import cell_len
from textual import events
from textual.binding import Binding, BindingType
from textual.widgets import Input

from indifast.terminal.board import Board, Property
from indifast.terminal.editor import Editor, End
from indifast.terminal.pane import Pane, Piece


class EntryPane(Pane):
    """Opens an editor in the row of the cursor; what was entered waits in `edits` until it is sent."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter", "edit", "Edit")]

    def __init__(self, shown: Property, board: Board) -> None:
        super().__init__(shown, board)
        self.editor: Editor | None = None

    # -- For subclasses

    def entry(self, member: Any) -> str:
        """Return the text that an editor starts with."""
        raise NotImplementedError

    def hint(self, member: Any) -> str:
        """Return a hint about what may be entered."""
        return ""

    def shown_value(self, member: Any) -> Piece:
        """Return the current value."""
        raise NotImplementedError

    def value(self, member: Any, width: int) -> list[Piece]:
        """Return the value (room for the editor if it is open), what was entered, and, on the right, the hint."""
        editor = self.editor
        pieces: list[Piece] = []
        if editor is not None and editor.member.name == member.name:
            pieces.append((" " * self.editor_width(), self.part("value")))
        else:
            if self.shown.vector.perm != "wo":
                pieces.append(self.shown_value(member))
            pieces += self.edit_of(member)
        hint = self.hint(member) if self.shown.vector.perm != "ro" else ""
        used = sum(cell_len(text) for text, _ in pieces)
        if hint and used + cell_len(hint) + 2 < width:
            pieces.append((" " * (width - 1 - used - cell_len(hint)) + hint, self.part("dim")))
        return pieces

    def editor_width(self) -> int:
        """Return the width of an editor, in cells."""
        return max(8, min(24, self.size.width - self.label_width() - 3))

    def check(self, editor: Editor, text: str) -> str:
        """Check a text.

        Returns:
            A doubt about the text, which entering it again overrules; empty if there is none.

        Raises:
            ValueError: The text cannot be accepted; the message is a sentence for the user.
        """
        return ""

    def step(self, text: str, by: int) -> str | None:
        """Return the text of the open editor, a step up or down; None if values have no steps."""
        return None

    # -- Editing

    def action_edit(self, text: str | None = None) -> None:
        """Edit the member under the cursor, starting with `text` if it is given."""
        if self.editor is not None:
            return
        shown, member = self.shown, self.member_to_edit()
        if member is None:
            return
        shown.problem = ""
        first = self.entry(member)
        self.editor = editor = Editor(member, first, self.step)
        if member.name in shown.edits or text is not None:
            editor.value = shown.edits.get(member.name, "") if text is None else text
        self.place_editor()
        self.mount(editor)
        editor.focus()
        if text is not None:
            editor.select_on_focus = False
            editor.cursor_position = len(editor.value)
        self.follow()

    def place_editor(self) -> None:
        """Place the editor over the value in its row."""
        editor = self.editor
        names = list(self.shown.vector.members())
        if editor is None or editor.member.name not in names:
            return
        left = self.label_width() + 2
        editor.styles.offset = (left, len(self.head()) + names.index(editor.member.name))
        editor.styles.width = self.editor_width()

    def follow(self) -> None:
        """Show the property as it is now; an editor stays at its member, or closes if the member is gone."""
        editor = self.editor
        if editor is not None:
            member = self.shown.vector.members().get(editor.member.name)
            if member is None:
                self.close_editor()
            else:
                editor.member = member
        super().follow()
        self.place_editor()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Show at once what is wrong with a text."""
        event.stop()
        editor = self.editor
        if editor is None or event.input is not editor:
            return
        try:
            self.check(editor, editor.value)
        except ValueError as error:
            self.shown.problem = str(error) if editor.value.strip() else ""
        else:
            if editor.doubted != editor.value:  # otherwise this is late, after a burst of keys, and the doubt stands
                self.shown.problem = ""
        editor.set_class(bool(self.shown.problem), "-wrong")
        self.follow()

    def on_editor_finished(self, event: Editor.Finished) -> None:
        """Take the text of an editor that has finished."""
        event.stop()
        self.entered(event.editor, event.how, event.text)

    def entered(self, editor: Editor, how: End, text: str) -> None:
        """Send, keep or drop the text of an editor."""
        if editor is not self.editor:
            return
        shown, name = self.shown, editor.member.name
        if how is End.DROP:
            shown.edits.pop(name, None)
            shown.problem = ""
        elif how is End.SEND or text != editor.first_text:
            try:
                doubt = self.check(editor, text)
            except ValueError as error:
                shown.problem = f"{name}: {error}"
                if how is End.SEND:
                    self.follow()
                    return
                shown.edits.pop(name, None)
            else:
                if doubt and how is End.SEND and editor.doubted != text:
                    editor.doubted = text
                    shown.problem = f"{doubt}; Enter again sends {text.strip()} anyway"
                    self.follow()
                    return
                shown.edits[name] = text
                shown.problem = ""
        elif text == editor.first_text:
            shown.edits.pop(name, None)
        self.close_editor(focus=how is not End.KEEP)
        if how is End.SEND:
            self.action_send()
        elif how in (End.NEXT, End.PREVIOUS):
            to = self.cursor + (1 if how is End.NEXT else -1)
            if 0 <= to < len(shown.vector.members()):
                self.cursor = to
                self.action_edit()

    def close_editor(self, focus: bool = True) -> None:
        """Remove the editor."""
        editor, self.editor = self.editor, None
        if editor is not None:
            editor.ended = True
            editor.remove()
            if focus and self.is_attached:
                self.focus()
        self.follow()

    def on_key(self, event: events.Key) -> None:
        """Handle keys in order, including those before the editor has opened, because networks deliver them in bursts.

        Bindings alone would not do, because they are looked up only after the next key arrives here.
        """
        editor = self.editor
        if event.key == "enter":
            event.stop()
            event.prevent_default()
            if editor is None:
                self.action_edit()
            else:
                self.entered(editor, End.SEND, editor.value)
            return
        if editor is None or not event.is_printable or event.character is None:
            return
        event.stop()
        event.prevent_default()
        if not editor.has_focus and editor.select_on_focus:
            editor.select_on_focus = False
            editor.value = ""
        start, end = sorted(editor.selection)
        editor.replace(event.character, start, end)

    def on_paste(self, event: events.Paste) -> None:
        """Start an entry with the pasted text in the row of the cursor."""
        if self.editor is None and event.text.strip():
            event.stop()
            self.action_edit(" ".join(event.text.split()))
