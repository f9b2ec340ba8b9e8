/* The scanner of the tokenizer: one pass over the bytes of one root element, resumable at any byte.
 *
 * The caller keeps the bytes of the unfinished root contiguous; every offset counts from the root's '<'.  A scan
 * records spans (tokens) and builds nothing.  It examines no byte twice, except for the few bytes after a '<' that may
 * begin the start tag of a known root.  The caller removes the text of BLOBs from these bytes: the scanner stops before
 * the text (TZ_BLOB) and continues after it.
 */
#ifndef INDIFAST_TOKENS_H
#define INDIFAST_TOKENS_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__SSE2__)
#include <emmintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

/* What a run of characters contains. */
enum tz_flag {
    TF_HIGH = 1,      /* bytes >= 0x80 */
    TF_AMP = 2,       /* '&' */
    TF_CTRL = 4,      /* control characters that XML forbids */
    TF_MARK = 8,      /* '>' '"' '<', which are written as references */
    TF_CR = 16,       /* carriage return */
    TF_NL = 32,       /* tab, line feed */
    TF_INK = 64,      /* anything but white space */
    TF_LT = 128,      /* '<', which ends a run of text */
    TF_ODD = 128      /* attributes: libindi cannot read the name */
};

enum tz_kind { TK_START = 1, TK_ATTR, TK_TEXT, TK_CDATA, TK_BLOB, TK_END };

typedef struct {
    uint32_t a;           /* name of a tag or attribute, alen bytes */
    uint32_t v, vlen;     /* value or text; TK_START: vlen attributes follow; TK_BLOB: v is the index of the BLOB */
    uint16_t alen;
    uint8_t kind, flags;  /* enum tz_kind, enum tz_flag; TK_ATTR: TF_ODD in flags */
} tz_token;

/* Why a scan stopped. */
enum tz_event {
    TZ_MORE,              /* all bytes have been scanned */
    TZ_DONE,              /* the root ends at the position */
    TZ_BLOB,              /* the text of a oneBLOB begins or continues at the position */
    TZ_BLOB_END,          /* that oneBLOB has ended */
    TZ_SKIP,              /* not a root, but well-formed: comment, declaration */
    TZ_JUNK,              /* not a root */
    TZ_REFUSE             /* damaged: see reason; continue at resume */
};

/* Why an element is refused, and the words reported for it. */
enum tz_reason {
    TZ_R_NONE, TZ_R_TRUNCATED, TZ_R_SYNTAX, TZ_R_MISMATCH, TZ_R_ATTRIBUTE, TZ_R_ELEMENT, TZ_R_DEPTH, TZ_R_MEMBERS,
    TZ_R_MARKUP, TZ_R_DUPLICATE, TZ_R_BASE64, TZ_R_BLOB, TZ_R_ABANDONED, TZ_R_JUNK, TZ_R_MEMORY, TZ_R_ATTACHED, TZ_REASONS
};
static const char *const tz_reasons[TZ_REASONS] = {
    [TZ_R_NONE] = "",
    [TZ_R_TRUNCATED] = "truncated",
    [TZ_R_SYNTAX] = "syntax",
    [TZ_R_MISMATCH] = "mismatched end tag",
    [TZ_R_ATTRIBUTE] = "attribute too long",
    [TZ_R_ELEMENT] = "element too large",
    [TZ_R_DEPTH] = "too deep",
    [TZ_R_MEMBERS] = "too many members",
    [TZ_R_MARKUP] = "comment too long",
    [TZ_R_DUPLICATE] = "duplicate attribute",
    [TZ_R_BASE64] = "base64",
    [TZ_R_BLOB] = "blob too large",
    [TZ_R_ABANDONED] = "abandoned",
    [TZ_R_JUNK] = "junk",
    [TZ_R_MEMORY] = "memory",
    [TZ_R_ATTACHED] = "attached blob with content",
};

/* What a scan is in the middle of.  Each state is also a label in tz_scan. */
enum tz_state { S_LT, S_NAME, S_TAG, S_EMPTY, S_ANAME, S_AEQ, S_AQ, S_VAL, S_INNER_LT, S_TEXT, S_ENDNAME, S_ENDWS, S_BANG,
                S_COMMENT, S_CDATA, S_PI, S_DECL };

enum { TZ_SLACK = 16, TZ_MAX_DEPTH = 64, TZ_MAX_NAME = 256, TZ_MAX_ATTRS = 128 };

typedef struct {
    /* Limits */
    size_t lim_attr, lim_elem;
    uint32_t lim_depth, lim_members;
    /* Tokens of the root */
    tz_token *tok;
    uint32_t ntok, captok;
    /* Position in the markup */
    uint8_t state, ret;    /* enum tz_state; ret: the state in which a '<' was found (S_INNER_LT) */
    uint8_t quote, flags, bracket, odd;
    uint8_t root;          /* kind of the root, 0: none yet */
    uint8_t in_blob, elem_flags;
    uint8_t reason;        /* enum tz_reason, of the last TZ_REFUSE */
    uint8_t twice;         /* two attributes of this tag may have the same name */
    uint32_t depth, members, nblobs, attached;
    uint32_t last_attached; /* the open oneBLOB announces content beside the message */
    uint64_t seen;         /* a bit for each attribute name in this tag; names that INDI defines never share one */
    /* The root that this one is compared with: its bytes (TZ_SLACK more are readable), and its tokens in tok[] until they are overwritten */
    const uint8_t *old;
    size_t old_len;
    uint32_t old_ntok;
    uint8_t old_root;
    uint8_t followed;      /* this root was read by comparing, from its first byte to its last */
    size_t mark, lt, name, name_len, resume;
    uint32_t stack[TZ_MAX_DEPTH];
    /* Positions in the stream before which no "-->" and no "]]>" ends */
    uint64_t base, no_comment_end, no_cdata_end;
    uint32_t descriptors;  /* descriptors that belong to the root */
    uint32_t raws;         /* oneBLOBs of the root whose content follows it as raw bytes */
} tz_scan_state;

