# Elements and their members.

@cython.no_gc
@cython.freelist(64)
cdef class Element:
    """One complete root element. It keeps its bytes and parses them on demand."""

    def __dealloc__(self):
        give_memory(self.tok, self.ntok * sizeof(tz_token) + self.length + TZ_SLACK)

    @property
    def attrs(self) -> dict[str, str]:
        """Attributes in document order."""
        if self._attrs is None:
            self._attrs = read_attrs(self.raw, self.tok, 0)
        return self._attrs

    @property
    def members(self) -> list[Member]:
        """Elements directly inside the root, as a new list on each access."""
        cdef uint32_t i = 0
        cdef list members = []
        while self.next_member(&i):
            members.append(self.member(i))
        return members

    cdef bint next_member(self, uint32_t *at) noexcept:
        """Move on from the element at token `at`, which is inside the root, to the one after it.

        Token 0, the root, stands for the place before the first one. False: there are no more.
        """
        cdef uint32_t i = at[0]
        cdef uint32_t depth = 0
        if i == 0:
            i = 1
        else:
            while True:  # to the end of this one
                if self.tok[i].kind == TK_START:
                    depth += 1
                elif self.tok[i].kind == TK_END:
                    depth -= 1
                i += 1
                if depth == 0:
                    break
        while i < self.ntok:
            if self.tok[i].kind == TK_START:
                at[0] = i
                return True
            i += 1
        return False

    cdef Member member(self, uint32_t at):
        """Return the element at token `at`."""
        cdef Member member = Member.__new__(Member)
        cdef const tz_token *name = tz_name(self.tok, at, self.raw)
        member.element = self
        member.at = at
        member.tag = name_str(self.raw + self.tok[at].a, self.tok[at].alen)
        member.name = "" if name == NULL else attr_str(self.raw, name)
        return member

    @property
    def text(self) -> str:
        """Text of the root itself, stripped: the policy of an enableBLOB."""
        return read_text(self.raw, self.tok, 0, True)

    def values(self) -> dict[str, str]:
        """Return member name -> stripped text, for the members that have a name."""
        cdef dict values = {}
        cdef uint32_t i = 1 + self.tok[0].vlen
        cdef uint32_t depth
        cdef const tz_token *t
        cdef const tz_token *name
        cdef const uint8_t *p
        cdef size_t n
        while i < self.ntok:
            t = &self.tok[i]
            if t.kind != TK_START:
                i += 1
                continue
            name = tz_name(self.tok, i, self.raw)
            t += 1 + t.vlen
            if t.kind == TK_TEXT and t[1].kind == TK_END and not t.flags & TF_ODD_TEXT:  # the usual case
                if name != NULL and name.vlen:
                    p = self.raw + t.v
                    n = t.vlen
                    tz_strip(&p, &n)
                    values[attr_str(self.raw, name)] = ascii_str(p, n)
                i = <uint32_t>(t - self.tok) + 2
                continue
            if name != NULL and name.vlen:
                values[attr_str(self.raw, name)] = read_text(self.raw, self.tok, i, True)
            depth = 0
            while True:
                if self.tok[i].kind == TK_START:
                    depth += 1
                elif self.tok[i].kind == TK_END:
                    depth -= 1
                i += 1
                if depth == 0:
                    break
        return values

    cdef Content content(self, uint32_t at):
        """Return the content of the oneBLOB at token `at`, or None if it has none."""
        cdef uint32_t j = at + 1 + self.tok[at].vlen
        cdef Content content
        if self.contents is None or self.tok[j].kind != TK_BLOB:
            return None
        content = self.contents[self.tok[j].v]
        return None if content.empty() else content

    cdef bint one_blob(self, uint32_t at) noexcept:
        """Return whether the element at token `at` is a oneBLOB."""
        return self.tok[at].alen == 7 and memcmp(self.raw + self.tok[at].a, b"oneBLOB", 7) == 0

    cdef bint beside(self, uint32_t at) noexcept:
        """Return whether the element at token `at` announces content beside the message."""
        return self.attached and self.one_blob(at) and tz_attached(self.tok, at, self.raw)

    cdef bint next_carrier(self, uint32_t *at) except -1:
        """Do the same as `next_member` with those that have content, inline or beside the message."""
        if self.root != TZ_SET_BLOB and self.root != TZ_NEW_BLOB:
            return False
        while self.next_member(at):
            if self.beside(at[0]) or self.content(at[0]) is not None:
                return True
        return False

    @property
    def blob(self) -> bool:
        """True if at least one BLOB member has content, inline or attached."""
        cdef uint32_t i = 0
        return bool(self.next_carrier(&i)) if self.contents is not None or self.attached else False

    @property
    def growing(self) -> bool:
        """Always False, because an element is complete."""
        return False

    @property
    def formats(self) -> tuple[str, ...]:
        """The `format` of each member with content."""
        cdef uint32_t i = 0
        cdef list formats = []
        while self.next_carrier(&i):
            formats.append(self.format_at(i))
        return tuple(formats)

    cdef str format_at(self, uint32_t at):
        """Return the `format` of the element at token `at`."""
        cdef const tz_token *t = tz_attr(self.tok, at, self.raw, "format", 6)
        return "" if t == NULL else attr_str(self.raw, t)

    @property
    def carried(self) -> frozenset[str]:
        """The names of the members with content."""
        cdef uint32_t i = 0
        cdef const tz_token *name
        cdef list names = []
        while self.next_carrier(&i):
            name = tz_name(self.tok, i, self.raw)
            names.append("" if name == NULL else attr_str(self.raw, name))
        return frozenset(names)

    @property
    def announced(self) -> list[tuple[bool, int | None, int | None]]:
        """What the members say to which descriptors belong, in document order.

        For each: whether it announces content, and its `blob_size` and `blob_length`.
        """
        cdef uint32_t i = 0
        cdef list found = []
        if self.descriptors:
            while self.next_member(&i):
                if self.one_blob(i) and tz_descriptor(self.tok, i, self.raw):
                    found.append((self.beside(i), self.size_at(i), self.length_at(i)))
        return found

    cdef object size_at(self, uint32_t at):
        """Return the `blob_size` of the member at token `at`."""
        cdef const tz_token *t = tz_attr(self.tok, at, self.raw, "size", 4)
        return None if t == NULL else integer(self.raw + t.v, t.vlen)

    cdef object length_at(self, uint32_t at):
        """Return the `blob_length` of the member at token `at`."""
        cdef int64_t length = self.stored_length(at)
        return None if length < 0 else length

    cdef int64_t stored_length(self, uint32_t at) noexcept:
        """Do the same, with -1 for None."""
        cdef const tz_token *t = tz_attr(self.tok, at, self.raw, "len", 3)
        if t == NULL or t.vlen == 0:
            t = tz_attr(self.tok, at, self.raw, "size", 4)
        return -1 if t == NULL else tz_integer(self.raw + t.v, t.vlen)

    def envelope(self, int form, /) -> tuple[bytes, ...]:
        """Return the clean form without the content of BLOBs.

        Args:
            form: How the BLOBs are sent: as base64 (0, inline form), as descriptors (1, attached form), or as raw bytes
                (2, raw form).

        Returns:
            Inline form: the pieces that surround the base64 of the members in `blobs`, one more than there are members.
            A member whose content came beside the message (`attached='true'` or `attached='raw'`) is one of them.
            Attached and raw form: one piece, in which each of these members announces a descriptor, or how many raw
            bytes follow.
        """
        cdef tz_writer w
        cdef tz_out out
        cdef tz_blob_info *info = NULL
        cdef size_t *cuts = NULL
        cdef uint32_t k, n
        cdef size_t at
        cdef Content content
        w.tok = self.tok
        w.b = self.raw
        w.out = &out
        w.tmp = &shared.value
        w.tmp2 = &shared.run
        w.ncuts = 0
        w.attached = form
        w.vector = self.root >= TZ_FIRST_VECTOR
        w.blob_root = self.root == TZ_SET_BLOB or self.root == TZ_NEW_BLOB
        n = 0 if self.contents is None else <uint32_t>len(self.contents)
        if n or self.attached:
            info = <tz_blob_info *>malloc((n + 1) * sizeof(tz_blob_info))
            cuts = <size_t *>malloc((n + self.attached + 1) * sizeof(size_t))
            if info == NULL or cuts == NULL:
                free(info)
                free(cuts)
                raise MemoryError
            for k in range(n):
                content = self.contents[k]
                info[k].decoded = content.decoded()
                info[k].chars = content.scan.chars if content.relay else (content.filled + 2) // 3 * 4
                info[k].wrapped72 = content.scan.wrapped72
                info[k].short_line = (
                    content.scan.unwrapped and content.scan.chars <= 72 and content.scan.position > content.scan.last
                )
        w.blobs = info
        w.cuts = cuts
        borrow(&shared.form, &out)
        tz_write_element(&w, 0, 0, False)
        out.failed |= shared.value.failed | shared.run.failed
        trim(&shared.value)
        trim(&shared.run)
        try:
            if out.failed:
                raise MemoryError
            if w.ncuts == 0:
                return (PyBytes_FromStringAndSize(<char *>out.p, out.n),)
            pieces = []
            at = 0
            for k in range(w.ncuts):
                pieces.append(PyBytes_FromStringAndSize(<char *>out.p + at, cuts[k] - at))
                at = cuts[k]
            pieces.append(PyBytes_FromStringAndSize(<char *>out.p + at, out.n - at))
            return tuple(pieces)
        finally:
            free(info)
            free(cuts)
            give_back(&shared.form, &out)

    @property
    def blobs(self) -> list[Member]:
        """Members with content, inline or attached, in document order."""
        cdef uint32_t i = 0
        cdef list found = []
        while self.next_carrier(&i):
            found.append(self.member(i))
        return found

    @property
    def size(self) -> int:
        """Size of the inline form in bytes; an estimate if content is attached."""
        cdef uint32_t i = 0
        cdef Py_ssize_t size = 0
        if self._size == 0:
            if self.attached or self._inline() is None:
                size = self.length
                while self.next_carrier(&i):
                    size += (self.content_size(i) + 2) // 3 * 4
            else:
                for piece in self._pieces:
                    size += len(piece)
            self._size = size
        return self._size

    cdef Py_ssize_t content_size(self, uint32_t at) except -1:
        """Return how many bytes the member at token `at` carries, or says that it does."""
        cdef Content content = self.content(at)
        if content is not None:
            return content.decoded()
        return max(0, min(self.stored_length(at), 1 << 50))

    cdef tuple _inline(self):
        """Return the pieces of the inline form, or None if content was decoded or is attached."""
        cdef list pieces
        cdef tuple around
        cdef Content content
        cdef Py_ssize_t i = 0
        if self._pieces is None:
            if self.attached:
                return None
            if self.contents is None:
                self._pieces = self.envelope(False)
                return self._pieces
            for content in self.contents:
                if not content.relay and not content.empty():
                    return None
            around = self.envelope(False)
            pieces = [around[0]]
            for content in self.contents:
                if not content.empty():
                    i += 1
                    pieces.extend(content.slices)
                    pieces.append(around[i])
            self._pieces = tuple(pieces)
        return self._pieces

    def parts(self, int form) -> tuple[bytes | memoryview, ...] | None:
        """Return the clean form in pieces, or None if `BlobMessage` has to make that form because of BLOBs."""
        if form and (self.contents is not None or self.attached) and self.blob:
            return None
        return self._inline()

    def fds(self) -> tuple[int, ...]:
        """Return the descriptors of the attached form: none, because a bare element has no such form."""
        return ()

    def when_ready(self, int form, callback) -> None:
        """Raise RuntimeError: a bare element does not make forms, only `BlobMessage` does."""
        raise RuntimeError("an element with BLOBs must be sent as a BlobMessage, which makes its other form")

    def element(self) -> Element:
        """Return the element itself."""
        return self

    def __repr__(self) -> str:
        return f"<Element {self.tag} {self.attrs!r}>"


