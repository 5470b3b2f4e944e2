/*
 * spec_edit.c: see spec_edit.h.
 */
#include "spec_edit.h"

#include "error.h"
#include "spec_write.h"
#include "spec_yaml.h"

#include <stdlib.h>
#include <string.h>

void spec_layers_write(struct tamisi_buf *out, const int32_t *layers, size_t count)
{
    for (size_t first = 0, last; first < count; first = last + 1) {
        last = first;
        while (last + 1 < count && layers[last + 1] == layers[last] + 1) last++;
        if (last < first + 2) last = first; /* two in a row are written one by one */
        tamisi_buf_printf(out, "%s%d", first > 0 ? "," : "", (int)layers[first]);
        if (last > first) tamisi_buf_printf(out, "-%d", (int)layers[last]);
    }
}

/* What is replaced: bytes from `begin` to before `end`, by a text between two others. */
struct edit {
    size_t begin, end;
    const char *before, *after;
};

/*
 * libyaml counts characters; texts are bytes of UTF-8. Its lines are no help: they end by more than \n. A byte order mark does
 * not count.
 */
static size_t offset_of(const char *text, size_t bytes, yaml_mark_t mark)
{
    size_t at = bytes >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0 ? 3 : 0;
    for (size_t index = 0; at < bytes; at++) {
        if (((unsigned char)text[at] & 0xc0) == 0x80) continue;
        if (index++ == mark.index) break;
    }
    return at;
}

static const yaml_node_pair_t *find_in(const struct spec_yaml *yaml, const yaml_node_t *mapping, const char *key)
{
    for (const yaml_node_pair_t *pair = mapping->data.mapping.pairs.start; pair < mapping->data.mapping.pairs.top; pair++)
        if (strcmp((const char *)spec_yaml_node(yaml, pair->key)->data.scalar.value, key) == 0) return pair;
    return NULL;
}

static const yaml_node_pair_t *find_pair(const struct spec_yaml *yaml, const char *key)
{
    return find_in(yaml, spec_yaml_root(yaml), key);
}

/* The value's own place. A block's ends where the next key begins: what counts is its last item's end. */
static void replace_value(struct edit *edit, const struct spec_yaml *yaml, const yaml_node_pair_t *pair, const char *text,
                          size_t bytes)
{
    const yaml_node_t *value = spec_yaml_node(yaml, pair->value);
    edit->begin = offset_of(text, bytes, value->start_mark);
    edit->end = offset_of(text, bytes, value->end_mark);
    edit->before = edit->after = "";
    if (value->type != YAML_SEQUENCE_NODE || value->data.sequence.style == YAML_FLOW_SEQUENCE_STYLE) return;
    const yaml_node_t *last = spec_yaml_node(yaml, value->data.sequence.items.top[-1]);
    edit->begin = offset_of(text, bytes, spec_yaml_node(yaml, pair->key)->end_mark);
    edit->begin += strcspn(text + edit->begin, ":") + 1;
    edit->end = offset_of(text, bytes, last->end_mark);
    edit->before = " ";
}

/* Behind the line of `layers` or `name`; in a spec within braces, behind the value. */
static void add_key(struct edit *edit, const struct spec_yaml *yaml, const char *text, size_t bytes)
{
    const yaml_node_pair_t *pair = find_pair(yaml, "layers");
    if (!pair) pair = find_pair(yaml, "name");
    edit->begin = offset_of(text, bytes, spec_yaml_node(yaml, pair->value)->end_mark);
    if (spec_yaml_root(yaml)->data.mapping.style == YAML_FLOW_MAPPING_STYLE) {
        edit->before = ", sparse_layers: ";
        edit->after = "";
    } else {
        edit->begin += strcspn(text + edit->begin, "\n");
        const bool ended = edit->begin < bytes;
        edit->begin += ended;
        edit->before = ended ? "sparse_layers: " : "\nsparse_layers: ";
        edit->after = "\n";
    }
    edit->end = edit->begin;
}

static void put_layers(struct tamisi_buf *out, const char *layers)
{
    const bool list = strchr(layers, ',') != NULL;
    if (list) tamisi_buf_puts(out, "[");
    for (; *layers; layers++) {
        tamisi_buf_append(out, layers, 1);
        if (*layers == ',') tamisi_buf_puts(out, " ");
    }
    if (list) tamisi_buf_puts(out, "]");
}

