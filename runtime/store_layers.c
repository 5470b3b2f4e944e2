/*
 * store_layers.c: which layers of a model a stored spec makes sparse, from the row's text to numbers.
 *
 * The text is the normal form that gen/spec_layers.c writes: ascending, "15-30" or "14,15,20-37". Layer: above store_rows.
 */
#include "store.h"

#define MOST_LAYERS 1024 /* what a spec can say */

struct layers {
    int32_t *sparse; /* the caller's, `capacity` long */
    size_t capacity, count;
};

/* Decimal digits at `*at` to a layer; false where there are none, or too many. */
static bool read_layer(const char **at, int *layer)
{
    int value = 0, digits = 0;

    for (; **at >= '0' && **at <= '9' && digits < 5; digits++) value = 10 * value + (*(*at)++ - '0');
    *layer = value;
    return digits > 0 && value < MOST_LAYERS;
}

/* Writes what fits and counts all. False: the text is not of the normal form. */
static bool read_layers(struct layers *out, const char *text)
{
    int least = 0; /* that may come next: the text ascends */

    while (*text != '\0') {
        int first, last;

        if (!read_layer(&text, &first)) return false;
        last = first;
        if (*text == '-' && (text++, !read_layer(&text, &last))) return false;
        if (first < least || last < first) return false;
        for (int layer = first; layer <= last; layer++, out->count++)
            if (out->count < out->capacity) out->sparse[out->count] = layer;
        least = last + 1;
        if (*text == '\0') break;
        if (*text++ != ',' || *text == '\0') return false;
    }
    return true;
}

tamis_status tamis_store_layers(int32_t *layers, int32_t *sparse, size_t capacity, size_t *needed, tamis_store *store,
                                const char *name)
{
    struct layers count = {NULL, 0, 0}, list = {sparse, capacity, 0};
    struct tamisi_spec_row spec;
    tamis_status status = TAMIS_OK;

    tamisi_error_clear();
    if (layers == NULL) return tamisi_fail(TAMIS_EINVAL, "layers: is NULL");
    if (sparse == NULL && capacity > 0) return tamisi_fail(TAMIS_EINVAL, "sparse: is NULL, and capacity is not 0");
    if (store == NULL) return tamisi_fail(TAMIS_EINVAL, "store: is NULL");
    TAMIS_TRY(tamisi_store_get_spec(&spec, store, name));
    if (!read_layers(&count, spec.sparse_layers)) /* before anything is written */
        status = tamisi_fail(TAMIS_ECORRUPT, "store %s: spec \"%s\" has the sparse layers \"%.80s\", which no tamis writes",
                             tamisi_store_path(store), spec.name, spec.sparse_layers);
    if (status == TAMIS_OK) {
        (void)read_layers(&list, spec.sparse_layers);
        *layers = spec.layers;
        if (needed != NULL) *needed = list.count;
    }
    tamisi_spec_row_free(&spec);
    return status;
}
