/*
 * check_template.c: the template expander and its bounded Lua: what is copied, what is interpolated, where each line of the
 * output says it comes from, and the message for each of the hostile templates under tests/bad_templates.
 */
#define _POSIX_C_SOURCE 200809L

#include "folder.h"
#include "lua_host.h"
#include "template.h"

#include <check.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

Suite *template_suite(void);

#define ENTRY "$ entry{stage = \"attend\", symbol = \"k\", threads = 64, shared_bytes = 512, block_m = 16, block_n = 0}\n"
#define HEADER "// tamis show\n// k: 64 threads, 512 bytes of dynamic shared memory\n\n"

static const struct template_param params[] = {{"head_dim", 128, ""}, {"dtype", 0, "bf16"}, {"block_m", 64, ""}};

static void set_up(void)
{
    folder_make("template");
    folder_add("include");
    folder_add("abi");
}

static tamis_status expand_in(struct template_output *out, const char *templates_dir, const char *family)
{
    const struct template_request request = {.templates_dir = templates_dir,
                                             .abi_dir = folder_file("abi"),
                                             .family = family,
                                             .params = params,
                                             .param_count = sizeof params / sizeof params[0],
                                             .banner = "tamis show"};
    return template_expand(out, &request);
}

/* Expand `text` as t.cu.lua; it must succeed. */
static void expand(struct template_output *out, const char *text)
{
    folder_write("t.cu.lua", text);
    const tamis_status status = expand_in(out, folder, "t");
    ck_assert_msg(status == TAMIS_OK, "%s", tamis_last_error());
}

/* ---- lines and expressions */

static const struct {
    const char *line, *expected;
} lines[] = {
    {"plain text", "plain text\n"},
    {"", "\n"},
    {"  spaces kept  ", "  spaces kept  \n"},
    {"\ttab", "\ttab\n"},
    {"quotes \"a\" 'b' \\n %d ]] [[", "quotes \"a\" 'b' \\n %d ]] [[\n"},
    {"$x and $ in the middle $", "$x and $ in the middle $\n"},
    {"{$} $$ }${1}{", "{$} $$ }1{\n"},
    {"${p.head_dim}", "128\n"},
    {"  ${p.dtype}${p.block_m}; // ${p.head_dim // 2}", "  bf1664; // 64\n"},
    {"${p.dtype == \"bf16\" and \"Bf16\" or \"Fp16\"}", "Bf16\n"},
    {"${true} ${false}", "true false\n"},
    {"${-1} ${1 << 40} ${math.maxinteger}", "-1 1099511627776 9223372036854775807\n"},
    {"${({a = {b = 3}}).a.b}", "3\n"},
    {"${\"}\"} ${'{'} ${\"\\\"}\"}", "} { \"}\n"},
    {"${[[}]]} ${[==[ ]] } ]==]} ${1 --[[ } ]]}", "}  ]] }  1\n"},
    {"${(function() local t = {} t[1] = 7 return t[1] end)()}", "7\n"},
    {"${math.tointeger(64.0)} ${128 // 3} ${math.min(3, 2)} ${math.floor(2.5)}", "64 42 2 2\n"},
    {"${string.format(\"%05d|%-4s|%.2f|%%|%x\", 42, \"a\", 0.5, 255)}", "00042|a   |0.50|%|ff\n"},
    {"${(\"abc\"):upper():sub(2)} ${#\"abc\"} ${string.char(65, 66)}", "BC 3 AB\n"},
    {"${tostring(nil)} ${tostring(1.5)} ${tonumber(\"12\") + 1} ${type(p)}", "nil 1.5 13 table\n"},
    {"${select(\"#\", 1, 2)} ${select(2, 5, 6)}", "2 6\n"},
    {"$ -- a remark", ""},
    {"$", ""},
    {"  $ local unused = 1", ""},
    {"\t$\tlocal unused = \"${\"", ""},
    {"$ for i = 1, 2 do\nfloat acc_${i};\n$ end", "float acc_1;\nfloat acc_2;\n"},
    {"$ if p.head_dim > 128 then\nwide\n$ else\nnarrow\n$ end", "narrow\n"},
    {"$ local function block(n)\nline ${n}\n$ end\n$ block(1) block(2)", "line 1\nline 2\n"},
    {"$ local x = type\n(1)", "(1)\n"}, /* a text line never continues the Lua before it */
    {"$ for k, v in pairs({b = 2, [10] = 1, a = 3, [9] = 4}) do\n${k}=${v}\n$ end", "9=4\n10=1\na=3\nb=2\n"},
    {"$ for k in pairs(p) do\n${k}\n$ end", "block_m\ndtype\nhead_dim\n"},
    {"$ for i, v in ipairs({\"x\", \"y\"}) do\n${i}${v}\n$ end", "1x\n2y\n"},
    {"$ local t = {a = 1, b = 2}\n$ for k in pairs(t) do t.b = nil\n${k}\n$ end", "a\n"},
    {"$ local i = 0\n$ ::top::\n$ i = i + 1\n$ if i < 3 then goto top end\n${i}", "3\n"},
};

