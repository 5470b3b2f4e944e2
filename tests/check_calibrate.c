/*
 * check_calibrate.c: the CSV reader's fields, lines and messages; rows of results; losses, errors and speeds by hand.
 */
#define _POSIX_C_SOURCE 200809L
#include "calibrate.h"
#include "csv.h"

#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

Suite *calibrate_suite(void);

/* ---- csv */

static const struct {
    const char *text, *read; /* fields end with |, records with the line that they began at and ; */
} texts[] = {
    {"", ""},
    {"\n\r\n", ""},
    {"a", "a|1;"},
    {"a,b\n", "a|b|1;"},
    {"a,b\r\nc,d\r\n", "a|b|1;c|d|2;"},
    {",\n", "||1;"},
    {"a,\n\n,b", "a||1;|b|3;"},
    {"\"\"", "|1;"},
    {"\"a,b\",c", "a,b|c|1;"},
    {"\"a\"\"b\"", "a\"b|1;"},
    {"\"\"\"\"\n", "\"|1;"},
    {"\"a\nb\",c\nd", "a\nb|c|1;d|3;"},
    {"\"a\r\nb\"\r\nd\n", "a\r\nb|1;d|3;"},
    {"\xef\xbb\xbf\"a\",b", "a|b|1;"},
    {"a\rb,c", "a\rb|c|1;"},
    {"a ,\" b\"", "a | b|1;"},
};

/* Into `log`; the message after what was read. */
static void read_csv(char log[600], const char *text)
{
    char copy[600];
    struct csv csv;
    snprintf(copy, sizeof copy, "%s", text);
    csv_open(&csv, "x.csv", copy, strlen(copy));
    log[0] = '\0';
    for (;;) {
        const tamis_status status = csv_next(&csv);
        if (status != TAMIS_OK) {
            ck_assert_int_eq(status, TAMIS_EINVAL);
            strcat(log, tamis_last_error());
            return;
        }
        if (csv.count == 0) return;
        for (int i = 0; i < csv.count; i++) sprintf(log + strlen(log), "%s|", csv.fields[i]);
        sprintf(log + strlen(log), "%d;", csv.line);
    }
}

START_TEST(fields)
{
    char log[600];
    read_csv(log, texts[_i].text);
    ck_assert_str_eq(log, texts[_i].read);
}
END_TEST

static const char *const wrong_texts[][2] = {
    {"a\n\"b", "a|1;x.csv:2: a quote is opened and not closed"},
    {"\"", "x.csv:1: a quote is opened and not closed"},
    {"a,\"b\"\"", "x.csv:1: a quote is opened and not closed"},
    {"a\nb\"c", "a|1;x.csv:2: a quote within a field, \"\" would be right"},
    {"\"a\"b", "x.csv:1: a quote within a field, \"\" would be right"},
    {"\"a\nb\" c\n", "x.csv:1: a quote within a field, \"\" would be right"},
};

START_TEST(wrong_csv)
{
    char log[600];
    read_csv(log, wrong_texts[_i][0]);
    ck_assert_str_eq(log, wrong_texts[_i][1]);
}
END_TEST

START_TEST(too_many_columns)
{
    char text[CSV_FIELDS + 1], log[600];
    memset(text, ',', CSV_FIELDS);
    text[CSV_FIELDS] = '\0';
    read_csv(log, text);
    ck_assert_str_eq(log, "x.csv:1: has more than 64 columns");
    read_csv(log, text + 1);
    ck_assert_int_eq(strspn(log, "|"), CSV_FIELDS);
}
END_TEST

/* Cut anywhere, and with any byte in place of any other: a result or a message, and nothing read or written beside. */
START_TEST(cut_and_changed)
{
    static const char whole[] = "a,\"b\"\"\r\n\",c\r\n\"\",,\nd,e\n";
    static const char bytes[] = "\",\r\n\\x";
    for (size_t size = 0; size <= sizeof whole - 1; size++) {
        for (size_t at = 0; at < size; at++) {
            for (const char *byte = bytes; *byte; byte++) {
                char *text = malloc(size + 1);
                struct csv csv;
                memcpy(text, whole, size);
                text[size] = '\0';
                text[at] = *byte;
                csv_open(&csv, "x", text, size);
                for (int i = 0; csv_next(&csv) == TAMIS_OK && csv.count > 0; i++) ck_assert_int_lt(i, 20);
                free(text);
            }
        }
    }
}
END_TEST

