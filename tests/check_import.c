/*
 * check_import.c: the JSON reader's places and nested values, names, and configurations as specs: cut, changed byte by byte,
 * and with members in any order.
 */
#include "json_read.h"
#include "spec_import.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

Suite *import_suite(void);

/* ---- json_read */

static void log_key(void *payload, struct json_text key, const struct json_value *value)
{
    char *log = payload;
    snprintf(log + strlen(log), 200 - strlen(log), "%.*s=%.*s;", (int)key.bytes, key.begin, (int)value->text.bytes,
             value->text.begin);
}

static void log_nested(void *payload, struct json_text key, const struct json_value *value)
{
    (void)key;
    json_read_nested(value, log_key, payload);
}

static const struct {
    const char *text;
    int place; /* where it is wrong; -1: nowhere */
} places[] = {
    {"{}", -1},           {" {\"a\":1}\n", -1},       {"", 0},
    {"  [1]", 2},         {"{", 1},                   {"{\"a\" 1}", 5},
    {"{\"a\":}", 5},      {"{\"a\":1,}", 7},          {"{\"a\":1 \"b\":2}", 7},
    {"{\"a\":[1,x]}", 8}, {"{\"a\":{\"b\":[1}}", 12}, {"{\"a\":\"x", 7},
    {"{\"a\":\"x\ny\"}", 7}, {"{\"a\":\"\\", 7},      {"{\"a\":1} x", 8},
    {"{\"a\":1.}", 7},    {"{\"a\":1e+}", 8},         {"{\"a\":-}", 6},
    {"{\"a\":01}", 5},    {"{\"a\":nul}", 5},         {"{\"a\":[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]}", -1},
    {"{\"a\":[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]}", 21},
};

START_TEST(place_of_an_error)
{
    char log[200] = "";
    const char *text = places[_i].text, *wrong = json_read_text(text, log_key, log);
    ck_assert_int_eq(wrong ? (int)(wrong - text) : -1, places[_i].place);
    ck_assert_int_eq(json_read(text, log_key, log), places[_i].place < 0);
}
END_TEST

static const struct {
    const char *text, *members;
} nested[] = {{"{\"a\":{\"b\":1, \"c\":[2,{}]}}", "b=1;c=[2,{}];"},
              {"{\"a\":[1, \"x\" , null,[3]]}", "=1;=x;=null;=[3];"},
              {"{\"a\":{}, \"b\":[ ]}", ""},
              {"{\"a\":1, \"b\":\"{\\\"c\\\":1}\", \"d\":true}", ""}};

START_TEST(nested_values)
{
    char log[200] = "";
    ck_assert_ptr_null(json_read_text(nested[_i].text, log_nested, log));
    ck_assert_str_eq(log, nested[_i].members);
}
END_TEST

/* ---- names */

static const char *const names[][2] = {{"meta-llama/Llama-3.1-8B", "llama-3.1-8b"},
                                       {"/models/Qwen3_8B//", "qwen3-8b"},
                                       {"A  b", "a-b"},
                                       {"..", ""},
                                       {"///", ""},
                                       {"", ""},
                                       {"x-.y", "x-y"},
                                       {"x-", "x"},
                                       {"\xc3\xa9t\xc3\xa9", "t"}};

START_TEST(name_of_text)
{
    char out[64];
    spec_import_name(out, names[_i][0], strlen(names[_i][0]));
    ck_assert_str_eq(out, names[_i][1]);
}
END_TEST

START_TEST(long_name)
{
    char text[200], out[64];
    memset(text, 'a', sizeof text);
    text[62] = '-';
    spec_import_name(out, text, sizeof text);
    ck_assert_uint_eq(strlen(out), 62); /* cut, and no '-' at its end */
}
END_TEST

/* ---- configurations */

static const char config[] = "{\"head_dim\": null, \"hidden_size\": 4096,\n \"num_attention_heads\": 32,\n"
                             " \"text_config\": {\"num_attention_heads\": 16, \"layer_types\": [\"full_attention\", \"x\"]},\n"
                             " \"num_hidden_layers\": 3, \"query_pre_attn_scalar\": 4.0, \"torch_dtype\": \"float16\",\n"
                             " \"num_key_value_heads\": 4, \"_name_or_path\": \"a/B\"}\n";

