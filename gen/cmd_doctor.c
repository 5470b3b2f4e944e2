/*
 * cmd_doctor.c: `tamis doctor`: what of driver, GPU, compiler, data and cache this machine has, whether they fit, and what
 * to do about each that does not.
 */
#define _GNU_SOURCE
#include "cmd.h"
#include "compile.h"
#include "data.h"
#include "driver.h"
#include "error.h"
#include "runner.h"
#include "store.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum finding { FINE, NOTED, BAD }; /* NOTED: absent, and one can do without */

struct doctor {
    struct cli *cli;
    bool cpu, data, driver, gpu, nvrtc, fits;
};

/* One finding, with what to do about it where that is anything. */
__attribute__((format(printf, 5, 6))) static void tell(struct doctor *doctor, const char *what, enum finding finding,
                                                       const char *advice, const char *format, ...)
{
    static const char *const words[] = {"ok", "--", "!!"};
    static const char *const names[] = {"ok", "absent", "bad"};
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (!doctor->cli->json) {
        cli_print(doctor->cli, "%s  %-10s %s\n", words[finding], what, text);
        if (advice) cli_print(doctor->cli, "    %-10s -> %s\n", "", advice);
        return;
    }
    struct json json;
    cli_json_begin(doctor->cli, &json, "finding");
    json_string(&json, "what", what);
    json_string(&json, "state", names[finding]);
    json_string(&json, "text", text);
    json_string(&json, "advice", advice);
    cli_json_end(doctor->cli, &json);
}

/* ---- CPU: a small problem, run */

static tamis_status run_small(tamis_context *context)
{
    enum { LENGTH = 8, DIM = 64 };
    tamis_problem problem = TAMIS_PROBLEM_INIT;
    problem.q_heads = problem.kv_heads = 1;
    problem.head_dim = DIM;
    problem.seq_len = LENGTH;
    uint16_t *zeros = aligned_alloc(64, LENGTH * DIM * sizeof *zeros);
    if (!zeros) return tamisi_fail(TAMIS_ENOMEM, "out of memory");
    memset(zeros, 0, LENGTH * DIM * sizeof *zeros);
    struct npy array = {NPY_U16, 4, {1, 1, LENGTH, DIM}, LENGTH * DIM * sizeof *zeros, zeros};
    const struct case_input input = {problem, array, array, array};
    struct runner *runner;
    struct runner_result result = {0};
    struct runner_times times;
    tamis_status status = runner_open(&runner, context, NULL, &input);
    if (status == TAMIS_OK) status = runner_run(runner, &result, &times);
    if (status == TAMIS_OK && (result.kept[0] != LENGTH || result.bits[LENGTH * DIM - 1] != 0))
        status = tamisi_fail(TAMIS_EUNSUPPORTED, "a small problem came out wrong");
    runner_result_free(&result);
    runner_close(runner);
    free(zeros);
    return status;
}

static void examine_cpu(struct doctor *doctor)
{
    tamis_context_options options = TAMIS_CONTEXT_OPTIONS_INIT;
    tamis_context *context;
    options.device = TAMIS_DEVICE_CPU;
    tamis_status status = tamis_context_create(&context, &options);
    if (status == TAMIS_OK) status = run_small(context);
    tamis_context_free(context);
    doctor->cpu = status == TAMIS_OK;
    if (doctor->cpu)
        tell(doctor, "cpu", FINE, NULL, "the CPU backend works, %ld cores", sysconf(_SC_NPROCESSORS_ONLN));
    else
        tell(doctor, "cpu", BAD, "report this: the CPU backend needs no more than memory", "%s", tamis_last_error());
}

static void examine_data(struct doctor *doctor)
{
    struct data data;
    doctor->data = data_find(&data) == TAMIS_OK;
    if (doctor->data)
        tell(doctor, "data", FINE, NULL, "templates and specs in %s (%s)", data.dir, data.origin);
    else
        tell(doctor, "data", BAD, "set TAMIS_DATA_DIR to the folder that holds templates/, specs/ and runtime/", "%s",
             tamis_last_error());
}

/* ---- driver and GPUs */

