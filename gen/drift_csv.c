/*
 * drift_csv.c: see drift_csv.h.
 */
#include "drift_csv.h"

#include "error.h"

#include <ctype.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct reader {
    double *drifts;
    const char *name;
    int line;
    int lines[DRIFT_CSV_LAYERS]; /* where a layer was given; 0: not yet */
    int layers;                  /* one past the highest */
};

/* The field up to the comma or the line's end, without blanks around it. False: longer than any number. */
static bool take_field(char out[64], const char **at)
{
    const char *from = *at + strspn(*at, " \t");
    size_t bytes = strcspn(from, ",");
    *at = from + bytes;
    while (bytes > 0 && (from[bytes - 1] == ' ' || from[bytes - 1] == '\t')) bytes--;
    if (bytes > 63) return false;
    memcpy(out, from, bytes);
    out[bytes] = '\0';
    return true;
}

static bool read_layer(const char *text, long *layer)
{
    char *end;
    if (!isdigit((unsigned char)*text)) return false;
    *layer = strtol(text, &end, 10);
    return *end == '\0' && *layer < DRIFT_CSV_LAYERS;
}

static bool read_drift(const char *text, double *drift)
{
    char *end;
    if (!isdigit((unsigned char)*text) && *text != '.') return false; /* no "nan", no sign */
    if (text[0] == '0' && (text[1] == 'x' || text[1] == 'X')) return false;
    *drift = strtod(text, &end);
    return *end == '\0' && isfinite(*drift);
}

static tamis_status read_line(struct reader *reader, const char *line)
{
    char layer_text[64], drift_text[64];
    const char *at = line;
    long layer;
    double drift;
    const bool fields = take_field(layer_text, &at) && *at++ == ',' && take_field(drift_text, &at) && *at == '\0';
    if (!fields)
        return tamisi_fail(TAMIS_EINVAL, "%s:%d: \"%.60s\" is no \"layer,drift\", as in 0,0.0625", reader->name, reader->line,
                           line);
    if (!read_layer(layer_text, &layer))
        return tamisi_fail(TAMIS_EINVAL, "%s:%d: the layer is \"%s\", a number from 0 to %d would be right", reader->name,
                           reader->line, layer_text, DRIFT_CSV_LAYERS - 1);
    if (!read_drift(drift_text, &drift))
        return tamisi_fail(TAMIS_EINVAL, "%s:%d: the drift is \"%s\", a number of 0 or more would be right", reader->name,
                           reader->line, drift_text);
    if (reader->lines[layer])
        return tamisi_fail(TAMIS_EINVAL, "%s:%d: layer %ld is given twice, first in line %d", reader->name, reader->line, layer,
                           reader->lines[layer]);
    reader->drifts[layer] = drift;
    reader->lines[layer] = reader->line;
    if (layer >= reader->layers) reader->layers = (int)layer + 1;
    return TAMIS_OK;
}

/* One line of `bytes` bytes, its end not counted. */
static tamis_status visit_line(struct reader *reader, const char *text, size_t bytes, bool *begun)
{
    char line[256];
    if (bytes > 0 && text[bytes - 1] == '\r') bytes--;
    if (bytes >= sizeof line || memchr(text, '\0', bytes))
        return tamisi_fail(TAMIS_EINVAL, "%s:%d: is no line of text of at most %zu characters", reader->name, reader->line,
                           sizeof line - 1);
    memcpy(line, text, bytes);
    line[bytes] = '\0';
    const bool first = !*begun;
    if (line[strspn(line, " \t")] == '\0' || line[0] == '#') return TAMIS_OK;
    *begun = true;
    return first && strcmp(line, "layer,drift") == 0 ? TAMIS_OK : read_line(reader, line);
}

tamis_status drift_csv_read(double drifts[DRIFT_CSV_LAYERS], int *layers, const char *name, const char *text, size_t bytes)
{
    struct reader reader = {.drifts = drifts, .name = name};
    bool begun = false;
    if (bytes >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) text += 3, bytes -= 3; /* a mark that spreadsheets write */
    while (bytes > 0) {
        const char *end = memchr(text, '\n', bytes);
        const size_t length = end ? (size_t)(end - text) : bytes;
        reader.line++;
        TAMIS_TRY(visit_line(&reader, text, length, &begun));
        text += length + (end != NULL);
        bytes -= length + (end != NULL);
    }
    if (reader.layers == 0)
        return tamisi_fail(TAMIS_EINVAL, "%s: has no layer, a line as in 0,0.0625 for each would be right", name);
    for (int layer = 0; layer < reader.layers; layer++)
        if (!reader.lines[layer])
            return tamisi_fail(TAMIS_EINVAL, "%s: layer %d is missing, of %d", name, layer, reader.layers);
    *layers = reader.layers;
    return TAMIS_OK;
}
