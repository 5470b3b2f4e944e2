/*
 * quality_csv.c: see quality_csv.h.
 */
#include "quality_csv.h"

#include "csv.h"
#include "error.h"
#include "spec.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum column {
    SETTING, TASK, HAYSTACK, LENGTH, DEPTH, SAMPLE, /* the prompt's five in the order of quality_row.cases */
    ACCURACY, PREFILL_MS, METHOD, POLICY, AMOUNT, SCOPE, WINDOW, POOL, MIN_TOKENS, SPARSE_LAYERS, LAYERS, COLUMNS
};
static const char *const columns[COLUMNS] = {"setting", "task", "haystack", "length", "depth", "sample", "accuracy",
                                             "prefill_ms", "method", "policy", "amount", "scope", "window", "pool",
                                             "min_tokens", "sparse_layers", "layers"};

struct reader {
    struct csv csv;
    int places[COLUMNS]; /* in a record */
    int fields;          /* of the first line */
    struct quality_row *rows;
    size_t count, room;
};

static const char *field(const struct reader *reader, enum column column) { return reader->csv.fields[reader->places[column]]; }

static tamis_status wrong(const struct reader *reader, enum column column, const char *right)
{
    return tamisi_fail(TAMIS_EINVAL, "%s:%d: %s is \"%.60s\", %s would be right", reader->csv.name, reader->csv.line,
                       columns[column], field(reader, column), right);
}

static tamis_status find_columns(struct reader *reader)
{
    struct csv *csv = &reader->csv;
    TAMIS_TRY(csv_next(csv));
    reader->fields = csv->count;
    for (int column = 0; column < COLUMNS; column++) {
        int place = 0;
        while (place < csv->count && strcmp(csv->fields[place], columns[column]) != 0) place++;
        if (place == csv->count)
            return tamisi_fail(TAMIS_EINVAL, "%s: has no column %s, a first line as examples/quality/run.py writes it would be "
                                             "right", csv->name, columns[column]);
        reader->places[column] = place;
    }
    return TAMIS_OK;
}

static tamis_status take_real(const struct reader *reader, enum column column, double least, double most, double *out)
{
    const char *text = field(reader, column);
    char *end;
    *out = isdigit((unsigned char)*text) && !strpbrk(text, "xX") ? strtod(text, &end) : -1.0;
    if (*out >= least && *out <= most && *end == '\0') return TAMIS_OK;
    return wrong(reader, column, most <= 1.0 ? "a number from 0 to 1" : "a number of 0 or more");
}

static tamis_status take_integer(const struct reader *reader, enum column column, long long *out)
{
    const char *text = field(reader, column);
    char *end;
    *out = isdigit((unsigned char)*text) && strlen(text) < 10 ? strtoll(text, &end, 10) : -1;
    return *out >= 0 && *end == '\0' ? TAMIS_OK : wrong(reader, column, "a number of at most 9 digits");
}

static tamis_status take_amount(struct reader *reader, struct quality_row *row)
{
    tamis_selection *selection = &row->selection;
    const char *policy = field(reader, POLICY);
    row->amount = field(reader, AMOUNT);
    long long count;
    if (strcmp(policy, "coverage") == 0) {
        selection->policy = TAMIS_COVERAGE;
        return take_real(reader, AMOUNT, 0.0, 1.0, &selection->coverage);
    }
    if (strcmp(policy, "ratio") == 0) {
        selection->policy = TAMIS_RATIO;
        return take_real(reader, AMOUNT, 0.0, 1.0, &selection->ratio);
    }
    if (strcmp(policy, "count") != 0) return wrong(reader, POLICY, "coverage, ratio or count");
    TAMIS_TRY(take_integer(reader, AMOUNT, &count));
    selection->policy = TAMIS_COUNT;
    selection->count = count;
    return TAMIS_OK;
}

