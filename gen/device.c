/*
 * device.c: opening the device and store that the command line names.
 */
#include "device.h"

#include "driver.h"
#include "error.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool any_gpu(void)
{
    const struct tamisi_cuda *cuda;
    int count = 0;
    return tamisi_cuda_get(&cuda) == TAMIS_OK && cuda->device_get_count(&count) == 0 && count > 0;
}

/* "cpu", "cuda", "cuda:1"; `fallback` where none is named. */
static bool read_device(struct device *device, struct cli *cli, int fallback)
{
    const char *text = cli_value(cli, "device");
    char *end = NULL;
    device->ordinal = text ? TAMIS_DEVICE_CPU : fallback;
    if (!text) return true;
    if (strcmp(text, "cpu") == 0) return true;
    if (strcmp(text, "cuda") == 0) return device->ordinal = 0, true;
    const bool digits = strncmp(text, "cuda:", 5) == 0 && text[5] >= '0' && text[5] <= '9';
    const long ordinal = digits ? strtol(text + 5, &end, 10) : -1;
    if (ordinal < 0 || ordinal > INT_MAX || *end)
        return cli_usage(cli, "--device: \"%s\" is no device, cpu or cuda:N would be right", text), false;
    device->ordinal = (int)ordinal;
    return true;
}

static int open_context(struct device *device, struct cli *cli)
{
    tamis_context_options options = TAMIS_CONTEXT_OPTIONS_INIT;
    int precision = 0; /* of fp32, fp64 */
    if (!cli_choice(cli, "precision", &precision)) return CLI_USAGE;
    if (precision == 1 && device->ordinal != TAMIS_DEVICE_CPU)
        return cli_usage(cli, "--precision fp64 is the CPU's: GPU kernels compute in fp32");
    options.device = device->ordinal;
    options.precision = precision == 1 ? TAMIS_FP64 : TAMIS_FP32;
    options.log = cli_log;
    options.log_payload = cli;
    const tamis_status status = tamis_context_create(&device->context, &options);
    if (status == TAMIS_EUNSUPPORTED) return cli_fail_as(cli, CLI_NO_DEVICE); /* a GPU or driver that is too old */
    return status == TAMIS_OK ? CLI_OK : cli_fail(cli, status);
}

static int open_store(struct device *device, struct cli *cli)
{
    const char *path = cli_value(cli, "store");
    const tamis_store_options options = {sizeof options, TAMIS_STORE_WRITE, cli_log, cli};
    if (!path && device->ordinal != TAMIS_DEVICE_CPU)
        return cli_usage(cli, "--store STORE is missing: a GPU runs its kernels, the CPU alone needs none");
    if (!path) return CLI_OK;
    const tamis_status status = tamis_store_open(&device->store, path, &options);
    return status == TAMIS_OK ? CLI_OK : cli_fail(cli, status);
}

int device_choose(struct device *device, struct cli *cli, int fallback)
{
    *device = (struct device){.ordinal = TAMIS_DEVICE_CPU};
    if (!read_device(device, cli, fallback)) return CLI_USAGE;
    if (device->ordinal == TAMIS_DEVICE_CPU)
        snprintf(device->name, sizeof device->name, "cpu");
    else
        snprintf(device->name, sizeof device->name, "cuda:%d", device->ordinal);
    return CLI_OK;
}

int device_open(struct device *device, struct cli *cli)
{
    int code = device_choose(device, cli, cli_value(cli, "store") && any_gpu() ? 0 : TAMIS_DEVICE_CPU);
    if (code == CLI_OK) code = open_store(device, cli);
    return code == CLI_OK ? open_context(device, cli) : code;
}

int device_open_bare(struct device *device, struct cli *cli)
{
    const int code = device_choose(device, cli, 0);
    return code == CLI_OK ? open_context(device, cli) : code;
}

void device_close(struct device *device)
{
    tamis_context_free(device->context);
    tamis_store_free(device->store);
}
