/*
 * bench_table.c: see bench_table.h. A ratio is the peer's time over ours: above 1, ours is faster.
 */
#include "bench_table.h"

#include "spec.h"

#include <ctype.h>
#include <stdio.h>

static const char *mask_name(const tamis_problem *problem) { return problem->mask == TAMIS_FULL ? "full" : "causal"; }

static bool is_compact(const struct bench_case *bench_case)
{
    return bench_case->problem.selection.policy != TAMIS_DENSE;
}

void bench_describe(char *out, size_t room, const struct bench_case *bench_case)
{
    const tamis_problem *p = &bench_case->problem;
    snprintf(out, room, "head_dim %d, seq_len %lld, heads %d/%d, %s, %s%s", p->head_dim, (long long)p->seq_len, p->q_heads,
             p->kv_heads, spec_dtype_name(p->dtype), mask_name(p),
             is_compact(bench_case) ? ", compressed" : bench_case->density > 0 ? ", a block pattern" : "");
}

/* ---- the table */

void bench_table_open(struct bench_table *table)
{
    static const char *const first[] = {"D", "L", "HEADS", "DTYPE", "MASK"};
    int columns = 0;
    unsigned right = 0;
    for (size_t i = 0; i < sizeof first / sizeof *first; i++) table->heads[columns++] = first[i];
    right |= 1u << 0 | 1u << 1 | 1u << 2;
    if (table->kept) right |= 1u << columns, table->heads[columns++] = "KEPT";
    if (table->density) right |= 1u << columns, table->heads[columns++] = "DENSITY";
    right |= 7u << columns;
    table->heads[columns++] = "MS";
    table->heads[columns++] = "TFLOP/S";
    table->heads[columns++] = "MHZ";
    for (int i = 0; i < table->peers->backend_count; i++) {
        const char *name = table->peers->backends[i];
        size_t c = 0;
        for (; name[c]; c++) table->backends[i][c] = (char)toupper((unsigned char)name[c]);
        table->backends[i][c] = '\0';
        right |= 1u << columns;
        table->heads[columns++] = table->backends[i];
    }
    if (table->kept || table->density) right |= 1u << columns, table->heads[columns++] = "DENSE";
    table->heads[columns++] = "VARIANT";
    cli_table_init(&table->table, table->heads, columns, right);
}

static void add_ratio(struct cli_table *table, double other_ms, double ms)
{
    if (other_ms > 0)
        cli_table_add(table, "%.3f", other_ms / ms);
    else
        cli_table_add(table, "-");
}

/* The peer's time for the figure's problem; 0: there is none, as for a block pattern: peers attend to all blocks. */
static double peer_ms(const struct bench_table *table, int backend, const struct bench_case *bench_case,
                      const struct bench_figure *figure)
{
    const struct bench_key key = bench_key_of(bench_case, figure);
    if (bench_case->density > 0) return 0;
    const struct bench_peer *peer = bench_peers_best(table->peers, table->peers->backends[backend], &key);
    return peer ? peer->ms : 0;
}

static void add_row(struct bench_table *table, const struct bench_case *bench_case, const struct bench_figure *figure,
                    double dense_ms)
{
    const tamis_problem *p = &bench_case->problem;
    struct cli_table *cells = &table->table;
    cli_table_add(cells, "%d", p->head_dim);
    cli_table_add(cells, "%lld", (long long)p->seq_len);
    cli_table_add(cells, "%d/%d", p->q_heads, p->kv_heads);
    cli_table_add(cells, "%s", spec_dtype_name(p->dtype));
    cli_table_add(cells, "%s", mask_name(p));
    if (table->kept && is_compact(bench_case)) cli_table_add(cells, "%lld", figure->rows);
    if (table->kept && !is_compact(bench_case)) cli_table_add(cells, "-");
    if (table->density && bench_case->density > 0) cli_table_add(cells, "%g", bench_case->density);
    if (table->density && !(bench_case->density > 0)) cli_table_add(cells, "-");
    cli_table_add(cells, "%.3f", figure->ms);
    const double tflops = figure->flops / figure->ms / 1e9;
    cli_table_add(cells, tflops >= 1 ? "%.1f" : "%.4f", tflops); /* a CPU's are few */
    if (figure->sm_mhz > 0)
        cli_table_add(cells, "%d", figure->sm_mhz);
    else
        cli_table_add(cells, "-");
    for (int i = 0; i < table->peers->backend_count; i++)
        add_ratio(cells, peer_ms(table, i, bench_case, figure), figure->ms);
    if (table->kept || table->density) add_ratio(cells, dense_ms, figure->ms);
    cli_table_add(cells, "%s", figure->variant);
}

/* ---- JSON: problem and time under the names that peers.py uses */

static void add_json(struct bench_table *table, const struct bench_case *bench_case, const struct bench_figure *figure,
                     double dense_ms)
{
    const tamis_problem *p = &bench_case->problem;
    struct json json;
    cli_json_begin(table->cli, &json, "bench_attention");
    json_string(&json, "what", is_compact(bench_case) ? "compact" : bench_case->density > 0 ? "blocks" : "dense");
    json_string(&json, "backend", "tamis");
    json_string(&json, "layout", "head");
    json_string(&json, "device", table->device);
    json_string(&json, "gpu", table->gpu);
    json_int(&json, "head_dim", p->head_dim);
    json_int(&json, "seq_len", p->seq_len);
    json_int(&json, "q_heads", p->q_heads);
    json_int(&json, "kv_heads", p->kv_heads);
    json_string(&json, "dtype", spec_dtype_name(p->dtype));
    json_bool(&json, "causal", p->mask == TAMIS_CAUSAL);
    json_int(&json, "kept", figure->rows);
    if (bench_case->density > 0) {
        json_real(&json, "density", bench_case->density);
        json_int(&json, "blocks", figure->blocks);
    }
    json_real(&json, "ms", figure->ms);
    json_real(&json, "least_ms", figure->least_ms);
    json_real(&json, "most_ms", figure->most_ms);
    json_int(&json, "rounds", table->rounds);
    json_real(&json, "tflops", figure->flops / figure->ms / 1e9);
    json_int(&json, "sm_mhz", figure->sm_mhz);
    json_real(&json, "error", figure->error);
    json_real(&json, "error_limit", figure->error_limit);
    json_string(&json, "variant", figure->variant);
    json_object(&json, "ratio");
    for (int i = 0; i < table->peers->backend_count; i++) {
        const double ms = peer_ms(table, i, bench_case, figure);
        if (ms > 0) json_real(&json, table->peers->backends[i], ms / figure->ms);
    }
    if (dense_ms > 0) json_real(&json, "dense", dense_ms / figure->ms);
    json_object_end(&json);
    cli_json_end(table->cli, &json);
}

void bench_table_add(struct bench_table *table, const struct bench_case *bench_case, const struct bench_figure *figure,
                     double dense_ms)
{
    if (table->cli->json)
        add_json(table, bench_case, figure, dense_ms);
    else
        add_row(table, bench_case, figure, dense_ms);
}

void bench_table_close(struct bench_table *table)
{
    if (table->table.count > 0) cli_table_print(&table->table, table->cli);
    cli_table_free(&table->table);
}