static const struct tamisi_cuda *examine_driver(struct doctor *doctor)
{
    const struct tamisi_cuda *cuda;
    const tamis_status status = tamisi_cuda_get(&cuda);
    if (status != TAMIS_OK) { /* absent, or there and of no use */
        tell(doctor, "driver", status == TAMIS_ENODEVICE ? NOTED : BAD,
             "for a GPU install the NVIDIA driver, 525 or newer; the CPU works without it", "%s", tamis_last_error());
        return NULL;
    }
    doctor->driver = true;
    tell(doctor, "driver", FINE, NULL, "CUDA %d.%d, %s", cuda->version / 1000, cuda->version % 1000 / 10, cuda->path);
    return cuda;
}

/* The name that the driver gives a device, also where tamis cannot use it. */
static void name_device(char out[128], const struct tamisi_cuda *cuda, int ordinal)
{
    tamisi_cu_device device;
    size_t bytes = 0;
    char name[96] = "unknown";
    if (cuda->device_get(&device, ordinal) == 0) {
        cuda->device_get_name(name, sizeof name, device);
        cuda->device_total_mem(&bytes, device);
    }
    snprintf(out, 128, "%s, %zu MiB", name, bytes >> 20);
}

static void examine_gpus(struct doctor *doctor, const struct tamisi_cuda *cuda)
{
    int count = 0;
    if (!cuda) return;
    if (cuda->device_get_count(&count) != 0 || count == 0)
        tell(doctor, "gpu", NOTED, "look at nvidia-smi and CUDA_VISIBLE_DEVICES", "the driver has no GPU");
    for (int i = 0; i < count; i++) {
        char name[128], what[24];
        tamis_context_options options = TAMIS_CONTEXT_OPTIONS_INIT;
        tamis_context *context;
        options.device = i;
        snprintf(what, sizeof what, "cuda:%d", i);
        name_device(name, cuda, i);
        const bool usable = tamis_context_create(&context, &options) == TAMIS_OK;
        if (usable)
            tell(doctor, what, FINE, NULL, "%s", name);
        else
            tell(doctor, what, BAD, "compute capability 8.0 or newer is needed; see the message", "%s: %s", name,
                 tamis_last_error());
        doctor->gpu = doctor->gpu || usable;
        tamis_context_free(context);
    }
}

/* ---- compiler */

static const struct tamisi_nvrtc *examine_nvrtc(struct doctor *doctor)
{
    static const char trial[] = "extern \"C\" __global__ void trial(int *out) { *out = 1; }\n";
    const struct tamisi_nvrtc *nvrtc;
    struct tamisi_compiled compiled = {0};
    if (tamisi_nvrtc_get(&nvrtc) != TAMIS_OK) {
        tell(doctor, "nvrtc", NOTED,
             "to compile kernels here install the CUDA toolkit, or 'pip install nvidia-cuda-nvrtc', and set TAMIS_LIBNVRTC to "
             "its libnvrtc.so; stores compiled elsewhere work without it", "%s", tamis_last_error());
        return NULL;
    }
    tell(doctor, "nvrtc", FINE, NULL, "%d.%d, %s", nvrtc->major, nvrtc->minor, nvrtc->path);
    doctor->nvrtc = tamisi_compile(&compiled, "trial", trial, "sm_80") == TAMIS_OK;
    if (doctor->nvrtc)
        tell(doctor, "builtins", FINE, NULL, "a trial kernel compiled in %.0f ms", compiled.milliseconds);
    else
        tell(doctor, "builtins", BAD, "libnvrtc-builtins of the very same version must lie beside libnvrtc",
             "a trial kernel does not compile: %s", tamis_last_error());
    tamisi_compiled_free(&compiled);
    return nvrtc;
}

static void examine_fit(struct doctor *doctor, const struct tamisi_cuda *cuda, const struct tamisi_nvrtc *nvrtc)
{
    if (!cuda || !nvrtc) return;
    const int major = cuda->version / 1000;
    doctor->fits = major >= nvrtc->major;
    if (doctor->fits)
        tell(doctor, "fit", FINE, NULL, "a driver for CUDA %d loads what NVRTC %d compiles", major, nvrtc->major);
    else
        tell(doctor, "fit", BAD, "update the driver, or point TAMIS_LIBNVRTC to an older NVRTC",
             "the driver is for CUDA %d and may refuse what NVRTC %d compiles", major, nvrtc->major);
}

