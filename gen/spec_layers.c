/*
 * spec_layers.c: `sparse_layers` to its normal form: ascending, each layer once, runs of three and more as
 * "first-last". Beside spec_tiles.c, below spec.c.
 */
#include "spec_reader.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_LAYERS 1024

struct layers {
    const struct spec_reader *reader;
    int limit; /* the model's number of layers, or the most that there can be */
    bool sparse[MAX_LAYERS];
};

static tamis_status fail_layers(const struct layers *layers, const yaml_node_t *node)
{
    char shown[SPEC_YAML_SHOWN];
    spec_yaml_show(shown, node);
    return spec_yaml_fail(layers->reader->yaml, node,
                          "sparse_layers is %s, layers as in 15-30 or [14, 15, 20-37], from 0 to %d, would be right",
                          shown, layers->limit - 1);
}

/* "15" or "15-30" of `bytes` bytes. */
static tamis_status read_run(struct layers *layers, const yaml_node_t *node, const char *text, size_t bytes)
{
    char copy[32];
    long long first, last;
    if (bytes >= sizeof copy) return fail_layers(layers, node);
    memcpy(copy, text, bytes);
    copy[bytes] = '\0';
    char *dash = strchr(copy, '-');
    if (dash) *dash = '\0';
    if (!spec_integer_read(&first, copy) || !spec_integer_read(&last, dash ? dash + 1 : copy))
        return fail_layers(layers, node);
    if (first < 0 || first > last || last >= layers->limit) return fail_layers(layers, node);
    for (long long layer = first; layer <= last; layer++) {
        if (layers->sparse[layer])
            return spec_yaml_fail(layers->reader->yaml, node, "sparse_layers names layer %lld twice, once would be right",
                                  layer);
        layers->sparse[layer] = true;
    }
    return TAMIS_OK;
}

/* Runs divided by commas, with blanks around them or not. */
static tamis_status read_text(struct layers *layers, const yaml_node_t *node)
{
    if (node->type != YAML_SCALAR_NODE) return fail_layers(layers, node);
    const char *text = (const char *)node->data.scalar.value;
    if (strlen(text) != node->data.scalar.length) return fail_layers(layers, node);
    for (;;) {
        text += strspn(text, " ");
        const size_t bytes = strcspn(text, ", ");
        TAMIS_TRY(read_run(layers, node, text, bytes));
        text += bytes;
        text += strspn(text, " ");
        if (*text == '\0') return TAMIS_OK;
        if (*text++ != ',') return fail_layers(layers, node);
    }
}

static bool write_layers(char *out, size_t size, const struct layers *layers)
{
    size_t used = 0;
    out[0] = '\0';
    for (int first = 0, last; first < MAX_LAYERS && used < size; first = last + 1) {
        last = first;
        if (!layers->sparse[first]) continue;
        while (last + 1 < MAX_LAYERS && layers->sparse[last + 1]) last++;
        const char *comma = used ? "," : "";
        if (last < first + 2) last = first; /* two in a row are written one by one */
        used += (size_t)(last == first ? snprintf(out + used, size - used, "%s%d", comma, first)
                                       : snprintf(out + used, size - used, "%s%d-%d", comma, first, last));
    }
    return used < size;
}

tamis_status spec_layers_read(const struct spec_reader *reader, const yaml_node_t *node)
{
    struct spec *spec = reader->spec;
    struct layers layers = {.reader = reader, .limit = spec->layers ? spec->layers : MAX_LAYERS};
    if (node->type == YAML_SEQUENCE_NODE) {
        if (node->data.sequence.items.start == node->data.sequence.items.top)
            return spec_yaml_fail(reader->yaml, node,
                                  "sparse_layers is an empty list, at least one layer would be right");
        const yaml_node_item_t *end = node->data.sequence.items.top;
        for (const yaml_node_item_t *item = node->data.sequence.items.start; item < end; item++)
            TAMIS_TRY(read_text(&layers, spec_yaml_node(reader->yaml, *item)));
    } else {
        TAMIS_TRY(read_text(&layers, node));
    }
    if (write_layers(spec->sparse_layers, sizeof spec->sparse_layers, &layers)) return TAMIS_OK;
    spec->sparse_layers[0] = '\0';
    return spec_yaml_fail(reader->yaml, node, "sparse_layers has too many gaps, at most %zu characters would be right",
                          sizeof spec->sparse_layers - 1);
}
