/*
 * fuzz_store.c: libFuzzer target of the store: any bytes as a file, and any values in rows whose checksum holds.
 *
 * Bytes that begin like an SQLite file are opened as a store, which is then used in every way; others become the values of
 * rows in a sound store, since no fuzzer finds a file's checksums. Nothing may crash, leak or go on for long.
 * The seed seeds/store/small.tamis is made by `race_store fill small.tamis 2`.
 */
#define _GNU_SOURCE

#include "../store_fill.h"
#include "store_internal.h"

#include <fcntl.h>
#include <stdint.h>
#include <unistd.h>

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define FOLDER_SIZE 64
#define MOST_ROWS 12 /* of one input */

static char folder[FOLDER_SIZE];
static char raw_path[FOLDER_SIZE + 16], journal_path[FOLDER_SIZE + 32], sound_path[FOLDER_SIZE + 16];
static tamis_store *sound; /* for rows; never committed to */

static void clean_up(void)
{
    tamis_store_free(sound);
    unlink(raw_path);
    unlink(journal_path);
    unlink(sound_path);
    rmdir(folder);
}

static void ignore_log(void *payload, tamis_log_level level, const char *message)
{
    (void)payload;
    (void)level;
    if (strlen(message) == 0) abort();
}

static tamis_status open_store(tamis_store **out, const char *path, tamis_store_mode mode)
{
    tamis_store_options options = TAMIS_STORE_OPTIONS_INIT;

    options.mode = mode;
    options.log = ignore_log;
    return tamis_store_open(out, path, &options);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    /* In memory where there is such a folder: every input is written to a file. */
    snprintf(folder, sizeof folder, "%s/tamis-fuzz-XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    if (mkdtemp(folder) == NULL) abort();
    snprintf(raw_path, sizeof raw_path, "%s/raw", folder);
    snprintf(journal_path, sizeof journal_path, "%s/raw-journal", folder);
    snprintf(sound_path, sizeof sound_path, "%s/sound", folder);
    if (open_store(&sound, sound_path, TAMIS_STORE_CREATE) != TAMIS_OK) abort();
    atexit(clean_up);
    return 0;
}

static int count_items(void *payload, const struct tamisi_store_item *item)
{
    long long *bytes = payload;

    *bytes += item->bytes + (long long)strlen(item->name) + (long long)strlen(item->key) + (long long)strlen(item->arch);
    return 0;
}

static void use(tamis_store *store)
{
    static const struct tamisi_variant_query all = {NULL, NULL, NULL, -1, -1}, some = {NULL, "score", FILL_ARCH, 0, 64};
    struct tamisi_variant *variants = NULL;
    struct tamisi_timing *timings = NULL;
    tamis_problem problem = TAMIS_PROBLEM_INIT;
    long long bytes = 0;
    tamis_pattern pattern = TAMIS_PATTERN_INIT;
    int32_t layers, sparse[4];
    size_t count = 0;

    tamisi_store_visit(store, count_items, &bytes);
    for (int i = 0; i < 2; i++) {
        fill_get_source(store, i);
        fill_get_cubin(store, i, i == 0 ? NULL : FILL_NVRTC);
    }
    if (tamisi_store_find_variants(&variants, &count, store, &some) == TAMIS_OK) free(variants);
    if (tamisi_store_find_variants(&variants, &count, store, &all) == TAMIS_OK) {
        for (size_t v = 0; v < count; v++) bytes += variants[v].entries[variants[v].entry_count - 1].threads;
        free(variants);
    }
    if (tamisi_store_find_timings(&timings, &count, store, "attend", FILL_ARCH, 128, 80) == TAMIS_OK) {
        for (size_t t = 0; t < count; t++) bytes += timings[t].state;
        free(timings);
    }
    tamis_store_problem(&problem, store, NULL);
    tamis_store_problem(&problem, store, "spec_0");
    tamis_store_layers(&layers, sparse, 4, &count, store, "spec_0");
    tamis_store_pattern(&pattern, store, "spec_0");
}

/* The bytes as a file: opened for reading and for writing, used, written to, cleaned. */
static void use_file(const uint8_t *data, size_t size)
{
    struct tamisi_buf problem = TAMISI_BUF_INIT;
    struct tamisi_store_gc_result result;
    tamis_store *store = NULL;
    int file = open(raw_path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

    if (file < 0 || write(file, data, size) != (ssize_t)size) abort();
    close(file);
    unlink(journal_path);
    if (open_store(&store, raw_path, TAMIS_STORE_READ) == TAMIS_OK) {
        use(store);
        tamisi_store_check(store, &problem);
        tamisi_buf_free(&problem);
    }
    tamis_store_free(store);
    if (open_store(&store, raw_path, TAMIS_STORE_WRITE) == TAMIS_OK && fill_put(store, 1) == TAMIS_OK) {
        /* What was put into whatever this is must come back. */
        if (fill_get_source(store, 1) != FILL_RIGHT || fill_get_cubin(store, 1, FILL_NVRTC) != FILL_RIGHT) abort();
        tamisi_store_drop_variants(store, "spec_1", FILL_ARCH);
        tamisi_store_gc(store, &result);
        use(store);
    }
    tamis_store_free(store);
}

/* Takes up to `most` bytes off the input, as many as its next byte says. */
static size_t take(const uint8_t **data, size_t *size, size_t most, const uint8_t **out)
{
    size_t count = 0;

    if (*size > 0) {
        count = **data;
        (*data)++;
        (*size)--;
    }
    if (count > most) count = most;
    if (count > *size) count = *size;
    *out = *data;
    *data += count;
    *size -= count;
    return count;
}

/* A row of one table with values from the input. Texts end up in `texts`, zero-terminated. */
static void make_row(struct tamisi_row *row, enum tamisi_table table, const uint8_t **data, size_t *size,
                     char texts[TAMISI_STORE_COLUMNS][256])
{
    const char *kinds = tamisi_table_info(table)->kinds;

    tamisi_row_init(row, table, 1);
    for (; kinds[row->count] != '\0'; row->count++) {
        char kind = kinds[row->count], *text = texts[row->count];
        const uint8_t *bytes;
        size_t count = take(data, size, kind == 'h' ? 16 : kind == 'n' || kind == 'i' || kind == 'r' ? 8 : 255, &bytes);
        struct tamisi_value *value = &row->values[row->count];

        *value = (struct tamisi_value){.data = ""};
        if (kind == 'n' || kind == 'i') memcpy(&value->integer, bytes, count);
        else if (kind == 'r') memcpy(&value->real, bytes, count);
        if (kind != 't' && kind != 'h' && kind != 'b') continue;
        memcpy(text, bytes, count);
        text[count] = '\0';
        value->data = text;
        value->bytes = kind == 't' ? strlen(text) : count;
    }
}

static void use_rows(const uint8_t *data, size_t size)
{
    static char texts[TAMISI_STORE_COLUMNS][256];
    struct tamisi_row row;

    if (tamisi_store_begin(sound) != TAMIS_OK) abort();
    for (int rows = 0; size > 0 && rows < MOST_ROWS; rows++) {
        enum tamisi_table table = (enum tamisi_table)(*data % TAMISI_TABLES);

        data++;
        size--;
        make_row(&row, table, &data, &size, texts);
        if (table == TAMISI_SPECS) row.id = tamisi_spec_id(row.values[TAMISI_SPEC_NAME].data);
        tamisi_table_put(sound, &row, (struct tamisi_range){row.id, row.id + 15}, row.count);
    }
    use(sound);
    tamisi_store_rollback(sound);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size >= 16 && memcmp(data, "SQLite format 3", 16) == 0) use_file(data, size);
    else use_rows(data, size);
    return 0;
}
