/*
 * race_store.c: fill a store with fake kernels, or count what is in it. store_race.sh runs several of these at once.
 *
 *     race_store fill STORE N     open or make STORE and put N kernels with their spec; exit 1 with the reason on failure
 *     race_store count STORE      print how many rows of each kind STORE has, and how many are damaged
 */
#include "store_fill.h"

static void log_line(void *payload, tamis_log_level level, const char *message)
{
    (void)payload;
    (void)level;
    fprintf(stderr, "race_store: %s\n", message);
}

static tamis_status fill(tamis_store *store, int count)
{
    TAMIS_TRY(fill_put_spec(store, 0));
    for (int i = 0; i < count; i++) {
        const struct tamisi_timing timing = fill_timing(i);

        TAMIS_TRY(fill_put(store, i));
        TAMIS_TRY(tamisi_store_put_timing(store, &timing));
    }
    for (int i = 0; i < count; i++) {
        if (fill_get_source(store, i) != FILL_RIGHT || fill_get_variant(store, i) != FILL_RIGHT ||
            fill_get_cubin(store, i, FILL_NVRTC) != FILL_RIGHT)
            return tamisi_fail(TAMIS_ECORRUPT, "kernel %d is not what was put", i);
    }
    return TAMIS_OK;
}

struct counts {
    int spec, source, variant, cubin, timing, damaged;
};

static int count_item(void *payload, const struct tamisi_store_item *item)
{
    struct counts *counts = payload;

    counts->spec += strcmp(item->kind, "spec") == 0;
    counts->source += strcmp(item->kind, "source") == 0;
    counts->variant += strcmp(item->kind, "variant") == 0;
    counts->cubin += strcmp(item->kind, "cubin") == 0;
    counts->timing += strcmp(item->kind, "timing") == 0;
    counts->damaged += !item->intact;
    return 0;
}

static tamis_status count(tamis_store *store)
{
    struct counts counts = {.damaged = 0};
    struct tamisi_buf problem = TAMISI_BUF_INIT;
    tamis_status status = tamisi_store_visit(store, count_item, &counts);

    if (status == TAMIS_OK) status = tamisi_store_check(store, &problem);
    if (status == TAMIS_OK && problem.size > 0) status = tamisi_fail(TAMIS_ECORRUPT, "%s", problem.data);
    if (status == TAMIS_OK)
        printf("spec %d source %d variant %d cubin %d timing %d damaged %d\n", counts.spec, counts.source, counts.variant,
               counts.cubin, counts.timing, counts.damaged);
    tamisi_buf_free(&problem);
    return status;
}

int main(int argc, char **argv)
{
    bool is_fill = argc == 4 && strcmp(argv[1], "fill") == 0, is_count = argc == 3 && strcmp(argv[1], "count") == 0;
    tamis_store_options options = TAMIS_STORE_OPTIONS_INIT;
    tamis_store *store = NULL;
    tamis_status status;

    if (!is_fill && !is_count) {
        fprintf(stderr, "usage: race_store fill STORE N | race_store count STORE\n");
        return 2;
    }
    options.mode = is_fill ? TAMIS_STORE_CREATE : TAMIS_STORE_READ;
    options.log = log_line;
    status = tamis_store_open(&store, argv[2], &options);
    if (status == TAMIS_OK) status = is_fill ? fill(store, atoi(argv[3])) : count(store);
    if (status != TAMIS_OK) fprintf(stderr, "race_store: %s\n", tamis_last_error());
    tamis_store_free(store);
    return status != TAMIS_OK;
}