/* As many blanks as the spec's other keys stand behind. */
static void put_indent(struct tamisi_buf *out, const struct spec_yaml *yaml, const struct edit *edit)
{
    const yaml_node_pair_t *first = spec_yaml_root(yaml)->data.mapping.pairs.start;
    const bool own_line = strcmp(edit->after, "\n") == 0;
    for (size_t i = 0; own_line && i < spec_yaml_node(yaml, first->key)->start_mark.column; i++) tamisi_buf_puts(out, " ");
}

static void apply(struct tamisi_buf *out, const struct spec_yaml *yaml, const char *text, size_t bytes, const char *layers)
{
    struct edit edit;
    const yaml_node_pair_t *pair = find_pair(yaml, "sparse_layers");
    if (pair)
        replace_value(&edit, yaml, pair, text, bytes);
    else
        add_key(&edit, yaml, text, bytes);
    tamisi_buf_append(out, text, edit.begin);
    if (*edit.before == '\n') tamisi_buf_append(out, edit.before++, 1);
    put_indent(out, yaml, &edit);
    tamisi_buf_puts(out, edit.before);
    put_layers(out, layers);
    tamisi_buf_puts(out, edit.after);
    tamisi_buf_append(out, text + edit.end, bytes - edit.end);
}

/* All that a spec says but its sparse layers. */
static void put_rest(struct tamisi_buf *out, const struct spec *spec)
{
    struct spec rest = *spec;
    rest.sparse_layers[0] = '\0';
    spec_write_yaml(out, &rest);
}

/* The new text reads, has the new layers, and says what the old one said. */
static tamis_status check(const struct spec *old, const char *name, const struct tamisi_buf *text, const char *shared_dir,
                          const char *layers)
{
    struct tamisi_buf before = TAMISI_BUF_INIT, after = TAMISI_BUF_INIT;
    struct spec made;
    TAMIS_TRY(spec_parse(&made, name, text->data, text->size, shared_dir));
    put_rest(&before, old);
    put_rest(&after, &made);
    tamis_status status = TAMIS_OK;
    if (before.failed || after.failed)
        status = tamisi_fail(TAMIS_ENOMEM, "%s: out of memory", name);
    else if (strcmp(made.sparse_layers, layers) != 0 || strcmp(before.data, after.data) != 0)
        status = tamisi_fail(TAMIS_EINVAL, "%s: is laid out so that sparse_layers cannot be changed alone: write \"%s\" there "
                                           "by hand", name, layers);
    tamisi_buf_free(&before);
    tamisi_buf_free(&after);
    spec_free(&made);
    return status;
}

tamis_status spec_edit_layers(struct tamisi_buf *out, const char *name, const char *text, size_t bytes, const char *shared_dir,
                              const char *layers)
{
    struct spec spec;
    struct spec_yaml yaml;
    TAMIS_TRY(spec_parse(&spec, name, text, bytes, shared_dir));
    tamis_status status = spec_yaml_parse(&yaml, name, text, bytes);
    if (status == TAMIS_OK) {
        apply(out, &yaml, text, bytes, layers);
        spec_yaml_close(&yaml);
        status = out->failed ? tamisi_fail(TAMIS_ENOMEM, "%s: out of memory", name)
                             : check(&spec, name, out, shared_dir, layers);
    }
    spec_free(&spec);
    return status;
}

/* ---- how many tokens are kept */

/* Where the key that says so, and its value, stand: one of the three is there in a spec that reads. */
static struct edit find_amount(const struct spec_yaml *yaml, const char *text, size_t bytes)
{
    static const char *const policies[] = {"coverage", "ratio", "count"};
    const yaml_node_t *selection = spec_yaml_node(yaml, find_pair(yaml, "selection")->value);
    const yaml_node_pair_t *pair = NULL;
    for (int i = 0; !pair && i < 3; i++) pair = find_in(yaml, selection, policies[i]);
    return (struct edit){.begin = offset_of(text, bytes, spec_yaml_node(yaml, pair->key)->start_mark),
                         .end = offset_of(text, bytes, spec_yaml_node(yaml, pair->value)->end_mark)};
}

static size_t line_begin(const char *text, size_t at)
{
    while (at > 0 && text[at - 1] != '\n') at--;
    return at;
}

static bool is_evidence(const char *line)
{
    line += strspn(line, " ");
    return strncmp(line, SPEC_EDIT_EVIDENCE, strlen(SPEC_EDIT_EVIDENCE)) == 0;
}