/* ---- results */

#define HEAD                                                                                                              \
    "setting,task,haystack,length,depth,sample,accuracy,prefill_ms,method,policy,amount,scope,window,pool,min_tokens,"    \
    "sparse_layers,layers\n"

/* Rows of `text`, measured; the text is the caller's to free. */
static char *measure(struct calibrate_result *result, struct quality_row **rows, const char *text, long long length)
{
    size_t count;
    char *copy = strdup(text);
    ck_assert_int_eq(quality_csv_read(rows, &count, "r.csv", copy, strlen(copy)), TAMIS_OK);
    ck_assert_int_eq(calibrate_measure(result, "r.csv", *rows, count, length), TAMIS_OK);
    return copy;
}

static const char results[] = HEAD
    "s,a,t,100,,0,0.5,10,sparse,ratio,0.5,head,128,7,1024,1-3,4\n"
    "s,a,t,100,,1,1,10,sparse,ratio,0.5,head,128,7,1024,1-3,4\n"
    "s,b,t,200,,0,0.25,20,sparse,ratio,0.5,head,128,7,1024,1-3,4\n"
    "dense,a,t,100,,0,1,15,dense,dense,,head,128,7,1024,,4\n"
    "dense,a,t,100,,1,0.5,15,dense,dense,,head,128,7,1024,,4\n"
    "dense,b,t,200,,0,1,50,dense,dense,,head,128,7,1024,,4\n"
    "fast,a,t,100,,1,1,1,sparse,count,7,layer,64,5,9,0,4\n"
    "fast,a,t,100,,9,1,1,sparse,count,7,layer,64,5,9,0,4\n"; /* of a prompt that dense does not have */

START_TEST(losses_and_speeds)
{
    struct calibrate_result result;
    struct quality_row *rows;
    char *text = measure(&result, &rows, results, 0);
    ck_assert_uint_eq(result.count, 2);
    ck_assert_int_eq(result.prompts, 3);
    const struct calibrate_setting *fast = &result.settings[0], *s = &result.settings[1];
    ck_assert_str_eq(fast->row->setting, "fast");
    ck_assert_int_eq(fast->prompts, 1);
    ck_assert_double_eq_tol(fast->loss, -0.5, 1e-12);
    ck_assert_double_eq(fast->error, 0.0);
    ck_assert_double_eq_tol(fast->speed, 15.0, 1e-12);
    ck_assert_int_eq(fast->row->selection.policy, TAMIS_COUNT);
    ck_assert_int_eq(fast->row->selection.count, 7);
    ck_assert_int_eq(fast->row->selection.scope, TAMIS_SCOPE_LAYER);
    /* Differences .5, -.5, .75: mean .25, and the deviation's square root over 2. */
    ck_assert_int_eq(s->prompts, 3);
    ck_assert_double_eq_tol(s->accuracy, 1.75 / 3, 1e-12);
    ck_assert_double_eq_tol(s->dense, 2.5 / 3, 1e-12);
    ck_assert_double_eq_tol(s->loss, 0.25, 1e-12);
    ck_assert_double_eq_tol(s->error, sqrt((1.0625 / 3 - 0.0625) / 2), 1e-12);
    ck_assert_double_eq_tol(s->worst, 0.75, 1e-12);
    ck_assert_str_eq(s->worst_row->cases[0], "b");
    ck_assert_double_eq_tol(s->speed, 2.0, 1e-12);
    ck_assert_double_eq_tol(s->slowest, 1.5, 1e-12);
    ck_assert_int_eq(s->slowest_length, 100);
    calibrate_free(&result);
    free(rows);
    free(text);
}
END_TEST

