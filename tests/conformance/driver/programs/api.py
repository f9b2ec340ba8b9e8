"""Questions about the classes that need no connection, with a line of answers for each."""

from __future__ import annotations

import inspect
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import indipydriver as ipd
from common import OLD_STYLE, Driver, log, make

QUESTIONS = {}


def question(function):
    QUESTIONS[function.__name__] = function
    return function


def outcome(call):
    try:
        return call()
    except Exception as exc:
        return f"raises {type(exc).__name__}"


def outcomes(*calls):
    return [outcome(call) for call in calls]


def text(name="tx", perm="rw"):
    return ipd.TextVector(name, "L", "G", perm, "Ok", [ipd.TextMember("t", "T", "v"), ipd.TextMember("u")])


def switch(state="Ok", rule="OneOfMany"):
    return ipd.SwitchVector(
        "sw", "L", "G", "rw", rule, state, [ipd.SwitchMember("a"), ipd.SwitchMember("b", "B", "On")]
    )


def number(*members):
    return ipd.NumberVector("nu", "L", "G", "rw", "Ok", list(members) or [ipd.NumberMember("n", format="%d")])


def plain(element):
    return ET.tostring(element).decode()


EVENTS = [
    "getProperties",
    "newSwitchVector",
    "newTextVector",
    "newNumberVector",
    "newBLOBVector",
    "enableBLOB",
    "Message",
    "delProperty",
    "defSwitchVector",
    "defTextVector",
    "defNumberVector",
    "defLightVector",
    "defBLOBVector",
    "setSwitchVector",
    "setTextVector",
    "setNumberVector",
    "setLightVector",
    "setBLOBVector",
]


@question
def exports():
    names = [*EVENTS, "IPyDriver", "Device", "IPyServer", "getfloat", "version"]
    names += [
        f"{kind}{part}" for kind in ("Switch", "Light", "Text", "BLOB", "Number") for part in ("Vector", "Member")
    ]
    return {name: hasattr(ipd, name) for name in names}


@question
def version_is_text():
    return isinstance(ipd.version, str)


@question
def submodules():
    found = {}
    for name in (
        "ipydriver",
        "propertyvectors",
        "propertymembers",
        "events",
        "comms",
        "ipyserver",
        "exdriver",
        "remote",
    ):
        try:
            __import__(f"indipydriver.{name}")
        except ImportError:
            found[name] = False
        else:
            found[name] = True
    return found


@question
def event_modules():
    import indipydriver.events as events

    return [
        issubclass(events.EventException, Exception),
        *(getattr(events, n) is getattr(ipd, n) for n in EVENTS if hasattr(ipd, n)),
    ]


@question
def class_modules():
    import indipydriver.ipydriver as module
    import indipydriver.propertymembers as members
    import indipydriver.propertyvectors as vectors

    return [
        module.IPyDriver is ipd.IPyDriver,
        module.Device is ipd.Device,
        vectors.TextVector is ipd.TextVector,
        members.NumberMember is ipd.NumberMember,
        issubclass(ipd.TextVector, vectors.PropertyVector),
    ]


def signature_of(function):
    return [
        [p.name, p.kind.name, "none" if p.default is p.empty else repr(p.default)]
        for p in inspect.signature(function).parameters.values()
        if p.name != "self"
    ]


for _kind in ("Switch", "Light", "Text", "BLOB", "Number"):
    for _part in ("Vector", "Member"):
        _class = getattr(ipd, _kind + _part)
        QUESTIONS[f"signature of {_kind}{_part}"] = lambda c=_class: signature_of(c.__init__)
    for _method in ("send_defVector", "send_setVector", "send_setVectorMembers", "send_delProperty"):
        _function = getattr(getattr(ipd, _kind + "Vector"), _method, None)
        QUESTIONS[f"signature of {_kind}Vector.{_method}"] = lambda f=_function: f and signature_of(f)
for _owner, _methods in {
    "IPyDriver": "send_message snoop send_getProperties hardware rxevent snoopevent add_background listen asyncrun shutdown",
    "Device": "send_device_message send_delProperty devhardware devrxevent devsnoopevent add_background shutdown properties",
}.items():
    for _method in _methods.split():
        _function = getattr(getattr(ipd, _owner), _method, None)
        QUESTIONS[f"signature of {_owner}.{_method}"] = lambda f=_function: (
            f and [signature_of(f), inspect.iscoroutinefunction(f)]
        )
QUESTIONS["signature of Device"] = lambda: signature_of(ipd.Device.__init__)