START_TEST(whole_config)
{
    struct spec_import import;
    ck_assert_msg(spec_import_read(&import, "c", config, sizeof config - 1) == TAMIS_OK, "%s", tamis_last_error());
    ck_assert_str_eq(import.name, "b");
    ck_assert_str_eq(import.model, "a/B");
    ck_assert_int_eq(import.layers, 3);
    ck_assert_int_eq(import.q_heads, 16);
    ck_assert_int_eq(import.kv_heads, 4);
    ck_assert_int_eq(import.head_dim, 256);
    ck_assert_double_eq(import.scale, 0.5);
    ck_assert_int_eq(import.dtype, TAMIS_FP16);
    ck_assert_int_eq(import.note_count, 1);
    ck_assert_ptr_nonnull(strstr(import.notes[0], "1 of 2 layers"));
}
END_TEST

/* A copy of its own length, so that a read past its end is seen; a spec or one clear line comes out. */
static tamis_status read_copy(const char *text, size_t bytes)
{
    struct spec_import import;
    char *copy = malloc(bytes + 1);
    ck_assert_ptr_nonnull(copy);
    memcpy(copy, text, bytes);
    copy[bytes] = '\0';
    const tamis_status status = spec_import_read(&import, "c", copy, bytes);
    free(copy);
    if (status == TAMIS_OK) {
        ck_assert(import.q_heads >= 1 && import.kv_heads >= 1 && import.q_heads % import.kv_heads == 0);
        ck_assert(import.head_dim >= 64 && import.head_dim <= 256);
    } else {
        const char *message = tamis_last_error();
        ck_assert_int_eq(status, TAMIS_EINVAL);
        ck_assert(strncmp(message, "c:", 2) == 0);
        for (; *message; message++) ck_assert_msg(*message >= ' ' && *message <= '~', "%s", tamis_last_error());
    }
    return status;
}

START_TEST(cut_config)
{
    for (size_t bytes = 0; bytes + 2 < sizeof config; bytes++)
        ck_assert_int_eq(read_copy(config, bytes), TAMIS_EINVAL);
}
END_TEST

START_TEST(changed_config)
{
    static const char bytes[] = "\0\"\\{}[],:01e-. \n\x80\xff";
    char text[sizeof config];
    int bad = 0;
    for (size_t at = 0; at < sizeof config - 1; at++)
        for (size_t i = 0; i < sizeof bytes; i++) {
            memcpy(text, config, sizeof config);
            text[at] = bytes[i];
            bad += read_copy(text, sizeof config - 1) != TAMIS_OK;
        }
    ck_assert_int_gt(bad, 100);
}
END_TEST

/* Every note at once has room, in the struct and in the spec. */
START_TEST(all_notes)
{
    static const char text[] =
        "{\"head_dim\": 128, \"num_attention_heads\": 8, \"sliding_window\": 64, \"model_type\": \"gpt_oss\", \"alibi\": true,"
        "\"attn_logit_softcapping\": 30, \"attention_chunk_size\": 8, \"add_cross_attention\": true, \"layer_types\": [1],"
        "\"cross_attention_layers\": [1], \"is_encoder_decoder\": true, \"use_bidirectional_attention\": \"all\","
        "\"dtype\": \"a\\nvery long name of a type that is longer than what a message has room for\"}";
    struct spec_import import;
    struct tamisi_buf out = TAMISI_BUF_INIT;
    ck_assert_msg(spec_import_read(&import, "c", text, sizeof text - 1) == TAMIS_OK, "%s", tamis_last_error());
    ck_assert_int_eq(import.note_count, 12);
    spec_import_write(&out, &import, 0.005);
    ck_assert(!out.failed);
    for (int i = 0; i < import.note_count; i++) {
        ck_assert_uint_lt(strlen(import.notes[i]), sizeof import.notes[0] - 1); /* not cut */
        ck_assert_ptr_nonnull(strstr(out.data, import.notes[i]));
    }
    tamisi_buf_free(&out);
}
END_TEST

Suite *import_suite(void)
{
    Suite *suite = suite_create("import");
    TCase *reading = tcase_create("json"), *specs = tcase_create("configurations");
    tcase_add_loop_test(reading, place_of_an_error, 0, (int)(sizeof places / sizeof *places));
    tcase_add_loop_test(reading, nested_values, 0, (int)(sizeof nested / sizeof *nested));
    tcase_add_loop_test(specs, name_of_text, 0, (int)(sizeof names / sizeof *names));
    tcase_add_test(specs, long_name);
    tcase_add_test(specs, whole_config);
    tcase_add_test(specs, cut_config);
    tcase_add_test(specs, changed_config);
    tcase_add_test(specs, all_notes);
    suite_add_tcase(suite, reading);
    suite_add_tcase(suite, specs);
    return suite;
}