static const char *const tz_roots[] = {
    "", "message", "pingReply", "enableBLOB", "delProperty", "pingRequest", "getProperties",
    "newTextVector", "defTextVector", "setTextVector", "newBLOBVector", "defBLOBVector", "setBLOBVector",
    "defLightVector", "setLightVector",
    "newNumberVector", "defNumberVector", "setNumberVector", "newSwitchVector", "defSwitchVector", "setSwitchVector"
};
enum { TZ_FIRST_VECTOR = 7, TZ_NEW_BLOB = 10, TZ_SET_BLOB = 12, TZ_ROOTS = 20, TZ_MIN_ROOT = 7, TZ_MAX_ROOT = 15 };

static uint64_t tz_root_words[TZ_ROOTS + 1][2];  /* the first and last eight characters of each name */

static inline uint64_t tz_word(const void *p) {
    uint64_t w;
    memcpy(&w, p, 8);
    return w;
}

static inline int tz_known_root(const uint8_t *p, size_t n) {
    static const uint8_t first[16] = {[9] = 2, [10] = 3, [11] = 4, [13] = 6, [14] = 13, [15] = 15};
    static const uint8_t last[16] = {[9] = 3, [10] = 4, [11] = 6, [13] = 13, [14] = 15, [15] = 21};
    if (n == TZ_MIN_ROOT) return memcmp(p, "message", 7) == 0;
    if (n < TZ_MIN_ROOT || n > TZ_MAX_ROOT || !first[n]) return 0;
    uint64_t head = tz_word(p), tail = tz_word(p + n - 8);
    for (int k = first[n]; k < last[n]; k++)
        if (tz_root_words[k][0] == head && tz_root_words[k][1] == tail) return k;
    return 0;
}

/* Valid names are those that libindi's parser accepts: [A-Za-z_][A-Za-z0-9_]*.  Attribute names may also contain '-',
 * ':' and '.' (TC_ODD).  As libindi fails on these, such an attribute is read but never written. */
enum tz_class_bit { TC_NAME = 1, TC_START = 2, TC_SPACE = 4, TC_DELIM = 8, TC_ODD = 16 };

static uint8_t tz_class[256];
static uint8_t tz_flags[256];

static void tz_init_tables(void) {
    for (int c = 0; c < 256; c++) {
        uint8_t k = 0, f = 0;
        int alpha = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
        int space = c == ' ' || c == '\t' || c == '\n' || c == '\r';
        if (alpha) k |= TC_NAME | TC_START;
        if (c >= '0' && c <= '9') k |= TC_NAME;
        if (c == '-' || c == ':' || c == '.') k |= TC_ODD;
        if (space) k |= TC_SPACE;
        if (space || c == '/' || c == '>') k |= TC_DELIM;
        if (c >= 0x80) f |= TF_HIGH;
        if (c == '&') f |= TF_AMP;
        if (c < 0x20 && !space) f |= TF_CTRL;
        if (c == '>' || c == '"' || c == '<') f |= TF_MARK;
        if (c == '\r') f |= TF_CR;
        if (c == '\t' || c == '\n') f |= TF_NL;
        if (!space) f |= TF_INK;
        if (c == '<') f |= TF_LT;
        tz_class[c] = k;
        tz_flags[c] = f;
    }
    for (int k = 2; k <= TZ_ROOTS; k++) {
        size_t n = strlen(tz_roots[k]);
        tz_root_words[k][0] = tz_word(tz_roots[k]);
        tz_root_words[k][1] = tz_word(tz_roots[k] + n - 8);
    }
}

/* Spans: each function returns the first position from p on whose byte is not of the kind, or end.  They process
 * sixteen bytes at a time where the processor can.  Most names and values are shorter than that, so what matters is
 * that no branch depends on the length. */
#if !defined(TZ_SCALAR) && (defined(__SSE2__) || defined(__aarch64__))
#if defined(__SSE2__)
typedef __m128i tz_vec;
#define TZ_LOAD(p) _mm_loadu_si128((const __m128i *)(p))
#define TZ_SET(c) _mm_set1_epi8((char)(c))
#define TZ_EQ(v, c) _mm_cmpeq_epi8(v, TZ_SET(c))
#define TZ_LE(v, c) _mm_cmpeq_epi8(_mm_min_epu8(v, TZ_SET(c)), v)
#define TZ_BELOW_SPACE(v) _mm_cmplt_epi8(v, TZ_SET(0x20))  /* also true from 0x80 on */
#define TZ_OR(a, b) _mm_or_si128(a, b)
#define TZ_BUT(a, b) _mm_andnot_si128(b, a)
#define TZ_SUB(v, c) _mm_sub_epi8(v, TZ_SET(c))
static inline unsigned tz_first(tz_vec hit) { return (unsigned)__builtin_ctz((unsigned)_mm_movemask_epi8(hit) | 0x10000u); }
static inline unsigned tz_first_not(tz_vec in) { return (unsigned)__builtin_ctz(~(unsigned)_mm_movemask_epi8(in)); }
#else
typedef uint8x16_t tz_vec;
#define TZ_LOAD(p) vld1q_u8(p)
#define TZ_SET(c) vdupq_n_u8(c)
#define TZ_EQ(v, c) vceqq_u8(v, TZ_SET(c))
#define TZ_LE(v, c) vcleq_u8(v, TZ_SET(c))
#define TZ_BELOW_SPACE(v) vcltq_s8(vreinterpretq_s8_u8(v), vdupq_n_s8(0x20))
#define TZ_OR(a, b) vorrq_u8(a, b)
#define TZ_BUT(a, b) vbicq_u8(a, b)
#define TZ_SUB(v, c) vsubq_u8(v, TZ_SET(c))
static inline unsigned tz_first(tz_vec hit) {
    uint64_t m = vget_lane_u64(vreinterpret_u64_u8(vshrn_n_u16(vreinterpretq_u16_u8(hit), 4)), 0);
    return m ? (unsigned)__builtin_ctzll(m) >> 2 : 16;
}
static inline unsigned tz_first_not(tz_vec in) { return tz_first(vmvnq_u8(in)); }
#endif

