/*
 * check_compile.c: CUDA text to cubin: options and keys, reading logs (pasted from NVRTC 12.4 and 13.0), and real
 * compilation where NVRTC is found. $TAMIS_TEST_NVRTC promises that it is: then its absence fails.
 */
#define _POSIX_C_SOURCE 200809L

#include "compile.h"
#include "driver.h"
#include "template.h"

#include <check.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

Suite *compile_suite(void);

/* ------------------------------------------------------------------------------------------------------------ logs */

static const char log_13[] =
    "ptxas info    : 0 bytes gmem\n"
    "ptxas info    : Compiling entry function 'two' for 'sm_90a'\n"
    "ptxas info    : Function properties for two\n"
    "ptxas         .     1432 bytes stack frame, 1508 bytes spill stores, 1608 bytes spill loads\n"
    "ptxas info    : Used 32 registers, used 0 barriers, 1432 bytes cumulative stack size\n"
    "ptxas info    : Compile time = 53.248 ms\n"
    "ptxas info    : Compiling entry function 'one' for 'sm_90a'\n"
    "ptxas info    : Function properties for one\n"
    "ptxas         .     0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads\n"
    "ptxas info    : Used 12 registers, used 1 barriers, 256 bytes smem\n"
    "ptxas info    : Compile time = 3.670 ms\n";

static const char log_12[] = /* a function that was not inlined, after the kernel that calls it */
    "ptxas info    : 0 bytes gmem\n"
    "ptxas info    : Compiling entry function 'caller' for 'sm_80'\n"
    "ptxas info    : Function properties for caller\n"
    "ptxas         .     168 bytes stack frame, 12 bytes spill stores, 4 bytes spill loads\n"
    "ptxas info    : Used 32 registers, 168 bytes cumulative stack size, 364 bytes cmem[0]\n"
    "ptxas info    : Function properties for _Z6helperPfi\n"
    "ptxas         .     0 bytes stack frame, 196 bytes spill stores, 236 bytes spill loads\n";

static const char log_serialized[] =
    "ptxas info    : (C7519) warpgroup.arrive is injected in around line 71 by compiler to allow use of registers in "
    "GMMA in function 'wg'\n"
    "ptxas info    : (C7511) Potential Performance Loss: wgmma.mma_async instructions are serialized due to "
    "insufficient register resources for the wgmma pipeline in the function 'wg'\n"
    "ptxas info    : 0 bytes gmem\n"
    "ptxas info    : Compiling entry function 'wg' for 'sm_90a'\n"
    "ptxas info    : Function properties for wg\n"
    "ptxas         .     0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads\n"
    "ptxas info    : Used 34 registers, used 0 barriers\n";

static const char log_setmaxnreg[] =
    "ptxas info    : (C7508) Potential Performance Loss: 'setmaxnreg' ignored; unable to determine register count at "
    "entry.\n";

static const char log_lost[] =
    "ptxas info    : (C7510) Potential Performance Loss: wgmma.mma_async instructions are serialized due to non wgmma "
    "instructions defining accumulator registers of a wgmma between start and end of the pipeline stage in the function "
    "'helper'\n";

static const char log_injected[] =
    "ptxas info    : (C7517) warpgroup.wait is injected in around line 67 by compiler to allow use of registers defined by "
    "GMMA in function 'wg'\n";

static const char log_error[] =
    "attend.cu.lua(40): warning #177-D: variable \"unused\" was declared but never referenced\n"
    "  int unused;\n"
    "\n"
    "attend.cu.lua(41): error: identifier \"foo\" is undefined\n"
    "  extern \"C\" __global__ void k(){ foo=1; }\n"
    "                                 ^\n"
    "\n"
    "1 error detected in the compilation of \"attend_k\".\n";

static const char log_ptxas[] =
    "ptxas application ptx input, line 23; error   : Unknown modifier '.op'\n"
    "ptxas application ptx input, line 23; error   : Not a name of any known instruction: 'bogus'\n"
    "ptxas fatal   : Ptx assembly aborted due to errors\n";

static void check_resource(const struct tamisi_resource *resource, const char *symbol, int registers, int shared_bytes,
                           int stack_bytes, int spill_stores, int spill_loads)
{
    ck_assert_str_eq(resource->symbol, symbol);
    ck_assert_int_eq(resource->registers, registers);
    ck_assert_int_eq(resource->shared_bytes, shared_bytes);
    ck_assert_int_eq(resource->stack_bytes, stack_bytes);
    ck_assert_int_eq(resource->spill_stores, spill_stores);
    ck_assert_int_eq(resource->spill_loads, spill_loads);
}

