"""Tokenizer that finds the root elements of an INDI stream and their addressees, and writes their clean form.

The scanning itself is in `csrc/tokens.h`, reading and writing of values in `csrc/rewrite.h`. This module manages the
buffers, the text of BLOBs and the Python objects, which are created as late as possible. Start with `_parser.pxd`: it
describes the fields of the classes, who may use them when, and what relies on the GIL.
"""

from __future__ import annotations

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_FillInfo, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.mem cimport PyMem_RawFree, PyMem_RawMalloc, PyObject_Free, PyObject_Malloc
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF, Py_XDECREF
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memchr, memcmp, memcpy, memmove

from indifast._base64 cimport (
    B64_OK,
    B64_STOP_END,
    B64_STOP_FOREIGN,
    B64_STOP_FULL,
    b64_decode_end,
    b64_decode_init,
    b64_decode_state,
    b64_decode_step,
    b64_scan_end,
    b64_scan_init,
    b64_scan_step,
)
from indifast._cpython cimport (
    PyBytes_AS,
    Py_REFCNT,
    PyBytes_New,
    PyUnicode_1BYTE_DATA,
    PyUnicode_DecodeUTF8,
    PyUnicode_GET_LENGTH,
    PyUnicode_IS_ASCII,
    PyUnicode_New,
    _PyBytes_Resize,
    bytes_forget_hash,
    pages_give,
    pages_take,
    pages_will_fill,
)
from indifast._tokens cimport *

tz_init_tables()

cdef tuple ROOT_NAMES = tuple([None if i == 0 else (<bytes>tz_roots[i]).decode() for i in range(TZ_ROOTS + 1)])
cdef tuple REASONS = tuple([(<bytes>tz_reasons[i]).decode() for i in range(TZ_REASONS)])

include "parser/memory.pxi"
include "parser/strings.pxi"
include "parser/blocks.pxi"
include "parser/content.pxi"
include "parser/element.pxi"
include "parser/tokenizer.pxi"
