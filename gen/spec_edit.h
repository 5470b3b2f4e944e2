/*
 * spec_edit.h: a spec's text with other `sparse_layers`, or another number of tokens to keep, and not a byte changed beside:
 * comments, order and layout stay. Layer: above spec, below cmd_layers.c and cmd_calibrate.c.
 */
#ifndef SPEC_EDIT_H
#define SPEC_EDIT_H

#include "buf.h"
#include "spec.h"

/* Ascending layers in a spec's normal form: "15-30", "14,15,20-37". */
void spec_layers_write(struct tamisi_buf *out, const int32_t *layers, size_t count);

/*
 * `text`, a spec that reads, with sparse_layers as in the normal form `layers`: in place of those it has, else on a line of
 * their own behind `layers` or, without, `name`. `name` and `shared_dir` as spec_parse() takes them. What comes out was read
 * again, and says the same beside. TAMIS_EINVAL with a place in the file; TAMIS_ENOMEM.
 */
tamis_status spec_edit_layers(struct tamisi_buf *out, const char *name, const char *text, size_t bytes, const char *shared_dir,
                              const char *layers);

#define SPEC_EDIT_EVIDENCE "# calibrated: " /* how a line of evidence begins */

/*
 * `text` with `policy`, "coverage", "ratio" or "count", and `amount`, a number, in place of what its selection says of how many
 * tokens are kept; and above the selection the lines of `evidence`, each a comment, in place of those that an earlier call put
 * there. In a spec within braces they stand at its end. Otherwise as spec_edit_layers().
 */
tamis_status spec_edit_selection(struct tamisi_buf *out, const char *name, const char *text, size_t bytes,
                                 const char *shared_dir, const char *policy, const char *amount,
                                 const char *const *evidence, int lines);

#endif