@question
def vector_as_mapping():
    v = text()
    return [list(v), list(v.items()), v["t"], v.get("zz"), "u" in v, len(v), dict(v), type(v.data["t"]).__name__]


@question
def vector_update():
    v = text()
    v.update({"t": "1", "u": "2"})
    return dict(v)


@question
def vector_unknown_member():
    return outcomes(lambda: text()["zz"], lambda: text().__setitem__("zz", "1"))


@question
def vector_delete_member():
    v = text()
    del v["u"]
    return list(v)


@question
def vector_attributes():
    v = text()
    return [
        v.name,
        v.label,
        v.group,
        v.state,
        v.timeout,
        v.enable,
        v.vectortype,
        v.perm,
        v.devicename,
        v.device if False else None,
    ]


@question
def vector_device_before_attached():
    return outcome(lambda: text().device)


@question
def vector_device_after():
    v = text()
    d = ipd.Device("D", [v])
    driver = make(d)
    return [v.devicename, outcome(lambda: v.device is d), driver["D"]["tx"] is v]


@question
def light_perm():
    v = ipd.LightVector("li", "L", "G", "Ok", [ipd.LightMember("l")])
    return [v.perm, outcome(lambda: setattr(v, "perm", "rw"))]


@question
def timeout_attribute():
    v = text()
    v.timeout = 5
    return v.timeout


@question
def state_setter():
    v = text()
    v.state = "Nonsense"
    first = v.state
    v.state = "Alert"
    return [first, v.state]


@question
def bad_constructor_state():
    return outcome(lambda: getattr(switch(state="Nonsense"), "state", "missing"))


@question
def bad_constructor_perm_and_rule():
    return [
        outcome(lambda: getattr(text(perm="xx"), "perm", "missing")),
        outcome(lambda: getattr(switch(rule="xx"), "rule", "missing")),
    ]


@question
def names_not_ascii():
    return outcomes(
        lambda: ipd.TextMember("é") and "taken",
        lambda: text("é") and "taken",
        lambda: ipd.Device("é", []) and "taken",
        lambda: ipd.Device("é", [text()]) and "taken",
    )


@question
def device_name_none():
    return outcome(lambda: ipd.Device(None, [text()]) and "taken")


@question
def wrong_member_class():
    return outcomes(
        lambda: ipd.TextVector("tx", "L", "G", "rw", "Ok", [ipd.SwitchMember("a")]) and "taken",
        lambda: ipd.SwitchVector("sw", "L", "G", "rw", "OneOfMany", "Ok", [ipd.TextMember("a")]) and "taken",
        lambda: ipd.NumberVector("nu", "L", "G", "rw", "Ok", [ipd.TextMember("a")]) and "taken",
        lambda: ipd.LightVector("li", "L", "G", "Ok", [ipd.TextMember("a")]) and "taken",
        lambda: ipd.BLOBVector("bl", "L", "G", "rw", "Ok", [ipd.TextMember("a")]) and "taken",
    )


@question
def empty_and_duplicate_members():
    empty = ipd.TextVector("tx", "L", "G", "rw", "Ok", [])
    double = ipd.TextVector(
        "tx", "L", "G", "rw", "Ok", [ipd.TextMember("t", membervalue="1"), ipd.TextMember("t", membervalue="2")]
    )
    return [len(empty), dict(double)]


@question
def switch_member():
    m = ipd.SwitchMember("a")
    return [
        m.name,
        m.label,
        m.membervalue,
        m.changed,
        outcome(lambda: setattr(m, "membervalue", "Maybe")),
        outcome(lambda: ipd.SwitchMember("a", membervalue="Maybe").membervalue),
    ]


@question
def switch_changed():
    m = ipd.SwitchMember("a")
    m.changed = False
    m.membervalue = "Off"
    same = m.changed
    m.membervalue = "On"
    return [same, m.changed]


@question
def light_member():
    m = ipd.LightMember("a")
    return [
        m.membervalue,
        outcome(lambda: setattr(m, "membervalue", "Maybe")),
        outcome(lambda: ipd.LightMember("a", membervalue="Maybe").membervalue),
    ]


@question
def text_member():
    m = ipd.TextMember("a", "A", 5)
    first = m.membervalue
    m.membervalue = None
    return [first, m.membervalue, m.label]


@question
def number_member_text():
    m = ipd.NumberMember("a", "A", "%5.2f", "0", "1", "2", "3.50")
    return [m.membervalue, m.format, m.min, m.max, m.step, m.label]


@question
def number_member_numbers():
    m = ipd.NumberMember("a", format="%5.2f", min=0, max=1.5, step=2, membervalue=3.25)
    return [m.membervalue, m.min, m.max, m.step]