START_TEST(copies_and_interpolates)
{
    char text[1024], expected[1024];
    struct template_output out;
    snprintf(text, sizeof text, ENTRY "%s\n", lines[_i].line);
    const char *body = lines[_i].expected; /* blank lines before the first text are one */
    snprintf(expected, sizeof expected, "%s", HEADER);
    if (body[0] == '\0' || body[0] == '\n') expected[strlen(expected) - 1] = '\0';
    snprintf(expected + strlen(expected), sizeof expected - strlen(expected), "%s", body[0] == '\n' ? "" : body);
    expand(&out, text);
    ck_assert_str_eq(out.text.data, expected);
    ck_assert(!out.rejected);
    template_output_free(&out);
}
END_TEST

/* Used text sees the template's names, leaves none behind, and its lines are not taken for the template's. */
START_TEST(uses_shared_functions)
{
    struct template_output out;
    folder_write("include/rows.lua", "local rows = {}\nlocal wide = p.head_dim * 2\n\n"
                                     "function rows.bytes(n) return n * wide end\nreturn rows\n");
    folder_write("include/twice.lua", "local rows = use(\"rows\")\n"
                                      "return {bytes = function(n) return 2 * rows.bytes(n) end}\n");
    expand(&out, ENTRY "$ local rows, twice = use(\"rows\"), use(\"twice\")\n${rows.bytes(3)} ${twice.bytes(1)}\n");
    ck_assert_str_eq(out.text.data, HEADER "768 512\n");
    template_output_free(&out);
    folder_write("t.cu.lua", ENTRY "$ local rows = use(\"rows\")\n$ local s = \"x\"\n$ while true do s = s .. s end\n");
    ck_assert_int_eq(expand_in(&out, folder, "t"), TAMIS_EINVAL);
    ck_assert_msg(strstr(tamis_last_error(), "t.cu.lua:4: the template needs more than"), "%s", tamis_last_error());
}
END_TEST

START_TEST(last_line_needs_no_newline)
{
    struct template_output out;
    expand(&out, ENTRY "int a;");
    ck_assert_str_eq(out.text.data, HEADER "int a;\n");
    template_output_free(&out);
}
END_TEST

START_TEST(entries_are_handed_out)
{
    struct template_output out;
    expand(&out, "$ entry{stage = \"score_stats\", symbol = \"tamis_\" .. p.dtype, threads = 1024,\n"
                 "$       shared_bytes = 99 * 1024, block_m = p.block_m, block_n = 32}\n" ENTRY "text\n");
    ck_assert_int_eq(out.entry_count, 2);
    ck_assert_str_eq(out.entries[0].stage, "score_stats");
    ck_assert_str_eq(out.entries[0].symbol, "tamis_bf16");
    ck_assert_int_eq(out.entries[0].threads, 1024);
    ck_assert_int_eq(out.entries[0].shared_bytes, 101376);
    ck_assert_int_eq(out.entries[0].block_m, 64);
    ck_assert_int_eq(out.entries[0].block_n, 32);
    ck_assert_str_eq(out.entries[1].stage, "attend");
    ck_assert_str_eq(out.text.data, "// tamis show\n"
                                    "// tamis_bf16: 1024 threads, 101376 bytes of dynamic shared memory\n"
                                    "// k: 64 threads, 512 bytes of dynamic shared memory\n\ntext\n");
    template_output_free(&out);
}
END_TEST

START_TEST(rejection_is_no_error)
{
    struct template_output out;
    expand(&out, ENTRY "text\n$ reject(\"too\\nsmall: \" .. p.block_m)\n$ error(\"not reached\")\n");
    ck_assert(out.rejected);
    ck_assert_str_eq(out.reason, "too small: 64");
    ck_assert_uint_eq(out.text.size, 0);
    template_output_free(&out);
    expand(&out, "$ entry{stage = \"attend\", symbol = \"k\", threads = 2048, shared_bytes = 0, block_m = 1,\n"
                 "$       block_n = 0}\n");
    ck_assert(out.rejected);
    ck_assert_str_eq(out.reason, "attend has 2048 threads, a block has at most 1024");
    template_output_free(&out);
}
END_TEST

