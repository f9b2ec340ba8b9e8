# Conversion of names, attribute values and text between their form in an element and str.

cdef enum:
    NAME = 48                 # longest cached string, in bytes


cdef inline str ascii_str(const uint8_t *p, size_t n):
    cdef object s = PyUnicode_New(n, 127)
    if n:
        memcpy(PyUnicode_1BYTE_DATA(<PyObject *>s), p, n)
    return <str>s


cdef str name_str(const uint8_t *p, size_t n):
    """Return plain ASCII bytes as a str, cached: names of devices, properties, members and attributes recur."""
    cdef uint64_t h = 0
    cdef uint64_t tail = 0
    cdef size_t i
    cdef PyObject *hit
    cdef object made
    if n == 0 or n > NAME:
        return ascii_str(p, n)
    if n >= 8:
        memcpy(&h, p, 8)
        memcpy(&tail, p + n - 8, 8)
    elif n >= 4:
        memcpy(&h, p, 4)
        memcpy(&tail, p + n - 4, 4)
    else:
        h = p[0] | p[n >> 1] << 8 | p[n - 1] << 16
    h = (h ^ (tail << 21 | tail >> 43) ^ n) * <uint64_t>0x9E3779B97F4A7C15
    i = h >> 54
    hit = shared.names[i]
    if hit != NULL and <size_t>PyUnicode_GET_LENGTH(hit) == n and memcmp(PyUnicode_1BYTE_DATA(hit), p, n) == 0:
        return <str><object>hit
    made = ascii_str(p, n)
    Py_INCREF(made)
    shared.names[i] = <PyObject *>made
    Py_XDECREF(hit)
    return <str>made


cdef str attr_str(const uint8_t *b, const tz_token *t):
    """Return the value of an attribute."""
    cdef str s
    if not t.flags & TF_ODD_ATTR:
        return name_str(b + t.v, t.vlen)
    tz_read_value(&shared.value, b + t.v, t.vlen, t.flags, TV_ATTR)
    return out_str(&shared.value)


cdef str out_str(tz_out *out):
    """Return the clean UTF-8 of a scratch buffer as a str, and empty the buffer."""
    cdef size_t n
    if out.failed:
        trim(out)
        raise MemoryError
    n = out.n
    out.n = 0  # even if the next line fails
    s = PyUnicode_DecodeUTF8(<const char *>out.p, n, NULL)
    trim(out)
    return s


cdef inline bint same(str known, const uint8_t *b, const tz_token *t):
    """Return whether a known str equals the attribute's value. Wider characters may have the same bytes in memory."""
    return (known is not None and not t.flags & TF_ODD_ATTR and <uint32_t>PyUnicode_GET_LENGTH(<PyObject *>known) == t.vlen
            and PyUnicode_IS_ASCII(<PyObject *>known)
            and memcmp(PyUnicode_1BYTE_DATA(<PyObject *>known), b + t.v, t.vlen) == 0)


cdef dict read_attrs(const uint8_t *b, const tz_token *tok, uint32_t i):
    cdef dict attrs = {}
    cdef uint32_t k
    for k in range(i + 1, i + 1 + tok[i].vlen):
        attrs[name_str(b + tok[k].a, tok[k].alen)] = attr_str(b, &tok[k])
    return attrs


cdef str read_text(const uint8_t *b, const tz_token *tok, uint32_t i, bint strip):
    """Return the text directly inside the element at token i, stripped as `str.strip` does if asked."""
    cdef uint32_t j = i + 1 + tok[i].vlen
    cdef const uint8_t *p
    cdef size_t n
    cdef uint32_t depth = 0
    if tok[j].kind == TK_END or tok[j].kind == TK_BLOB:
        return ""
    if tok[j].kind == TK_TEXT and tok[j + 1].kind == TK_END and not tok[j].flags & TF_ODD_TEXT:
        p = b + tok[j].v
        n = tok[j].vlen
        if strip:
            tz_strip(&p, &n)
        return ascii_str(p, n)
    while True:
        if tok[j].kind == TK_START:
            depth += 1
        elif tok[j].kind == TK_END:
            if depth == 0:
                break
            depth -= 1
        elif depth == 0 and (tok[j].kind == TK_TEXT or tok[j].kind == TK_CDATA):
            tz_read_text(&shared.value, b, &tok[j])
        j += 1
    cdef str s = out_str(&shared.value)
    return s.strip() if strip else s


cdef object integer(const uint8_t *p, size_t n):
    cdef int64_t value
    cdef bint negative = False
    tz_strip(&p, &n)
    if n > 1 and (p[0] == c"+" or p[0] == c"-") and not tz_class[p[1]] & TC_SPACE:
        negative = p[0] == c"-"
        p += 1
        n -= 1
    value = tz_integer(p, n)
    if value < 0:
        return None
    return -value if negative else value


def read_integer(str text not None, /) -> int | None:
    """Return the integer that a text represents, or None if it is not one.

    Such a text is an optional sign and at most 18 digits, with optional white space around them. `int` is no
    substitute, as it also accepts the digits of all scripts, and underscores. Nor is `str.isdigit`, which accepts
    characters that `int` rejects.
    """
    cdef PyObject *held = <PyObject *>text
    if not PyUnicode_IS_ASCII(held):
        return None
    return integer(PyUnicode_1BYTE_DATA(held), PyUnicode_GET_LENGTH(held))


def escape_text(str text not None, /) -> str:
    """Return `text` as XML character data: ``& < >`` become references, characters that XML forbids become U+FFFD."""
    return escaped(text, False)


def escape_attr(str text not None, /) -> str:
    """Return `text` as a double-quoted attribute value; line breaks and tabs are kept as numeric references."""
    return escaped(text, True)


cdef str escaped(str text, bint attr):
    cdef Py_ssize_t i
    cdef Py_UCS4 c
    cdef bint clean = True
    for i in range(len(text)):
        c = text[i]
        if c < 0x20:
            if attr or not (c == "\t" or c == "\n" or c == "\r"):
                clean = False
                break
        elif c == "&" or c == "<" or c == ">" or (attr and c == '"') or (0xD800 <= c <= 0xDFFF) or 0xFFFE <= c <= 0xFFFF:
            clean = False
            break
    if clean:
        return text
    cdef list out = []
    for i in range(len(text)):
        c = text[i]
        if c == "&":
            out.append("&amp;")
        elif c == "<":
            out.append("&lt;")
        elif c == ">":
            out.append("&gt;")
        elif attr and c == '"':
            out.append("&quot;")
        elif c == "\t" or c == "\n" or c == "\r":
            out.append(("&#09;" if c == "\t" else "&#10;" if c == "\n" else "&#13;") if attr else text[i])
        elif c < 0x20 or 0xD800 <= c <= 0xDFFF or 0xFFFE <= c <= 0xFFFF:
            out.append("\ufffd")
        else:
            out.append(text[i])
    return "".join(out)
