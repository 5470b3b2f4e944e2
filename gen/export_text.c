/* export_text.c: pieces of C text: names with another prefix, arrays, string literals. Pure. */
#include "export.h"

#include <ctype.h>
#include <string.h>

static void put_capitals(struct tamisi_buf *out, const char *text)
{
    for (; *text; text++) {
        const char capital = (char)toupper((unsigned char)*text);
        tamisi_buf_append(out, &capital, 1);
    }
}

void export_rename(struct tamisi_buf *out, const char *text, const char *prefix)
{
    static const char small[] = EXPORT_PREFIX, capital[] = "TAMIS_KERNELS";
    while (*text) {
        const size_t plain = strcspn(text, "tT");
        tamisi_buf_append(out, text, plain);
        text += plain;
        if (strncmp(text, small, sizeof small - 1) == 0) {
            tamisi_buf_puts(out, prefix);
            text += sizeof small - 1;
        } else if (strncmp(text, capital, sizeof capital - 1) == 0) {
            put_capitals(out, prefix);
            text += sizeof capital - 1;
        } else if (*text) {
            tamisi_buf_append(out, text++, 1);
        }
    }
}

/* The word of up to 8 bytes as a little-endian machine reads it. */
static unsigned long long read_word(const unsigned char *bytes, size_t count)
{
    unsigned long long word = 0;
    for (size_t i = 0; i < count && i < 8; i++) word |= (unsigned long long)bytes[i] << 8 * i;
    return word;
}

void export_words(struct tamisi_buf *out, const char *name, const void *data, size_t bytes)
{
    const unsigned char *at = data;
    tamisi_buf_printf(out, "const unsigned long long %s[%zu] = {", name, (bytes + 7) / 8);
    for (size_t i = 0; i < bytes; i += 8)
        tamisi_buf_printf(out, "%s0x%llx,", i % 40 == 0 ? "\n    " : " ", read_word(at + i, bytes - i));
    tamisi_buf_puts(out, "\n};\n");
}

void export_literal(struct tamisi_buf *out, const char *text)
{
    tamisi_buf_puts(out, "\"");
    for (; *text; text++) {
        const unsigned char byte = (unsigned char)*text;
        if (byte < ' ' || byte > '~' || strchr("\"\\?", byte)) tamisi_buf_printf(out, "\\%03o", byte);
        else tamisi_buf_append(out, text, 1);
    }
    tamisi_buf_puts(out, "\"");
}
