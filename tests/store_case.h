/*
 * store_case.h: what the files of the store's suite share: a folder of their own for each test, and short checks.
 *
 * Defined in check_store.c. Everything works on the one store file that `store_file` names.
 */
#ifndef STORE_CASE_H
#define STORE_CASE_H

#include "folder.h"
#include "store_fill.h"

#include <check.h>
#include <limits.h>

extern char store_file[PATH_MAX]; /* a.tamis in the test's folder */
extern int store_warnings;        /* that handles of store_open have logged */
extern char store_warning[512];   /* the last of them */

TCase *store_content_case(void); /* check_store_content.c */
TCase *store_damage_case(void);  /* check_store_damage.c */
TCase *store_damage_pattern_case(void);
TCase *store_layers_case(void);  /* check_store_layers.c */
TCase *store_merge_case(void);   /* check_store_merge.c */
TCase *store_pattern_case(void); /* check_store_pattern.c */
TCase *store_timings_case(void); /* check_store_timings.c */

void store_set_up(void);
void store_tear_down(void);
void store_list_folder(struct tamisi_buf *out); /* names in alphabetical order, each with a newline */
void store_execute(const char *sql);            /* on the file, through plain SQLite */
void store_make(int count);                     /* a sound store of specs spec_0 and spec_1, and `count` kernels */

tamis_status store_open(tamis_store **out, tamis_store_mode mode);
tamis_store *store_must_open(tamis_store_mode mode);
void store_must(tamis_status status);
void store_expect(tamis_status status, tamis_status wanted, const char *text); /* which the message contains */

#endif
