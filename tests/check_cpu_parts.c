/*
 * check_cpu_parts.c: what the CPU backend stands on: 16-bit numbers, exhaustively, the thread pool, and the context with
 * its memory.
 */
#define _GNU_SOURCE
#include "cpu_threads.h"
#include "half.h"

#include <check.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

TCase *cpu_parts_case(void);

/* ck_assert_msg tells the runner of every assertion, which takes its time 65536 times. */
#define expect(condition, ...)                                                                                             \
    do {                                                                                                                   \
        if (!(condition)) ck_abort_msg(__VA_ARGS__);                                                                       \
    } while (0)

static float float_of(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* A finite code's value from its fields. */
static double value_of(uint16_t bits, tamis_dtype dtype)
{
    const int mantissa_bits = dtype == TAMIS_FP16 ? 10 : 7, exponent_bits = 15 - mantissa_bits;
    const int bias = (1 << (exponent_bits - 1)) - 1, exponent = bits >> mantissa_bits & ((1 << exponent_bits) - 1);
    const int mantissa = bits & ((1 << mantissa_bits) - 1);
    const double magnitude = exponent ? ldexp((double)(mantissa | 1 << mantissa_bits), exponent - bias - mantissa_bits)
                                      : ldexp((double)mantissa, 1 - bias - mantissa_bits);
    return bits & 0x8000 ? -magnitude : magnitude;
}

/* Codes of the finite numbers are 0 .. infinity - 1, and their negatives. */
static uint16_t infinity_of(tamis_dtype dtype) { return dtype == TAMIS_FP16 ? 0x7c00 : 0x7f80; }

START_TEST(every_code_is_read)
{
    const tamis_dtype dtype = _i ? TAMIS_FP16 : TAMIS_BF16;
    for (unsigned code = 0; code < 65536; code++) {
        const uint16_t bits = (uint16_t)code, magnitude = bits & 0x7fff;
        const float value = tamisi_half_to_float(bits, dtype);
        if (magnitude > infinity_of(dtype)) {
            expect(isnan(value), "%#x", code);
            expect(isnan(tamisi_half_to_float(tamisi_half_from_float(value, dtype), dtype)), "%#x", code);
            continue;
        }
        if (magnitude == infinity_of(dtype))
            expect(isinf(value), "%#x", code);
        else
            expect((double)value == value_of(bits, dtype), "%#x is %g", code, (double)value);
        expect(tamisi_half_from_float(value, dtype) == bits, "%#x comes back as another", code);
    }
}
END_TEST

/* Between each two neighbours: just below the middle, the middle, just above it. */
START_TEST(every_tie_is_rounded_to_even)
{
    const tamis_dtype dtype = _i ? TAMIS_FP16 : TAMIS_BF16;
    for (uint16_t low = 0; low + 1 < infinity_of(dtype); low++) {
        const uint16_t high = (uint16_t)(low + 1), even = low % 2 ? high : low;
        const float middle = (float)((value_of(low, dtype) + value_of(high, dtype)) / 2); /* exact in float */
        expect(tamisi_half_from_float(middle, dtype) == even, "%#x", low);
        expect(tamisi_half_from_float(-middle, dtype) == (even | 0x8000), "%#x", low);
        expect(tamisi_half_from_float(nextafterf(middle, 0.0f), dtype) == low, "%#x", low);
        expect(tamisi_half_from_float(nextafterf(middle, INFINITY), dtype) == high, "%#x", low);
    }
}
END_TEST

START_TEST(the_ends_of_the_range)
{
    static const struct {
        uint32_t bits;
        tamis_dtype dtype;
        uint16_t half;
    } cases[] = {{0x7f7fffff, TAMIS_BF16, 0x7f80}, /* FLT_MAX is past bf16's largest and half a place */
                 {0x7f7f7fff, TAMIS_BF16, 0x7f7f}, {0x7f800001, TAMIS_BF16, 0x7fc0}, {0xff800001, TAMIS_BF16, 0xffc0},
                 {0x7fc12345, TAMIS_BF16, 0x7fc1}, {0xff800000, TAMIS_BF16, 0xff80}, {0x80000000, TAMIS_BF16, 0x8000},
                 {0x477fefff, TAMIS_FP16, 0x7bff}, {0x477ff000, TAMIS_FP16, 0x7c00}, {0x7f7fffff, TAMIS_FP16, 0x7c00},
                 {0xc77ff000, TAMIS_FP16, 0xfc00}, {0x7f800000, TAMIS_FP16, 0x7c00}, {0x7f800001, TAMIS_FP16, 0x7e00},
                 {0xffc00000, TAMIS_FP16, 0xfe00}, {0x33000000, TAMIS_FP16, 0x0000}, {0x33000001, TAMIS_FP16, 0x0001},
                 {0x00000001, TAMIS_FP16, 0x0000}, {0x80000001, TAMIS_FP16, 0x8000}, {0x387fffff, TAMIS_FP16, 0x0400}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const uint16_t half = tamisi_half_from_float(float_of(cases[i].bits), cases[i].dtype);
        expect(half == cases[i].half, "%#x gives %#x, not %#x", cases[i].bits, half, cases[i].half);
    }
}
END_TEST

/* Rows, of a length that vectors leave a rest of, give what single numbers do. */
START_TEST(rows_are_their_elements)
{
    const tamis_dtype dtype = _i ? TAMIS_FP16 : TAMIS_BF16;
    uint16_t in[77], out[77];
    float single[77];
    double wide[77];
    for (unsigned start = 0; start < 65536; start += 77) {
        for (unsigned i = 0; i < 77; i++) in[i] = (uint16_t)(start + i);
        tamisi_half_read_float(single, in, 77, dtype);
        tamisi_half_read_double(wide, in, 77, dtype);
        for (unsigned i = 0; i < 77; i++) {
            const float expected = tamisi_half_to_float(in[i], dtype);
            expect(memcmp(&single[i], &expected, sizeof expected) == 0, "%#x", in[i]);
            expect(isnan(expected) ? isnan(wide[i]) : wide[i] == (double)expected, "%#x", in[i]);
            if (isnan(expected)) single[i] = 0, wide[i] = 0, in[i] = 0;
        }
        tamisi_half_write_float(out, single, 77, dtype);
        ck_assert_mem_eq(out, in, sizeof in);
        tamisi_half_write_double(out, wide, 77, dtype);
        ck_assert_mem_eq(out, in, sizeof in);
    }
}
END_TEST

/* ---- threads */

struct tally {
    atomic_int seen[1000];
};

static void count_index(void *work, long long index)
{
    struct tally *tally = work;
    atomic_fetch_add(&tally->seen[index], 1);
}

static void check_loop(struct tamisi_cpu_threads *threads, int count)
{
    struct tally tally;
    for (int i = 0; i < 1000; i++) atomic_init(&tally.seen[i], 0);
    tamisi_cpu_threads_run(threads, count, count_index, &tally);
    for (int i = 0; i < 1000; i++)
        expect(atomic_load(&tally.seen[i]) == (i < count), "index %d of %d ran %d times", i, count,
               atomic_load(&tally.seen[i]));
}

START_TEST(each_index_runs_once)
{
    static const int counts[] = {0, 1, 2, 7, 1000};
    struct tamisi_cpu_threads *threads;
    ck_assert_int_eq(tamisi_cpu_threads_create(&threads, _i), TAMIS_OK);
    if (_i) ck_assert_int_eq(tamisi_cpu_threads_count(threads), _i);
    ck_assert_int_ge(tamisi_cpu_threads_count(threads), 1);
    for (int round = 0; round < 50; round++)
        for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) check_loop(threads, counts[i]);
    tamisi_cpu_threads_free(threads);
}
END_TEST

