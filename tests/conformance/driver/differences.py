"""Where indifast differs from a release, and why.

A reason is "as RELEASE" (in that step, indifast does exactly what that release does, which is checked), a decision to
improve on the releases, or a fault of the release that is not repeated. `ours.json` has what indifast does instead.
"""

from __future__ import annotations

UTF8 = "text that is not ASCII is sent as UTF-8, because libindi does not know numeric references"
PLAIN_NUMBERS = "numbers in set messages are decimal, because libindi clients misread sexagesimal ones there"
STICKY = "fault of 3.1: all later sends of a vector repeat its message"
BUFFERS = "a bytearray or memoryview is a BLOB value as well"
NOT_CLOSED = "files belong to the user, and are not closed"
READ_ONLY = "as 2.2.0: a command for a read-only property is refused"
DAMAGED = "fault: damaged input ends the driver; here it costs only one message"
ASCII = "fault: messages that are not ASCII are lost"
STRICT_BASE64 = "a message with foreign characters in its base64 is refused; they are not skipped"
LENIENT = "a misplaced ampersand or control character does not cost the message"
NO_TIMESTAMP = "the events of 1.2 had no timestamp yet"
CRASH = "fault: the driver ends"
SNOOP_LIMITS = "fault: updates of the state alone and BLOBs without a format never reach a snooping driver"
MESSAGE = "fault: the first message of a snooped device ends the driver"
WIDER = "the names and attributes of all releases exist"
MORE_KEYWORDS = "additional keywords"
CARRY = "fault: sexagesimal numbers show 60 seconds"
ONE_ERROR = "the exception is enough; it is not logged as well"
NO_NEWLINE = "as 2.2.0"
ENABLE = "as 2.2.0"
GONE = "the server does not pass on a second deletion of a device"
NO_COPIES = "the server does not copy the requests of drivers to clients"
CLAMPED = "the server sends every request with version 1.7, because others end libindi drivers"
TOLD = "the server reports a command for an unknown device to its sender"
OWNER_TOLD = "fault: a second definition of a device stops the server; here it is ignored, and reported once"
BLOBS_ASKED = "the server asks the owner of the device for the BLOBs that a driver snoops on"
EMPTY = "fault: an empty enableBLOB ends the connection"
NUMBERS = (
    "all releases pass on any text: a driver that stores it sends it to everybody, and a driver that moves something"
    " must guess; here a command with an invalid number is refused, and this is reported to its sender"
)
NUMBER_TOLD = "refused as well, but reported to its sender"
FORMAT = "clients such as indipyclient drop a number with an empty format, so `%g` is used instead"
ODD_FORMAT = f"{FORMAT}; a format that can't show a number is a TypeError, as in a client"
TOLERANT = "like libindi's client: a damaged value does not cost the message, and an unknown word has a default"
ZONE = "fault: the zone of a timestamp is ignored, so 02:00+02:00 is read as 02:00 UTC; here it is converted"
LIMIT = "the number of connections is not limited"

