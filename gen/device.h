/*
 * device.h: the options that `run`, `verify` and `bench` share: which device, with which store. Layer: above cli, below the
 * commands.
 */
#ifndef DEVICE_H
#define DEVICE_H

#include "cli.h"
#include "tamis.h"

struct device {
    tamis_context *context;
    tamis_store *store; /* NULL: none was given */
    int ordinal;        /* or TAMIS_DEVICE_CPU */
    char name[32];      /* "cpu", "cuda:0" */
};

/* By --store, --device, --precision. Without --device: GPU 0 where a store was given and there is one, else the CPU. */
int device_open(struct device *device, struct cli *cli); /* an exit code; device_close() is due in any case */
/* By --device alone, GPU 0 without it; no store. device_close() is due here too. */
int device_open_bare(struct device *device, struct cli *cli);
/* By --device alone, `fallback` without it: number and name; nothing is opened. */
int device_choose(struct device *device, struct cli *cli, int fallback);
void device_close(struct device *device);

#endif
