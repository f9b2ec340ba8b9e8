/* Fresh memory for large frames, in large pages. */
#ifndef INDIFAST_PAGES_H
#define INDIFAST_PAGES_H

#include <stddef.h>
#include <stdint.h>

#if defined(__linux__)
#include <sys/mman.h>
#endif

/* Blocks of this size have pages of their own in every allocator: glibc maps each anew (M_MMAP_THRESHOLD_MAX). */
#define PAGES_LARGE ((size_t)32 << 20)
#define PAGES_HUGE ((uintptr_t)2 << 20)

/* A fresh block that is about to be written from end to end: asks for huge pages where it is large, as the page faults
 * would cost more than decoding.  Changes nothing but speed; a system that does not know the request ignores it. */
static inline void pages_will_fill(void *block, size_t n)
{
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    if (n >= PAGES_LARGE) {
        uintptr_t start = ((uintptr_t)block + PAGES_HUGE - 1) & ~(PAGES_HUGE - 1);
        uintptr_t end = ((uintptr_t)block + n) & ~(PAGES_HUGE - 1);
        madvise((void *)start, end - start, MADV_HUGEPAGE);
    }
#else
    (void)block, (void)n;
#endif
}

#endif
