/*
 * case.c: reading case folders. Arrays are believed in their sizes; what else is said of them must agree.
 */
#define _GNU_SOURCE
#include "case.h"

#include "error.h"
#include "nearest.h"
#include "spec.h"
#include "spec_reader.h"
#include "spec_yaml.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int case_index_heads(const tamis_problem *problem)
{
    switch (problem->selection.scope) {
    case TAMIS_SCOPE_HEAD: return problem->q_heads;
    case TAMIS_SCOPE_KV_GROUP: return problem->kv_heads;
    case TAMIS_SCOPE_LAYER: break;
    }
    return 1;
}

static tamis_status join(char out[PATH_MAX], const char *folder, const char *file)
{
    if (snprintf(out, PATH_MAX, "%s/%s", folder, file) < PATH_MAX) return TAMIS_OK;
    return tamisi_fail(TAMIS_EINVAL, "%s: the name is too long", file);
}

static tamis_status read_array(struct npy *out, const char *folder, const char *file)
{
    char path[PATH_MAX];
    TAMIS_TRY(join(path, folder, file));
    return npy_read(out, path);
}

/* ---- inputs */

static tamis_status check_rank(const struct npy *array, const char *folder, const char *file)
{
    if (array->rank != 4)
        return tamisi_fail(TAMIS_EINVAL, "%s/%s: %d dimensions, 4 (batch, heads, seq_len, head_dim) would be right", folder,
                           file, array->rank);
    for (int i = 0; i < 4; i++)
        if (array->shape[i] < 1 || array->shape[i] > INT_MAX)
            return tamisi_fail(TAMIS_EINVAL, "%s/%s: dimension %d is %lld, 1 to %d would be right", folder, file, i,
                               array->shape[i], INT_MAX);
    if (array->type != NPY_U16 && array->type != NPY_F16)
        return tamisi_fail(TAMIS_EINVAL, "%s/%s: is %s, uint16 (bf16 bits) or float16 would be right", folder, file,
                           npy_type_name(array->type));
    return TAMIS_OK;
}

/* K and V against Q: type, batch, length and head dim. */
static tamis_status check_alike(const struct npy *q, const struct npy *other, const char *folder, const char *file)
{
    static const char *const names[] = {"batch", "heads", "seq_len", "head_dim"};
    if (other->type != q->type)
        return tamisi_fail(TAMIS_EINVAL, "%s/%s: is %s, %s as in q.npy would be right", folder, file,
                           npy_type_name(other->type), npy_type_name(q->type));
    for (int i = 0; i < 4; i++)
        if (i != 1 && other->shape[i] != q->shape[i])
            return tamisi_fail(TAMIS_EINVAL, "%s/%s: %s is %lld, %lld as in q.npy would be right", folder, file, names[i],
                               other->shape[i], q->shape[i]);
    return TAMIS_OK;
}

static tamis_status read_inputs(struct case_input *out, const char *folder)
{
    TAMIS_TRY(read_array(&out->q, folder, "q.npy"));
    TAMIS_TRY(check_rank(&out->q, folder, "q.npy"));
    TAMIS_TRY(read_array(&out->k, folder, "k.npy"));
    TAMIS_TRY(check_rank(&out->k, folder, "k.npy"));
    TAMIS_TRY(check_alike(&out->q, &out->k, folder, "k.npy"));
    TAMIS_TRY(read_array(&out->v, folder, "v.npy"));
    TAMIS_TRY(check_rank(&out->v, folder, "v.npy"));
    TAMIS_TRY(check_alike(&out->q, &out->v, folder, "v.npy"));
    if (out->v.shape[1] != out->k.shape[1])
        return tamisi_fail(TAMIS_EINVAL, "%s/v.npy: heads is %lld, %lld as in k.npy would be right", folder, out->v.shape[1],
                           out->k.shape[1]);
    out->problem.dtype = out->q.type == NPY_U16 ? TAMIS_BF16 : TAMIS_FP16;
    out->problem.batch = (int32_t)out->q.shape[0];
    out->problem.q_heads = (int32_t)out->q.shape[1];
    out->problem.kv_heads = (int32_t)out->k.shape[1];
    out->problem.seq_len = out->q.shape[2];
    out->problem.head_dim = (int32_t)out->q.shape[3];
    return TAMIS_OK;
}