/* Of prompts that dense takes `ms` for, lengths 100 and 200, a setting that takes 10 and 20. */
static double speed_of(double short_ms, double long_ms, bool *chosen, double *slowest, long long *length)
{
    char rows_text[1024];
    struct calibrate_result result;
    struct quality_row *rows;
    snprintf(rows_text, sizeof rows_text,
             HEAD "s,a,t,100,,0,1,10,sparse,ratio,0.5,head,128,7,1024,1-3,4\n"
                  "s,a,t,200,,0,1,20,sparse,ratio,0.5,head,128,7,1024,1-3,4\n"
                  "dense,a,t,100,,0,1,%g,dense,dense,,head,128,7,1024,,4\n"
                  "dense,a,t,200,,0,1,%g,dense,dense,,head,128,7,1024,,4\n", short_ms, long_ms);
    char *text = measure(&result, &rows, rows_text, 0);
    const double speed = result.settings[0].speed;
    *chosen = calibrate_choose(&result, 0.0, true, NULL) != NULL;
    *slowest = result.settings[0].slowest;
    *length = result.settings[0].slowest_length;
    calibrate_free(&result);
    free(rows);
    free(text);
    return speed;
}

/* What costs answers and no less time than dense is no choice, however little it costs. */
START_TEST(slower_than_dense)
{
    bool chosen;
    double slowest;
    long long length;
    ck_assert_double_eq_tol(speed_of(9, 18, &chosen, &slowest, &length), 0.9, 1e-12);
    ck_assert(!chosen);
    ck_assert_double_eq_tol(speed_of(10, 20, &chosen, &slowest, &length), 1.0, 1e-12);
    ck_assert(!chosen);
    ck_assert_double_eq(speed_of(0, 0, &chosen, &slowest, &length), 0.0);
    ck_assert(!chosen);
    ck_assert_double_eq_tol(speed_of(8, 28, &chosen, &slowest, &length), 1.2, 1e-12);
    ck_assert(chosen);
    ck_assert_double_eq_tol(slowest, 0.8, 1e-12);
    ck_assert_int_eq(length, 100);
}
END_TEST

START_TEST(choices)
{
    struct calibrate_result result;
    struct quality_row *rows;
    char *text = measure(&result, &rows, results, 0);
    const struct calibrate_setting *fast = &result.settings[0], *s = &result.settings[1];
    const tamis_selection like = s->row->selection, other = fast->row->selection;
    ck_assert_ptr_null(calibrate_choose(&result, 0.24, false, NULL)); /* the faster one lacks prompts */
    ck_assert_ptr_eq(calibrate_choose(&result, 0.25, false, NULL), s);
    ck_assert_ptr_null(calibrate_choose(&result, 0.74, true, NULL));
    ck_assert_ptr_eq(calibrate_choose(&result, 0.75, true, &like), s);
    ck_assert_ptr_null(calibrate_choose(&result, 1.0, false, &other));
    calibrate_free(&result);
    free(rows);
    free(text);
    /* Of one length, where the faster one has all prompts but one. */
    text = measure(&result, &rows, results, 200);
    ck_assert_uint_eq(result.count, 1);
    ck_assert_int_eq(result.prompts, 1);
    ck_assert_double_eq_tol(result.settings[0].speed, 2.5, 1e-12);
    calibrate_free(&result);
    free(rows);
    free(text);
}
END_TEST

Suite *calibrate_suite(void)
{
    Suite *suite = suite_create("calibrate");
    TCase *csv = tcase_create("csv"), *choice = tcase_create("choice");
    tcase_add_loop_test(csv, fields, 0, sizeof texts / sizeof *texts);
    tcase_add_loop_test(csv, wrong_csv, 0, sizeof wrong_texts / sizeof *wrong_texts);
    tcase_add_test(csv, too_many_columns);
    tcase_add_test(csv, cut_and_changed);
    tcase_add_test(choice, losses_and_speeds);
    tcase_add_test(choice, slower_than_dense);
    tcase_add_test(choice, choices);
    suite_add_tcase(suite, csv);
    suite_add_tcase(suite, choice);
    return suite;
}
