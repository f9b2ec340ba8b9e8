"""The steps of the conformance tests: names and the bytes to send, or None for the step of the program itself."""

from __future__ import annotations

import base64

HELLO = base64.b64encode(b"hello").decode()


def new(kind: str, name: str, content: str, device: str = "Dev", extra: str = "") -> bytes:
    return f'<new{kind}Vector device="{device}" name="{name}"{extra}>{content}</new{kind}Vector>'.encode()


def one(kind: str, name: str, text: str, extra: str = "") -> str:
    return f'<one{kind} name="{name}"{extra}>{text}</one{kind}>'


RECEIVES: list[tuple[str, bytes | None]] = [
    ("get_vector", b'<getProperties version="1.7" device="Dev" name="tx"/>'),
    ("get_device", b'<getProperties version="1.7" device="Second"/>'),
    ("get_light", b'<getProperties version="1.7" device="Dev" name="li"/>'),
    ("definitions_by_hand", None),
    ("get_vector_by_hand", b'<getProperties version="1.7" device="Dev" name="tx"/>'),
    ("definitions_automatic", None),
    ("get_without_version", b'<getProperties device="Dev" name="tx"/>'),
    ("get_version_9", b'<getProperties version="9" device="Dev" name="tx"/>'),
    ("get_unknown_device", b'<getProperties version="1.7" device="Nobody"/>'),
    ("get_unknown_vector", b'<getProperties version="1.7" device="Dev" name="nothing"/>'),
    ("get_disabled_vector", b'<getProperties version="1.7" device="Dev" name="off"/>'),
    ("get_disabled_device", b'<getProperties version="1.7" device="Asleep"/>'),
    ("switch", new("Switch", "sw", one("Switch", "b", "On"))),
    ("switch_both", new("Switch", "sw", one("Switch", "a", "Off") + one("Switch", "b", " \n On \n "))),
    ("switch_breaks_the_rule", new("Switch", "sw", one("Switch", "a", "On") + one("Switch", "b", "On"))),
    ("switch_lower_case", new("Switch", "sw", one("Switch", "a", "on"))),
    ("switch_empty", new("Switch", "sw", one("Switch", "a", ""))),
    ("switch_unknown_member", new("Switch", "sw", one("Switch", "zz", "On"))),
    ("switch_member_without_name", new("Switch", "sw", "<oneSwitch>On</oneSwitch>")),
    ("switch_foreign_child", new("Switch", "sw", one("Text", "a", "On"))),
    ("switch_no_members", new("Switch", "sw", "")),
    ("switch_read_only", new("Switch", "swro", one("Switch", "a", "On"))),
    ("text", new("Text", "tx", one("Text", "t", "words"))),
    ("text_two_out_of_order", new("Text", "tx", one("Text", "e", "2") + one("Text", "t", "1"))),
    ("text_twice_the_same", new("Text", "tx", one("Text", "t", "1") + one("Text", "t", "2"))),
    ("text_empty", new("Text", "tx", one("Text", "t", ""))),
    ("text_with_outer_space", new("Text", "tx", one("Text", "t", "  a \n b \n"))),
    ("text_references", new("Text", "tx", one("Text", "t", "&lt;&amp;&gt;&quot;&apos;&#65;&#x42;"))),
    ("text_cdata", new("Text", "tx", one("Text", "t", "<![CDATA[<raw> & ]]>"))),
    ("text_utf8", new("Text", "tx", one("Text", "t", "é漢"))),
    ("text_latin1", new("Text", "tx", one("Text", "t", "caf\xe9")).decode().encode("latin-1")),
    ("text_numeric_reference", new("Text", "tx", one("Text", "t", "&#233;"))),
    ("text_single_quotes", new("Text", "tx", one("Text", "t", "x")).replace(b'"', b"'")),
    (
        "text_over_lines",
        b"\n\n<newTextVector\n  device='Dev'\n  name='tx'\n>\n<oneText\n name='t'\n>x</oneText>\n</newTextVector>\n",
    ),
    ("text_timestamp", new("Text", "tx", one("Text", "t", "x"), extra=' timestamp="2024-01-02T03:04:05.5"')),
    ("text_timestamp_bad", new("Text", "tx", one("Text", "t", "x"), extra=' timestamp="yesterday"')),
    ("text_timestamp_offset", new("Text", "tx", one("Text", "t", "x"), extra=' timestamp="2024-01-02T03:04:05+02:00"')),
    ("text_extra_attributes", new("Text", "tx", one("Text", "t", "x", ' more="1"'), extra=' token="z"')),
    ("text_unknown_device", new("Text", "tx", one("Text", "t", "x"), device="Nobody")),
    ("text_unknown_vector", new("Text", "nothing", one("Text", "t", "x"))),
    ("text_disabled_vector", new("Text", "off", one("Text", "t", "x"))),
    ("text_disabled_device", new("Text", "tx", one("Text", "t", "x"), device="Asleep")),
    ("text_without_device", b'<newTextVector name="tx"><oneText name="t">x</oneText></newTextVector>'),
    ("text_without_name", b'<newTextVector device="Dev"><oneText name="t">x</oneText></newTextVector>'),
    ("number", new("Number", "nu", one("Number", "n", " 2.5\n"))),
    ("number_sexagesimal", new("Number", "nu", one("Number", "n", "1:30:30"))),
    ("number_out_of_range", new("Number", "nu", one("Number", "n", "99"))),
    ("number_empty", new("Number", "nu", one("Number", "n", ""))),
    ("number_no_number", new("Number", "nu", one("Number", "n", "abc"))),
    ("number_comma", new("Number", "nu", one("Number", "n", "1,5"))),
    ("number_nan", new("Number", "nu", one("Number", "n", "nan"))),
    ("number_with_spaces", new("Number", "nu", one("Number", "n", "1 30 30"))),
    ("blob", new("BLOB", "bl", one("BLOB", "b1", HELLO, ' size="5" format=".txt"'))),
    ("blob_size_of_text", new("BLOB", "bl", one("BLOB", "b1", HELLO, ' size="99" format=".z"'))),
    ("blob_wrapped", new("BLOB", "bl", one("BLOB", "b1", f"\n{HELLO[:4]}\n{HELLO[4:]}\n", ' size="5" format=".txt"'))),
    ("blob_without_format", new("BLOB", "bl", one("BLOB", "b1", HELLO, ' size="5"'))),
    ("blob_without_size", new("BLOB", "bl", one("BLOB", "b1", HELLO, ' format=".txt"'))),
    ("blob_size_no_number", new("BLOB", "bl", one("BLOB", "b1", HELLO, ' size="big" format=".txt"'))),
    ("blob_empty", new("BLOB", "bl", one("BLOB", "b1", "", ' size="0" format=".txt"'))),
    ("blob_bad_padding", new("BLOB", "bl", one("BLOB", "b1", "aGVsb", ' size="4" format=".txt"'))),
    ("blob_foreign_character", new("BLOB", "bl", one("BLOB", "b1", "aGV*sbG8=", ' size="5" format=".txt"'))),
    ("blob_unknown_member", new("BLOB", "bl", one("BLOB", "zz", HELLO, ' size="5" format=".txt"'))),
    (
        "light_is_not_writable",
        b'<newLightVector device="Dev" name="li"><oneLight name="l">Ok</oneLight></newLightVector>',
    ),
    ("wrong_vector_type", new("Text", "sw", one("Text", "a", "On"))),
    ("unknown_root", b'<foo device="Dev"><oneText name="t">x</oneText></foo>'),
    ("known_in_unknown_root", b"<foo>" + new("Text", "tx", one("Text", "t", "inner")) + b"</foo>"),
    ("comment_between", b"<!-- nothing > here -->" + new("Text", "tx", one("Text", "t", "x"))),
    ("declaration_between", b'<?xml version="1.0"?>' + new("Text", "tx", one("Text", "t", "x"))),
    ("junk_between", b"some junk " + new("Text", "tx", one("Text", "t", "x")) + b" and more "),
    ("stray_end_tag", b"</oneText>" + new("Text", "tx", one("Text", "t", "x"))),
    (
        "mismatched_then_good",
        b'<newTextVector device="Dev" name="tx"><oneText name="t">x</oneBLOB></newTextVector>'
        + new("Text", "tx", one("Text", "t", "good")),
    ),
    (
        "bare_ampersand_then_good",
        new("Text", "tx", one("Text", "t", "a & b")) + new("Text", "tx", one("Text", "t", "good")),
    ),
    (
        "undefined_entity_then_good",
        new("Text", "tx", one("Text", "t", "&nope;")) + new("Text", "tx", one("Text", "t", "good")),
    ),
    (
        "control_character_then_good",
        new("Text", "tx", one("Text", "t", "a\x01b")) + new("Text", "tx", one("Text", "t", "good")),
    ),
    ("still_alive", new("Text", "tx", one("Text", "t", "alive"))),
    (
        "definition_of_an_own_device",
        b'<defTextVector device="Dev" name="tx" state="Ok" perm="ro"><defText name="t">x</defText></defTextVector>',
    ),
]