/* ---- case.yaml */

struct case_yaml {
    const struct spec_yaml *yaml;
    tamis_problem *problem;
    const yaml_node_t *policy; /* the key that chose it */
};

static const char *text_of(const yaml_node_t *node)
{
    return node->type == YAML_SCALAR_NODE ? (const char *)node->data.scalar.value : "";
}

static tamis_status read_integer(long long *out, const struct spec_yaml *yaml, const yaml_node_t *node, long long most)
{
    char shown[SPEC_YAML_SHOWN];
    if (spec_yaml_is_plain(node) && spec_integer_read(out, text_of(node)) && *out >= 0 && *out <= most) return TAMIS_OK;
    spec_yaml_show(shown, node);
    return spec_yaml_fail(yaml, node, "is %s, an integer from 0 to %lld would be right", shown, most);
}

static tamis_status read_real(double *out, const struct spec_yaml *yaml, const yaml_node_t *node)
{
    char shown[SPEC_YAML_SHOWN], *end = NULL;
    const char *text = text_of(node);
    *out = strtod(text, &end);
    if (spec_yaml_is_plain(node) && *text && !*end && isfinite(*out) && *out >= 0) return TAMIS_OK;
    spec_yaml_show(shown, node);
    return spec_yaml_fail(yaml, node, "is %s, a number of 0 or more would be right", shown);
}

/* Keys that repeat what the arrays say. */
static tamis_status check_geometry(const struct case_yaml *read, const char *key, const yaml_node_t *node, bool *known)
{
    const tamis_problem *problem = read->problem;
    const struct {
        const char *key;
        long long value;
    } facts[] = {{"batch", problem->batch},
                 {"q_heads", problem->q_heads},
                 {"kv_heads", problem->kv_heads},
                 {"seq_len", problem->seq_len},
                 {"head_dim", problem->head_dim}};
    for (size_t i = 0; i < sizeof facts / sizeof facts[0]; i++) {
        long long value;
        if (strcmp(facts[i].key, key) != 0) continue;
        *known = true;
        TAMIS_TRY(read_integer(&value, read->yaml, node, INT_MAX));
        if (value != facts[i].value)
            return spec_yaml_fail(read->yaml, node, "%s is %lld, %lld as in the arrays would be right", key, value,
                                  facts[i].value);
    }
    return TAMIS_OK;
}

static tamis_status choose_policy(struct case_yaml *read, const yaml_node_t *node, tamis_policy policy)
{
    if (read->policy)
        return spec_yaml_fail(read->yaml, node, "a second policy, one of coverage, ratio and count would be right");
    read->policy = node;
    read->problem->selection.policy = policy;
    return TAMIS_OK;
}

static tamis_status read_scope(struct case_yaml *read, const yaml_node_t *node)
{
    for (int scope = TAMIS_SCOPE_HEAD; scope <= TAMIS_SCOPE_LAYER; scope++)
        if (strcmp(text_of(node), spec_scope_name((tamis_scope)scope)) == 0) {
            read->problem->selection.scope = (tamis_scope)scope;
            return TAMIS_OK;
        }
    return spec_yaml_fail(read->yaml, node, "no scope, one of head, kv_group and layer would be right");
}

static tamis_status check_dtype(const struct case_yaml *read, const yaml_node_t *node)
{
    tamis_dtype dtype;
    if (spec_dtype_from_name(&dtype, text_of(node)) && dtype == read->problem->dtype) return TAMIS_OK;
    return spec_yaml_fail(read->yaml, node, "dtype is %s, %s as in the arrays would be right", text_of(node),
                          spec_dtype_name(read->problem->dtype));
}

/* What read_key() takes. Others are the case's own notes, unless they are next to one of these. */
static const char *const keys[] = {"batch",    "q_heads", "kv_heads", "seq_len", "head_dim", "dtype", "scope",
                                   "scale",    "window",  "pool",     "count",   "coverage", "ratio", "min_tokens"};