static tamis_status take_selection(struct reader *reader, struct quality_row *row)
{
    long long window, pool, min_tokens;
    int scope = TAMIS_SCOPE_HEAD;
    TAMIS_TRY(take_amount(reader, row));
    while (scope <= TAMIS_SCOPE_LAYER && strcmp(spec_scope_name((tamis_scope)scope), field(reader, SCOPE)) != 0) scope++;
    if (scope > TAMIS_SCOPE_LAYER) return wrong(reader, SCOPE, "head, kv_group or layer");
    TAMIS_TRY(take_integer(reader, WINDOW, &window));
    TAMIS_TRY(take_integer(reader, POOL, &pool));
    TAMIS_TRY(take_integer(reader, MIN_TOKENS, &min_tokens));
    row->selection.scope = (tamis_scope)scope;
    row->selection.window = (int32_t)window;
    row->selection.pool = (int32_t)pool;
    row->selection.min_tokens = min_tokens;
    row->sparse_layers = field(reader, SPARSE_LAYERS);
    return row->sparse_layers[0] ? TAMIS_OK : wrong(reader, SPARSE_LAYERS, "a list as in 14,15,20-37");
}

static tamis_status take_row(struct reader *reader, struct quality_row *row)
{
    long long layers;
    *row = (struct quality_row){.setting = field(reader, SETTING), .line = reader->csv.line, .sparse_layers = "", .amount = ""};
    for (int i = 0; i < QUALITY_CASE; i++) row->cases[i] = field(reader, (enum column)(TASK + i));
    row->dense = strcmp(field(reader, METHOD), "dense") == 0;
    TAMIS_TRY(take_real(reader, ACCURACY, 0.0, 1.0, &row->accuracy));
    TAMIS_TRY(take_real(reader, PREFILL_MS, 0.0, HUGE_VAL, &row->prefill_ms));
    TAMIS_TRY(take_integer(reader, LENGTH, &row->length));
    TAMIS_TRY(take_integer(reader, LAYERS, &layers));
    row->layers = (int)layers;
    return row->dense ? TAMIS_OK : take_selection(reader, row);
}

static tamis_status add_row(struct reader *reader)
{
    if (reader->csv.count != reader->fields)
        return tamisi_fail(TAMIS_EINVAL, "%s:%d: has %d fields, the first line %d", reader->csv.name, reader->csv.line,
                           reader->csv.count, reader->fields);
    const char *method = field(reader, METHOD);
    if (!field(reader, ACCURACY)[0] || (strcmp(method, "dense") != 0 && strcmp(method, "sparse") != 0)) return TAMIS_OK;
    if (reader->count == reader->room) {
        const size_t room = reader->room ? 2 * reader->room : 256;
        struct quality_row *rows = realloc(reader->rows, room * sizeof *rows);
        if (!rows) return tamisi_fail(TAMIS_ENOMEM, "%s: out of memory", reader->csv.name);
        reader->rows = rows;
        reader->room = room;
    }
    TAMIS_TRY(take_row(reader, &reader->rows[reader->count]));
    reader->count++;
    return TAMIS_OK;
}

static tamis_status read_all(struct reader *reader)
{
    TAMIS_TRY(find_columns(reader));
    for (;;) {
        TAMIS_TRY(csv_next(&reader->csv));
        if (reader->csv.count == 0) return TAMIS_OK;
        TAMIS_TRY(add_row(reader));
    }
}

tamis_status quality_csv_read(struct quality_row **rows, size_t *count, const char *name, char *text, size_t bytes)
{
    struct reader reader = {.rows = NULL};
    csv_open(&reader.csv, name, text, bytes);
    const tamis_status status = read_all(&reader);
    if (status != TAMIS_OK) {
        free(reader.rows);
        reader.rows = NULL;
        reader.count = 0;
    }
    *rows = reader.rows;
    *count = reader.count;
    return status;
}

int quality_case_compare(const struct quality_row *a, const struct quality_row *b)
{
    for (int i = 0; i < QUALITY_CASE; i++) {
        const int order = strcmp(a->cases[i], b->cases[i]);
        if (order != 0) return order;
    }
    return 0;
}
