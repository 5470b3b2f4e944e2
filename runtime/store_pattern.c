/*
 * store_pattern.c: the block pattern that a stored spec names, to the text of its row and back.
 *
 * The text is the kind's number and then its parameters in the order of tamis.h, with a blank between: whole numbers in
 * decimal, reals as the 16 hexadecimal digits of their bits, so that they come back to the bit whatever the host's locale
 * is. Whether a plan can be made of them is for the plan to say. Layer: above store_rows.
 */
#include "store.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

enum member_type { INT32, INT64, REAL };

static const struct member {
    tamis_pattern_kind kind;
    enum member_type type;
    size_t offset;
} members[] = {
#define AT(member) offsetof(tamis_pattern, member)
    {TAMIS_PATTERN_SLIDING, INT64, AT(sliding.sink_tokens)},
    {TAMIS_PATTERN_SLIDING, INT64, AT(sliding.window_tokens)},
    {TAMIS_PATTERN_VERTICAL_SLASH, INT32, AT(vertical_slash.last_queries)},
    {TAMIS_PATTERN_VERTICAL_SLASH, INT64, AT(vertical_slash.vertical_lines)},
    {TAMIS_PATTERN_VERTICAL_SLASH, INT64, AT(vertical_slash.slash_lines)},
    {TAMIS_PATTERN_VERTICAL_SLASH, REAL, AT(vertical_slash.coverage)},
    {TAMIS_PATTERN_FLEXPREFILL, REAL, AT(flexprefill.gamma)},
    {TAMIS_PATTERN_FLEXPREFILL, REAL, AT(flexprefill.tau)},
    {TAMIS_PATTERN_FLEXPREFILL, INT64, AT(flexprefill.min_tokens)},
    {TAMIS_PATTERN_FLEXPREFILL, INT64, AT(flexprefill.max_tokens)},
    {TAMIS_PATTERN_XATTENTION, INT32, AT(xattention.stride)},
    {TAMIS_PATTERN_XATTENTION, REAL, AT(xattention.threshold)},
    {TAMIS_PATTERN_TOPK_BLOCKS, INT64, AT(topk_blocks.blocks)},
    {TAMIS_PATTERN_TOPK_BLOCKS, REAL, AT(topk_blocks.ratio)},
#undef AT
};
#define MEMBERS (sizeof members / sizeof *members)

/* --------------------------------------------------------------------------------------------------------- writing */

static void write_member(struct tamisi_buf *out, const tamis_pattern *pattern, const struct member *member)
{
    const char *place = (const char *)pattern + member->offset;
    int32_t narrow;
    int64_t wide;
    uint64_t bits;

    switch (member->type) {
    case INT32:
        memcpy(&narrow, place, sizeof narrow);
        tamisi_buf_printf(out, " %" PRId32, narrow);
        break;
    case INT64:
        memcpy(&wide, place, sizeof wide);
        tamisi_buf_printf(out, " %" PRId64, wide);
        break;
    case REAL:
        memcpy(&bits, place, sizeof bits);
        tamisi_buf_printf(out, " %016" PRIx64, bits);
        break;
    }
}

void tamisi_pattern_write(struct tamisi_buf *out, const tamis_pattern *pattern)
{
    if (pattern->kind == TAMIS_PATTERN_NONE) return;
    tamisi_buf_printf(out, "%d", (int)pattern->kind);
    for (size_t i = 0; i < MEMBERS; i++)
        if (members[i].kind == pattern->kind) write_member(out, pattern, &members[i]);
}

/* --------------------------------------------------------------------------------------------------------- reading */

/* Digits of the base from `*at` to a number of at most `most`; false where there are none, or too many. */
static bool read_digits(const char **at, unsigned base, uint64_t most, uint64_t *out)
{
    static const char digits[] = "0123456789abcdef";
    const char *first = *at, *digit;

    *out = 0;
    for (; **at != '\0' && (digit = memchr(digits, **at, base)) != NULL; (*at)++) {
        const uint64_t value = (uint64_t)(digit - digits);

        if (*out > (most - value) / base) return false;
        *out = *out * base + value;
    }
    return *at > first;
}

static bool read_member(tamis_pattern *out, const struct member *member, const char **at)
{
    char *place = (char *)out + member->offset;
    const char *first;
    uint64_t bits;

    if (*(*at)++ != ' ') return false;
    first = *at;
    if (member->type == REAL) {
        if (!read_digits(at, 16, UINT64_MAX, &bits) || *at - first != 16) return false;
        memcpy(place, &bits, sizeof bits);
        return true;
    }
    if (!read_digits(at, 10, member->type == INT32 ? INT32_MAX : INT64_MAX, &bits)) return false;
    if (member->type == INT32) memcpy(place, &(int32_t){(int32_t)bits}, sizeof(int32_t));
    else memcpy(place, &(int64_t){(int64_t)bits}, sizeof(int64_t));
    return true;
}

/* TAMIS_ECORRUPT: not of the normal form. TAMIS_EVERSION: of a kind, or with parameters, that came later. */
static tamis_status read_pattern(tamis_pattern *out, const char *text)
{
    uint64_t kind;

    *out = (tamis_pattern)TAMIS_PATTERN_INIT;
    if (*text == '\0') return TAMIS_OK;
    if (!read_digits(&text, 10, INT32_MAX, &kind) || kind <= TAMIS_PATTERN_HOST_BLOCKS) return TAMIS_ECORRUPT;
    if (kind > TAMIS_PATTERN_TOPK_BLOCKS) return TAMIS_EVERSION;
    out->kind = (tamis_pattern_kind)kind;
    for (size_t i = 0; i < MEMBERS; i++)
        if (members[i].kind == out->kind && !read_member(out, &members[i], &text)) return TAMIS_ECORRUPT;
    if (*text == '\0') return TAMIS_OK;
    return *text == ' ' ? TAMIS_EVERSION : TAMIS_ECORRUPT;
}

tamis_status tamis_store_pattern(tamis_pattern *out, tamis_store *store, const char *name)
{
    struct tamisi_spec_row spec;
    tamis_pattern pattern;
    tamis_status status;

    tamisi_error_clear();
    if (out == NULL) return tamisi_fail(TAMIS_EINVAL, "out: is NULL");
    if (store == NULL) return tamisi_fail(TAMIS_EINVAL, "store: is NULL");
    if (out->struct_size < sizeof *out)
        return tamisi_fail(TAMIS_EINVAL, "out: struct_size is %zu, at least %zu is needed: use TAMIS_PATTERN_INIT",
                           out->struct_size, sizeof *out);
    TAMIS_TRY(tamisi_store_get_spec(&spec, store, name));
    status = read_pattern(&pattern, spec.pattern);
    if (status == TAMIS_ECORRUPT)
        status = tamisi_fail(status, "store %s: spec \"%s\" has the pattern \"%.80s\", which no tamis writes",
                             tamisi_store_path(store), spec.name, spec.pattern);
    else if (status == TAMIS_EVERSION)
        status = tamisi_fail(status, "store %s: spec \"%s\" has a pattern that this tamis does not know, a newer one would",
                             tamisi_store_path(store), spec.name);
    if (status == TAMIS_OK) {
        pattern.struct_size = out->struct_size;
        *out = pattern;
    }
    tamisi_spec_row_free(&spec);
    return status;
}
