/* CRC-32C (Castagnoli, polynomial 0x1EDC6F41, reflected 0x82F63B78) as record batch v2 uses it.
 *
 * Three ways to the same value, chosen once at import: SSE4.2's crc32 instruction run over three
 * interleaved blocks (the instruction has a latency of three cycles), ARMv8's crc32cx, and a
 * slicing-by-8 table. Linearity of the CRC gives shift (append n zero bytes) and with it combine.
 */
#ifndef COPYSTREAM_CRC32C_IMPL_H
#define COPYSTREAM_CRC32C_IMPL_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__)
#include <nmmintrin.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <arm_acle.h>
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

#define CS_POLY 0x82F63B78u
#define CS_BLOCK 4096u /* bytes of each of the three interleaved streams */

static uint32_t cs_table[8][256];
static uint32_t cs_power[8][256];      /* [j][b] = x^(8 * b * 256^j) mod P: shift by b * 256^j bytes */
static uint32_t cs_block_shift[4][256]; /* a register shifted by CS_BLOCK zero bytes, by its bytes */

/* a * b mod P, both reflected: bit 31 is x^0. */
static inline uint32_t cs_multiply(uint32_t a, uint32_t b) {
    uint32_t product = 0;
    for (int bit = 31; bit >= 0; bit--) {
        product ^= b & (0u - ((a >> bit) & 1u));
        b = (b >> 1) ^ (CS_POLY & (0u - (b & 1u)));
    }
    return product;
}

/* The register after n more zero bytes, without the complements at both ends. */
static inline uint32_t cs_shift(uint32_t reg, uint64_t n) {
    for (int j = 0; n != 0; j++, n >>= 8) {
        if (n & 255u) reg = cs_multiply(cs_power[j][n & 255u], reg);
    }
    return reg;
}

static inline uint32_t cs_shift_block(uint32_t reg) {
    return cs_block_shift[0][reg & 255u] ^ cs_block_shift[1][(reg >> 8) & 255u] ^
           cs_block_shift[2][(reg >> 16) & 255u] ^ cs_block_shift[3][reg >> 24];
}

static uint32_t cs_extend_table(uint32_t reg, const uint8_t *p, size_t n) {
    while (n >= 8) {
        uint32_t low = reg ^ ((uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 |
                              (uint32_t)p[3] << 24);
        reg = cs_table[7][low & 255u] ^ cs_table[6][(low >> 8) & 255u] ^
              cs_table[5][(low >> 16) & 255u] ^ cs_table[4][low >> 24] ^ cs_table[3][p[4]] ^
              cs_table[2][p[5]] ^ cs_table[1][p[6]] ^ cs_table[0][p[7]];
        p += 8;
        n -= 8;
    }
    while (n--) reg = (reg >> 8) ^ cs_table[0][(reg ^ *p++) & 255u];
    return reg;
}

#if defined(__x86_64__)
static inline uint64_t cs_load64(const uint8_t *p) {
    uint64_t v;
    memcpy(&v, p, 8);
    return v;
}

__attribute__((target("sse4.2"))) static uint32_t cs_extend_sse42(uint32_t reg, const uint8_t *p,
                                                                  size_t n) {
    while (n >= 3 * CS_BLOCK) {
        uint64_t a = reg, b = 0, c = 0;
        for (size_t i = 0; i < CS_BLOCK; i += 8) {
            a = _mm_crc32_u64(a, cs_load64(p + i));
            b = _mm_crc32_u64(b, cs_load64(p + CS_BLOCK + i));
            c = _mm_crc32_u64(c, cs_load64(p + 2 * CS_BLOCK + i));
        }
        reg = cs_shift_block(cs_shift_block((uint32_t)a) ^ (uint32_t)b) ^ (uint32_t)c;
        p += 3 * CS_BLOCK;
        n -= 3 * CS_BLOCK;
    }
    uint64_t wide = reg;
    while (n >= 8) {
        wide = _mm_crc32_u64(wide, cs_load64(p));
        p += 8;
        n -= 8;
    }
    reg = (uint32_t)wide;
    while (n--) reg = _mm_crc32_u8(reg, *p++);
    return reg;
}
#elif defined(__aarch64__) && defined(__linux__)
__attribute__((target("+crc"))) static uint32_t cs_extend_armv8(uint32_t reg, const uint8_t *p,
                                                                size_t n) {
    while (n >= 8) {
        uint64_t v;
        memcpy(&v, p, 8);
        reg = __crc32cd(reg, v);
        p += 8;
        n -= 8;
    }
    while (n--) reg = __crc32cb(reg, *p++);
    return reg;
}
#endif

typedef uint32_t (*cs_extend_fn)(uint32_t, const uint8_t *, size_t);
static cs_extend_fn cs_extend_chosen = cs_extend_table;
static const char *cs_extend_name = "table";

static void cs_init(void) {
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t reg = i;
        for (int k = 0; k < 8; k++) reg = (reg >> 1) ^ (CS_POLY & (0u - (reg & 1u)));
        cs_table[0][i] = reg;
    }
    for (uint32_t i = 0; i < 256; i++)
        for (int k = 1; k < 8; k++)
            cs_table[k][i] = (cs_table[k - 1][i] >> 8) ^ cs_table[0][cs_table[k - 1][i] & 255u];

    uint32_t step = 0x00800000u; /* x^8, reflected */
    for (int j = 0; j < 8; j++) {
        cs_power[j][0] = 0x80000000u; /* x^0 */
        for (uint32_t b = 1; b < 256; b++) cs_power[j][b] = cs_multiply(cs_power[j][b - 1], step);
        step = cs_multiply(cs_power[j][255], step);
    }
    for (int byte = 0; byte < 4; byte++)
        for (uint32_t v = 0; v < 256; v++)
            cs_block_shift[byte][v] = cs_shift(v << (8 * byte), CS_BLOCK);

#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("sse4.2")) {
        cs_extend_chosen = cs_extend_sse42;
        cs_extend_name = "sse4.2";
    }
#elif defined(__aarch64__) && defined(__linux__)
    if (getauxval(AT_HWCAP) & HWCAP_CRC32) {
        cs_extend_chosen = cs_extend_armv8;
        cs_extend_name = "armv8";
    }
#endif
}

static inline uint32_t cs_crc32c(uint32_t crc, const uint8_t *p, size_t n) {
    return ~cs_extend_chosen(~crc, p, n);
}

#endif