START_TEST(test_log_two_kernels)
{
    struct tamisi_resource resources[3];
    memset(resources, 0x5a, sizeof resources);
    ck_assert_int_eq(tamisi_compile_read_log(log_13, resources, 3), 2);
    check_resource(&resources[0], "two", 32, 0, 1432, 1508, 1608);
    check_resource(&resources[1], "one", 12, 256, 0, 0, 0);
    ck_assert(!resources[0].serialized_wgmma && !resources[1].serialized_wgmma);
    ck_assert_int_eq(resources[2].registers, 0x5a5a5a5a); /* not touched */
}
END_TEST

START_TEST(test_log_function_not_inlined)
{
    struct tamisi_resource resources[2];
    ck_assert_int_eq(tamisi_compile_read_log(log_12, resources, 2), 1);
    check_resource(&resources[0], "caller", 32, 0, 168, 12 + 196, 4 + 236);
}
END_TEST

/* A loss stands before its kernel, by name; without a name, or with one that is none's here, it counts for all. */
START_TEST(test_log_serialized)
{
    static const struct {
        const char *parts[2];
        int count;
        bool serialized[3];
    } cases[] = {{{log_serialized, ""}, 1, {true}},
                 {{log_serialized, log_13}, 3, {true, false, false}},
                 {{log_13, log_serialized}, 3, {false, false, true}},
                 {{log_setmaxnreg, log_13}, 2, {true, true}},
                 {{log_lost, log_13}, 2, {true, true}},
                 {{log_injected, log_13}, 2, {false, false}},
                 {{log_setmaxnreg, ""}, 0, {false}}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tamisi_resource resources[3];
        char log[4096];
        snprintf(log, sizeof log, "%s%s", cases[i].parts[0], cases[i].parts[1]);
        ck_assert_int_eq(tamisi_compile_read_log(log, resources, 3), cases[i].count);
        for (int k = 0; k < cases[i].count; k++)
            ck_assert_msg(resources[k].serialized_wgmma == cases[i].serialized[k], "case %zu, kernel %d", i, k);
    }
    struct tamisi_resource resource;
    ck_assert_int_eq(tamisi_compile_read_log(log_serialized, &resource, 1), 1);
    check_resource(&resource, "wg", 34, 0, 0, 0, 0);
}
END_TEST

/* More kernels than room: those that fit are right, and the last of them takes nothing from its successors. */
START_TEST(test_log_capacity)
{
    struct tamisi_resource resource;
    ck_assert_int_eq(tamisi_compile_read_log(log_13, &resource, 1), 1);
    check_resource(&resource, "two", 32, 0, 1432, 1508, 1608);
    ck_assert_int_eq(tamisi_compile_read_log(log_13, NULL, 0), 0);
}
END_TEST

START_TEST(test_log_garbage)
{
    static const char *const logs[] = {
        "", "\n\n\n", "Compiling entry function '", "Compiling entry function ''", "Compiling entry function 'open\n",
        "ptxas info    : Used 32 registers\n", /* of no kernel */
        " bytes stack frame, bytes spill stores", "\xff\xfe\x80\n'", "Used  registers"};
    struct tamisi_resource resource;
    for (size_t i = 0; i < sizeof logs / sizeof *logs; i++)
        ck_assert_int_eq(tamisi_compile_read_log(logs[i], &resource, 1), 0);
    const char *odd =
        "Compiling entry function 'k' for 'sm_80'\n bytes stack frame, x bytes spill stores, -7 bytes spill loads\n"
        "Used 99999999999999999999 registers, 4294967296 bytes smem\n";
    ck_assert_int_eq(tamisi_compile_read_log(odd, &resource, 1), 1);
    check_resource(&resource, "k", INT_MAX, INT_MAX, 0, 0, 7);
}
END_TEST

/* Spills that add up past an int stay at its end. */
START_TEST(test_log_sum_overflow)
{
    const char *log = "Compiling entry function 'k' for 'sm_80'\n"
                      " 0 bytes stack frame, 2147483647 bytes spill stores, 1 bytes spill loads\n"
                      " 0 bytes stack frame, 2147483647 bytes spill stores, 1 bytes spill loads\n";
    struct tamisi_resource resource;
    ck_assert_int_eq(tamisi_compile_read_log(log, &resource, 1), 1);
    check_resource(&resource, "k", 0, 0, 0, INT_MAX, 2);
}
END_TEST

