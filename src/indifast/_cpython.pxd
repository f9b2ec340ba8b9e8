"""Functions of CPython and the system for creating objects that Cython's own declarations lack."""

from cpython.object cimport PyObject
from libc.stdint cimport uint8_t


cdef extern from "pages.h" nogil:
    void pages_will_fill(void *block, size_t n)
    void *pages_take(size_t n)
    void pages_give(void *pages, size_t n)


cdef extern from "Python.h":
    # Bytes objects under construction. Cython's own declarations take an `object`, but here nothing else refers to it
    # yet and its address may change. NULL means that there is none: _PyBytes_Resize sets it to NULL when it fails.
    PyObject *PyBytes_New "PyBytes_FromStringAndSize"(const char *, Py_ssize_t) except NULL
    int _PyBytes_Resize(PyObject **, Py_ssize_t) except -1
    char *PyBytes_AS "PyBytes_AS_STRING"(PyObject *)
    Py_ssize_t PyBytes_SIZE "PyBytes_GET_SIZE"(PyObject *)

    Py_ssize_t Py_REFCNT(PyObject *)

    # Strings: creating them from known ASCII or UTF-8, and access to their characters.
    object PyUnicode_New(Py_ssize_t, Py_UCS4)
    object PyUnicode_DecodeUTF8(const char *, Py_ssize_t, const char *)
    uint8_t *PyUnicode_1BYTE_DATA(PyObject *)
    Py_ssize_t PyUnicode_GET_LENGTH(PyObject *)
    bint PyUnicode_IS_ASCII(PyObject *)


cdef extern from *:
    """
    /* Bytes remember their hash, which is that of what they contained. CPython has no other way to say so. */
    static inline void bytes_forget_hash(PyObject *bytes)
    {
    #pragma GCC diagnostic push
    #pragma GCC diagnostic ignored "-Wdeprecated-declarations"
        ((PyBytesObject *)bytes)->ob_shash = -1;
    #pragma GCC diagnostic pop
    }
    """
    void bytes_forget_hash(object)