/* ---- cache */

static void examine_cache(struct doctor *doctor)
{
    static const char advice[] = "set TAMIS_CACHE_DIR to a folder that can be written; without a cache a kernel that a "
                                 "read-only store lacks is compiled in every process";
    struct tamisi_buf path = TAMISI_BUF_INIT;
    tamis_store *store = NULL;
    const tamis_store_options options = {sizeof options, TAMIS_STORE_READ, NULL, NULL};
    tamis_status status = tamisi_store_cache_path(&path);
    if (status == TAMIS_OK && access(path.data, F_OK) == 0) status = tamis_store_open(&store, NULL, &options);
    if (status != TAMIS_OK)
        tell(doctor, "cache", NOTED, advice, "%s", tamis_last_error());
    else if (store)
        tell(doctor, "cache", FINE, NULL, "%s", path.data);
    else
        tell(doctor, "cache", FINE, NULL, "%s, not made yet", path.data);
    tamis_store_free(store);
    tamisi_buf_free(&path);
}

/* ---- verdict */

static const char *gpu_verdict(const struct doctor *doctor)
{
    if (!doctor->driver) return "no: there is no usable NVIDIA driver";
    if (!doctor->gpu) return "no: there is no usable GPU";
    if (!doctor->nvrtc) return "yes, with stores whose kernels are compiled: NVRTC is not usable here";
    if (!doctor->fits) return "yes, with stores whose kernels are compiled: driver and NVRTC do not fit";
    return "yes";
}

static void report_verdict(struct doctor *doctor)
{
    struct json json;
    if (!doctor->cli->json) {
        cli_print(doctor->cli, "\ncpu ready: %s\ngpu ready: %s\ncan compile: %s\n", doctor->cpu ? "yes" : "no",
                  gpu_verdict(doctor), doctor->nvrtc ? "yes" : "no");
        return;
    }
    cli_json_begin(doctor->cli, &json, "doctor");
    json_string(&json, "version", tamis_version_string());
    json_bool(&json, "cpu_ready", doctor->cpu);
    json_bool(&json, "gpu_ready", doctor->driver && doctor->gpu);
    json_bool(&json, "can_compile", doctor->nvrtc);
    json_bool(&json, "driver_fits_nvrtc", doctor->fits);
    json_string(&json, "gpu", gpu_verdict(doctor));
    cli_json_end(doctor->cli, &json);
}

static int run(struct cli *cli)
{
    struct doctor doctor = {.cli = cli};
    tell(&doctor, "tamis", FINE, NULL, "%s", tamis_version_string());
    examine_data(&doctor);
    examine_cpu(&doctor);
    const struct tamisi_cuda *cuda = examine_driver(&doctor);
    examine_gpus(&doctor, cuda);
    const struct tamisi_nvrtc *nvrtc = examine_nvrtc(&doctor);
    examine_fit(&doctor, cuda, nvrtc);
    examine_cache(&doctor);
    report_verdict(&doctor);
    return doctor.cpu && doctor.data ? CLI_OK : CLI_FAILED;
}

static const struct cli_exit_text exits[] = {{CLI_OK, "the CPU path works; the last lines say what of a GPU's does"},
                                             {CLI_FAILED, "the CPU backend or the data folder is not usable"},
                                             {0, NULL}};

const struct cli_command cmd_doctor = {
    .name = "doctor",
    .operands = "",
    .operand_max = 0,
    .summary = "say what this machine has, whether it fits, what to do",
    .description =
        "Examine data folder, CPU backend, NVIDIA driver, GPUs, NVRTC with its builtins, whether driver and NVRTC"
        " fit, and the cache: \"ok\", \"--\" for what is absent and can be done without, \"!!\" for what is "
        "wrong, each with advice.",
    .exits = exits,
    .examples = "tamis doctor\n"
                "tamis doctor --json | jq 'select(.type == \"doctor\").gpu_ready'\n",
    .run = run};