START_TEST(test_log_long_lines)
{
    char log[8192], symbol[3000];
    struct tamisi_resource resource;
    memset(symbol, 's', sizeof symbol - 1);
    symbol[sizeof symbol - 1] = '\0';
    snprintf(log, sizeof log, "Compiling entry function '%.200s' for 'sm_80'\r\nUsed 7 registers\r\n", symbol);
    ck_assert_int_eq(tamisi_compile_read_log(log, &resource, 1), 1);
    ck_assert_uint_eq(strlen(resource.symbol), TAMISI_SYMBOL_SIZE - 1);
    ck_assert_int_eq(resource.registers, 7);
    snprintf(log, sizeof log, "%s\nCompiling entry function 'k' for 'sm_80'\nUsed 8 registers", symbol);
    ck_assert_int_eq(tamisi_compile_read_log(log, &resource, 1), 1);
    check_resource(&resource, "k", 8, 0, 0, 0, 0);
}
END_TEST

/* Every prefix of a log, each in memory of exactly its size: nothing read behind it, and no more kernels than are whole. */
START_TEST(test_log_truncated)
{
    static const char *const logs[] = {log_13, log_12, log_serialized, log_error, log_ptxas};
    for (size_t i = 0; i < sizeof logs / sizeof *logs; i++)
        for (size_t bytes = 0; bytes <= strlen(logs[i]); bytes++) {
            char *log = strndup(logs[i], bytes), error[64];
            struct tamisi_resource resources[4];
            ck_assert_ptr_nonnull(log);
            const int count = tamisi_compile_read_log(log, resources, 4);
            ck_assert_int_le(count, 2);
            for (int k = 0; k < count; k++) ck_assert_int_gt((int)strlen(resources[k].symbol), 0);
            tamisi_compile_first_error(error, sizeof error, log);
            ck_assert(memchr(error, '\0', sizeof error) != NULL);
            free(log);
        }
}
END_TEST

static const struct {
    const char *log, *error;
} errors[] = {
    {log_error, "attend.cu.lua:41: identifier \"foo\" is undefined"},
    {log_ptxas, "ptxas: Unknown modifier '.op'"},
    {"nvrtc: error: invalid value for --gpu-architecture (-arch)\n", "nvrtc: invalid value for --gpu-architecture (-arch)"},
    {"/a folder/of (some)/tile.cuh(7): error: expected a \";\"\n", "tile.cuh:7: expected a \";\""},
    {"k(3): error #20: identifier \"x\" is undefined\n", "k:3: identifier \"x\" is undefined"},
    {"k(3): catastrophic error: cannot open source file \"x.h\"\n", "k:3: cannot open source file \"x.h\""},
    {"ptxas fatal   : Value 'sm_99' is not defined for option 'gpu-name'\n",
     "ptxas: Value 'sm_99' is not defined for option 'gpu-name'"},
    {"ptxas info    : 0 bytes gmem\n", "ptxas info    : 0 bytes gmem"},
    {"\n  something else\nmore\n", "something else"},
    {"3): error: odd\n", "3): error: odd"},
    {"(3): error", "(3): error"},
    {"", ""},
    {"\n\n", ""},
};

START_TEST(test_first_error)
{
    char error[256];
    tamisi_compile_first_error(error, sizeof error, errors[_i].log);
    ck_assert_str_eq(error, errors[_i].error);
    char small[8];
    tamisi_compile_first_error(small, sizeof small, errors[_i].log);
    ck_assert_int_eq(strncmp(small, errors[_i].error, sizeof small - 1), 0);
    ck_assert_uint_lt(strlen(small), sizeof small);
}
END_TEST

/* ------------------------------------------------------------------------------------------------- options and keys */

START_TEST(test_options)
{
    char options[TAMISI_OPTIONS_SIZE], other[TAMISI_OPTIONS_SIZE], arch[2 * TAMISI_OPTIONS_SIZE];
    tamisi_compile_options(options, "sm_90a");
    ck_assert_str_eq(options, "--gpu-architecture=sm_90a\n--std=c++17\n--ptxas-options=-v\n");
    tamisi_compile_options(other, "sm_80");
    ck_assert_str_ne(options, other);
    memset(arch, 'x', sizeof arch - 1);
    arch[sizeof arch - 1] = '\0';
    tamisi_compile_options(options, arch);
    ck_assert_int_eq(options[strlen(options) - 1], '\n'); /* whole, whatever the architecture */
}
END_TEST