@cython.no_gc
@cython.freelist(64)
cdef class Member:
    """One element inside a root: a oneNumber, defSwitch, oneBLOB and so on."""

    @property
    def attrs(self) -> dict[str, str]:
        """Attributes in document order."""
        if self._attrs is None:
            self._attrs = read_attrs(self.element.raw, self.element.tok, self.at)
        return self._attrs

    @property
    def text(self) -> str:
        """Text with references resolved, not stripped."""
        return read_text(self.element.raw, self.element.tok, self.at, False)

    @property
    def data(self) -> bytes | None:
        """Decoded content of an inline BLOB, or None if there is none."""
        content = self.element.content(self.at)
        return None if content is None else content.value()

    @property
    def slices(self) -> tuple[bytes | memoryview, ...]:
        """Base64 text of an inline BLOB as it was received, in pieces (relay mode only)."""
        cdef Content content = self.element.content(self.at)
        return () if content is None or content.slices is None else tuple(content.slices)

    @property
    def blob_size(self) -> int | None:
        """The `size` attribute; None if it is absent or not an integer."""
        return self.element.size_at(self.at)

    @property
    def blob_length(self) -> int | None:
        """Length of an attached BLOB's content in its file: `len`, or `size` if that is absent or empty.

        None if this is not a non-negative integer.
        """
        return self.element.length_at(self.at)

    @property
    def format(self) -> str:
        """The `format` attribute; "" if absent."""
        return self.element.format_at(self.at)

    @property
    def attached(self) -> bool:
        """True if the member announces content beside the message, in a descriptor or as raw bytes.

        That is attached='true' or attached='raw', and a size above 0.
        """
        return bool(self.element.beside(self.at))

    @property
    def descriptor(self) -> bool:
        """True if a descriptor belongs to the member: attached='true', regardless of the size."""
        return bool(self.element.descriptors and self.tag == "oneBLOB"
                    and tz_descriptor(self.element.tok, self.at, self.element.raw))

    @property
    def raw(self) -> bool:
        """True if the content of the member follows the message as raw bytes: attached='raw'."""
        return bool(self.element.raws and self.tag == "oneBLOB"
                    and tz_raw(self.element.tok, self.at, self.element.raw))

    def __repr__(self) -> str:
        return f"<Member {self.tag} {self.attrs!r}>"
