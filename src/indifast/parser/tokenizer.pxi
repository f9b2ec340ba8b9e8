# The tokenizer: turns the chunks of a stream into elements.

cdef enum:
    PIECE = 1024              # a partial element grows by at least this many bytes at a time
    FOLLOW = 1 << 12          # elements up to this size serve as a pattern for the next one
    SIMPLE = 64               # tokens up to which an element is kept as a pattern for later ones


cdef bint alike(Element a, Element b) noexcept:
    """Return whether two elements seem to differ only in their values."""
    cdef uint32_t i
    cdef const tz_token *x
    cdef const tz_token *y
    cdef size_t n = a.length
    cdef size_t m = b.length
    if a.root != b.root or a.ntok != b.ntok:
        return False
    for i in range(a.ntok):
        x = &a.tok[i]
        y = &b.tok[i]
        if x.kind != y.kind or x.alen != y.alen:
            return False
        if x.kind == TK_ATTR or x.kind == TK_TEXT:
            if a.raw[x.v - 1] != b.raw[y.v - 1]:
                return False
            n -= x.vlen
            m -= y.vlen
    return n == m


cdef class Tokenizer:
    """Splitter of a byte stream, fed in chunks of any size, into root elements.

    No input raises an exception: elements that are damaged or exceed a limit are skipped, counted in `skipped` and
    reported to `on_skip`.

    Args:
        relay: Keep the base64 of BLOBs as received, in slices of the chunks, which must then never change. Otherwise,
            BLOBs are decoded as they arrive.
        attribute: Longest attribute value, comment, CDATA section, instruction or declaration, in bytes.
        element: Largest element in bytes, not counting the text of its BLOBs.
        blob: Largest BLOB in bytes, decoded.
        depth: Deepest nesting of elements, counting the root.
        members: Largest number of elements inside a root.
        junk: A run of bytes between elements is reported each time it has grown by this many bytes.
        on_skip: Called for each skip with the reason, the number of bytes skipped, and an excerpt.

    Attributes:
        on_instruction: Called for each processing instruction between elements whose name begins with "indi-", with the
            text between "<?" and "?>".
        halt: Set by what `on_instruction` calls: `feed` stops after this instruction, and `stopped` says where.
        raw: Whether raw bytes may follow a BLOB vector. If so, `feed` stops after each vector that announces some, and
            `stopped` says where.
        plain: Whether the last `feed` returned only elements without content and descriptors, and nothing is left
            unfinished: what most reads bring.
        broken: Set when raw bytes follow although they may not, or may follow a vector that is damaged. Everything from
            there on is ignored.
    """

    def __cinit__(self, *, bint relay=False, Py_ssize_t attribute=64 << 10, Py_ssize_t element=16 << 20,
                  Py_ssize_t blob=1 << 30, Py_ssize_t depth=8, Py_ssize_t members=100_000, Py_ssize_t junk=1 << 20,
                  on_skip=None):
        if min(attribute, element, blob, depth, members, junk) < 1:
            raise ValueError("limits must be positive")
        self.relay = relay
        self.s.lim_attr = attribute
        self.s.lim_elem = min(element, 1 << 31)
        self.s.lim_depth = min(depth, TZ_MAX_DEPTH)
        self.s.lim_members = min(members, 1 << 31)
        self.limit_blob = min(blob, 1 << 48)
        self.limit_junk = junk
        self.on_skip = on_skip
        self.skipped = {}
        self.shapes = [None] * SHAPES
        self.where = AT_JUNK

    def __dealloc__(self):
        free(self.buf)
        free(self.s.tok)

    @property
    def held(self) -> int:
        """Bytes kept for the unfinished element, including its tokens."""
        cdef size_t n = self.held_n + self.s.ntok * sizeof(tz_token) if self.where != AT_JUNK else self.held_n
        cdef Content content
        if self.where != AT_JUNK and self.contents is not None:
            for content in self.contents:
                n += content.held()
        return n

    def feed(self, data, Py_ssize_t start=0, end=None, /) -> list[Element]:
        """Process `data[start:end]`, the next bytes of the stream.

        Returns:
            The elements that these bytes complete.

        Raises:
            ValueError: The slice exceeds `data`.
            TypeError: `data` is not a buffer.
            RuntimeError: The tokenizer is already being fed, for example by another thread.
        """
        cdef Py_buffer view
        cdef Py_ssize_t stop
        cdef list found = []
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        try:
            stop = view.len if end is None else end
            if not 0 <= start <= stop <= view.len:
                raise ValueError(f"no such slice: {start}:{stop} of {view.len} bytes")
            if self.busy:  # only now: getting the buffer and its end may have called Python code
                raise RuntimeError("the tokenizer is already being fed")
            self.busy = True
            self.chunk = <const uint8_t *>view.buf
            self.pos = self.stopped = start
            self.fresh = 0
            self.plain = True
            try:
                while True:
                    try:
                        self.run(stop, view.len, data if type(data) is Block or type(data) is bytes else None, found)
                        break
                    except MemoryError:
                        self.give_up(TZ_R_MEMORY, self.p)
            finally:
                self.busy = False
                self.stopped = self.pos
                if self.where != AT_JUNK or self.held_n or self.broken:
                    self.plain = False
        finally:
            PyBuffer_Release(&view)
        return found

    cdef int run(self, size_t n, size_t size, object owner, list found) except -1:
        """Process the chunk.

        Args:
            n: Where to stop, an offset in `chunk`.
            size: Size of the buffer that contains the chunk, see `Content.feed`.
            owner: That buffer, if slices of it may be kept; otherwise None.
            found: List to which complete elements are added.

        Raises:
            MemoryError: The unfinished root must be given up. Then `run` may be called again to continue.
        """
        cdef const uint8_t *hit
        cdef size_t take, used
        cdef tz_event event
        cdef tz_reason reason
        cdef Element element
        while True:
            if self.broken:
                self.pos = n
                return 0
            if self.where == AT_ROOT:
                if self.direct:
                    event = tz_scan(&self.s, self.chunk + self.pos, &self.p, n - self.pos)
                else:
                    if self.starved:
                        if self.pos >= n:
                            return 0
                        take = min(n - self.pos, max(<size_t>PIECE, self.held_n))
                        self.hold(take)
                        self.fresh += take
                        self.starved = False
                    event = tz_scan(&self.s, self.buf + self.off, &self.p, self.held_n)
                if event == TZ_MORE:
                    if self.direct:
                        self.hold(n - self.pos)
                        self.direct = False
                    self.starved = True
                elif event == TZ_DONE:
                    if self.junk_run:
                        self.end_junk()
                    self.after_damage = False
                    element = self.make(self.root())
                    found.append(element)
                    if element.contents is not None or element.attached or element.descriptors:
                        self.plain = False
                    self.advance(self.p)
                    if element.raws:
                        if self.raw and not self.held_n:
                            return 0
                        self.broken = True  # what follows was not agreed on; or is not in the chunk, after damage
                        found.pop()
                elif event == TZ_BLOB:
                    if self.direct:
                        self.hold(self.p)
                        self.direct = False
                        self.fresh = 0
                    elif self.held_n - self.p <= self.fresh:
                        self.pos -= self.held_n - self.p
                        self.held_n = self.p
                        self.fresh = 0
                    self.enter_blob()
                elif event == TZ_BLOB_END:
                    self.starved = self.p >= self.held_n
                    reason = self.content.finish()
                    if reason == TZ_R_NONE and self.s.last_attached and not self.content.empty():
                        reason = TZ_R_ATTACHED
                    self.content = None
                    if reason != TZ_R_NONE:
                        self.give_up(reason, self.p)
                elif event == TZ_REFUSE:
                    self.give_up(<tz_reason>self.s.reason, self.s.resume)
                else:
                    if event == TZ_JUNK:
                        self.junk(self.root(), self.s.resume)
                    elif self.on_instruction is not None:
                        self.instruction(self.root(), self.s.resume)
                    self.advance(self.s.resume)
                    if self.halt:
                        self.halt = False
                        if not self.held_n:
                            return 0
                        self.broken = True  # what follows is not in the chunk, after damage
            elif self.where == AT_BLOB:
                if self.held_n > self.p:  # bytes of earlier chunks, rescanned after an abandoned comment
                    take = self.held_n - self.p
                    event = self.content.feed(self.buf + self.off + self.p, take, None, 0, 0, &used)
                    memmove(self.buf + self.off + self.p, self.buf + self.off + self.p + used, take - used)
                    self.held_n -= used
                    self.fresh = min(self.fresh, take - used)
                else:
                    if self.pos >= n:
                        return 0
                    event = self.content.feed(self.chunk + self.pos, n - self.pos, owner, size, self.pos, &used)
                    self.pos += used
                    self.fresh = 0
                self.s.base += used
                self.content_text += used
                if event == TZ_BLOB_END:
                    self.where = AT_ROOT
                    self.s.mark = self.p
                    self.starved = self.p >= self.held_n
                elif event == TZ_REFUSE:
                    self.give_up(self.content.refused, self.p)
            elif self.held_n:
                hit = <const uint8_t *>memchr(self.buf + self.off, c"<", self.held_n)
                take = self.held_n if hit == NULL else hit - (self.buf + self.off)
                self.junk(self.buf + self.off, take)
                self.advance(take)
                if self.held_n:
                    self.begin(False)
            else:
                if self.pos >= n:
                    return 0
                hit = <const uint8_t *>memchr(self.chunk + self.pos, c"<", n - self.pos)
                take = n - self.pos if hit == NULL else hit - (self.chunk + self.pos)
                if take:
                    self.junk(self.chunk + self.pos, take)
                    self.pos += take
                    self.s.base += take
                if hit != NULL:
                    self.begin(True)

    cdef const uint8_t *root(self) noexcept:
        """Return where the unfinished root begins."""
        return self.chunk + self.pos if self.direct else self.buf + self.off

    cdef void begin(self, bint direct) noexcept:
        """Start to scan at a '<' between roots, which may begin the next root."""
        tz_begin(&self.s)
        self.p = 1
        self.where = AT_ROOT
        self.direct = direct
        self.starved = False

    cdef void advance(self, size_t by) noexcept:
        """Move past `by` bytes of the root or candidate, release everything kept for it, and look for the next one."""
        self.s.base += by
        self.where = AT_JUNK
        if self.direct:
            self.direct = False
            self.pos += by
        else:
            self.off += by
            self.held_n -= by
            if self.held_n <= self.fresh:  # the rest is also in the chunk
                self.pos -= self.held_n
                self.held_n = 0
            if self.held_n == 0:
                self.off = self.fresh = 0
        if self.contents is not None:
            self.contents = None
            self.content = None
        self.content_text = 0
        if self.held_n == 0 and self.cap > KEEP:
            free(self.buf)
            self.buf = NULL
            self.cap = 0
        if self.s.ntok:  # the tokens of the last element have been overwritten
            self.forget()
        if self.s.captok > KEEP // sizeof(tz_token):
            self.forget()
            free(self.s.tok)
            self.s.tok = NULL
            self.s.captok = 0
        self.s.ntok = 0

    cdef int hold(self, size_t n) except -1:
        """Append the next `n` bytes of the chunk to those of the unfinished root."""
        cdef size_t cap
        cdef uint8_t *grown
        if self.off + self.held_n + n > self.cap:
            if self.off:
                memmove(self.buf, self.buf + self.off, self.held_n)
                self.off = 0
            if self.held_n + n > self.cap:
                cap = max(self.cap * 2, self.held_n + n, <size_t>512)
                grown = <uint8_t *>realloc(self.buf, cap)
                if grown == NULL:
                    raise MemoryError
                self.buf = grown
                self.cap = cap
        memcpy(self.buf + self.off + self.held_n, self.chunk + self.pos, n)
        self.held_n += n
        self.pos += n
        return 0

    cdef int enter_blob(self) except -1:
        cdef const tz_token *size
        cdef int64_t hint = 0
        cdef Content content
        self.where = AT_BLOB
        if self.content is not None:  # resumed after a comment inside the text
            return 0
        content = Content.__new__(Content)
        content.relay = self.relay
        content.limit = self.limit_blob
        if self.relay:
            content.slices = []
            b64_scan_init(&content.scan)
        else:
            b64_decode_init(&content.decode)
            size = tz_attr(self.s.tok, self.s.stack[1], self.buf + self.off, "size", 4)
            if size != NULL:
                hint = tz_integer(self.buf + self.off + size.v, size.vlen)
            content.hint = max(0, min(hint, <int64_t>self.limit_blob))
        if self.contents is None:
            self.contents = []
        self.contents.append(content)
        self.content = content
        return 0

    cdef void forget(self) noexcept:
        self.last = None
        self.s.old = NULL

    cdef Element make(self, const uint8_t *b):
        """Create the element b[:p]."""
        cdef Element element = Element.__new__(Element)
        cdef size_t notes = self.s.ntok * sizeof(tz_token)
        cdef const tz_token *t
        cdef uint32_t k
        element.tok = take_memory(notes + self.p + TZ_SLACK)
        if element.tok == NULL:
            raise MemoryError
        memcpy(element.tok, self.s.tok, notes)
        element.raw = <uint8_t *>element.tok + notes
        memcpy(element.raw, b, self.p)
        if self.p <= FOLLOW and self.s.root != TZ_SET_BLOB and self.s.root != TZ_NEW_BLOB:
            self.last = element
            self.s.old = element.raw
            self.s.old_len = self.p
            self.s.old_ntok = self.s.ntok
            self.s.old_root = self.s.root
        else:
            self.forget()
        element.ntok = self.s.ntok
        self.s.ntok = 0
        element.length = self.p
        element.root = self.s.root
        element.tag = <str>ROOT_NAMES[self.s.root]
        element.attached = self.s.attached
        element.descriptors = self.s.descriptors
        element.raws = self.s.raws
        element.contents = self.contents
        for k in range(1, 1 + element.tok[0].vlen):
            t = &element.tok[k]
            if t.alen == 6 and memcmp(b + t.a, b"device", 6) == 0:
                if not same(self.device, b, t):
                    self.device = attr_str(b, t)
                element.device = self.device
            elif t.alen == 4 and memcmp(b + t.a, b"name", 4) == 0:
                if not same(self.name, b, t):
                    self.name = attr_str(b, t)
                element.name = self.name
        if self.s.elem_flags & (TF_HIGH | TF_AMP | TF_CTRL):
            self.replaced += tz_count_replaced(element.tok, element.ntok, element.raw, &shared.value)
            trim(&shared.value)
        if self.last is element and element.ntok <= SIMPLE:
            self.predict(element)
        return element

    cdef void predict(self, Element element) noexcept:
        """Prepare to compare the next root with an element of the shape that came after one of this shape before."""
        cdef Element next
        cdef int k = self.expected if self.s.followed else self.shape_of(element)
        self.after[self.shape] = k
        self.shape = k
        self.expected = self.after[k]
        if self.expected == k:
            return  # this element itself serves
        next = <Element>self.shapes[self.expected]
        if next.ntok > self.s.captok:
            self.expected = k
            return
        memcpy(self.s.tok, next.tok, next.ntok * sizeof(tz_token))
        self.last = next
        self.s.old = next.raw
        self.s.old_len = next.length
        self.s.old_ntok = next.ntok
        self.s.old_root = next.root

    cdef int shape_of(self, Element element) noexcept:
        """Return the slot of an element's shape, which may be new."""
        cdef int k
        for k in range(self.known):
            if alike(<Element>self.shapes[k], element):
                return k
        if self.known < SHAPES:
            k = self.known
            self.known += 1
        else:
            k = self.next_slot
            self.next_slot = (k + 1) % SHAPES
        self.shapes[k] = element
        self.after[k] = k
        return k

    # ------------------------------------------------------------------------------------------------- Skipping

    # None of this may fail if memory runs out, as that is one of the reasons for skipping.

    cdef void give_up(self, tz_reason reason, size_t by) noexcept:
        """Refuse the unfinished root, `by` bytes of which were examined. Everything kept for it is released first."""
        cdef uint64_t nbytes = by + self.content_text
        cdef uint8_t excerpt[EXCERPT]
        cdef size_t shown = min(by, <size_t>EXCERPT)
        memcpy(excerpt, self.root(), shown)
        self.lost_attached += self.s.descriptors
        self.s.descriptors = 0
        if self.raw and self.contents is None and self.s.root in (0, TZ_SET_BLOB, TZ_NEW_BLOB):
            self.broken = True
        self.skipped_bytes += nbytes
        self.advance(by)
        if self.junk_run:
            self.end_junk()
        self.after_damage = True
        self.tell(reason, nbytes, excerpt, shown)

    cdef void tell(self, tz_reason reason, uint64_t nbytes, const uint8_t *excerpt, size_t shown) noexcept:
        word = <str>REASONS[reason]
        try:
            self.skipped[word] = self.skipped.get(word, 0) + 1
            if self.on_skip is not None:
                self.call_on_skip(word, nbytes, PyBytes_FromStringAndSize(<const char *>excerpt, shown))
        except MemoryError:  # not even a few bytes left; `skipped_bytes` still counts the skip
            pass

    cdef void call_on_skip(self, str word, uint64_t nbytes, bytes excerpt) noexcept:
        self.on_skip(word, nbytes, excerpt)  # exceptions go to sys.unraisablehook

    cdef void junk(self, const uint8_t *b, size_t n) noexcept:
        """Skip bytes between roots; white space at the beginning of a run is not counted."""
        cdef size_t i = 0
        cdef size_t shown
        if not self.junk_run:
            while i < n and tz_class[b[i]] & TC_SPACE:
                i += 1
        if i == n:
            return
        n -= i
        shown = min(n, EXCERPT - self.junk_shown)
        memcpy(self.junk_excerpt + self.junk_shown, b + i, shown)
        self.junk_shown += shown
        self.junk_run += n
        self.skipped_bytes += n
        if self.junk_run - self.junk_reported >= self.limit_junk:
            self.tell(TZ_R_JUNK, self.junk_run - self.junk_reported, self.junk_excerpt, self.junk_shown)
            self.junk_reported = self.junk_run
            self.junk_shown = 0

    cdef void end_junk(self) noexcept:
        """End a run of junk. Junk after a damaged element is the rest of it, which was reported with the element."""
        cdef uint64_t n = self.junk_run - self.junk_reported
        cdef size_t shown = self.junk_shown
        self.junk_run = self.junk_reported = 0
        self.junk_shown = 0
        if n and not self.after_damage:
            self.tell(TZ_R_JUNK, n, self.junk_excerpt, shown)

    cdef void instruction(self, const uint8_t *b, size_t n) noexcept:
        """Tell what a processing instruction says, if it is one for us."""
        if n >= 9 and memcmp(b, b"<?indi-", 7) == 0:
            try:
                self.on_instruction(PyBytes_FromStringAndSize(<const char *>b + 2, n - 4))
            except MemoryError:
                pass

    def abandon(self) -> None:
        """Refuse the unfinished element, release everything kept for it, and continue with the next root."""
        self.drop(TZ_R_ABANDONED)

    def close(self) -> None:
        """End the stream: an unfinished element counts as skipped ("truncated")."""
        self.drop(TZ_R_TRUNCATED)
        if self.junk_run:
            self.end_junk()
        self.after_damage = False

    cdef int drop(self, tz_reason reason) except -1:
        if self.busy:
            raise RuntimeError("the tokenizer is being fed")
        self.busy = True  # so that on_skip cannot feed this tokenizer
        self.fresh = 0
        if self.where == AT_BLOB or (self.where == AT_ROOT and self.s.depth):
            self.give_up(reason, self.held_n)
        else:
            if self.where == AT_ROOT:
                self.junk(self.buf + self.off, self.held_n)
            self.advance(self.held_n)
        self.busy = False
        return 0