START_TEST(test_key)
{
    const struct tamisi_hash sources[] = {tamisi_hash_bytes("a", 1), tamisi_hash_bytes("b", 1)};
    const struct tamisi_hash keys[] = {tamisi_compile_key(&sources[0], "-o\n", "nvrtc 13.0 x"),
                                       tamisi_compile_key(&sources[1], "-o\n", "nvrtc 13.0 x"),
                                       tamisi_compile_key(&sources[0], "-o", "nvrtc 13.0 x"),
                                       tamisi_compile_key(&sources[0], "-o\n", "nvrtc 13.0 y"),
                                       tamisi_compile_key(&sources[0], "-o\nn", "vrtc 13.0 x"),
                                       tamisi_compile_key(&sources[0], "", "-o\nnvrtc 13.0 x")};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        for (size_t j = 0; j < i; j++) ck_assert(!tamisi_hash_equal(&keys[i], &keys[j]));
    const struct tamisi_hash again = tamisi_compile_key(&sources[0], "-o\n", "nvrtc 13.0 x");
    ck_assert(tamisi_hash_equal(&again, &keys[0]));
}
END_TEST

/* --------------------------------------------------------------------------------------------------- with NVRTC */

static bool has_nvrtc(const char *test)
{
    const struct tamisi_nvrtc *nvrtc;
    if (tamisi_nvrtc_get(&nvrtc) == TAMIS_OK) return true;
    const char *promised = getenv("TAMIS_TEST_NVRTC");
    if (promised && *promised && strcmp(promised, "0") != 0)
        ck_abort_msg("NVRTC was promised, but: %s", tamis_last_error());
    printf("check_compile: %s was not run: %s\n", test, tamis_last_error());
    return false;
}

static const char source_good[] =
    "extern \"C\" __global__ void __launch_bounds__(128) one(float *x)\n"
    "{\n"
    "    __shared__ float s[64];\n"
    "    s[threadIdx.x & 63] = x[threadIdx.x];\n"
    "    __syncthreads();\n"
    "    x[0] = s[1];\n"
    "}\n"
    "extern \"C\" __global__ void two(float *x) { x[blockIdx.x] = 1.0f; }\n";

static const struct tamisi_resource *find_resource(const struct tamisi_compiled *compiled, const char *symbol)
{
    for (int i = 0; i < compiled->resource_count; i++)
        if (strcmp(compiled->resources[i].symbol, symbol) == 0) return &compiled->resources[i];
    ck_abort_msg("the log has nothing of %s: %s", symbol, compiled->log);
    return NULL;
}

START_TEST(test_compile)
{
    struct tamisi_compiled compiled, again;
    if (!has_nvrtc("test_compile")) return;
    ck_assert_msg(tamisi_compile(&compiled, "good", source_good, "sm_80") == TAMIS_OK, "%s", tamis_last_error());
    ck_assert_uint_gt(compiled.cubin_bytes, 64);
    ck_assert_mem_eq(compiled.cubin, "\177ELF", 4);
    ck_assert_int_eq(compiled.resource_count, 2);
    ck_assert_int_eq(find_resource(&compiled, "one")->shared_bytes, 256);
    ck_assert_int_gt(find_resource(&compiled, "two")->registers, 0);
    ck_assert_int_eq(find_resource(&compiled, "two")->spill_stores, 0);
    ck_assert(!find_resource(&compiled, "one")->serialized_wgmma && !find_resource(&compiled, "two")->serialized_wgmma);
    ck_assert(compiled.milliseconds > 0.0);
    ck_assert_int_eq(tamisi_compile(&again, "good", source_good, "sm_80"), TAMIS_OK);
    ck_assert_uint_eq(again.cubin_bytes, compiled.cubin_bytes);
    ck_assert_mem_eq(again.cubin, compiled.cubin, compiled.cubin_bytes); /* a key names one content */
    tamisi_compiled_free(&again);
    tamisi_compiled_free(&compiled);
    ck_assert_ptr_null(compiled.cubin);
    tamisi_compiled_free(&compiled);
}
END_TEST

static void expect_failure(const char *name, const char *source, const char *arch, const char *message, const char *detail)
{
    struct tamisi_compiled compiled;
    ck_assert_int_eq(tamisi_compile(&compiled, name, source, arch), TAMIS_ECOMPILE);
    ck_assert_msg(strstr(tamis_last_error(), message) != NULL, "%s", tamis_last_error());
    ck_assert_msg(strstr(tamis_last_error_detail(), detail) != NULL, "%s", tamis_last_error_detail());
    ck_assert_ptr_null(compiled.cubin);
    ck_assert_ptr_null(compiled.log);
}