@question
def number_member_defaults():
    m = ipd.NumberMember("a")
    return [m.label, m.format, m.min, m.max, m.step, m.membervalue]


@question
def number_definition_without_format():
    return dict(ipd.NumberMember("a").defnumber().attrib)


@question
def number_set_number():
    m = ipd.NumberMember("a")
    m.membervalue = 2.5
    return m.membervalue


@question
def number_set_none():
    m = ipd.NumberMember("a")
    m.membervalue = None
    return m.membervalue


@question
def blob_member():
    m = ipd.BLOBMember("b")
    first = [m.membervalue, m.blobsize, m.blobformat]
    m.membervalue = b"x"
    return [
        first,
        m.membervalue == b"x",
        outcome(lambda: setattr(m, "membervalue", b"")),
        outcome(lambda: setattr(m, "membervalue", None)),
        outcome(lambda: ipd.BLOBMember("b", blobsize="5") and "taken"),
    ]


@question
def blob_getbytes():
    here = Path(__file__)
    return outcomes(
        lambda: ipd.BLOBMember.getbytes(b"abc").decode(),
        lambda: ipd.BLOBMember.getbytes(here) == here.read_bytes(),
        lambda: ipd.BLOBMember.getbytes(str(here)) == here.read_bytes(),
        lambda: ipd.BLOBMember.getbytes(b""),
        lambda: ipd.BLOBMember.getbytes("/nonexistent"),
    )


FORMATS = ["%5.2f", "%d", "%g", "%08.3f", "%9.3m", "%9.5m", "%9.6m", "%010.6m", "%10.8m", "%12.9m", "%5.3m"]
PLAIN_VALUES = [0.0, 1.5, -1.5, 12.2575, -0.25, 359.5]


@question
def format_number():
    return [
        [f, v, outcome(lambda f=f, v=v: ipd.NumberMember("n", format=f).format_number(v))]
        for f in FORMATS
        for v in PLAIN_VALUES
    ]


@question
def format_number_carry():
    return [
        outcome(lambda f=f, v=v: ipd.NumberMember("n", format=f).format_number(v))
        for f, v in (("%9.6m", 12.99999999), ("%9.6m", 359.9999), ("%9.3m", 1.9999))
    ]


@question
def format_number_odd():
    return [
        outcome(lambda f=f: ipd.NumberMember("n", format=f).format_number(1.5))
        for f in ("", "%m", "%x.ym", "none", "%9.7m")
    ]


@question
def formatted_values():
    v = number(
        ipd.NumberMember("n", format="%9.6m", membervalue="12:30:00"),
        ipd.NumberMember("bad", format="%d", membervalue="abc"),
    )
    return outcomes(
        lambda: v.getfloatvalue("n"),
        lambda: v.getformattedvalue("n"),
        lambda: v.getfloatvalue("zz"),
        lambda: v.getfloatvalue("bad"),
        lambda: v.data["n"].getfloatvalue(),
        lambda: v.data["n"].getformattedvalue(),
    )


NUMBER_TEXTS = [
    "1",
    " 1.5 ",
    "-0:30",
    "12:30:30",
    "12 30 30",
    "12;30;30",
    "",
    "-",
    "--5",
    "1:-30",
    "1e3",
    "nan",
    "inf",
    "1_000",
    "12:",
    "::",
]
BAD_NUMBERS = [None, b"1", "1,5", "0x10", "1: 30", "1:2:3:4", "abc"]


@question
def getfloat():
    return [repr(outcome(lambda t=t: ipd.getfloat(t))) for t in [*NUMBER_TEXTS, 1, 2.5, True]]


@question
def getfloat_refuses():
    return [outcome(lambda t=t: ipd.getfloat(t)) for t in BAD_NUMBERS]


@question
def indi_number_to_float():
    return [repr(outcome(lambda t=t: ipd.IPyDriver.indi_number_to_float(t))) for t in ["1", "-0:30", "12:30:36", 2.5]]


@question
def element_helpers():
    n = ipd.NumberMember("n", "N", "%d", "0", "9", "1", "4")
    s, li, t = ipd.SwitchMember("s", "S", "On"), ipd.LightMember("l", "L", "Ok"), ipd.TextMember("t", "T", "a<b")
    return [
        plain(e)
        for e in (
            n.defnumber(),
            n.onenumber(),
            s.defswitch(),
            s.oneswitch(),
            li.deflight(),
            li.onelight(),
            t.deftext(),
            t.onetext(),
            ipd.BLOBMember("b", "B").defblob(),
        )
    ]