static void *loop_often(void *threads)
{
    for (int round = 0; round < 100; round++) check_loop(threads, 300);
    return NULL;
}

START_TEST(several_callers_share_a_pool)
{
    struct tamisi_cpu_threads *threads;
    pthread_t callers[4];
    ck_assert_int_eq(tamisi_cpu_threads_create(&threads, 3), TAMIS_OK);
    for (int i = 0; i < 4; i++) ck_assert_int_eq(pthread_create(&callers[i], NULL, loop_often, threads), 0);
    for (int i = 0; i < 4; i++) ck_assert_int_eq(pthread_join(callers[i], NULL), 0);
    tamisi_cpu_threads_free(threads);
}
END_TEST

/* A forked child has the pool's memory but not its workers. */
START_TEST(pool_in_a_forked_child)
{
    struct tamisi_cpu_threads *threads;
    int result = -1;
    ck_assert_int_eq(tamisi_cpu_threads_create(&threads, 3), TAMIS_OK);
    check_loop(threads, 10);
    const pid_t child = fork();
    if (child == 0) {
        check_loop(threads, 100);
        tamisi_cpu_threads_free(threads);
        _exit(7);
    }
    ck_assert_int_gt(child, 0);
    ck_assert_int_eq(waitpid(child, &result, 0), child);
    ck_assert(WIFEXITED(result) && WEXITSTATUS(result) == 7);
    tamisi_cpu_threads_free(threads);
}
END_TEST