ENABLE_BLOB: list[tuple[str, bytes]] = [
    ("enable_vector", b'<enableBLOB device="Dev" name="bl">Also</enableBLOB>'),
    ("enable_device", b'<enableBLOB device="Dev">Only</enableBLOB>'),
    ("enable_back", b'<enableBLOB device="Dev">Also</enableBLOB>'),
    ("enable_bad_value", b'<enableBLOB device="Dev" name="bl">Maybe</enableBLOB>'),
    ("enable_empty", b'<enableBLOB device="Dev"></enableBLOB>'),
    ("enable_unknown_device", b'<enableBLOB device="Nobody">Also</enableBLOB>'),
    ("enable_other_vector", b'<enableBLOB device="Dev" name="tx">Also</enableBLOB>'),
]


def seen(tag: str, name: str | None, content: str = "", device: str | None = "Far", extra: str = "") -> bytes:
    head = tag + (f' device="{device}"' if device else "") + (f' name="{name}"' if name else "") + extra
    return f"<{head}>{content}</{tag}>".encode() if content else f"<{head}/>".encode()


DEF = ' label="L" group="G" state="Idle" perm="rw" timeout="5" timestamp="2024-01-02T03:04:05" message="m"'
SET = ' state="Ok" timeout="5" timestamp="2024-01-02T03:04:05" message="m"'
NUMBER = '<defNumber name="n" label="N" format="%d" min="0" max="9" step="1"> 4 </defNumber>'