/* ---- included files */

static void write_headers(void)
{
    folder_write("include/once.cuh",
               "/*\n * once.cuh: a remark that stays.\n */\n#pragma once\n\n#include \"abi.h\"\n\n\nint once;\n");
    folder_write("include/plain.cuh", "#include \"once.cuh\" // again\n/*\n#include \"absent.cuh\"\n*/\n"
                                    "int plain; // ${p.x} $ stays\n$ int x;");
    folder_write("include/loop.cuh", "int before;\n#include \"loop.cuh\"\nint behind;\n");
    folder_write("include/empty.cuh", "");
    folder_write("abi/abi.h", "/* abi.h */\n#ifndef ABI_H\n#define ABI_H\n\n#define ABI 1\n#if ABI\nint abi;\n#endif\n\n"
                            "#endif /* ABI_H */\n");
    folder_write("abi/once.cuh", "int not_this_one;\n");
}

START_TEST(includes_once_without_guards)
{
    struct template_output out;
    write_headers();
    expand(&out, ENTRY "#include \"once.cuh\"\n  # include \"plain.cuh\"\n#include \"abi.h\"\n#include \"empty.cuh\"\n"
                       "#include \"loop.cuh\"\nint text;\n\n\nint last;\n");
    ck_assert_str_eq(out.text.data,
                     HEADER "/*\n * once.cuh: a remark that stays.\n */\n\n"
                            "/* abi.h */\n\n#define ABI 1\n#if ABI\nint abi;\n#endif\n\nint once;\n\n"
                            "/*\n#include \"absent.cuh\"\n*/\nint plain; // ${p.x} $ stays\n$ int x;\n\n"
                            "int before;\nint behind;\n\nint text;\n\n\nint last;\n");
    template_output_free(&out);
}
END_TEST

static const char *const no_guards[] = {
    "#ifndef A\n#define B\n#endif\n",          "#ifndef A\n#define A\n#endif\nint behind;\n",
    "int before;\n#ifndef A\n#define A\n#endif\n", "#ifndef A\n#define A\n#endif\n#ifndef B\n#endif\n",
    "#ifndef A\n#define A 1\n#endif\n",        "#ifdef A\n#define A\n#endif\n",
    "#ifndef A\nint a;\n#endif\n",             "#ifndef A\n#define A\n",
};

START_TEST(keeps_what_is_no_guard)
{
    char expected[256];
    struct template_output out;
    folder_write("include/x.cuh", no_guards[_i]);
    snprintf(expected, sizeof expected, HEADER "%s", no_guards[_i]);
    expand(&out, ENTRY "#include \"x.cuh\"\n");
    ck_assert_str_eq(out.text.data, expected);
    template_output_free(&out);
}
END_TEST

START_TEST(include_that_branches)
{
    struct template_output out;
    folder_write("include/a.cuh", "int a;\n");
    folder_write("include/b.cuh", "int b;\n");
    expand(&out, ENTRY "$ if p.head_dim == 128 then\n#include \"a.cuh\"\n$ else\n#include \"b.cuh\"\n$ end\n");
    ck_assert_str_eq(out.text.data, HEADER "int a;\n");
    template_output_free(&out);
}
END_TEST

START_TEST(too_many_includes)
{
    struct template_output out;
    char text[4096] = ENTRY, name[64];
    for (int i = 0; i < 33; i++) {
        snprintf(name, sizeof name, "include/f%d.cuh", i);
        folder_write(name, "int a;\n");
        snprintf(text + strlen(text), sizeof text - strlen(text), "#include \"f%d.cuh\"\n", i);
    }
    folder_write("t.cu.lua", text);
    ck_assert_int_eq(expand_in(&out, folder, "t"), TAMIS_EINVAL);
    ck_assert_str_eq(tamis_last_error(), "t.cu.lua:34: more than 32 files are included");
}
END_TEST

/* ---- positions */

/* Line `number` of a file of the test's folders, without its newline. */
static void read_origin(char *out, size_t out_bytes, const char *name, int number)
{
    static const char *const places[] = {"", "include/", "abi/"};
    FILE *file = NULL;
    for (size_t i = 0; i < 3 && !file; i++) {
        char path[600];
        snprintf(path, sizeof path, "%s%s", places[i], name);
        file = fopen(folder_file(path), "r");
    }
    ck_assert_ptr_nonnull(file);
    while (number-- > 0) ck_assert_ptr_nonnull(fgets(out, (int)out_bytes, file));
    out[strcspn(out, "\n")] = '\0';
    fclose(file);
}