/* ---- the context */

START_TEST(bad_number_of_threads)
{
    static const int counts[] = {-1, 1025};
    tamis_context_options options = TAMIS_CONTEXT_OPTIONS_INIT;
    tamis_context *context = (tamis_context *)&options;
    options.device = TAMIS_DEVICE_CPU;
    options.cpu_threads = counts[_i];
    ck_assert_int_eq(tamis_context_create(&context, &options), TAMIS_EINVAL);
    ck_assert_ptr_null(context);
    ck_assert_msg(strncmp(tamis_last_error(), "options.cpu_threads is ", 23) == 0, "%s", tamis_last_error());
}
END_TEST

START_TEST(memory_and_streams)
{
    static const size_t sizes[] = {1, 255, 256, 1000003};
    tamis_context_options options = TAMIS_CONTEXT_OPTIONS_INIT;
    tamis_context *context;
    tamis_stream stream = (tamis_stream)(void *)&options;
    void *memory;
    options.device = TAMIS_DEVICE_CPU;
    ck_assert_int_eq(tamis_context_create(&context, &options), TAMIS_OK);
    ck_assert_int_eq(tamis_stream_create(&stream, context), TAMIS_OK);
    ck_assert_ptr_null(stream);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        char in = 'x', out = 0;
        ck_assert_int_eq(tamis_memory_alloc(&memory, context, sizes[i]), TAMIS_OK);
        ck_assert_uint_eq((uintptr_t)memory % 256, 0);
        ck_assert_int_eq(tamis_memory_write(context, (char *)memory + sizes[i] - 1, &in, 1, stream), TAMIS_OK);
        ck_assert_int_eq(tamis_memory_read(context, &out, (char *)memory + sizes[i] - 1, 1, stream), TAMIS_OK);
        ck_assert_int_eq(out, 'x');
        tamis_memory_free(context, memory);
    }
    ck_assert_int_eq(tamis_memory_alloc(&memory, context, SIZE_MAX - 3), TAMIS_ENOMEM);
    ck_assert_msg(strstr(tamis_last_error(), "out of memory: 18446744073709551612 bytes") != NULL, "%s", tamis_last_error());
    ck_assert_int_eq(tamis_stream_synchronize(context, stream), TAMIS_OK);
    tamis_stream_free(context, stream);
    tamis_context_free(context);
}
END_TEST

TCase *cpu_parts_case(void)
{
    TCase *parts = tcase_create("parts");
    tcase_set_timeout(parts, 60);
    tcase_add_loop_test(parts, every_code_is_read, 0, 2);
    tcase_add_loop_test(parts, every_tie_is_rounded_to_even, 0, 2);
    tcase_add_test(parts, the_ends_of_the_range);
    tcase_add_loop_test(parts, rows_are_their_elements, 0, 2);
    tcase_add_loop_test(parts, each_index_runs_once, 0, 6);
    tcase_add_test(parts, several_callers_share_a_pool);
    tcase_add_test(parts, pool_in_a_forked_child);
    tcase_add_loop_test(parts, bad_number_of_threads, 0, 2);
    tcase_add_test(parts, memory_and_streams);
    return parts;
}