/* Bytes that end a value or matter for its flags; all others are plain. */
static inline tz_vec tz_value_marks(tz_vec v) {
    tz_vec quote = TZ_OR(TZ_EQ(TZ_OR(v, TZ_SET(1)), '\''), TZ_EQ(v, '"'));  /* & ' " */
    return TZ_OR(TZ_OR(quote, TZ_EQ(TZ_OR(v, TZ_SET(2)), '>')), TZ_BELOW_SPACE(v));  /* < > */
}

static inline tz_vec tz_text_marks(tz_vec v) {
    tz_vec control = TZ_BUT(TZ_BELOW_SPACE(v), TZ_OR(TZ_EQ(v, '\n'), TZ_EQ(v, '\t')));
    return TZ_OR(TZ_OR(TZ_EQ(TZ_OR(v, TZ_SET(2)), '>'), TZ_EQ(v, '&')), control);
}

static inline tz_vec tz_name_chars(tz_vec v) {
    tz_vec letter = TZ_LE(TZ_SUB(TZ_OR(v, TZ_SET(0x20)), 'a'), 25);
    return TZ_OR(TZ_OR(letter, TZ_LE(TZ_SUB(v, '0'), 9)), TZ_EQ(v, '_'));
}

static inline tz_vec tz_space_chars(tz_vec v) {
    return TZ_OR(TZ_OR(TZ_EQ(v, ' '), TZ_EQ(v, '\n')), TZ_OR(TZ_EQ(v, '\t'), TZ_EQ(v, '\r')));
}

/* Each span begins where the last one ended, and this chain of dependencies is what a scan costs.  The elements of a
 * stream resemble each other, so the length of the corresponding token in the last element is a guess that is available
 * at once.  The following functions check a guess of n bytes: n < 16 for a name, with 16 readable bytes; n < 32 for the
 * others, with 32 readable bytes. */
#define TZ_GUESS 1
static inline int tz_name_is(const uint8_t *p, unsigned n) { return tz_first_not(tz_name_chars(TZ_LOAD(p))) == n; }
#define TZ_RUN_IS(what, marks) \
    static inline int what(const uint8_t *p, unsigned n) { \
        unsigned k = tz_first(marks(TZ_LOAD(p))); \
        return n < 16 ? k == n : k == 16 && tz_first(marks(TZ_LOAD(p + 16))) == n - 16; \
    }
TZ_RUN_IS(tz_value_is, tz_value_marks)
TZ_RUN_IS(tz_text_is, tz_text_marks)

/* `room`: bytes readable at p.  As many are readable at q, which is before p. */
static inline int tz_same(const uint8_t *p, const uint8_t *q, size_t n, size_t room) {
    if (n > 16 || room < 16) return memcmp(p, q, n) == 0;
#if defined(__SSE2__)
    return tz_first_not(_mm_cmpeq_epi8(TZ_LOAD(p), TZ_LOAD(q))) >= n;
#else
    return tz_first_not(vceqq_u8(TZ_LOAD(p), TZ_LOAD(q))) >= n;
#endif
}

#define TZ_SIMD(first) \
    while (end - p >= 16) { \
        unsigned k = first; \
        p += k; \
        if (k < 16) return p; \
    }
#else
#define TZ_SIMD(first)
static inline int tz_same(const uint8_t *p, const uint8_t *q, size_t n, size_t room) {
    (void)room;
    return memcmp(p, q, n) == 0;
}
#endif

static inline size_t tz_span_value(const uint8_t *b, size_t p, size_t end) {
    TZ_SIMD(tz_first(tz_value_marks(TZ_LOAD(b + p))))
    while (p < end && !(tz_flags[b[p]] & (uint8_t)~TF_INK) && b[p] != '\'') p++;
    return p;
}

static inline size_t tz_span_text(const uint8_t *b, size_t p, size_t end) {
    TZ_SIMD(tz_first(tz_text_marks(TZ_LOAD(b + p))))
    while (p < end && (!(tz_flags[b[p]] & (uint8_t)~(TF_INK | TF_NL)) || b[p] == '"')) p++;
    return p;
}

static inline size_t tz_span_name(const uint8_t *b, size_t p, size_t end) {
    TZ_SIMD(tz_first_not(tz_name_chars(TZ_LOAD(b + p))))
    while (p < end && tz_class[b[p]] & TC_NAME) p++;
    return p;
}

