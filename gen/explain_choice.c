/*
 * explain_choice.c: see explain_choice.h.
 */
#include "explain_choice.h"

#include <stdlib.h>
#include <string.h>

void explain_identify(struct tamisi_gpu_identity *out, const tamis_context *context, const char *arch)
{
    *out = (struct tamisi_gpu_identity){.cc = (int)strtol(arch + strcspn(arch, "0123456789"), NULL, 10)};
    if (context) tamisi_gpu_identify(out, context->state);
}

void explain_choice_add(struct explain_choice *choice, const char *family, const struct tamisi_variant *variant,
                        const struct tamisi_choice *why)
{
    if (choice->count == TAMISI_ALL_FAMILIES) return;
    choice->families[choice->count] = family;
    memcpy(choice->variants[choice->count], variant->name, sizeof choice->variants[0]);
    choice->choices[choice->count++] = *why;
}

void explain_choice_print(const struct explain_choice *choice, struct cli *cli)
{
    static const char *const heads[] = {"FAMILY", "VARIANT", "CHOSEN AS"};
    struct cli_table table;
    cli_table_init(&table, heads, 3, 0);
    for (int i = 0; i < choice->count; i++) {
        struct tamisi_buf why = TAMISI_BUF_INIT;
        tamisi_choice_describe(&why, &choice->choices[i]);
        cli_table_add(&table, "%s", choice->families[i]);
        cli_table_add(&table, "%s", choice->variants[i]);
        cli_table_add(&table, "%s", why.data ? why.data : "");
        tamisi_buf_free(&why);
    }
    cli_print(cli, "\n");
    cli_table_print(&table, cli);
    cli_table_free(&table);
}

void explain_choice_json(const struct explain_choice *choice, struct json *json)
{
    json_array(json, "variants");
    for (int i = 0; i < choice->count; i++) {
        const struct tamisi_choice *why = &choice->choices[i];
        json_object(json, NULL);
        json_string(json, "family", choice->families[i]);
        json_string(json, "name", choice->variants[i]);
        json_string(json, "chosen_as", tamisi_reason_text(why->reason));
        if (why->reason != TAMISI_BY_DEFAULT) {
            json_int(json, "timed_seq_len", why->bucket.seq_len);
            json_int(json, "timed_kept", why->bucket.kept);
            if (why->bucket.pattern == TAMIS_PATTERN_HOST_BLOCKS) json_real(json, "timed_density", why->bucket.detail / 1000.0);
            json_real(json, "distance", why->distance);
            json_real(json, "gain", why->gain);
            if (why->regret >= 0) json_real(json, "regret", why->regret);
        }
        json_object_end(json);
    }
    json_array_end(json);
}
