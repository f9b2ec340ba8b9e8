"""The properties by which clients recognize a camera, with the names that libindi and its drivers use.

A client such as Ekos or PHD2 finds cameras by the bit for cameras in DRIVER_INFO, connects by CONNECTION, and expects
the properties of `of_a_camera` from then on. Only CCD_EXPOSURE, CCD_INFO and CCD1 must be there; leave out others that
your camera does not have.
"""

from __future__ import annotations

from pathlib import Path

from indifast import (
    BLOBMember,
    BLOBVector,
    NumberMember,
    NumberVector,
    SwitchMember,
    SwitchVector,
    TextMember,
    TextVector,
)

CAMERA = 1 << 1  # the bit of DRIVER_INTERFACE for cameras
MAIN, IMAGE, INFO, OPTIONS, GENERAL = "Main Control", "Image Settings", "Image Info", "Options", "General Info"

Vectors = list[NumberVector | SwitchVector | TextVector | BLOBVector]


def numbers(name: str, label: str, group: str, perm: str = "rw", **members: tuple) -> NumberVector:
    """Return a vector of numbers, each given by its label, format, minimum, maximum, step and value."""
    return NumberVector(name, label, group, perm, "Idle", [NumberMember(key, *given) for key, given in members.items()])


def switches(name: str, label: str, group: str, on: str, perm: str = "rw", **members: str) -> SwitchVector:
    """Return a vector of switches, given by their labels. The one named `on` is On; if that is empty, none is."""
    found = [SwitchMember(key, text, "On" if key == on else "Off") for key, text in members.items()]
    return SwitchVector(name, label, group, perm, "OneOfMany" if on else "AtMostOne", "Idle", found)


def texts(name: str, label: str, group: str, perm: str = "rw", **members: tuple[str, str]) -> TextVector:
    """Return a vector of texts, each given by its label and value."""
    return TextVector(name, label, group, perm, "Idle", [TextMember(key, *pair) for key, pair in members.items()])


# fmt: off
def of_a_driver(name: str, program: str) -> Vectors:
    """Return the properties that every driver has."""
    return [
        switches("CONNECTION", "Connection", MAIN, "DISCONNECT", CONNECT="Connect", DISCONNECT="Disconnect"),
        texts("DRIVER_INFO", "Driver Info", GENERAL, "ro", DRIVER_NAME=("Name", name),
              DRIVER_EXEC=("Exec", Path(program).name), DRIVER_VERSION=("Version", "1.0"),
              DRIVER_INTERFACE=("Interface", str(CAMERA))),
    ]


def of_a_camera(width: int, height: int, pixel: float, temperature: float) -> Vectors:
    """Return the properties of a camera that is connected, with the size of a pixel in micrometers."""
    types = {"FRAME_LIGHT": "Light", "FRAME_BIAS": "Bias", "FRAME_DARK": "Dark", "FRAME_FLAT": "Flat"}
    return [
        numbers("CCD_EXPOSURE", "Expose", MAIN, CCD_EXPOSURE_VALUE=("Duration (s)", "%5.2f", 0.01, 3600, 1, 1)),
        switches("CCD_ABORT_EXPOSURE", "Abort", MAIN, "", ABORT="Abort"),
        numbers("CCD_TEMPERATURE", "Temperature", MAIN,
                CCD_TEMPERATURE_VALUE=("Temperature (C)", "%5.2f", -50, 50, 0, temperature)),
        switches("CCD_COOLER", "Cooler", MAIN, "COOLER_OFF", COOLER_ON="ON", COOLER_OFF="OFF"),
        numbers("CCD_FRAME", "Frame", IMAGE,
                X=("Left", "%4.0f", 0, width - 1, 0, 0), Y=("Top", "%4.0f", 0, height - 1, 0, 0),
                WIDTH=("Width", "%4.0f", 1, width, 0, width), HEIGHT=("Height", "%4.0f", 1, height, 0, height)),
        switches("CCD_FRAME_RESET", "Frame Values", IMAGE, "", "wo", RESET="Reset"),
        numbers("CCD_BINNING", "Binning", IMAGE,
                HOR_BIN=("X", "%2.0f", 1, 4, 1, 1), VER_BIN=("Y", "%2.0f", 1, 4, 1, 1)),
        switches("CCD_FRAME_TYPE", "Type", IMAGE, "FRAME_LIGHT", **types),
        switches("CCD_CAPTURE_FORMAT", "Format", IMAGE, "INDI_MONO", INDI_MONO="Mono"),
        switches("CCD_TRANSFER_FORMAT", "Encode", IMAGE, "FORMAT_FITS", FORMAT_FITS="FITS", FORMAT_NATIVE="Native"),
        switches("CCD_COMPRESSION", "Compression", IMAGE, "INDI_DISABLED",
                 INDI_ENABLED="Enabled", INDI_DISABLED="Disabled"),
        numbers("CCD_INFO", "CCD Information", INFO, "ro",
                CCD_MAX_X=("Max. Width", "%.f", 1, 16000, 0, width),
                CCD_MAX_Y=("Max. Height", "%.f", 1, 16000, 0, height),
                CCD_PIXEL_SIZE=("Pixel size (um)", "%.2f", 1, 40, 0, pixel),
                CCD_PIXEL_SIZE_X=("Pixel size X", "%.2f", 1, 40, 0, pixel),
                CCD_PIXEL_SIZE_Y=("Pixel size Y", "%.2f", 1, 40, 0, pixel),
                CCD_BITSPERPIXEL=("Bits per pixel", "%.f", 8, 64, 0, 16)),
        BLOBVector("CCD1", "Image Data", INFO, "ro", "Idle", [BLOBMember("CCD1", "Image")]),
        texts("FITS_HEADER", "FITS Header", GENERAL, FITS_OBSERVER=("Observer", "Unknown"),
              FITS_OBJECT=("Object", "Unknown")),
        switches("UPLOAD_MODE", "Upload", OPTIONS, "UPLOAD_CLIENT",
                 UPLOAD_CLIENT="Client", UPLOAD_LOCAL="Local", UPLOAD_BOTH="Both"),
        texts("UPLOAD_SETTINGS", "Upload Settings", OPTIONS, UPLOAD_DIR=("Dir", str(Path.home())),
              UPLOAD_PREFIX=("Prefix", "IMAGE_XXX")),
        texts("CCD_FILE_PATH", "Filename", INFO, "ro", FILE_PATH=("Path", "")),
    ]
# fmt: on
