"""Declarations of the parser's C code: `csrc/tokens.h` finds tokens, `csrc/rewrite.h` reads and writes values.

All of this is static C, compiled into the module that cimports it. It holds no Python objects and needs no GIL. The
data it works on belongs to the caller. The headers describe the contracts.
"""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t


cdef extern from "tokens.h" nogil:
    # Bits that say what a run of characters contains.
    const int TF_HIGH, TF_AMP, TF_CTRL

    # Bits of a character class.
    const int TC_SPACE
    const uint8_t tz_class[256]

    const int TZ_SLACK, TZ_MAX_DEPTH

    # Kinds of root elements: indexes of their names in tz_roots.
    const int TZ_ROOTS, TZ_FIRST_VECTOR, TZ_SET_BLOB, TZ_NEW_BLOB
    const char *const tz_roots[]

    cdef enum tz_kind:
        TK_START, TK_ATTR, TK_TEXT, TK_CDATA, TK_BLOB, TK_END

    cdef enum tz_event:
        TZ_MORE, TZ_DONE, TZ_BLOB, TZ_BLOB_END, TZ_SKIP, TZ_JUNK, TZ_REFUSE

    cdef enum tz_reason:
        TZ_R_NONE, TZ_R_TRUNCATED, TZ_R_BASE64, TZ_R_BLOB, TZ_R_ABANDONED, TZ_R_JUNK, TZ_R_MEMORY, TZ_R_ATTACHED
        TZ_REASONS
    const char *const tz_reasons[]

    ctypedef struct tz_token:
        uint32_t a, v, vlen
        uint16_t alen
        uint8_t kind             # tz_kind
        uint8_t flags

    ctypedef struct tz_scan_state:
        size_t lim_attr, lim_elem
        uint32_t lim_depth, lim_members
        tz_token *tok
        uint32_t ntok, captok
        uint8_t root, elem_flags
        uint8_t reason           # tz_reason
        uint32_t depth, attached, descriptors, raws, last_attached
        size_t mark, resume
        uint32_t *stack          # tokens of the open elements, root first
        const uint8_t *old
        size_t old_len
        uint32_t old_ntok
        uint8_t old_root
        uint8_t followed
        uint64_t base

    void tz_init_tables()
    void tz_begin(tz_scan_state *)
    tz_event tz_scan(tz_scan_state *, const uint8_t *, size_t *, size_t)
    const tz_token *tz_attr(const tz_token *, uint32_t, const uint8_t *, const char *, size_t)
    const tz_token *tz_name(const tz_token *, uint32_t, const uint8_t *)
    int64_t tz_integer(const uint8_t *, size_t)
    bint tz_attached(const tz_token *, uint32_t, const uint8_t *)
    bint tz_descriptor(const tz_token *, uint32_t, const uint8_t *)
    bint tz_raw(const tz_token *, uint32_t, const uint8_t *)


cdef extern from "rewrite.h" nogil:
    const int TF_ODD_ATTR, TF_ODD_TEXT

    cdef enum tz_how:
        TV_ATTR, TV_TEXT, TV_CDATA

    ctypedef struct tz_out:
        uint8_t *p
        size_t n, cap
        bint failed

    ctypedef struct tz_blob_info:
        uint64_t chars, decoded
        uint8_t wrapped72
        uint8_t short_line

    ctypedef struct tz_writer:
        const tz_token *tok
        const uint8_t *b
        const tz_blob_info *blobs
        size_t *cuts
        uint32_t ncuts
        int attached
        bint vector, blob_root
        tz_out *out
        tz_out *tmp
        tz_out *tmp2

    void tz_put(tz_out *, const void *, size_t)
    uint32_t tz_read_value(tz_out *, const uint8_t *, size_t, int, tz_how)
    void tz_read_text(tz_out *, const uint8_t *, const tz_token *)
    void tz_strip(const uint8_t **, size_t *)
    uint32_t tz_write_element(tz_writer *, uint32_t, int, int)
    uint32_t tz_count_replaced(const tz_token *, uint32_t, const uint8_t *, tz_out *)