START_TEST(test_compile_errors)
{
    if (!has_nvrtc("test_compile_errors")) return;
    expect_failure("attend", "#line 41 \"attend.cu.lua\"\n__global__ void k() { foo = 1; }\n", "sm_80",
                   "attend.cu.lua:41: identifier \"foo\" is undefined", "__global__ void k() { foo = 1; }");
    expect_failure("named", "__device__ int x;\n__device__ int x;\n", "sm_80", "named:2: ", "x");
    expect_failure("asm", "extern \"C\" __global__ void k() { asm volatile(\"bogus.op;\"); }\n", "sm_80",
                   "ptxas: ", "bogus");
    expect_failure("arch", source_good, "sm_99", "cannot compile for sm_99: nvrtc: ", "gpu-architecture");
    /* An instruction of sm_90a for sm_90: the suffix matters. */
    expect_failure("fence", "extern \"C\" __global__ void k() { asm volatile(\"wgmma.fence.sync.aligned;\"); }\n", "sm_90",
                   "ptxas: Instruction 'wgmma.fence' ", "wgmma.fence");
}
END_TEST

START_TEST(test_compile_serialized)
{
    static const char source[] =
        "extern \"C\" __global__ void __launch_bounds__(128) k(float *x, unsigned long long a, unsigned long long b)\n"
        "{\n"
        "    float d0 = 0, d1 = 0, d2 = 0, d3 = 0;\n"
        "    for (int i = 0; i < 4; i++) {\n"
        "        asm volatile(\"wgmma.fence.sync.aligned;\" ::: \"memory\");\n"
        "        asm volatile(\"wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 {%0,%1,%2,%3}, %4, %5, 1, 1, 1, 0, 0;\"\n"
        "                     : \"+f\"(d0), \"+f\"(d1), \"+f\"(d2), \"+f\"(d3) : \"l\"(a), \"l\"(b + i));\n"
        "        x[i] += d0;\n" /* reads an accumulator that is still being written */
        "        d1 *= d2;\n"
        "        asm volatile(\"wgmma.commit_group.sync.aligned;\" ::: \"memory\");\n"
        "    }\n"
        "    asm volatile(\"wgmma.wait_group.sync.aligned 0;\" ::: \"memory\");\n"
        "    x[threadIdx.x] = d0 + d1 + d2 + d3;\n"
        "}\n"
        "extern \"C\" __global__ void other(float *x) { x[threadIdx.x] = 1.0f; }\n";
    struct tamisi_compiled compiled;
    if (!has_nvrtc("test_compile_serialized")) return;
    ck_assert_msg(tamisi_compile(&compiled, "k", source, "sm_90a") == TAMIS_OK, "%s", tamis_last_error());
    ck_assert_msg(find_resource(&compiled, "k")->serialized_wgmma, "%s", compiled.log);
    ck_assert_msg(!find_resource(&compiled, "other")->serialized_wgmma, "%s", compiled.log);
    tamisi_compiled_free(&compiled);
}
END_TEST

/* ---- several threads, each with an error message and a log of its own */

static void *compile_some(void *argument)
{
    const int thread = *(const int *)argument;
    char source[512], wanted[64];
    struct tamisi_compiled compiled;
    for (int i = 0; i < 3; i++) {
        snprintf(source, sizeof source, "extern \"C\" __global__ void k%d_%d(int *x) { x[threadIdx.x] = %d; }\n",
                 thread, i, i);
        if (tamisi_compile(&compiled, "k", source, "sm_80") != TAMIS_OK) return NULL;
        snprintf(wanted, sizeof wanted, "k%d_%d", thread, i);
        const bool right = compiled.resource_count == 1 && strcmp(compiled.resources[0].symbol, wanted) == 0;
        tamisi_compiled_free(&compiled);
        snprintf(source, sizeof source, "__device__ int a = b%d_%d;\n", thread, i);
        snprintf(wanted, sizeof wanted, "k:1: identifier \"b%d_%d\" is undefined", thread, i);
        if (!right || tamisi_compile(&compiled, "k", source, "sm_80") != TAMIS_ECOMPILE) return NULL;
        if (strcmp(tamis_last_error(), wanted) != 0) return NULL;
    }
    return argument;
}

