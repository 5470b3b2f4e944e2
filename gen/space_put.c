/*
 * space_put.c: a spec and its variants into a store. Beside space.c, which makes them.
 */
#include "space.h"

#include "error.h"

#include <string.h>

static tamis_status put_spec(tamis_store *store, const struct spec *spec)
{
    struct tamisi_buf pattern = TAMISI_BUF_INIT;
    char name[64], layers[256];
    memcpy(name, spec->name, sizeof name);
    memcpy(layers, spec->sparse_layers, sizeof layers);
    tamisi_pattern_write(&pattern, &spec->pattern);
    const struct tamisi_spec_row row = {.name = name, .problem = spec->problem, .layers = spec->layers,
                                        .sparse_layers = layers, .text = spec->text, .pattern = pattern.data};
    const tamis_status status = pattern.failed ? tamisi_fail(TAMIS_ENOMEM, "out of memory for spec %s", name)
                                               : tamisi_store_put_spec(store, &row);
    tamisi_buf_free(&pattern);
    return status;
}

tamis_status space_put(tamis_store *store, const struct spec *spec, const struct space *space, const char *const *archs)
{
    TAMIS_TRY(put_spec(store, spec));
    for (const char *const *arch = archs ? archs : spec_archs; *arch; arch++)
        TAMIS_TRY(tamisi_store_drop_variants(store, spec->name, *arch));
    for (size_t i = 0; i < space->variant_count; i++) {
        const struct space_variant *made = &space->variants[i];
        TAMIS_TRY(tamisi_store_put_source(store, &made->variant.source, made->variant.name, made->text));
        TAMIS_TRY(tamisi_store_put_variant(store, &made->variant));
    }
    return TAMIS_OK;
}