static __attribute__((noinline)) size_t tz_span_spaces(const uint8_t *b, size_t p, size_t end) {
    TZ_SIMD(tz_first_not(tz_space_chars(TZ_LOAD(b + p))))
    while (p < end && tz_class[b[p]] & TC_SPACE) p++;
    return p;
}

static inline size_t tz_span_space(const uint8_t *b, size_t p, size_t end) {
    if (end - p > 4) {  /* usually there are few, which the processor predicts well */
        if (!(tz_class[b[p]] & TC_SPACE)) return p;
        if (!(tz_class[b[p + 1]] & TC_SPACE)) return p + 1;
        if (!(tz_class[b[p + 2]] & TC_SPACE)) return p + 2;
        if (!(tz_class[b[p + 3]] & TC_SPACE)) return p + 3;
    }
    return tz_span_spaces(b, p, end);
}

/* Prepares for a candidate: its '<' is at offset 0, and the scan continues at offset 1. */
static inline void tz_begin(tz_scan_state *s) {
    s->ntok = 0;
    s->state = S_LT;
    s->followed = 0;
    s->root = s->in_blob = s->elem_flags = 0;
    s->depth = s->members = s->nblobs = s->attached = s->descriptors = s->raws = s->last_attached = 0;
    s->lt = 0;
}

static int tz_grow(tz_scan_state *s) {
    uint32_t cap = s->captok ? s->captok * 2 : 64;
    tz_token *t = (tz_token *)realloc(s->tok, (size_t)cap * sizeof(tz_token));
    if (!t) return 0;
    memset(t + s->captok, 0, (size_t)(cap - s->captok) * sizeof(tz_token));
    s->tok = t;
    s->captok = cap;
    return 1;
}

static inline __attribute__((always_inline)) tz_token *tz_push(tz_scan_state *s, int kind, size_t a, size_t alen, size_t v, size_t vlen, int flags) {
    if (s->ntok == s->captok && !tz_grow(s)) return NULL;
    tz_token *t = &s->tok[s->ntok++];
    t->kind = (uint8_t)kind;
    t->flags = (uint8_t)flags;
    t->a = (uint32_t)a;
    t->alen = (uint16_t)alen;
    t->v = (uint32_t)v;
    t->vlen = (uint32_t)vlen;
    return t;
}

static inline int tz_is(const uint8_t *b, size_t at, size_t n, const char *word, size_t wn) {
    return n == wn && memcmp(b + at, word, wn) == 0;
}

/* Returns an attribute of the start tag at token i, or NULL. */
static inline const tz_token *tz_attr(const tz_token *tok, uint32_t i, const uint8_t *b, const char *word, size_t wn) {
    for (uint32_t k = i + 1, e = i + 1 + tok[i].vlen; k < e; k++)
        if (tz_is(b, tok[k].a, tok[k].alen, word, wn)) return &tok[k];
    return NULL;
}

static inline const tz_token *tz_name(const tz_token *tok, uint32_t i, const uint8_t *b) {
    for (uint32_t k = i + 1, e = i + 1 + tok[i].vlen; k < e; k++)
        if (tok[k].alen == 4 && memcmp(b + tok[k].a, "name", 4) == 0) return &tok[k];
    return NULL;
}

/* Reads a non-negative integer of at most 18 digits, with optional white space around it; -1 for anything else. */
static int64_t tz_integer(const uint8_t *p, size_t n) {
    int64_t value = 0;
    size_t digits = 0;
    while (n && tz_class[*p] & TC_SPACE) p++, n--;
    while (n && tz_class[p[n - 1]] & TC_SPACE) n--;
    for (; n; p++, n--, digits++) {
        if (*p < '0' || *p > '9' || digits == 18) return -1;
        value = value * 10 + (*p - '0');
    }
    return digits ? value : -1;
}

static int tz_duplicates(const tz_token *t, uint32_t n, const uint8_t *b) {
    for (uint32_t i = 1; i < n; i++)
        for (uint32_t k = 0; k < i; k++)
            if (t[i].alen == t[k].alen && b[t[i].a] == b[t[k].a] && memcmp(b + t[i].a, b + t[k].a, t[i].alen) == 0)
                return 1;
    return 0;
}

/* Returns whether a descriptor belongs to this oneBLOB.  libindi's receivers take one for each oneBLOB that says so,
 * regardless of its size.  libindi's server sends one with size 0 if a driver sent content inline but declared that
 * there is none. */
static __attribute__((noinline)) int tz_descriptor(const tz_token *tok, uint32_t i, const uint8_t *b) {
    const tz_token *t = tz_attr(tok, i, b, "attached", 8);
    return t && tz_is(b, t->v, t->vlen, "true", 4);
}

/* Returns whether the content of this oneBLOB follows its vector as raw bytes. */
static __attribute__((noinline)) int tz_raw(const tz_token *tok, uint32_t i, const uint8_t *b) {
    const tz_token *t = tz_attr(tok, i, b, "attached", 8);
    return t && tz_is(b, t->v, t->vlen, "raw", 3);
}

/* Returns whether this oneBLOB announces content beside the message, in a descriptor or as raw bytes. */
static int tz_attached(const tz_token *tok, uint32_t i, const uint8_t *b) {
    const tz_token *size;
    if (!tz_descriptor(tok, i, b) && !tz_raw(tok, i, b)) return 0;
    size = tz_attr(tok, i, b, "size", 4);
    return size && tz_integer(b + size->v, size->vlen) > 0;
}

