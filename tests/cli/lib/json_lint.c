/*
 * json_lint.c: reads lines from stdin and checks that each is one JSON object (RFC 8259, UTF-8) with an integer member
 * "schema" and a text member "type", and no key twice in one object. Exit 0, or 1 with the line and what is wrong.
 */
#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_DEPTH 32
#define MAX_KEYS 64

static const unsigned char *at;
static const char *problem;
static bool has_schema, has_type;

static bool bad(const char *what)
{
    if (!problem) problem = what;
    return false;
}

static void blanks(void)
{
    while (*at == ' ' || *at == '\t') at++;
}

/* One UTF-8 sequence above 0x7f. */
static bool utf8(void)
{
    const int more = *at >= 0xf0 && *at < 0xf5 ? 3 : *at >= 0xe0 && *at < 0xf0 ? 2 : *at >= 0xc2 && *at < 0xe0 ? 1 : 0;
    if (more == 0) return bad("a byte that is no UTF-8");
    for (int i = 1; i <= more; i++)
        if ((at[i] & 0xc0) != 0x80) return bad("a cut UTF-8 sequence");
    at += more + 1;
    return true;
}

static bool escape(void)
{
    at++;
    if (*at == 'u') {
        for (int i = 1; i <= 4; i++)
            if (!isxdigit(at[i])) return bad("\\u without four digits");
        at += 5;
        return true;
    }
    if (!*at || !strchr("\"\\/bfnrt", *at)) return bad("an unknown escape");
    at++;
    return true;
}

/* A string; its text between the quotes goes to *begin and *bytes. */
static bool string(const unsigned char **begin, size_t *bytes)
{
    if (*at != '"') return bad("a string is missing");
    *begin = ++at;
    while (*at != '"') {
        if (*at < 0x20) return bad("a string that does not end, or a control character in one");
        if (*at == '\\') {
            if (!escape()) return false;
        } else if (*at < 0x80) {
            at++;
        } else if (!utf8()) {
            return false;
        }
    }
    *bytes = (size_t)(at++ - *begin);
    return true;
}

static bool digits(void)
{
    if (!isdigit(*at)) return bad("a digit is missing");
    while (isdigit(*at)) at++;
    return true;
}

static bool number(void)
{
    if (*at == '-') at++;
    if (*at == '0' && isdigit(at[1])) return bad("a number with a leading zero");
    if (!digits()) return false;
    if (*at == '.') {
        at++;
        if (!digits()) return false;
    }
    if (*at == 'e' || *at == 'E') {
        at++;
        if (*at == '+' || *at == '-') at++;
        return digits();
    }
    return true;
}

static bool word(const char *text)
{
    if (strncmp((const char *)at, text, strlen(text)) != 0) return bad("an unknown word");
    at += strlen(text);
    return true;
}

static bool value(int depth);

static bool member(int depth, const unsigned char **key, size_t *bytes)
{
    blanks();
    if (!string(key, bytes)) return false;
    blanks();
    if (*at++ != ':') return bad("a colon is missing");
    blanks();
    if (depth == 0 && *bytes == 6 && memcmp(*key, "schema", 6) == 0) has_schema = isdigit(*at);
    if (depth == 0 && *bytes == 4 && memcmp(*key, "type", 4) == 0) has_type = *at == '"';
    return value(depth + 1);
}

static bool object(int depth)
{
    const unsigned char *keys[MAX_KEYS];
    size_t bytes[MAX_KEYS];
    int count = 0;
    at++;
    blanks();
    if (*at == '}') return at++, true;
    for (;; at++) {
        if (count == MAX_KEYS) return bad("too many members");
        if (!member(depth, &keys[count], &bytes[count])) return false;
        for (int i = 0; i < count; i++)
            if (bytes[i] == bytes[count] && memcmp(keys[i], keys[count], bytes[i]) == 0) return bad("a key twice");
        count++;
        blanks();
        if (*at == '}') return at++, true;
        if (*at != ',') return bad("a comma is missing");
    }
}

static bool array(int depth)
{
    at++;
    blanks();
    if (*at == ']') return at++, true;
    for (;; at++) {
        blanks();
        if (!value(depth + 1)) return false;
        blanks();
        if (*at == ']') return at++, true;
        if (*at != ',') return bad("a comma is missing in an array");
    }
}

static bool value(int depth)
{
    const unsigned char *begin;
    size_t bytes;
    if (depth > MAX_DEPTH) return bad("too deep");
    switch (*at) {
    case '{': return object(depth);
    case '[': return array(depth);
    case '"': return string(&begin, &bytes);
    case 't': return word("true");
    case 'f': return word("false");
    case 'n': return word("null");
    default: return number();
    }
}

static bool line_is_good(const char *line)
{
    at = (const unsigned char *)line;
    problem = NULL;
    has_schema = has_type = false;
    if (*at != '{') return bad("no object");
    if (!object(0)) return false;
    if (strcmp((const char *)at, "\n") != 0) return bad("something behind the object, or no newline");
    if (!has_schema) return bad("no schema");
    return has_type || bad("no type");
}

int main(void)
{
    char *line = NULL;
    size_t room = 0, used = 0;
    long number_of_line = 0;
    int c;
    do { /* getline is not C11 */
        c = getchar();
        if (used + 2 > room) line = realloc(line, room = 2 * room + 256);
        if (!line) return 1;
        if (c != EOF) line[used++] = (char)c;
        if ((c != '\n' && c != EOF) || used == 0) continue;
        line[used] = '\0';
        number_of_line++;
        if (strlen(line) != used || !line_is_good(line)) {
            printf("line %ld: %s: %.120s\n", number_of_line, problem ? problem : "a zero byte", line);
            return 1;
        }
        used = 0;
    } while (c != EOF);
    free(line);
    return number_of_line > 0 ? 0 : (puts("no line at all"), 1);
}
