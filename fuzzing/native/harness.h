/* What the native targets share: a way to fail, decisions read from the input, and memory of exactly the size that is
 * asked for, so that a sanitizer sees every access outside of it. */
#ifndef INDIFAST_FUZZING_HARNESS_H
#define INDIFAST_FUZZING_HARNESS_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #condition);                             \
            abort();                                                                                                   \
        }                                                                                                              \
    } while (0)

static uint8_t *exactly(const uint8_t *from, size_t n)
{
    uint8_t *p = malloc(n ? n : 1);
    CHECK(p);
    if (n)
        memcpy(p, from, n);
    return p;
}

/* The size of the next chunk of `left` bytes; see `chunks` in fuzzing/inputs.py, whose random cuts are others. */
static size_t next_chunk(uint8_t way, uint32_t *state, size_t left)
{
    size_t n = left;
    if (way && way < 32)
        n = way;
    else if (way) {
        *state = *state * 1664525u + 1013904223u + way;
        n = (*state >> 16) % (left + 1);
    }
    return n < left ? n : left;
}

#endif