@question
def checkvalue():
    v = text()
    return outcomes(lambda: v.checkvalue("Ok", ["Ok"]), lambda: v.checkvalue("zz", ["Ok"]))


@question
def device_as_mapping():
    d = ipd.Device("D", [text(), switch()], extra=5)
    return [
        list(d),
        d["tx"].name,
        "sw" in d,
        len(d),
        d.devicename,
        d.enable,
        d.devicedata,
        outcome(lambda: d["nothing"]),
        outcome(lambda: d.__setitem__("x", 1)),
    ]


@question
def device_properties():
    return [v.name for v in ipd.Device("D", [text(), switch()]).properties()]


@question
def duplicate_vectors():
    return list(ipd.Device("D", [text(), text()]))


@question
def duplicate_devices():
    return outcome(lambda: make(ipd.Device("D", [text()]), ipd.Device("D", [text()])) and "taken")


@question
def driver_as_mapping():
    driver = make(ipd.Device("D", [text()]))
    return [
        list(driver),
        "D" in driver,
        len(driver),
        outcome(lambda: driver["zz"]),
        outcome(lambda: driver.__setitem__("x", 1)),
        outcome(lambda: hash(driver) and "hashable"),
    ]


@question
def driver_devices():
    driver = make(ipd.Device("D", [text()]))
    return [d.devicename for d in (driver.devices.values() if OLD_STYLE else driver.devices())]


@question
def driver_data():
    devices = [ipd.Device("D", [text()])]
    driver = ipd.IPyDriver(devices=devices, one=1) if OLD_STYLE else ipd.IPyDriver(*devices, one=1)
    return driver.driverdata


@question
def driver_attributes():
    driver = make(ipd.Device("D", [text()]))
    return [
        driver.snoopall,
        sorted(driver.snoopdevices),
        len(driver.snoopvectors),
        outcome(lambda: driver.auto_send_def),
        outcome(lambda: driver.stop),
        outcome(lambda: driver._stop),
        outcome(lambda: type(driver.stopped).__name__),
    ]


@question
def debug_enable():
    return make(ipd.Device("D", [text()])).debug_enable


@question
def shutdown_is_seen():
    driver = make(ipd.Device("D", [text()]))
    driver.shutdown()
    driver.shutdown()
    return [driver.stop, driver._stop, driver["D"].stop]


@question
def snoop_arguments():
    driver = make(ipd.Device("D", [text()]))
    driver.snoop("Far", "vec", 30)
    driver.snoop("Far", "quick", 4)
    driver.snoop("D", "tx", 30)
    return [
        sorted(driver.snoopvectors),
        driver.snoopvectors[("Far", "vec")][0],
        outcome(lambda: driver.snoop("Far", "x", "abc")),
    ]


@question
def add_background_wants_a_coroutine():
    driver = make(ipd.Device("D", [text()]))
    return outcome(lambda: driver.add_background(5))


@question
def empty_driver_is_falsy():
    return bool(ipd.IPyDriver(devices=[]) if OLD_STYLE else ipd.IPyDriver())


@question
def event_classes_are_plain():
    return [inspect.isclass(getattr(ipd, n)) for n in EVENTS if hasattr(ipd, n)]


@question
def server_arguments():
    import common

    def server(*drivers, **kwargs):
        return common.IPyServer(list(drivers), **kwargs) if OLD_STYLE else common.IPyServer(*drivers, **kwargs)

    one, two = make(ipd.Device("D", [text()])), make(ipd.Device("D", [text()]))
    three = Driver(devices=[ipd.Device("E", [text()])]) if OLD_STYLE else Driver(ipd.Device("E", [text()]))
    return outcomes(
        lambda: server(one, two) and "taken",
        lambda: server(three, maxconnections=0) and "taken",
        lambda: server(three, maxconnections=11) and "taken",
        lambda: server(three, maxconnections=3).maxconnections,
        lambda: server("nothing") and "taken",
    )


@question
def server_attributes():
    import common

    driver = make(ipd.Device("D", [text()]))
    server = common.IPyServer([driver]) if OLD_STYLE else common.IPyServer(driver)
    return [
        server.host,
        server.port,
        server.maxconnections,
        outcome(lambda: server.stop),
        outcome(lambda: len(server.drivers)),
        outcome(lambda: sorted(server.devices)),
        outcome(lambda: server.keepalive),
        outcome(lambda: server.debug_enable),
    ]


if __name__ == "__main__":
    for name, ask in QUESTIONS.items():
        log(question=name)
        log(result=outcome(ask))
    sys.exit(0)
