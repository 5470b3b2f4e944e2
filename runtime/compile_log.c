/*
 * compile_log.c: what the compiler's log says: resources of each kernel, losses, the first error. Pure text work; unknown
 * lines are skipped, so that a newer compiler's log loses no more than what it words differently.
 */
#include "compile.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

#define LINE_BYTES 1024

/* Copy the line at *log, cut to size, and step behind it. False at the end of the text. */
static bool next_line(char line[LINE_BYTES], const char **log)
{
    const char *begin = *log;
    if (*begin == '\0') return false;
    const size_t bytes = strcspn(begin, "\n");
    const size_t kept = bytes < LINE_BYTES ? bytes : LINE_BYTES - 1;
    memcpy(line, begin, kept);
    line[kept] = '\0';
    if (kept > 0 && line[kept - 1] == '\r') line[kept - 1] = '\0';
    *log = begin + bytes + (begin[bytes] == '\n');
    return true;
}

/* The number that stands right before `unit`; 0 if the line has no such thing. */
static int number_before(const char *line, const char *unit)
{
    const char *end = strstr(line, unit);
    const char *digit = end;
    long long value = 0;
    if (!end) return 0;
    while (digit > line && digit[-1] >= '0' && digit[-1] <= '9') digit--;
    for (; digit < end && value <= INT_MAX; digit++) value = 10 * value + (*digit - '0');
    return value <= INT_MAX ? (int)value : INT_MAX;
}

static int add_clamped(int a, int b) { return a > INT_MAX - b ? INT_MAX : a + b; }

/* "... <opening>NAME'": false unless both quotes are there. */
static bool read_quoted(char symbol[TAMISI_SYMBOL_SIZE], const char *line, const char *opening)
{
    const char *name = strstr(line, opening);
    if (!name) return false;
    name += strlen(opening);
    const char *end = strchr(name, '\'');
    if (!end || end == name) return false;
    snprintf(symbol, TAMISI_SYMBOL_SIZE, "%.*s", end - name < TAMISI_SYMBOL_SIZE ? (int)(end - name) : TAMISI_SYMBOL_SIZE,
             name);
    return true;
}

static void read_resources(struct tamisi_resource *resource, const char *line)
{
    if (strstr(line, " bytes stack frame")) {
        const int stack = number_before(line, " bytes stack frame");
        if (stack > resource->stack_bytes) resource->stack_bytes = stack;
        resource->spill_stores = add_clamped(resource->spill_stores, number_before(line, " bytes spill stores"));
        resource->spill_loads = add_clamped(resource->spill_loads, number_before(line, " bytes spill loads"));
    } else if (strstr(line, "Used ") && strstr(line, " registers")) {
        resource->registers = number_before(line, " registers");
        resource->shared_bytes = number_before(line, " bytes smem");
        const int stack = number_before(line, " bytes cumulative stack size"); /* with that of functions called */
        if (stack > resource->stack_bytes) resource->stack_bytes = stack;
    }
}

/* Losses stand before the kernels that have them. One of no kernel here, or with no name at all, counts for all. */
static void read_losses(struct tamisi_resource *resources, int count, const char *log)
{
    char line[LINE_BYTES], symbol[TAMISI_SYMBOL_SIZE];
    while (next_line(line, &log)) {
        if (!strstr(line, "Potential Performance Loss") || (!strstr(line, "wgmma") && !strstr(line, "setmaxnreg"))) continue;
        const bool named = read_quoted(symbol, line, " function '");
        int which = named ? 0 : count;
        while (which < count && strcmp(resources[which].symbol, symbol) != 0) which++;
        for (int i = 0; i < count; i++)
            if (which == i || which == count) resources[i].serialized_wgmma = true;
    }
}

int tamisi_compile_read_log(const char *log, struct tamisi_resource *resources, int capacity)
{
    const char *const whole = log;
    char line[LINE_BYTES], symbol[TAMISI_SYMBOL_SIZE];
    struct tamisi_resource *current = NULL; /* NULL: before the first kernel, or in one that found no room */
    int count = 0;
    while (next_line(line, &log)) {
        if (read_quoted(symbol, line, "Compiling entry function '")) {
            current = count < capacity ? &resources[count++] : NULL;
            if (!current) continue;
            *current = (struct tamisi_resource){.registers = 0};
            memcpy(current->symbol, symbol, sizeof symbol);
        } else if (current) {
            read_resources(current, line);
        }
    }
    read_losses(resources, count, whole);
    return count;
}

/* ---- errors */

static const char *skip_blanks(const char *text)
{
    while (*text == ' ' || *text == '\t') text++;
    return text;
}

/* "folder/FILE(LINE): error: TEXT", also "error #20:" and "catastrophic error:". */
static bool read_source_error(char *out, size_t size, const char *line)
{
    static const char *const words[] = {"): error", "): catastrophic error"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        const char *close = strstr(line, words[i]);
        const char *text = close ? strchr(close + strlen(words[i]), ':') : NULL;
        if (!text) continue;
        const char *file = line, *open = close;
        while (open > line && *open != '(') open--;
        if (*open != '(') continue;
        for (const char *at = line; at < open; at++)
            if (*at == '/') file = at + 1;
        snprintf(out, size, "%.*s:%.*s: %s", (int)(open - file), file, (int)(close - open - 1), open + 1,
                 skip_blanks(text + 1));
        return true;
    }
    return false;
}

/* "ptxas application ptx input, line 23; error   : TEXT", "ptxas fatal   : TEXT", "nvrtc: error: TEXT". */
static bool read_tool_error(char *out, size_t size, const char *line)
{
    const bool assembler = strncmp(line, "ptxas", 5) == 0;
    if (!assembler && strncmp(line, "nvrtc", 5) != 0) return false;
    const char *word = strstr(line, "error");
    if (!word) word = strstr(line, "fatal");
    const char *text = word ? strchr(word, ':') : NULL;
    if (!text) return false;
    snprintf(out, size, "%s: %s", assembler ? "ptxas" : "nvrtc", skip_blanks(text + 1));
    return true;
}

void tamisi_compile_first_error(char *out, size_t size, const char *log)
{
    char line[LINE_BYTES], first[LINE_BYTES] = "";
    while (next_line(line, &log)) {
        if (read_source_error(out, size, line) || read_tool_error(out, size, line)) return;
        if (!*first) snprintf(first, sizeof first, "%s", skip_blanks(line));
    }
    snprintf(out, size, "%s", first);
}