/* Without its #line directives the lined text is the plain one, and each line stands where they say. */
START_TEST(every_line_knows_its_origin)
{
    struct template_output out;
    char plain[4096] = "", line[512], origin[512], name[64] = "";
    int number = 0, checked = 0, jumps = 0;
    write_headers();
    expand(&out, ENTRY "first\n#include \"once.cuh\"\nsecond\nthird\n\n$ for i = 1, 2 do\nin the loop\n\n$ end\n"
                       "$ local x = 1\nbehind\n#include \"plain.cuh\"\n\n#include \"once.cuh\"\nlast\n");
    for (const char *at = out.lined.data; *at; at += strcspn(at, "\n") + 1) {
        snprintf(line, sizeof line, "%.*s", (int)strcspn(at, "\n"), at);
        if (sscanf(line, "#line %d \"%63[^\"]\"", &number, name) == 2) {
            jumps++;
            continue;
        }
        snprintf(plain + strlen(plain), sizeof plain - strlen(plain), "%s\n", line);
        if (name[0] && line[0]) {
            read_origin(origin, sizeof origin, name, number);
            ck_assert_str_eq(line, origin);
            checked++;
        }
        number++;
    }
    ck_assert_str_eq(plain, out.text.data);
    ck_assert_int_ge(checked, 20);
    ck_assert_int_le(jumps, 13);
    ck_assert_ptr_nonnull(strstr(out.lined.data, "#line 2 \"t.cu.lua\"\nfirst\n\n#line 1 \"once.cuh\"\n/*\n"));
    template_output_free(&out);
}
END_TEST

START_TEST(twice_gives_the_same_bytes)
{
    struct template_output first, second;
    const char *text = ENTRY "$ local t = {}\n$ for i = 1, 40 do t[\"key\" .. i * 7919 % 101] = i end\n"
                             "$ for k, v in pairs(t) do\nint ${k} = ${v};\n$ end\n";
    expand(&first, text);
    expand(&second, text);
    ck_assert_uint_gt(first.text.size, 400);
    ck_assert_str_eq(first.text.data, second.text.data);
    ck_assert_str_eq(first.lined.data, second.lined.data);
    template_output_free(&first);
    template_output_free(&second);
}
END_TEST

/* ---- what must fail */

static const struct {
    const char *family;
    tamis_status status;
    const char *message;
} requests[] = {
    {"absent", TAMIS_ENOTFOUND, "absent.cu.lua: no such file"},
    {"../t", TAMIS_EINVAL, "template \"../t\": a family is named by letters, digits and _"},
    {"", TAMIS_EINVAL, "template \"\": a family is named by letters, digits and _"},
    {"folder", TAMIS_EINVAL, "folder.cu.lua: not a regular file"},
    {"pipe", TAMIS_EINVAL, "pipe.cu.lua: not a regular file"},
    {"empty", TAMIS_EINVAL, "empty.cu.lua:1: the template is empty"},
    {"large", TAMIS_EINVAL, "large.cu.lua: larger than 1024 KB"},
};

START_TEST(bad_requests)
{
    struct template_output out;
    char *large = malloc((1 << 20) + 2);
    folder_add("folder.cu.lua");
    ck_assert_int_eq(mkfifo(folder_file("pipe.cu.lua"), 0600), 0);
    folder_write("empty.cu.lua", "");
    memset(large, ' ', (1 << 20) + 1);
    large[(1 << 20) + 1] = '\0';
    folder_write("large.cu.lua", large);
    free(large);
    ck_assert_int_eq(expand_in(&out, folder, requests[_i].family), requests[_i].status);
    ck_assert_msg(strncmp(tamis_last_error(), requests[_i].message, strlen(requests[_i].message)) == 0, "%s",
                  tamis_last_error());
    ck_assert_ptr_null(out.text.data);
}
END_TEST