#define KEYS ((int)(sizeof keys / sizeof *keys))

/* `seen`: a bit each of the keys before this one. */
static tamis_status check_key(const struct case_yaml *read, const yaml_node_t *node, unsigned *seen)
{
    const char *key = text_of(node);
    int at = 0;
    while (at < KEYS && strcmp(keys[at], key) != 0) at++;
    if (at < KEYS) {
        if (*seen >> at & 1u) return spec_yaml_fail(read->yaml, node, "%s is given twice, once would be right", key);
        *seen |= 1u << at;
        return TAMIS_OK;
    }
    const char *meant = nearest_name(key, keys, KEYS);
    return meant ? spec_yaml_fail(read->yaml, node, "unknown key \"%s\", did you mean \"%s\"?", key, meant) : TAMIS_OK;
}

/* One of the keys. */
static tamis_status read_key(struct case_yaml *read, const char *key, const yaml_node_t *node)
{
    tamis_selection *selection = &read->problem->selection;
    long long value = 0;
    bool known = false;
    TAMIS_TRY(check_geometry(read, key, node, &known));
    if (strcmp(key, "dtype") == 0) return check_dtype(read, node);
    if (strcmp(key, "scope") == 0) return read_scope(read, node);
    if (strcmp(key, "scale") == 0) return read_real(&read->problem->scale, read->yaml, node);
    if (strcmp(key, "coverage") == 0) {
        TAMIS_TRY(choose_policy(read, node, TAMIS_COVERAGE));
        return read_real(&selection->coverage, read->yaml, node);
    }
    if (strcmp(key, "ratio") == 0) {
        TAMIS_TRY(choose_policy(read, node, TAMIS_RATIO));
        return read_real(&selection->ratio, read->yaml, node);
    }
    const bool window = strcmp(key, "window") == 0, pool = strcmp(key, "pool") == 0, count = strcmp(key, "count") == 0;
    if (!window && !pool && !count && strcmp(key, "min_tokens") != 0) return TAMIS_OK;
    if (count) TAMIS_TRY(choose_policy(read, node, TAMIS_COUNT));
    TAMIS_TRY(read_integer(&value, read->yaml, node, INT_MAX));
    if (window) selection->window = (int32_t)value;
    else if (pool) selection->pool = (int32_t)value;
    else if (count) selection->count = value;
    else selection->min_tokens = value;
    return TAMIS_OK;
}

static tamis_status read_mapping(struct case_yaml *read)
{
    const yaml_node_t *root = spec_yaml_root(read->yaml);
    if (root->type != YAML_MAPPING_NODE)
        return spec_yaml_fail(read->yaml, root, "no mapping, lines like \"window: 128\" would be right");
    unsigned seen = 0;
    for (const yaml_node_pair_t *pair = root->data.mapping.pairs.start; pair < root->data.mapping.pairs.top; pair++) {
        const yaml_node_t *key = spec_yaml_node(read->yaml, pair->key);
        TAMIS_TRY(check_key(read, key, &seen));
        TAMIS_TRY(read_key(read, text_of(key), spec_yaml_node(read->yaml, pair->value)));
    }
    return TAMIS_OK;
}

static tamis_status parse_yaml(tamis_problem *problem, const char *path, const struct tamisi_buf *text)
{
    struct spec_yaml yaml;
    TAMIS_TRY(spec_yaml_parse(&yaml, path, text->data, text->size));
    struct case_yaml read = {&yaml, problem, NULL};
    const tamis_status status = read_mapping(&read);
    spec_yaml_close(&yaml);
    return status;
}

bool case_has_yaml(const char *folder)
{
    char path[PATH_MAX];
    return snprintf(path, sizeof path, "%s/case.yaml", folder) < PATH_MAX && access(path, F_OK) == 0;
}

static tamis_status read_yaml(tamis_problem *problem, const char *folder)
{
    char path[PATH_MAX];
    struct tamisi_buf text = TAMISI_BUF_INIT;
    TAMIS_TRY(join(path, folder, "case.yaml"));
    tamis_status status = spec_yaml_load(&text, path);
    if (status == TAMIS_OK) status = parse_yaml(problem, path, &text);
    tamisi_buf_free(&text);
    return status;
}