#define TZ_RETURN(ev) do { s->flags = flags; *pp = p; return (ev); } while (0)
#define TZ_DAMAGE(why, at) do { s->reason = (why); s->resume = (at); TZ_RETURN(TZ_REFUSE); } while (0)
/* Damage outside an element is junk. */
#define TZ_STRAY(why, at) do { if (s->depth == 0) { s->resume = (at); TZ_RETURN(TZ_JUNK); } TZ_DAMAGE(why, at); } while (0)
/* The available bytes end here: either no more have arrived, or the element has reached its limit. */
#define TZ_STARVED(keep) do { \
        if (limited) TZ_STRAY(TZ_R_ELEMENT, (keep)); \
        TZ_RETURN(TZ_MORE); } while (0)
/* What began at the mark does not end before p.  At its limit it is given up; `known` prevents another search. */
#define TZ_UNCLOSED(known) do { \
        if (p >= s->mark + s->lim_attr) { \
            if (s->base + p > (known)) (known) = s->base + p; \
            TZ_STRAY(TZ_R_MARKUP, s->mark); \
        } \
        TZ_STARVED(p); } while (0)

/* Returns the position after the first '>' from p on that follows two `twice` characters, all three after the mark; 0
 * if there is none before e. */
static inline size_t tz_closing(const uint8_t *b, size_t p, size_t e, size_t mark, uint8_t twice)
{
    while (p < e) {
        const uint8_t *q = (const uint8_t *)memchr(b + p, '>', e - p);
        if (!q) break;
        p = (size_t)(q - b) + 1;
        if (p - mark >= 3 && b[p - 2] == twice && b[p - 3] == twice) return p;
    }
    return 0;
}

#ifdef TZ_GUESS
static inline int tz_equal(const uint8_t *p, const uint8_t *q, size_t n) {  /* TZ_SLACK more bytes are readable */
    size_t i = 0;
    for (; n - i > 16; i += 16)
        if (!tz_same(p + i, q + i, 16, 16)) return 0;
    return tz_same(p + i, q + i, n - i, 16);
}

/* Follows the structure of the last root: as long as all bytes between the values are identical, only the values need
 * to be scanned, and the tokens are adjusted in place.  This is the common case, because devices send the same vectors
 * repeatedly.  Returns 1 if the root is complete; otherwise, the state is set for the scan to continue at *pp. */
static int tz_follow(tz_scan_state *s, const uint8_t *b, size_t *pp, size_t end) {
    const uint8_t *old = s->old;
    tz_token *tok = s->tok;
    const uint32_t n = s->old_ntok;
    uint32_t i = 0, j, k;
    size_t p = 0, from = 0, shift;  /* the fixed bytes at p must equal those at old + from */

    for (;;) {
        for (j = i; j < n && (tok[j].kind == TK_START || tok[j].kind == TK_END); j++) {}
        const size_t fixed = (j < n ? tok[j].v : s->old_len) - from;
        if (end - p < fixed + TZ_SLACK || (j < n && tok[j].kind != TK_ATTR && tok[j].kind != TK_TEXT) ||
            !tz_equal(b + p, old + from, fixed))
            break;
        shift = p - from;
        for (k = i; k < j; k++) {
            if (tok[k].kind == TK_START) {
                tok[k].a += (uint32_t)shift;
                s->members += s->depth > 0;
                s->stack[s->depth++] = k;
            } else
                s->depth--;
        }
        p += fixed;
        s->ntok = j;
        if (j == n) {
            s->root = s->old_root;
            *pp = p;
            return 1;
        }
        tz_token *t = &tok[j];
        size_t q;
        from += fixed + t->vlen;
        if (t->kind == TK_ATTR) {
            size_t e = end - p > s->lim_attr ? p + s->lim_attr + 1 : end;
            if (t->vlen < 32 && e - p > 32 && tz_value_is(b + p, t->vlen)) q = p + t->vlen;
            else q = tz_span_value(b, p, e);
            t->a += (uint32_t)shift;
            if (q >= e || b[q] != b[p - 1]) {
                s->root = s->old_root;
                s->name = t->a;
                s->name_len = t->alen;
                s->odd = t->flags & TF_ODD;
                s->quote = b[p - 1];
                s->mark = p;
                s->twice = 1;
                s->state = S_VAL;
                *pp = p;
                return 0;
            }
            t->flags &= TF_ODD;
        } else {
            if (t->vlen < 32 && end - p > 32 && tz_text_is(b + p, t->vlen)) q = p + t->vlen;
            else q = tz_span_text(b, p, end);
            if (q >= end || q == p || b[q] != '<' || (s->depth == 1 && tz_span_space(b, p, q) == q)) {
                s->root = s->old_root;
                s->mark = p;
                s->state = S_TEXT;
                *pp = p;
                return 0;
            }
            t->flags = 0;
        }
        t->v = (uint32_t)p;
        t->vlen = (uint32_t)(q - p);
        p = q;
        i = j + 1;
        s->ntok = i;
    }
    if (i == 0) return 0;
    s->root = s->old_root;
    if (tok[i - 1].kind == TK_ATTR) {  /* at its closing quote */
        s->twice = 1;
        s->state = S_TAG;
        p++;
    } else {
        s->mark = p;
        s->state = S_TEXT;
    }
    *pp = p;
    return 0;
}
#endif

/* Continues the scan from *pp to end.  After TZ_BLOB, the caller removes the text up to its '<' and sets `mark` to the
 * position of that '<'. */
