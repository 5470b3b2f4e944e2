/*
 * csv.c: see csv.h.
 */
#include "csv.h"

#include "error.h"

#include <string.h>

void csv_open(struct csv *csv, const char *name, char *text, size_t bytes)
{
    *csv = (struct csv){.name = name, .at = text, .end = text + bytes, .next_line = 1};
    if (bytes >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) csv->at += 3;
}

/* From behind the opening quote to behind the closing one; what is inside moves up as quotes go. NULL: there is none. */
static char *take_quoted(struct csv *csv, char *to)
{
    for (char *from = csv->at + 1; from < csv->end; from++) {
        if (*from == '"' && from[1] != '"') {
            csv->at = from + 1;
            return to;
        }
        from += *from == '"';
        csv->next_line += *from == '\n';
        *to++ = *from;
    }
    return NULL;
}

/* The field's end, where its zero goes; csv->at then is at what ends it. */
static char *take_plain(struct csv *csv)
{
    while (csv->at < csv->end && *csv->at != ',' && *csv->at != '\n' && *csv->at != '"') csv->at++;
    return csv->at > csv->fields[csv->count - 1] && csv->at[-1] == '\r' && *csv->at != ',' ? csv->at - 1 : csv->at;
}

/* Whether another field follows, or the record ends: 1, 0; -1: neither stands there. */
static int take_separator(struct csv *csv)
{
    if (csv->at < csv->end && *csv->at == '\r') csv->at++;
    if (csv->at == csv->end) return 0;
    const char mark = *csv->at;
    if (mark != ',' && mark != '\n') return -1;
    csv->at++;
    csv->next_line += mark == '\n';
    return mark == ',';
}

static tamis_status next_field(struct csv *csv, int *more)
{
    if (csv->count == CSV_FIELDS)
        return tamisi_fail(TAMIS_EINVAL, "%s:%d: has more than %d columns", csv->name, csv->line, CSV_FIELDS);
    char *begin = csv->at;
    csv->fields[csv->count++] = begin;
    char *end = begin < csv->end && *begin == '"' ? take_quoted(csv, begin) : take_plain(csv);
    if (!end) return tamisi_fail(TAMIS_EINVAL, "%s:%d: a quote is opened and not closed", csv->name, csv->line);
    *more = take_separator(csv);
    if (*more < 0) return tamisi_fail(TAMIS_EINVAL, "%s:%d: a quote within a field, \"\" would be right", csv->name, csv->line);
    *end = '\0';
    return TAMIS_OK;
}

tamis_status csv_next(struct csv *csv)
{
    csv->count = 0;
    while (csv->at < csv->end && (*csv->at == '\n' || *csv->at == '\r')) csv->next_line += *csv->at++ == '\n';
    csv->line = csv->next_line;
    if (csv->at == csv->end) return TAMIS_OK;
    for (int more = 1; more > 0;) TAMIS_TRY(next_field(csv, &more));
    return TAMIS_OK;
}