_TABLE: dict[str, dict[str, dict[str, str]]] = {
    "sends": {
        "3.1.2": {
            "delete_device": GONE,
            "get_properties": NO_COPIES,
            "allvalues_message_or_timeout": STICKY,
            "message_is_of_one_send": "as 2.2.0",
            "delete_vector": "as 2.2.0",
            "text_not_ascii": UTF8,
            "sexagesimal_in_set": PLAIN_NUMBERS,
            "blob_file_object_after_the_send": NOT_CLOSED,
            "blob_bytearray": BUFFERS,
            "blob_memoryview": BUFFERS,
            "blob_of_another_length": "as 1.2.2",
        },
        "2.2.0": {
            "delete_device": GONE,
            "get_properties": NO_COPIES,
            "allvalues_nothing_changed_ok": "as 3.1.2",
            "allvalues_state_changed": "as 3.1.2",
            "allvalues_message_or_timeout": "sends everything that has changed, as 3.1 does, but without its sticky message",
            "text_not_ascii": UTF8,
            "sexagesimal_in_set": PLAIN_NUMBERS,
            "set_blobsize": "as 3.1.2",
            "blob_file_object_after_the_send": NOT_CLOSED,
            "blob_bytearray": BUFFERS,
            "blob_memoryview": BUFFERS,
            "blob_of_another_length": "as 1.2.2",
        },
        "1.2.2": {
            "shut_down": "as 2.2.0",
            "delete_device": GONE,
            "get_properties": NO_COPIES,
            "begin": NO_TIMESTAMP,
            "values_unknown_and_invalid": "as 2.2.0",
            "allvalues_nothing_changed_ok": "as 3.1.2",
            "allvalues_state_changed": "as 3.1.2",
            "allvalues_message_or_timeout": "sends everything that has changed, as 3.1 does, but without its sticky message",
            "text_not_ascii": UTF8,
            "numbers_as_numbers": "as 2.2.0",
            "sexagesimal_in_set": PLAIN_NUMBERS,
            "timeout_kinds": "as 2.2.0",
            "set_blobsize": "as 3.1.2",
            "blob_from_path": "as 2.2.0",
            "blob_file_object_after_the_send": NOT_CLOSED,
            "blob_bytearray": BUFFERS,
            "blob_memoryview": BUFFERS,
            "between messages": NO_NEWLINE,
        },
    },
    "receives": {
        "3.1.2": {
            "get_without_version": CLAMPED,
            "get_version_9": CLAMPED,
            "text_unknown_device": TOLD,
            "switch_read_only": READ_ONLY,
            "text_utf8": UTF8,
            "text_numeric_reference": UTF8,
            "text_latin1": DAMAGED,
            "number_sexagesimal": PLAIN_NUMBERS,
            "number_with_spaces": PLAIN_NUMBERS,
            "text_timestamp_offset": ZONE,
            "number_empty": NUMBER_TOLD,
            "number_no_number": NUMBERS,
            "number_comma": NUMBERS,
            "number_nan": NUMBERS,
            "blob_foreign_character": STRICT_BASE64,
            "wrong_vector_type": "as 2.2.0",
            "known_in_unknown_root": "as 2.2.0",
            "declaration_between": "as 2.2.0",
            "stray_end_tag": "as 2.2.0",
            "mismatched_then_good": "as 2.2.0",
            "bare_ampersand_then_good": DAMAGED,
            "undefined_entity_then_good": DAMAGED,
            "control_character_then_good": DAMAGED,
            "definition_of_an_own_device": OWNER_TOLD,
        },
        "2.2.0": {
            "get_without_version": CLAMPED,
            "get_version_9": CLAMPED,
            "text_unknown_device": TOLD,
            "definition_of_an_own_device": OWNER_TOLD,
            "text_utf8": ASCII,
            "text_numeric_reference": UTF8,
            "text_latin1": ASCII,
            "number_sexagesimal": PLAIN_NUMBERS,
            "number_with_spaces": PLAIN_NUMBERS,
            "text_timestamp_offset": ZONE,
            "number_empty": NUMBER_TOLD,
            "number_no_number": NUMBERS,
            "number_comma": NUMBERS,
            "number_nan": NUMBERS,
            "blob_foreign_character": STRICT_BASE64,
            "bare_ampersand_then_good": LENIENT,
            "undefined_entity_then_good": LENIENT,
            "control_character_then_good": LENIENT,
        },
        "1.2.2": {
            "get_vector_by_hand": NO_TIMESTAMP,
            "get_without_version": CLAMPED,
            "get_version_9": CLAMPED,
            "text_unknown_device": TOLD,
            "definition_of_an_own_device": OWNER_TOLD,
            "begin": NO_TIMESTAMP,
            "get_vector": NO_TIMESTAMP,
            "get_device": NO_TIMESTAMP,
            "get_light": NO_TIMESTAMP,
            "switch_empty": "as 2.2.0",
            "text_empty": "as 2.2.0",
            "text_utf8": ASCII,
            "text_numeric_reference": UTF8,
            "text_latin1": ASCII,
            "number_sexagesimal": PLAIN_NUMBERS,
            "number_with_spaces": PLAIN_NUMBERS,
            "text_timestamp_offset": ZONE,
            "number_empty": NUMBERS,
            "number_no_number": NUMBERS,
            "number_comma": NUMBERS,
            "number_nan": NUMBERS,
            "blob_without_format": "as 2.2.0",
            "blob_foreign_character": STRICT_BASE64,
            "bare_ampersand_then_good": LENIENT,
            "undefined_entity_then_good": LENIENT,
            "control_character_then_good": LENIENT,
        },
    },
    "snoops": {
        "3.1.2": {
            "watch_vector": NO_COPIES,
            "watch_device": NO_COPIES,
            "def_blob": BLOBS_ASKED,
            "set_blob_without_format": SNOOP_LIMITS,
            "set_state_only": SNOOP_LIMITS,
            "whole_message": MESSAGE,
            "def_empty_switch": CRASH,
            "def_bad_perm": TOLERANT,
            "def_bad_state": TOLERANT,
            "set_bad_value": TOLERANT,
        },
        "2.2.0": {
            "watch_vector": NO_COPIES,
            "watch_device": NO_COPIES,
            "def_blob": BLOBS_ASKED,
            "set_blob_without_format": SNOOP_LIMITS,
            "set_state_only": SNOOP_LIMITS,
            "other_vector": "as 3.1.2",
            "foreign_set": "as 3.1.2",
            "whole_message": MESSAGE,
            "def_empty_switch": CRASH,
            "def_bad_perm": TOLERANT,
            "def_bad_state": TOLERANT,
            "set_bad_value": TOLERANT,
        },
        "1.2.2": {
            "watch_vector": NO_COPIES,
            "watch_device": NO_COPIES,
            "def_blob": BLOBS_ASKED,
            "begin": NO_TIMESTAMP,
            "set_text": "as 2.2.0",
            "set_blob": "as 2.2.0",
            "set_blob_without_format": SNOOP_LIMITS,
            "set_state_only": SNOOP_LIMITS,
            "other_vector": "as 3.1.2",
            "foreign_set": "as 3.1.2",
            "whole_message": MESSAGE,
            "def_empty_switch": CRASH,
            "def_bad_perm": TOLERANT,
            "def_bad_state": TOLERANT,
            "set_bad_value": TOLERANT,
        },
    },
    "enable": {
        "3.1.2": {
            "enable_empty": EMPTY,
            "enable_vector": ENABLE,
            "enable_device": ENABLE,
            "enable_back": ENABLE,
        },
        "2.2.0": {"enable_empty": "as 3.1.2"},
        "1.2.2": {
            "begin": NO_TIMESTAMP,
            "enable_vector": ENABLE,
            "enable_device": ENABLE,
            "enable_back": ENABLE,
            "enable_empty": "as 3.1.2",
        },
    },
    "api": {
        "3.1.2": {
            "exports": "as 2.2.0",
            "submodules": "as 2.2.0",
            "event_modules": "as 2.2.0",
            "event_classes_are_plain": "as 2.2.0",
            "signature of BLOBVector.send_setVectorMembers": MORE_KEYWORDS,
            "signature of BLOBMember": MORE_KEYWORDS,
            "signature of IPyDriver.listen": "that of 2.2.0 and additional keywords",
            "signature of IPyDriver.asyncrun": MORE_KEYWORDS,
            "wrong_member_class": ONE_ERROR,
            "format_number_carry": CARRY,
            "format_number_odd": ODD_FORMAT,
            "number_definition_without_format": FORMAT,
            "server_arguments": LIMIT,
            "server_attributes": WIDER,
        },
        "2.2.0": {
            "signature of BLOBVector.send_setVectorMembers": MORE_KEYWORDS,
            "signature of BLOBMember": MORE_KEYWORDS,
            "signature of IPyDriver.add_background": "as 3.1.2",
            "signature of IPyDriver.listen": MORE_KEYWORDS,
            "signature of IPyDriver.asyncrun": MORE_KEYWORDS,
            "signature of Device.add_background": "as 3.1.2",
            "vector_device_after": "as 3.1.2",
            "timeout_attribute": "as 3.1.2",
            "bad_constructor_state": "as 3.1.2",
            "wrong_member_class": ONE_ERROR,
            "format_number_carry": CARRY,
            "format_number_odd": ODD_FORMAT,
            "number_definition_without_format": FORMAT,
            "add_background_wants_a_coroutine": "as 3.1.2",
            "server_arguments": LIMIT,
            "server_attributes": WIDER,
        },
        "1.2.2": {
            "exports": "as 2.2.0",
            "submodules": "as 2.2.0",
            "signature of BLOBVector.send_setVectorMembers": MORE_KEYWORDS,
            "signature of BLOBMember": MORE_KEYWORDS,
            "signature of IPyDriver.snoop": "as 2.2.0",
            "signature of IPyDriver.rxevent": "as 2.2.0",
            "signature of IPyDriver.add_background": "as 3.1.2",
            "signature of IPyDriver.listen": MORE_KEYWORDS,
            "signature of IPyDriver.asyncrun": MORE_KEYWORDS,
            "signature of IPyDriver.shutdown": "as 2.2.0",
            "signature of Device.devrxevent": "as 2.2.0",
            "signature of Device.add_background": "as 3.1.2",
            "signature of Device.shutdown": "as 2.2.0",
            "signature of Device.properties": "as 2.2.0",
            "vector_unknown_member": "as 2.2.0",
            "vector_attributes": "as 2.2.0",
            "vector_device_before_attached": "as 2.2.0",
            "vector_device_after": "as 3.1.2",
            "timeout_attribute": "as 3.1.2",
            "bad_constructor_state": "as 3.1.2",
            "names_not_ascii": "as 2.2.0",
            "device_name_none": "as 2.2.0",
            "wrong_member_class": ONE_ERROR,
            "number_member_numbers": "as 2.2.0",
            "number_set_number": "as 2.2.0",
            "number_set_none": "as 2.2.0",
            "blob_getbytes": "as 2.2.0",
            "format_number_carry": CARRY,
            "format_number_odd": ODD_FORMAT,
            "number_definition_without_format": FORMAT,
            "formatted_values": "as 2.2.0",
            "getfloat": "as 2.2.0",
            "getfloat_refuses": "as 2.2.0",
            "device_properties": "as 2.2.0",
            "duplicate_devices": "as 2.2.0",
            "driver_attributes": "the driver sends definitions itself, as in 1.2, but has the attribute of 2.0",
            "debug_enable": "as 2.2.0",
            "shutdown_is_seen": "as 2.2.0",
            "snoop_arguments": "as 2.2.0",
            "add_background_wants_a_coroutine": "as 3.1.2",
            "server_arguments": LIMIT,
            "server_attributes": WIDER,
        },
    },
}

DIFFERENCES: dict[tuple[str, str, str], str] = {
    (program, step, release): reason
    for program, releases in _TABLE.items()
    for release, steps in releases.items()
    for step, reason in steps.items()
}
"""(program, step, release) -> reason. The step need not differ in every way of running."""