SNOOPS: list[tuple[str, bytes | None]] = [
    ("watch_vector", None),
    ("watch_device", None),
    ("what_is_watched", None),
    (
        "def_switch",
        seen(
            "defSwitchVector",
            "watched",
            '<defSwitch name="s" label="S">On</defSwitch>',
            extra=DEF + ' rule="OneOfMany"',
        ),
    ),
    (
        "def_text",
        seen(
            "defTextVector",
            "watched",
            '<defText name="t" label="T"> x </defText><defText name="e"></defText>',
            extra=DEF,
        ),
    ),
    ("def_number", seen("defNumberVector", "watched", NUMBER, extra=DEF)),
    ("def_light", seen("defLightVector", "watched", '<defLight name="l" label="L">Ok</defLight>', extra=' state="Ok"')),
    ("def_blob", seen("defBLOBVector", "watched", '<defBLOB name="b" label="B"/>', extra=DEF)),
    ("def_sparse", seen("defTextVector", "watched", '<defText name="t">x</defText>', extra=' state="Ok" perm="ro"')),
    ("def_bad_perm", seen("defTextVector", "watched", '<defText name="t">x</defText>', extra=' state="Ok" perm="zz"')),
    (
        "def_bad_state",
        seen("defTextVector", "watched", '<defText name="t">x</defText>', extra=' state="Fine" perm="ro"'),
    ),
    ("set_switch", seen("setSwitchVector", "watched", '<oneSwitch name="s">Off</oneSwitch>', extra=SET)),
    (
        "set_text",
        seen("setTextVector", "watched", '<oneText name="t"> x </oneText><oneText name="e"></oneText>', extra=SET),
    ),
    ("set_number", seen("setNumberVector", "watched", '<oneNumber name="n"> 4.5 </oneNumber>', extra=SET)),
    ("set_light", seen("setLightVector", "watched", '<oneLight name="l">Ok</oneLight>', extra=' state="Ok"')),
    (
        "set_blob",
        seen("setBLOBVector", "watched", f'<oneBLOB name="b" size="5" format=".x">{HELLO}</oneBLOB>', extra=SET),
    ),
    (
        "set_blob_without_format",
        seen("setBLOBVector", "watched", f'<oneBLOB name="b" size="5" format="">{HELLO}</oneBLOB>', extra=SET),
    ),
    ("set_state_only", seen("setNumberVector", "watched", extra=SET)),
    ("set_bad_state", seen("setNumberVector", "watched", '<oneNumber name="n">4</oneNumber>', extra=' state="Fine"')),
    ("set_no_state", seen("setNumberVector", "watched", '<oneNumber name="n">4</oneNumber>')),
    ("set_bad_value", seen("setSwitchVector", "watched", '<oneSwitch name="s">Maybe</oneSwitch>', extra=SET)),
    ("del_vector", seen("delProperty", "watched", extra=' message="m"')),
    ("other_vector", seen("setTextVector", "unwatched", '<oneText name="t">x</oneText>', extra=SET)),
    ("whole_def", seen("defTextVector", "anything", '<defText name="t">x</defText>', "Whole", extra=DEF)),
    ("whole_set", seen("setTextVector", "anything", '<oneText name="t">x</oneText>', "Whole", extra=SET)),
    ("whole_del", seen("delProperty", None, device="Whole")),
    ("whole_message", seen("message", None, device="Whole", extra=' message="m"')),
    ("foreign_set", seen("setTextVector", "anything", '<oneText name="t">x</oneText>', "Elsewhere", extra=SET)),
    (
        "def_empty_switch",
        seen("defSwitchVector", "watched", '<defSwitch name="s"></defSwitch>', extra=DEF + ' rule="OneOfMany"'),
    ),
    ("still_alive", seen("setNumberVector", "watched", '<oneNumber name="n">4</oneNumber>', extra=SET)),
]

