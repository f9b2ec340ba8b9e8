/* Definitions shared by the codec and its users: the alphabet, white space, and the states that are carried from one
 * chunk of text to the next.
 *
 * Text is read by the rules of RFC 4648, section 4 (standard alphabet, padding required, nothing but white space after
 * it), except that white space is allowed anywhere, because INDI wraps text.  Unused low bits of the last character are
 * ignored.
 */
#ifndef INDIFAST_BASE64_STATE_H
#define INDIFAST_BASE64_STATE_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Classes of bytes.  Values 0..63 are the sextets of the alphabet. */
#define B64_PAD 64      /* '=' */
#define B64_WHITE 65    /* space, tab, carriage return, line feed */
#define B64_FOREIGN 255 /* anything else */

#define F16 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255
static const uint8_t b64_class[256] = {
    /* 00 */ 255, 255, 255, 255, 255, 255, 255, 255, 255, 65, 65, 255, 255, 65, 255, 255,
    /* 10 */ F16,
    /* 20 */ 65, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 62, 255, 255, 255, 63,
    /* 30 */ 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 255, 255, 255, 64, 255, 255,
    /* 40 */ 255, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14,
    /* 50 */ 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 255, 255, 255, 255, 255,
    /* 60 */ 255, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40,
    /* 70 */ 41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51, 255, 255, 255, 255, 255,
    F16, F16, F16, F16, F16, F16, F16, F16,
};
#undef F16

/* The same for lookups in vector registers, for bytes below 0x80: a sextet, or bit 7, and bit 6 for white space. */
#define B64_VECTOR_WHITE 0x40
static const uint8_t b64_vector_class[128] = {
    0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0xc0, 0xc0, 0x80, 0x80, 0xc0, 0x80, 0x80,
    0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80,
    0xc0, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 62, 0x80, 0x80, 0x80, 63,
    52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80,
    0x80,  0,  1,  2,  3,  4,  5,  6,  7,  8,  9, 10, 11, 12, 13, 14,
    15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 0x80, 0x80, 0x80, 0x80, 0x80,
    0x80, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40,
    41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51, 0x80, 0x80, 0x80, 0x80, 0x80,
};

/* Why a step stopped. */
enum b64_stop {
    B64_STOP_END = 0,     /* all input has been consumed */
    B64_STOP_FOREIGN = 1, /* the next byte is neither base64 nor white space */
    B64_STOP_FULL = 2,    /* the next group has no room in the output */
    B64_STOP_ERROR = 3    /* the padding is wrong (see `error`); the next byte is the offending one */
};

/* What is wrong with the padding. */
enum b64_error {
    B64_OK = 0,
    B64_ERROR_EARLY_PAD = 1,  /* '=' as the first or second character of a group of four */
    B64_ERROR_AFTER_PAD = 2,  /* a character after the padding, which ends the text */
    B64_ERROR_MISSING_PAD = 3 /* the text ends within a group of four, or another character is in the place of '=' */
};

/* Resumable decoding.  `sextets` holds the `carry` characters of the unfinished group. */
typedef struct {
    uint64_t position; /* bytes of text consumed so far */
    uint32_t sextets;
    uint32_t column;   /* characters on this line */
    uint32_t width;    /* characters on the previous line; 0: none yet */
    uint8_t carry;     /* 0..3 */
    uint8_t pads;      /* '=' seen, 0..2 */
    uint8_t closed;    /* the padding is complete: only white space may follow */
    uint8_t stop;      /* enum b64_stop of the last step */
    uint8_t error;     /* enum b64_error */
} b64_decode_state;

/* Resumable scanning: the same rules, without decoding. */
typedef struct {
    uint64_t position; /* bytes of text consumed so far */
    uint64_t chars;    /* base64 characters so far, padding included */
    uint64_t last;     /* bytes of text up to and including the last base64 character */
    uint32_t column;   /* characters on this line */
    uint8_t pads;      /* '=' seen, 0..2 */
    uint8_t closed;    /* the padding is complete */
    uint8_t white;     /* the last character is followed by white space */
    uint8_t ended;     /* the line breaks rule out another line of a 72-column text */
    uint8_t wrapped72; /* so far every line but the last has exactly 72 characters and ends in one line feed.  White
                        * space before and after the text does not count */
    uint8_t unwrapped; /* so far there is no white space between characters */
    uint8_t stop;      /* enum b64_stop of the last step, never B64_STOP_FULL */
    uint8_t error;     /* enum b64_error */
} b64_scan_state;

#define B64_LINE 72 /* the line length that libindi uses */

static inline void b64_state_init_decode(b64_decode_state *st) { memset(st, 0, sizeof *st); }

static inline void b64_state_init_scan(b64_scan_state *st)
{
    memset(st, 0, sizeof *st);
    st->wrapped72 = 1;
    st->unwrapped = 1;
}

/* Checks the end of a text: returns B64_OK, or what is wrong with the padding. */
static inline enum b64_error b64_state_end_decode(const b64_decode_state *st)
{
    return st->error ? (enum b64_error)st->error : st->carry ? B64_ERROR_MISSING_PAD : B64_OK;
}

static inline enum b64_error b64_state_end_scan(const b64_scan_state *st)
{
    return st->error ? (enum b64_error)st->error : (st->chars & 3) ? B64_ERROR_MISSING_PAD : B64_OK;
}

#endif
