from __future__ import annotations

from indifast.protocol.message import Wire


def test_a_small_message_has_one_form_and_no_content() -> None:
    data = b'<message device="d" message="hi" />'
    wire = Wire("message", "d", None, data)
    assert wire.parts(False) == wire.parts(True) == (data,)
    assert wire.size == len(data)
    assert not wire.blob
    assert not wire.carried
    assert not wire.formats
    assert not wire.fds()