/* The lines of evidence that end where `end` is, the begin of a line: where the first of them begins. */
static size_t evidence_begin(const char *text, size_t end)
{
    while (end > 0) {
        const size_t line = line_begin(text, end - 1);
        if (!is_evidence(text + line)) break;
        end = line;
    }
    return end;
}

static void put_evidence(struct tamisi_buf *out, size_t indent, const char *const *evidence, int lines)
{
    for (int i = 0; i < lines; i++) {
        for (size_t blank = 0; blank < indent; blank++) tamisi_buf_puts(out, " ");
        tamisi_buf_printf(out, "%s%s\n", SPEC_EDIT_EVIDENCE, evidence[i]);
    }
}

static void apply_selection(struct tamisi_buf *out, const struct spec_yaml *yaml, const char *text, size_t bytes,
                            const char *policy, const char *amount, const char *const *evidence, int lines)
{
    const bool braces = spec_yaml_root(yaml)->data.mapping.style == YAML_FLOW_MAPPING_STYLE;
    const yaml_mark_t key = spec_yaml_node(yaml, find_pair(yaml, "selection")->key)->start_mark;
    const struct edit edit = find_amount(yaml, text, bytes);
    size_t from = 0, to = bytes;
    if (braces) {
        if (to > 0 && text[to - 1] == '\n') to = evidence_begin(text, to);
    } else {
        const size_t line = line_begin(text, offset_of(text, bytes, key));
        tamisi_buf_append(out, text, evidence_begin(text, line));
        put_evidence(out, key.column, evidence, lines);
        from = line;
    }
    tamisi_buf_append(out, text + from, edit.begin - from);
    tamisi_buf_printf(out, "%s: %s", policy, amount);
    tamisi_buf_append(out, text + edit.end, to - edit.end);
    if (!braces) return;
    if (out->size > 0 && !out->failed && out->data[out->size - 1] != '\n') tamisi_buf_puts(out, "\n");
    put_evidence(out, 0, evidence, lines);
}

/* The text reads, keeps what was asked for, and says what the old one said beside. */
static tamis_status check_selection(const struct spec *old, const char *name, const struct tamisi_buf *text,
                                    const char *shared_dir, const char *policy, const char *amount)
{
    struct tamisi_buf before = TAMISI_BUF_INIT, after = TAMISI_BUF_INIT;
    struct spec made, plain = *old;
    TAMIS_TRY(spec_parse(&made, name, text->data, text->size, shared_dir));
    const tamis_selection *is = &made.problem.selection;
    const double kept = is->policy == TAMIS_COVERAGE ? is->coverage : is->policy == TAMIS_RATIO ? is->ratio : (double)is->count;
    const bool right = strcmp(spec_policy_name(is->policy), policy) == 0 && kept == strtod(amount, NULL);
    plain.problem.selection.policy = is->policy;
    plain.problem.selection.coverage = is->coverage;
    plain.problem.selection.ratio = is->ratio;
    plain.problem.selection.count = is->count;
    spec_write_yaml(&before, &plain);
    spec_write_yaml(&after, &made);
    tamis_status status = TAMIS_OK;
    if (before.failed || after.failed)
        status = tamisi_fail(TAMIS_ENOMEM, "%s: out of memory", name);
    else if (!right || strcmp(before.data, after.data) != 0)
        status = tamisi_fail(TAMIS_EINVAL, "%s: is laid out so that its selection cannot be changed alone: write \"%s: %s\" "
                                           "there by hand", name, policy, amount);
    tamisi_buf_free(&before);
    tamisi_buf_free(&after);
    spec_free(&made);
    return status;
}

tamis_status spec_edit_selection(struct tamisi_buf *out, const char *name, const char *text, size_t bytes,
                                 const char *shared_dir, const char *policy, const char *amount,
                                 const char *const *evidence, int lines)
{
    struct spec spec;
    struct spec_yaml yaml;
    TAMIS_TRY(spec_parse(&spec, name, text, bytes, shared_dir));
    tamis_status status = spec_yaml_parse(&yaml, name, text, bytes);
    if (status == TAMIS_OK) {
        apply_selection(out, &yaml, text, bytes, policy, amount, evidence, lines);
        spec_yaml_close(&yaml);
        status = out->failed ? tamisi_fail(TAMIS_ENOMEM, "%s: out of memory", name)
                             : check_selection(&spec, name, out, shared_dir, policy, amount);
    }
    spec_free(&spec);
    return status;
}