tamis_status case_read(struct case_input *out, const char *folder, const tamis_problem *base)
{
    *out = (struct case_input){.problem = *base};
    TAMIS_TRY(read_inputs(out, folder));
    return case_has_yaml(folder) ? read_yaml(&out->problem, folder) : TAMIS_OK;
}

void case_free(struct case_input *input)
{
    npy_free(&input->q);
    npy_free(&input->k);
    npy_free(&input->v);
}

/* ---- the reference */

static tamis_status read_shaped(struct npy *out, const char *folder, const char *file, enum npy_type type, int rank,
                                const long long *shape) /* -1: any */
{
    TAMIS_TRY(read_array(out, folder, file));
    if (out->type != type)
        return tamisi_fail(TAMIS_EINVAL, "%s/%s: is %s, %s would be right", folder, file, npy_type_name(out->type),
                           npy_type_name(type));
    if (out->rank != rank)
        return tamisi_fail(TAMIS_EINVAL, "%s/%s: %d dimensions, %d would be right", folder, file, out->rank, rank);
    for (int i = 0; i < rank; i++)
        if (shape[i] >= 0 && out->shape[i] != shape[i])
            return tamisi_fail(TAMIS_EINVAL, "%s/%s: dimension %d is %lld, %lld would be right", folder, file, i,
                               out->shape[i], shape[i]);
    return TAMIS_OK;
}

/* kept within bounds; of each list its first kept[b] positions ascend within the sequence. */
static tamis_status check_lists(const struct case_reference *reference, const char *folder, const tamis_problem *problem)
{
    const int32_t *kept = reference->kept.data, *indices = reference->indices.data;
    const int heads = case_index_heads(problem);
    for (int b = 0; b < problem->batch; b++)
        if (kept[b] < 1 || kept[b] > reference->capacity || kept[b] > problem->seq_len)
            return tamisi_fail(TAMIS_EINVAL, "%s/kept.npy: sequence %d keeps %d, 1 to %lld would be right", folder, b, kept[b],
                               reference->capacity);
    for (long long list = 0; list < (long long)problem->batch * heads; list++) {
        const int32_t *row = indices + list * reference->capacity;
        for (int i = 0; i < kept[list / heads]; i++)
            if (row[i] < 0 || row[i] >= problem->seq_len || (i > 0 && row[i] <= row[i - 1]))
                return tamisi_fail(TAMIS_EINVAL, "%s/indices.npy: entry %d of list %lld is %d, ascending positions below %lld "
                                                 "would be right", folder, i, list, row[i], (long long)problem->seq_len);
    }
    return TAMIS_OK;
}

tamis_status case_reference_read(struct case_reference *out, const char *folder, const tamis_problem *problem)
{
    const long long batch = problem->batch, heads = problem->q_heads, seq_len = problem->seq_len;
    const long long candidates = seq_len > problem->selection.window ? seq_len - problem->selection.window : 0;
    memset(out, 0, sizeof *out);
    TAMIS_TRY(read_shaped(&out->kept, folder, "kept.npy", NPY_I32, 1, (const long long[]){batch}));
    TAMIS_TRY(read_shaped(&out->indices, folder, "indices.npy", NPY_I32, 3,
                          (const long long[]){batch, case_index_heads(problem), -1}));
    out->capacity = out->indices.shape[2];
    TAMIS_TRY(check_lists(out, folder, problem));
    TAMIS_TRY(read_shaped(&out->output, folder, "output.npy", NPY_F32, 4,
                          (const long long[]){batch, heads, seq_len, problem->head_dim}));
    if (problem->selection.policy == TAMIS_DENSE || candidates == 0) return TAMIS_OK;
    return read_shaped(&out->score, folder, "score.npy", NPY_F32, 3, (const long long[]){batch, heads, candidates});
}

void case_reference_free(struct case_reference *reference)
{
    npy_free(&reference->kept);
    npy_free(&reference->indices);
    npy_free(&reference->output);
    npy_free(&reference->score);
}
