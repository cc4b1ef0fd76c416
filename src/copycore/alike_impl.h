/* Comparison of a few bytes without a branch on how many: no processor could predict it.
 * SSE2, which every x86-64 has, or plain C elsewhere. */
#ifndef COPYCORE_ALIKE_IMPL_H
#define COPYCORE_ALIKE_IMPL_H

#include <stdint.h>
#include <string.h>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#define CS_SHORT 16

/* Whether the first `size` of CS_SHORT bytes are the same; all of them are read. */
static inline int cs_alike(const uint8_t *a, const uint8_t *b, size_t size) {
#if defined(__SSE2__)
    __m128i x = _mm_loadu_si128((const __m128i *)a);
    __m128i y = _mm_loadu_si128((const __m128i *)b);
    uint32_t other = ~(uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(x, y));
    return (other & (((uint32_t)1 << size) - 1)) == 0;
#else
    static const uint8_t masks[2 * CS_SHORT] = {255, 255, 255, 255, 255, 255, 255, 255,
                                                255, 255, 255, 255, 255, 255, 255, 255};
    uint64_t x[2], y[2], mask[2];
    memcpy(x, a, CS_SHORT);
    memcpy(y, b, CS_SHORT);
    memcpy(mask, masks + CS_SHORT - size, CS_SHORT);
    return (((x[0] ^ y[0]) & mask[0]) | ((x[1] ^ y[1]) & mask[1])) == 0;
#endif
}

#endif