SENDS: list[str] = [
    "def_sw",
    "def_tx",
    "def_txro",
    "def_nu",
    "def_nuro",
    "def_li",
    "def_bl",
    "def_blrw",
    "set_sw",
    "set_tx",
    "set_txro",
    "set_nu",
    "set_nuro",
    "set_li",
    "def_with_everything",
    "set_with_everything",
    "timestamps",
    "bad_state_is_not_sent",
    "state_setter_is_forgiving",
    "perm_and_rule_setters_are_forgiving",
    "values_unknown_and_invalid",
    "switches_off_before_on",
    "allvalues_nothing_changed_idle",
    "allvalues_nothing_changed_ok",
    "allvalues_member_changed",
    "allvalues_state_changed",
    "allvalues_message_or_timeout",
    "chosen_members",
    "texts",
    "text_not_ascii",
    "text_carriage_return",
    "numbers_as_text",
    "numbers_as_numbers",
    "sexagesimal_in_definition",
    "sexagesimal_in_set",
    "timeout_kinds",
    "messages",
    "delete_vector",
    "delete_device",
    "blob_bytes",
    "blob_rw_has_a_timeout",
    "set_blobsize",
    "blob_with_a_size_of_its_own",
    "blob_from_path",
    "blob_from_file_object",
    "blob_file_object_after_the_send",
    "blob_missing_file",
    "blob_bytearray",
    "blob_memoryview",
    "blob_refused_values",
    "blob_state_only",
    "get_properties",
    "get_properties_of_own_device",
    "disabled_vector",
    "message_is_of_one_send",
    "blob_of_another_length",
    "leave",
    "shut_down",
]