static enum tz_event tz_scan(tz_scan_state *s, const uint8_t *b, size_t *pp, size_t end) {
    size_t p = *pp, e;
    uint8_t flags = s->flags, c;
    int kind;
    int limited = end > s->lim_elem;
    if (limited) end = s->lim_elem;

#ifdef TZ_GUESS
    if (s->old && s->state == S_LT && s->depth == 0 && p == 1) {
        flags = 0;
        if (tz_follow(s, b, &p, end)) {
            s->followed = 1;
            TZ_RETURN(TZ_DONE);
        }
    }
#endif

#define GO(st) do { s->state = (st); goto st##_; } while (0)
    switch (s->state) {
    case S_LT: goto S_LT_;
    case S_NAME: goto S_NAME_;
    case S_TAG: goto S_TAG_;
    case S_EMPTY: goto S_EMPTY_;
    case S_ANAME: goto S_ANAME_;
    case S_AEQ: goto S_AEQ_;
    case S_AQ: goto S_AQ_;
    case S_VAL: goto S_VAL_;
    case S_INNER_LT: goto S_INNER_LT_;
    case S_TEXT: goto S_TEXT_;
    case S_ENDNAME: goto S_ENDNAME_;
    case S_ENDWS: goto S_ENDWS_;
    case S_BANG: goto S_BANG_;
    case S_COMMENT: goto S_COMMENT_;
    case S_CDATA: goto S_CDATA_;
    case S_PI: goto S_PI_;
    default: goto S_DECL_;
    }

S_LT_:
    if (p >= end) TZ_STARVED(s->lt);
    c = b[p];
    if (tz_class[c] & TC_START) { s->mark = p; GO(S_NAME); }
    if (c == '/' && s->depth) {
        const tz_token *t = &s->tok[s->stack[s->depth - 1]];
        s->mark = ++p;
        if (end - p > t->alen && b[p + t->alen] == '>' && tz_same(b + p, b + t->a, t->alen, end - p)) {
            p += t->alen;
            GO(S_ENDWS);
        }
        GO(S_ENDNAME);
    }
    if (c == '!') { p++; GO(S_BANG); }
    if (c == '?') { s->mark = ++p; GO(S_PI); }
    TZ_STRAY(TZ_R_SYNTAX, p);

S_NAME_:
#ifdef TZ_GUESS
    {
        const tz_token *old;
        if (s->ntok < s->captok && (old = &s->tok[s->ntok])->kind == TK_START && old->alen < 16 && p == s->mark && end - p >= 16 &&
            tz_name_is(b + p, old->alen))
            p += old->alen;
        else
            p = tz_span_name(b, p, end);
    }
#else
    p = tz_span_name(b, p, end);
#endif
    if (p - s->mark > TZ_MAX_NAME) TZ_STRAY(TZ_R_SYNTAX, p);
    if (p >= end) TZ_STARVED(s->lt);
    kind = tz_class[b[p]] & TC_DELIM ? tz_known_root(b + s->mark, p - s->mark) : 0;
    if (s->depth == 0) {
        if (!kind) { s->resume = p; TZ_RETURN(TZ_JUNK); }
        s->root = (uint8_t)kind;
    } else {
        if (kind) TZ_DAMAGE(TZ_R_TRUNCATED, s->lt);
        if (!(tz_class[b[p]] & TC_DELIM)) TZ_DAMAGE(TZ_R_SYNTAX, p);
        if (s->in_blob) TZ_DAMAGE(TZ_R_BASE64, p);
        if (s->depth >= s->lim_depth) TZ_DAMAGE(TZ_R_DEPTH, p);
        if (++s->members > s->lim_members) TZ_DAMAGE(TZ_R_MEMBERS, p);
    }
    s->stack[s->depth++] = s->ntok;
    if (!tz_push(s, TK_START, s->mark, p - s->mark, 0, 0, 0)) TZ_DAMAGE(TZ_R_MEMORY, p);
    s->seen = 0;
    s->twice = 0;
    GO(S_TAG);

S_TAG_:
    p = tz_span_space(b, p, end);
    if (p >= end) TZ_STARVED(p);
    c = b[p];
    if (tz_class[c] & (TC_START | TC_ODD)) { s->mark = p; s->odd = 0; GO(S_ANAME); }
    if (c == '>') { p++; goto opened; }
    if (c == '/') { p++; GO(S_EMPTY); }
    TZ_DAMAGE(TZ_R_SYNTAX, p);

S_ANAME_:
#ifdef TZ_GUESS
    {
        const tz_token *old = &s->tok[s->ntok];
        if (s->ntok < s->captok && old->kind == TK_ATTR && old->alen < 16 && p == s->mark && end - p >= 34 &&
            tz_name_is(b + p, old->alen) && b[p + old->alen] == '=') {
            s->name = p;
            s->name_len = old->alen;
            p += old->alen + 1;
            GO(S_AQ);
        }
    }
#endif
    for (;; s->odd = TF_ODD, p++) {
        p = tz_span_name(b, p, end);
        if (p >= end || !(tz_class[b[p]] & TC_ODD)) break;
    }
    if (p - s->mark > TZ_MAX_NAME) TZ_DAMAGE(TZ_R_SYNTAX, p);
    if (p >= end) TZ_STARVED(p);
    s->name = s->mark;
    s->name_len = p - s->mark;
    GO(S_AEQ);

S_AEQ_:
    p = tz_span_space(b, p, end);
    if (p >= end) TZ_STARVED(p);
    if (b[p] != '=') TZ_DAMAGE(TZ_R_SYNTAX, p);
    p++;
    GO(S_AQ);

S_AQ_:
    if (p >= end) TZ_STARVED(p);
    c = b[p];
    if (tz_class[c] & TC_SPACE) {
        p = tz_span_space(b, p, end);
        if (p >= end) TZ_STARVED(p);
        c = b[p];
    }
    if (c != '"' && c != '\'') TZ_DAMAGE(TZ_R_SYNTAX, p);
    s->quote = c;
    s->mark = ++p;
    flags = 0;
#ifdef TZ_GUESS
    {
        const tz_token *old = &s->tok[s->ntok];
        if (s->ntok < s->captok && old->kind == TK_ATTR && old->vlen < 32 && s->lim_attr >= 32 && end - p >= 32 &&
            b[p + old->vlen] == c && tz_value_is(b + p, old->vlen)) {
            p += old->vlen;
            s->state = S_VAL;
            goto value_ends;
        }
    }
#endif
    GO(S_VAL);

S_VAL_:
    e = s->mark + s->lim_attr + 1;  /* the closing quote must be before e */
    if (e > end) e = end;
    for (;;) {
        p = tz_span_value(b, p, e);
        if (p >= e) {
            if (p > s->mark + s->lim_attr) TZ_DAMAGE(TZ_R_ATTRIBUTE, p);
            TZ_STARVED(p);
        }
        c = b[p];
        if (c == s->quote) break;
        flags |= tz_flags[c];
        if (c == '<') { s->lt = p++; s->ret = S_VAL; GO(S_INNER_LT); }
        p++;
    }
#ifdef TZ_GUESS
value_ends:
#endif
    if (s->ntok - s->stack[s->depth - 1] > TZ_MAX_ATTRS) TZ_DAMAGE(TZ_R_SYNTAX, p);
    {
        uint64_t bit = (uint64_t)1 << ((s->name_len + b[s->name] + 2 * b[s->name + s->name_len - 1]) & 63);
        s->twice |= (s->seen & bit) != 0;
        s->seen |= bit;
    }
    flags &= (uint8_t)~TF_LT;
    s->elem_flags |= flags;
    if (!tz_push(s, TK_ATTR, s->name, s->name_len, s->mark, p - s->mark, flags | s->odd)) TZ_DAMAGE(TZ_R_MEMORY, p);
    p++;
    GO(S_TAG);

S_INNER_LT_:  /* after a '<' in a value, an instruction or a declaration: does a known root begin here? */
    e = s->lt + 1 + TZ_MAX_ROOT + 1;
    if (e > end) e = end;
    while (p < e && tz_class[b[p]] & TC_NAME) p++;
    if (p - s->lt - 1 <= TZ_MAX_ROOT) {
        if (p >= end) TZ_STARVED(s->lt);
        if (tz_class[b[p]] & TC_DELIM && tz_known_root(b + s->lt + 1, p - s->lt - 1))
            TZ_STRAY(TZ_R_TRUNCATED, s->lt);
    }
    p = s->lt + 1;
    s->state = s->ret;
    if (s->ret == S_VAL) goto S_VAL_;
    if (s->ret == S_PI) goto S_PI_;
    goto S_DECL_;

S_EMPTY_:
    if (p >= end) TZ_STARVED(p);
    if (b[p] != '>') TZ_DAMAGE(TZ_R_SYNTAX, p);
    p++;
opened:
    {
        uint32_t i = s->stack[s->depth - 1];
        tz_token *t = &s->tok[i];
        int empty = s->state == S_EMPTY;
        t->vlen = s->ntok - i - 1;
        if (s->twice && tz_duplicates(t + 1, t->vlen, b)) TZ_DAMAGE(TZ_R_DUPLICATE, p);
        s->mark = p;
        s->state = S_TEXT;
        flags = 0;
        if (s->depth == 2 && (s->root == TZ_SET_BLOB || s->root == TZ_NEW_BLOB) && tz_is(b, t->a, t->alen, "oneBLOB", 7)) {
            s->last_attached = (uint32_t)tz_attached(s->tok, i, b);
            s->attached += s->last_attached;
            s->descriptors += (uint32_t)tz_descriptor(s->tok, i, b);
            s->raws += (uint32_t)tz_raw(s->tok, i, b);
            if (!empty) {
                s->in_blob = 1;
                TZ_RETURN(TZ_BLOB);
            }
        }
        if (empty) goto closed;
    }

S_TEXT_:
    if (s->in_blob) {
        if (p < end && b[p] != '<') TZ_RETURN(TZ_BLOB);
    } else {
        if (s->depth == 1 && !(flags & TF_INK)) {  /* white space between members is not text */
            p = tz_span_space(b, p, end);
            if (p < end && b[p] != '<') flags |= TF_INK;
        }
#ifdef TZ_GUESS
        else {
            const tz_token *old = &s->tok[s->ntok];
            if (s->ntok < s->captok && old->kind == TK_TEXT && old->vlen < 32 && p == s->mark && end - p >= 32 &&
                b[p + old->vlen] == '<' && tz_text_is(b + p, old->vlen))
                p += old->vlen;
        }
#endif
        while ((p = tz_span_text(b, p, end)) < end && b[p] != '<') flags |= tz_flags[b[p++]];
    }
    if (p >= end) TZ_STARVED(p);
    if (p > s->mark && (flags & TF_INK || s->depth > 1)) {
        s->elem_flags |= flags;
        if (!tz_push(s, TK_TEXT, 0, 0, s->mark, p - s->mark, flags)) TZ_DAMAGE(TZ_R_MEMORY, p);
    }
    s->lt = p++;
    GO(S_LT);

S_ENDNAME_:
    p = tz_span_name(b, p, end);
    if (p - s->mark > TZ_MAX_NAME) TZ_DAMAGE(TZ_R_SYNTAX, p);
    if (p >= end) TZ_STARVED(p);
    {
        const tz_token *t = &s->tok[s->stack[s->depth - 1]];
        if (p - s->mark != t->alen || memcmp(b + s->mark, b + t->a, t->alen)) TZ_DAMAGE(TZ_R_MISMATCH, p);
    }
    GO(S_ENDWS);

S_ENDWS_:
    p = tz_span_space(b, p, end);
    if (p >= end) TZ_STARVED(p);
    if (b[p] != '>') TZ_DAMAGE(TZ_R_SYNTAX, p);
    p++;
    if (s->in_blob) {
        if (!tz_push(s, TK_BLOB, 0, 0, s->nblobs, 0, 0) || !tz_push(s, TK_END, 0, 0, 0, 0, 0)) TZ_DAMAGE(TZ_R_MEMORY, p);
        s->in_blob = 0;
        s->nblobs++;
        s->depth--;
        s->mark = p;
        s->state = S_TEXT;
        flags = 0;
        TZ_RETURN(TZ_BLOB_END);
    }
closed:
    if (!tz_push(s, TK_END, 0, 0, 0, 0, 0)) TZ_DAMAGE(TZ_R_MEMORY, p);
    if (--s->depth == 0) TZ_RETURN(TZ_DONE);
    s->mark = p;
    flags = 0;
    GO(S_TEXT);

S_BANG_:  /* p is after "<!" */
    if (p >= end) TZ_STARVED(s->lt);
    if (b[p] == '-') {
        if (p + 1 >= end) TZ_STARVED(s->lt);
        if (b[p + 1] == '-') {
            p += 2;
            s->mark = p;
            GO(S_COMMENT);
        }
    } else if (b[p] == '[') {
        size_t n = end - p < 7 ? end - p : 7;
        if (memcmp(b + p, "[CDATA[", n) == 0) {
            if (n < 7) TZ_STARVED(s->lt);
            p += 7;
            s->mark = p;
            if (s->in_blob) TZ_DAMAGE(TZ_R_BASE64, p);
            GO(S_CDATA);
        }
    }
    s->mark = p;
    s->quote = 0;
    s->bracket = 0;
    GO(S_DECL);

S_COMMENT_:
    if (s->no_comment_end > s->base + p) p = (size_t)(s->no_comment_end - s->base);
    e = s->mark + s->lim_attr;
    if (e > end) e = end;
    {
        size_t behind = tz_closing(b, p, e, s->mark, '-');
        if (behind) { p = behind; goto skipped; }
    }
    if (p < e) p = e;
    TZ_UNCLOSED(s->no_comment_end);

S_CDATA_:
    if (s->no_cdata_end > s->base + p) p = (size_t)(s->no_cdata_end - s->base);
    e = s->mark + s->lim_attr;
    if (e > end) e = end;
    {
        size_t behind = tz_closing(b, p, e, s->mark, ']');
        if (behind) {
            p = behind;
            if (s->depth == 0) { s->resume = p; TZ_RETURN(TZ_JUNK); }
            flags = 0;
            for (size_t k = s->mark; k + 3 < p; k++) flags |= tz_flags[b[k]];
            flags &= (uint8_t)~TF_LT;
            s->elem_flags |= flags;
            if (p - 3 > s->mark && (flags & TF_INK || s->depth > 1))
                if (!tz_push(s, TK_CDATA, 0, 0, s->mark, p - 3 - s->mark, flags)) TZ_DAMAGE(TZ_R_MEMORY, p);
            goto skipped;
        }
    }
    if (p < e) p = e;
    TZ_UNCLOSED(s->no_cdata_end);

S_PI_:
    e = s->mark + s->lim_attr;
    if (e > end) e = end;
    for (; p < e; p++) {
        c = b[p];
        if (c == '>' && p > s->mark && b[p - 1] == '?') { p++; goto skipped; }
        if (c == '<') { s->lt = p++; s->ret = S_PI; GO(S_INNER_LT); }
    }
    if (p >= s->mark + s->lim_attr) TZ_STRAY(TZ_R_MARKUP, p);
    TZ_STARVED(p);

S_DECL_:
    e = s->mark + s->lim_attr;
    if (e > end) e = end;
    for (; p < e; p++) {
        c = b[p];
        if (c == '<') { s->lt = p++; s->ret = S_DECL; GO(S_INNER_LT); }
        if (s->quote) {
            if (c == s->quote) s->quote = 0;
        } else if (c == '"' || c == '\'') s->quote = c;
        else if (c == '[') s->bracket = 1;
        else if (c == ']') s->bracket = 0;
        else if (c == '>' && !s->bracket) { p++; goto skipped; }
    }
    if (p >= s->mark + s->lim_attr) TZ_STRAY(TZ_R_MARKUP, p);
    TZ_STARVED(p);

skipped:  /* a comment or the like ended at p */
    if (s->depth == 0) { s->resume = p; TZ_RETURN(TZ_SKIP); }
    s->mark = p;
    flags = 0;
    GO(S_TEXT);
}
#undef GO

#endif
