/*
 * bench_data.c: tensors of random numbers. Gigabytes of them would take longer to make than to bench: a pool of numbers is
 * made once, and tensors are copied from it piece by piece, each from another place.
 */
#include "bench.h"

#include "error.h"
#include "half.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define POOL_COUNT ((size_t)32 << 20) /* numbers, of 2 bytes */
#define PIECE_COUNT ((size_t)8 << 20)
#define PLACE_STEP 64 /* pieces begin at multiples plus the tensor's shift: no two tensors' rows begin at one number */

unsigned long long bench_random(unsigned long long *state)
{
    unsigned long long z = *state += 0x9e3779b97f4a7c15ull; /* splitmix64 */
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
}

double bench_chance(unsigned long long seed, unsigned long long what, unsigned long long which)
{
    unsigned long long state = seed ^ what * 0x632be59bd9b4e019ull ^ which * 0x9fb21c651e98df25ull;
    bench_random(&state);
    return (double)(bench_random(&state) >> 11) * 0x1p-53;
}

/* Two independent numbers of the standard normal distribution, by Box and Muller. */
static void random_pair(unsigned long long *state, float out[2])
{
    const unsigned long long bits = bench_random(state);
    const float u = ((float)(bits >> 40) + 0.5f) * 0x1p-24f, angle = (float)(bits & 0xffffff) * (6.28318531f * 0x1p-24f);
    const float radius = sqrtf(-2 * logf(u));
    out[0] = radius * cosf(angle);
    out[1] = radius * sinf(angle);
}

/* Room for pieces at different places even where the largest tensor is small. */
static tamis_status make_pool(struct bench *bench, size_t tensor_count, tamis_dtype dtype)
{
    size_t count = tensor_count < POOL_COUNT / 4 ? 4 * tensor_count + 64 * PLACE_STEP : POOL_COUNT;
    count += count % 2;
    if (bench->pool && bench->pool_count >= count && bench->pool_dtype == dtype) return TAMIS_OK;
    free(bench->pool);
    bench->pool = malloc(count * sizeof *bench->pool);
    if (!bench->pool) return tamisi_fail(TAMIS_ENOMEM, "out of memory for random numbers");
    for (size_t i = 0; i < count; i += 2) {
        float pair[2];
        random_pair(&bench->random, pair);
        bench->pool[i] = tamisi_half_from_float(pair[0], dtype);
        bench->pool[i + 1] = tamisi_half_from_float(pair[1], dtype);
    }
    bench->pool_count = count;
    bench->pool_dtype = dtype;
    return TAMIS_OK;
}

tamis_status bench_fill(struct bench *bench, void *device, const tamis_problem *problem, int heads, long long rows,
                        int shift)
{
    const size_t count = (size_t)heads * (size_t)rows * (size_t)problem->head_dim;
    TAMIS_TRY(make_pool(bench, count, problem->dtype));
    for (size_t done = 0; done < count; done += PIECE_COUNT) {
        const size_t piece = count - done < PIECE_COUNT ? count - done : PIECE_COUNT;
        const size_t places = (bench->pool_count - piece) / PLACE_STEP;
        const size_t place = bench_random(&bench->random) % places * PLACE_STEP + (size_t)shift % PLACE_STEP;
        TAMIS_TRY(tamis_memory_write(bench->context, (uint16_t *)device + done, bench->pool + place,
                                     piece * sizeof *bench->pool, bench->stream));
    }
    return TAMIS_OK;
}

tamis_status bench_poison(struct bench *bench, void *device, size_t bytes)
{
    const size_t block_bytes = bytes < (size_t)16 << 20 ? bytes : (size_t)16 << 20;
    void *block = malloc(block_bytes);
    if (!block) return tamisi_fail(TAMIS_ENOMEM, "out of memory");
    memset(block, 0xff, block_bytes);
    tamis_status status = TAMIS_OK;
    for (size_t done = 0; done < bytes && status == TAMIS_OK; done += block_bytes)
        status = tamis_memory_write(bench->context, (char *)device + done, block,
                                    bytes - done < block_bytes ? bytes - done : block_bytes, bench->stream);
    free(block);
    return status;
}
