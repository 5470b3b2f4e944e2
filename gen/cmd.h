/* cmd.h: the commands of the tool, one cmd_<name>.c each. main.c alone knows them all. */
#ifndef CMD_H
#define CMD_H

#include "cli.h"

extern const struct cli_command cmd_gen;
extern const struct cli_command cmd_show;
extern const struct cli_command cmd_plan;
extern const struct cli_command cmd_run;
extern const struct cli_command cmd_verify;
extern const struct cli_command cmd_bench;  /* attention, operator, compose, ablate, host */
extern const struct cli_command cmd_bench_operator;
extern const struct cli_command cmd_bench_compose;
extern const struct cli_command cmd_bench_ablate;
extern const struct cli_command cmd_bench_host;
extern const struct cli_command cmd_spec;   /* check, show, keys, import */
extern const struct cli_command cmd_spec_import; /* a child of spec */
extern const struct cli_command cmd_layers;
extern const struct cli_command cmd_calibrate;
extern const struct cli_command cmd_cache;  /* ls, gc, verify */
extern const struct cli_command cmd_tune;
extern const struct cli_command cmd_tune_worker; /* not listed: tune_serve.c */
extern const struct cli_command cmd_report;
extern const struct cli_command cmd_export;
extern const struct cli_command cmd_import;
extern const struct cli_command cmd_merge;
extern const struct cli_command cmd_doctor;

#endif