/* The first line of each hostile template says what must be in its message; none may take long. */
START_TEST(hostile_templates)
{
    char templates[512], path[900], expected[512];
    int count = 0;
    ck_assert_ptr_nonnull(getenv("TAMIS_SOURCE_DIR"));
    snprintf(templates, sizeof templates, "%s/tests/bad_templates", getenv("TAMIS_SOURCE_DIR"));
    DIR *directory = opendir(templates);
    ck_assert_ptr_nonnull(directory);
    for (struct dirent *item; (item = readdir(directory));) {
        struct template_output out;
        char *suffix = strstr(item->d_name, ".cu.lua");
        if (!suffix) continue;
        snprintf(path, sizeof path, "%s/%s", templates, item->d_name);
        FILE *file = fopen(path, "r");
        ck_assert_ptr_nonnull(file);
        ck_assert_ptr_nonnull(fgets(expected, sizeof expected, file));
        fclose(file);
        expected[strcspn(expected, "\n")] = '\0';
        ck_assert_msg(strncmp(expected, "$ -- expect: ", 13) == 0, "%s has no expectation", item->d_name);
        *suffix = '\0';
        ck_assert_msg(expand_in(&out, templates, item->d_name) == TAMIS_EINVAL, "%s was let through", item->d_name);
        ck_assert_msg(strstr(tamis_last_error(), expected + 13), "%s: expected \"%s\", got \"%s\"", item->d_name,
                      expected + 13, tamis_last_error());
        ck_assert_ptr_null(strchr(tamis_last_error(), '\n'));
        count++;
    }
    closedir(directory);
    ck_assert_int_ge(count, 100);
}
END_TEST

/* ---- the bounds themselves, small */

static int define_nothing(lua_State *lua)
{
    (void)lua;
    return 0;
}

static const struct {
    struct lua_host_limits limits;
    const char *chunk;
    tamis_status status;
    const char *message;
} bounds[] = {
    {{1 << 20, 100000, 60.0}, "local x = 1\nwhile true do end", TAMIS_EINVAL,
     "h:2: the template runs without end: its limit of Lua"},
    {{1 << 20, 1 << 30, 0.05}, "\n\nfor i = 1, 1 << 60 do end", TAMIS_EINVAL,
     "h:3: the template takes too long: its time limit"},
    {{1 << 20, 1 << 30, 60.0}, "local s = 'x'\nwhile true do\ns = s .. s end", TAMIS_EINVAL,
     "h:3: the template needs more than its 1024 KB of memory"},
    {{1 << 10, 1 << 30, 60.0}, "", TAMIS_ENOMEM, "h: no memory for a Lua state"},
    {{8 << 10, 1 << 30, 60.0}, "", TAMIS_EINVAL, "h:1: the template needs more than its 8 KB of memory"},
};

START_TEST(bounds_hold)
{
    struct lua_host host;
    tamis_status status = lua_host_open(&host, "h", &bounds[_i].limits, define_nothing, NULL);
    if (status == TAMIS_OK) {
        status = lua_host_run(&host, bounds[_i].chunk, strlen(bounds[_i].chunk), define_nothing);
        lua_host_close(&host);
    }
    ck_assert_uint_eq(host.used_bytes, 0);
    ck_assert_int_eq(status, bounds[_i].status);
    ck_assert_msg(strncmp(tamis_last_error(), bounds[_i].message, strlen(bounds[_i].message)) == 0, "%s",
                  tamis_last_error());
}
END_TEST

START_TEST(bytecode_is_refused)
{
    struct lua_host host;
    ck_assert_int_eq(lua_host_open(&host, "h", &lua_host_default_limits, define_nothing, NULL), TAMIS_OK);
    ck_assert_int_eq(lua_host_run(&host, "\x1bLua", 4, define_nothing), TAMIS_EINVAL);
    ck_assert_ptr_nonnull(strstr(tamis_last_error(), "attempt to load a binary chunk"));
    lua_host_close(&host);
}
END_TEST

#define ROWS(table) ((int)(sizeof(table) / sizeof(table)[0]))

Suite *template_suite(void)
{
    Suite *suite = suite_create("template");
    TCase *tcase = tcase_create("template");
    tcase_add_checked_fixture(tcase, set_up, folder_remove);
    tcase_set_timeout(tcase, 120); /* valgrind */
    tcase_add_loop_test(tcase, copies_and_interpolates, 0, ROWS(lines));
    tcase_add_test(tcase, uses_shared_functions);
    tcase_add_test(tcase, last_line_needs_no_newline);
    tcase_add_test(tcase, entries_are_handed_out);
    tcase_add_test(tcase, rejection_is_no_error);
    tcase_add_test(tcase, includes_once_without_guards);
    tcase_add_loop_test(tcase, keeps_what_is_no_guard, 0, ROWS(no_guards));
    tcase_add_test(tcase, include_that_branches);
    tcase_add_test(tcase, too_many_includes);
    tcase_add_test(tcase, every_line_knows_its_origin);
    tcase_add_test(tcase, twice_gives_the_same_bytes);
    tcase_add_loop_test(tcase, bad_requests, 0, ROWS(requests));
    tcase_add_test(tcase, hostile_templates);
    tcase_add_loop_test(tcase, bounds_hold, 0, ROWS(bounds));
    tcase_add_test(tcase, bytecode_is_refused);
    suite_add_tcase(suite, tcase);
    return suite;
}
