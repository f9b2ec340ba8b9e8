# The content of BLOBs.

cdef enum:
    FIRST_BLOB = 1 << 20      # limit on the bytes allocated for an announced size
    GATHER = 1 << 18          # copied slices are gathered up to this many bytes
    NOGIL = 1 << 16           # from this many bytes on, the codec runs without the GIL
    ROOM = 64                 # extra bytes, so that the end of the text is found before the buffer is full


@cython.no_gc
cdef class Content:
    """The content of one oneBLOB, while it arrives and afterwards."""

    def __dealloc__(self):
        Py_XDECREF(self.data)
        free(self.small.p)

    cdef size_t held(self) noexcept:
        return <size_t>self.kept if self.relay else self.cap

    cdef bint empty(self) noexcept:
        """Return whether there is no content so far."""
        return self.scan.chars == 0 if self.relay else self.filled == 0

    cdef uint64_t decoded(self) noexcept:
        """Return the number of decoded bytes, once the content is complete."""
        return self.scan.chars // 4 * 3 - self.scan.pads if self.relay else self.filled

    cdef tz_event feed(self, const uint8_t *src, size_t n, object owner, size_t owner_size, size_t offset,
                       size_t *used) except? TZ_REFUSE:
        """Consume text.

        Args:
            src: The text.
            n: Its length in bytes.
            owner: The object whose memory contains `src`, if slices of it may be kept; otherwise None.
            owner_size: Size of `owner` in bytes.
            offset: Position of `src` in `owner`.
            used: Set to the number of bytes consumed.

        Returns:
            TZ_MORE, TZ_BLOB_END (at a '<'), or TZ_REFUSE (see `refused`).
        """
        if self.relay:
            return self.feed_relay(src, n, owner, owner_size, offset, used)
        return self.feed_decode(src, n, used)

    cdef tz_event refuse(self, tz_reason reason) noexcept:
        self.refused = reason
        return TZ_REFUSE

    cdef tz_event feed_decode(self, const uint8_t *src, size_t n, size_t *used) except? TZ_REFUSE:
        cdef size_t k, got, room, need
        cdef uint8_t *dst
        used[0] = 0
        while True:
            need = (n - used[0]) // 4 * 3 + ROOM
            if self.hint and self.filled <= self.hint and self.hint - self.filled + ROOM < need:
                # Assume that the rest is markup; if not, the buffer fills up and then grows.
                need = self.hint - self.filled + ROOM
            if self.cap - self.filled < need and self.cap < self.limit + ROOM:
                self.grow(need)
            got = 0
            dst = <uint8_t *>PyBytes_AS(self.data) + self.filled
            room = self.cap - self.filled
            if n - used[0] >= NOGIL:
                with nogil:
                    k = b64_decode_step(&self.decode, src + used[0], n - used[0], dst, room, &got)
            else:
                k = b64_decode_step(&self.decode, src + used[0], n - used[0], dst, room, &got)
            used[0] += k
            self.filled += got
            if self.filled > self.limit:
                return self.refuse(TZ_R_BLOB)
            if self.decode.stop == B64_STOP_END:
                return TZ_MORE
            if self.decode.stop == B64_STOP_FOREIGN:
                return TZ_BLOB_END if src[used[0]] == c"<" else self.refuse(TZ_R_BASE64)
            if self.decode.stop != B64_STOP_FULL:
                return self.refuse(TZ_R_BASE64)
            if self.cap >= self.limit + ROOM:
                return self.refuse(TZ_R_BLOB)

    cdef int grow(self, size_t need) except -1:
        """Double the buffer, or allocate the announced size once a sixteenth of it has arrived."""
        cdef size_t cap = self.filled + need
        if self.data == NULL:
            if self.hint + ROOM > cap:
                cap = min(self.hint + ROOM, cap + FIRST_BLOB)
        else:
            cap = max(cap, self.cap * 2)
            if self.cap < self.hint + ROOM:
                cap = max(self.filled + need, min(self.hint + ROOM, self.cap * 16))
        cap = min(cap, self.limit + ROOM)
        if self.data == NULL:
            self.data = PyBytes_New(NULL, cap)
        else:
            _PyBytes_Resize(&self.data, cap)
        if cap == self.hint + ROOM:  # the final size: growing after this call would cost a copy
            pages_will_fill(PyBytes_AS(self.data), cap)
        self.cap = cap
        return 0

    cdef tz_event feed_relay(self, const uint8_t *src, size_t n, object owner, size_t owner_size, size_t offset,
                             size_t *used) except? TZ_REFUSE:
        cdef size_t k
        cdef size_t first = 0
        cdef bint begun = self.scan.chars != 0
        if n >= NOGIL:
            with nogil:
                k = b64_scan_step(&self.scan, src, n)
        else:
            k = b64_scan_step(&self.scan, src, n)
        used[0] = k
        if not begun:  # the first slice starts right at the first base64 character
            while first < k and tz_class[src[first]] & TC_SPACE:
                first += 1
        if self.scan.chars // 4 * 3 > self.limit + 2 or self.kept > self.limit * 3 + NOGIL:  # or only white space
            return self.refuse(TZ_R_BLOB)
        if first < k:
            self.keep(src + first, k - first, owner, owner_size, offset + first)
        if self.scan.stop == B64_STOP_END:
            return TZ_MORE
        if self.scan.stop == B64_STOP_FOREIGN and src[k] == c"<":
            return TZ_BLOB_END
        return self.refuse(TZ_R_BASE64)

    cdef int keep(self, const uint8_t *src, size_t n, object owner, size_t owner_size, size_t offset) except -1:
        """Keep a slice: by reference, or as a copy if it would keep a much larger buffer in memory."""
        self.kept += n
        if owner is None or n < owner_size // 4 or n < 4096:
            if self.small.n + n > GATHER:
                self.flush()
            tz_put(&self.small, src, n)
            if self.small.failed:
                raise MemoryError
        else:
            self.flush()
            self.slices.append(memoryview(owner)[offset:offset + n])
        return 0

    cdef int flush(self) except -1:
        if self.small.n:
            self.slices.append(PyBytes_FromStringAndSize(<char *>self.small.p, self.small.n))
            self.small.n = 0
        return 0

    cdef tz_reason finish(self) except? TZ_R_MEMORY:
        """Complete the content at the end of the oneBLOB; return TZ_R_NONE, or the reason to refuse it."""
        cdef const uint8_t[::1] view
        cdef Py_ssize_t n
        if not self.relay:
            if b64_decode_end(&self.decode) != B64_OK:
                return TZ_R_BASE64
            if self.data != NULL:
                _PyBytes_Resize(&self.data, self.filled)
                self.cap = self.filled
            return TZ_R_NONE
        if b64_scan_end(&self.scan) != B64_OK:
            return TZ_R_BASE64
        if self.decoded() > self.limit:
            return TZ_R_BLOB
        self.flush()
        free(self.small.p)
        self.small.p = NULL
        self.small.cap = 0
        while self.slices:  # strip white space from the end
            last = self.slices[len(self.slices) - 1]
            view = last
            n = view.shape[0]
            while n and tz_class[view[n - 1]] & TC_SPACE:
                n -= 1
            if n == view.shape[0]:
                break
            self.slices.pop()
            self.kept -= <uint64_t>(view.shape[0] - n)
            if n:
                self.slices.append(last[:n])
        return TZ_R_NONE

    cdef object value(self):
        """Return the decoded content, or None if there is none."""
        cdef b64_decode_state state
        cdef size_t got, at, n, total
        cdef const uint8_t[::1] view
        cdef uint8_t *dst
        cdef PyObject *made
        if self.data == NULL:
            if not self.relay or self.scan.chars == 0:
                return None
            total = <size_t>self.decoded()
            made = PyBytes_New(NULL, total + ROOM)
            try:
                dst = <uint8_t *>PyBytes_AS(made)
                at = 0
                b64_decode_init(&state)
                for piece in self.slices:
                    view = piece
                    n = view.shape[0]
                    got = 0
                    with nogil:
                        b64_decode_step(&state, &view[0], n, dst + at, total + ROOM - at, &got)
                    at += got
                _PyBytes_Resize(&made, total)
                if self.data == NULL:  # otherwise another thread was faster
                    self.data = made
                    made = NULL
                    self.filled = self.cap = total
            finally:
                Py_XDECREF(made)
        if self.filled == 0:
            return None
        return <object>self.data