START_TEST(test_compile_threads)
{
    enum { count = 4 };
    pthread_t threads[count];
    int numbers[count];
    if (!has_nvrtc("test_compile_threads")) return;
    for (int i = 0; i < count; i++) {
        numbers[i] = i;
        ck_assert_int_eq(pthread_create(&threads[i], NULL, compile_some, &numbers[i]), 0);
    }
    for (int i = 0; i < count; i++) {
        void *result = NULL;
        ck_assert_int_eq(pthread_join(threads[i], &result), 0);
        ck_assert_ptr_eq(result, &numbers[i]);
    }
}
END_TEST

/* ---- a kernel of ours: select is the family with the most entries, and depends on no dtype or head dim */

static const char *const archs[] = {"sm_80", "sm_86", "sm_89", "sm_90a", "sm_100", "sm_120"};

/* Does this NVRTC know the architecture? It lists plain numbers. */
static bool is_supported(const char *arch)
{
    const struct tamisi_nvrtc *nvrtc;
    int count = 0, list[128];
    ck_assert_int_eq(tamisi_nvrtc_get(&nvrtc), TAMIS_OK);
    ck_assert_int_eq(nvrtc->get_num_supported_archs(&count), 0);
    ck_assert_int_le(count, 128);
    ck_assert_int_eq(nvrtc->get_supported_archs(list), 0);
    for (int i = 0; i < count; i++)
        if (list[i] == atoi(arch + strlen("sm_"))) return true;
    return false;
}

START_TEST(test_compile_template)
{
    char templates[512], abi[512];
    const char *source = getenv("TAMIS_SOURCE_DIR");
    const struct template_param params[] = {
        {"name", 0, "select_t1024"},   {"cc", 80, ""},     {"block_m", 128, ""}, {"budget_cluster", 1, ""},
        {"cluster", 1, ""},            {"held", 16, ""},    {"threads", 1024, ""}, {"pool_threads", 256, ""}};
    struct template_output output;
    struct tamisi_compiled compiled;
    if (!has_nvrtc("test_compile_template")) return;
    if (!is_supported(archs[_i])) { /* newer than this NVRTC: it says so */
        expect_failure("new", source_good, archs[_i], "cannot compile for sm_", "gpu-architecture");
        return;
    }
    ck_assert_ptr_nonnull(source);
    snprintf(templates, sizeof templates, "%s/templates", source);
    snprintf(abi, sizeof abi, "%s/runtime", source);
    const struct template_request request = {templates, abi, "select", params, sizeof params / sizeof *params, "a test"};
    ck_assert_msg(template_expand(&output, &request) == TAMIS_OK, "%s", tamis_last_error());
    ck_assert(!output.rejected);
    ck_assert_msg(tamisi_compile(&compiled, "select", output.lined.data, archs[_i]) == TAMIS_OK, "%s: %s", archs[_i],
                  tamis_last_error());
    ck_assert_int_eq(compiled.resource_count, output.entry_count);
    for (int i = 0; i < output.entry_count; i++) {
        const struct tamisi_resource *resource = find_resource(&compiled, output.entries[i].symbol);
        ck_assert_int_gt(resource->registers, 0);
        ck_assert_int_eq(resource->spill_stores + resource->spill_loads, 0);
    }
    tamisi_compiled_free(&compiled);
    template_output_free(&output);
}
END_TEST

Suite *compile_suite(void)
{
    Suite *suite = suite_create("compile");
    TCase *text = tcase_create("text"), *real = tcase_create("nvrtc");
    tcase_add_test(text, test_log_two_kernels);
    tcase_add_test(text, test_log_function_not_inlined);
    tcase_add_test(text, test_log_serialized);
    tcase_add_test(text, test_log_capacity);
    tcase_add_test(text, test_log_garbage);
    tcase_add_test(text, test_log_sum_overflow);
    tcase_add_test(text, test_log_long_lines);
    tcase_add_test(text, test_log_truncated);
    tcase_add_loop_test(text, test_first_error, 0, sizeof errors / sizeof *errors);
    tcase_add_test(text, test_options);
    tcase_add_test(text, test_key);
    suite_add_tcase(suite, text);
    tcase_set_timeout(real, 120);
    tcase_add_test(real, test_compile);
    tcase_add_test(real, test_compile_errors);
    tcase_add_test(real, test_compile_serialized);
    tcase_add_test(real, test_compile_threads);
    tcase_add_loop_test(real, test_compile_template, 0, sizeof archs / sizeof *archs);
    suite_add_tcase(suite, real);
    return suite;
}
