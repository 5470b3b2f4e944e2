/*
 * choice.c: see choice.h. Pure.
 */
#include "choice.h"

#include <math.h>
#include <string.h>

/* ------------------------------------------------------------------------------------------------------------ names */

const char *tamisi_timing_state_name(enum tamisi_timing_state state)
{
    static const char *const names[TAMISI_TIMING_STATES] = {"started", "timed", "stopped", "refused", "wrong", "fault", "hang"};

    return (unsigned)state < TAMISI_TIMING_STATES ? names[state] : "unknown";
}

const char *tamisi_reason_text(enum tamisi_reason reason)
{
    static const char *const texts[TAMISI_REASONS] = {"default", "timed for this shape", "timed for the nearest shape",
                                                      "timed on another GPU", "fallback", "named by the caller"};

    return (unsigned)reason < TAMISI_REASONS ? texts[reason] : "unknown";
}

/* ---------------------------------------------------------------------------------------------------------- buckets */

/* The score is made before anything is kept; what only moves 16-bit elements, or ranks, does not see their type. */
void tamisi_bucket_make(struct tamisi_bucket *out, const char *family, const tamis_problem *problem, int64_t kept, bool dense)
{
    const bool scores = strcmp(family, "score") == 0, typed = scores || strcmp(family, "attend") == 0;

    *out = (struct tamisi_bucket){.dtype = typed ? (int)problem->dtype : 0,
                                  .head_dim = problem->head_dim,
                                  .q_heads = problem->q_heads,
                                  .kv_heads = problem->kv_heads,
                                  .batch = problem->batch,
                                  .seq_len = problem->seq_len,
                                  .kept = scores ? 0 : dense ? problem->seq_len : kept,
                                  .scope = scores || dense ? 0 : (int)problem->selection.scope,
                                  .window = dense && !scores ? 0 : problem->selection.window,
                                  .dense = dense && !scores};
}

bool tamisi_family_has_lists(const char *family)
{
    return strcmp(family, "attend_blocks") == 0 || strncmp(family, "pattern", strlen("pattern")) == 0;
}

/* What most of a maker's work depends on beside the rows; other parameters only say how much is taken in the end. */
static int pattern_detail(const tamis_pattern *pattern)
{
    if (pattern->kind == TAMIS_PATTERN_XATTENTION) return pattern->xattention.stride;
    return pattern->kind == TAMIS_PATTERN_VERTICAL_SLASH ? pattern->vertical_slash.last_queries : 0;
}

/* Of what sequence the rows are, and by what they were kept, makes no difference but for the gathering of Q. */
void tamisi_bucket_make_lists(struct tamisi_bucket *out, const char *family, const tamis_problem *problem, int64_t rows,
                              bool dense, const tamis_pattern *pattern, double density)
{
    const bool attends = strcmp(family, "attend_blocks") == 0;
    const int thousandths = (int)lround(1000 * density);

    *out = (struct tamisi_bucket){.dtype = (int)problem->dtype,
                                  .head_dim = problem->head_dim,
                                  .q_heads = problem->q_heads,
                                  .kv_heads = problem->kv_heads,
                                  .batch = problem->batch,
                                  .seq_len = rows,
                                  .kept = rows,
                                  .dense = dense,
                                  .pattern = attends ? TAMIS_PATTERN_HOST_BLOCKS : (int)pattern->kind,
                                  .detail = !attends ? pattern_detail(pattern) : thousandths > 1 ? thousandths : 1};
}

bool tamisi_bucket_equal(const struct tamisi_bucket *a, const struct tamisi_bucket *b)
{
    return a->dtype == b->dtype && a->head_dim == b->head_dim && a->q_heads == b->q_heads && a->kv_heads == b->kv_heads &&
           a->batch == b->batch && a->seq_len == b->seq_len && a->kept == b->kept && a->scope == b->scope &&
           a->window == b->window && a->dense == b->dense && a->pattern == b->pattern && a->detail == b->detail;
}

#define KEPT_WEIGHT 2.0 /* of the kept part, 0 to 1, against octaves of length */
#define OTHER_KIND 1.0  /* another scope, or another number of query heads to a KV head */
/* On listed blocks, Q gathered or not; and an octave of their number. Small, so that a few timed densities are near any. */
#define GATHERED 0.25
#define DETAIL_WEIGHT 0.25

static double octaves(double a, double b)
{
    return fabs(log2(a / b));
}

double tamisi_bucket_distance(const struct tamisi_bucket *a, const struct tamisi_bucket *b)
{
    double distance;

    if (a->dtype != b->dtype || a->head_dim != b->head_dim || a->pattern != b->pattern) return -1;
    if (a->dense != b->dense && a->pattern == TAMIS_PATTERN_NONE) return -1;
    if (a->seq_len < 1 || b->seq_len < 1 || a->q_heads < 1 || b->q_heads < 1 || a->kv_heads < 1 || b->kv_heads < 1 ||
        a->batch < 1 || b->batch < 1)
        return -1;
    distance = octaves((double)a->seq_len, (double)b->seq_len);
    distance += octaves((double)a->batch * a->q_heads, (double)b->batch * b->q_heads);
    distance += KEPT_WEIGHT * fabs((double)a->kept / (double)a->seq_len - (double)b->kept / (double)b->seq_len);
    distance += a->q_heads / a->kv_heads != b->q_heads / b->kv_heads ? OTHER_KIND : 0;
    distance += a->scope != b->scope ? OTHER_KIND : 0;
    distance += a->dense != b->dense ? GATHERED : 0;
    distance += a->detail > 0 && b->detail > 0 ? DETAIL_WEIGHT * octaves(a->detail, b->detail) : 0;
    return distance + (a->window > 0 && b->window > 0 ? octaves(a->window, b->window) / 2 : 0);
}

bool tamisi_gpu_equal(const struct tamisi_gpu_identity *a, const struct tamisi_gpu_identity *b)
{
    return a->cc == b->cc && a->sm_count == b->sm_count && a->l2_bytes == b->l2_bytes && a->driver_major == b->driver_major;
}

/* ---------------------------------------------------------------------------------------------------------- timings */

bool tamisi_timing_same_key(const struct tamisi_timing *a, const struct tamisi_timing *b)
{
    return tamisi_hash_equal(&a->source, &b->source) && strcmp(a->family, b->family) == 0 && strcmp(a->arch, b->arch) == 0 &&
           tamisi_bucket_equal(&a->bucket, &b->bucket) && tamisi_gpu_equal(&a->gpu, &b->gpu) &&
           (a->state == TAMISI_STARTED) == (b->state == TAMISI_STARTED);
}

bool tamisi_timing_supersedes(const struct tamisi_timing *a, const struct tamisi_timing *b)
{
    if (a->state == TAMISI_STARTED) return a->rounds >= b->rounds;
    return a->rigor != b->rigor ? a->rigor > b->rigor : a->when >= b->when;
}

#define LEAST_NOISE 0.005 /* of a median: what no number of rounds makes certain from one day to the next */
#define ERROR_OF_MAD 1.858 /* the standard error of a median of normal noise, over its MAD by the rounds' square root */
#define CERTAINTY 3.0      /* standard errors */

static double squared_error(const struct tamisi_timing *timing)
{
    const double error = ERROR_OF_MAD * timing->mad_us;

    return error * error / (timing->rounds > 0 ? timing->rounds : 1);
}

static double noise_between(const struct tamisi_timing *a, const struct tamisi_timing *b)
{
    return CERTAINTY * sqrt(squared_error(a) + squared_error(b));
}

bool tamisi_timing_tie(const struct tamisi_timing *a, const struct tamisi_timing *b)
{
    const double least = fmin(a->median_us, b->median_us);

    return fabs(a->median_us - b->median_us) <= fmax(LEAST_NOISE * least, noise_between(a, b));
}

bool tamisi_timing_sharp(const struct tamisi_timing *a, const struct tamisi_timing *b)
{
    return noise_between(a, b) <= LEAST_NOISE / 2 * fmin(a->median_us, b->median_us);
}

/* ----------------------------------------------------------------------------------------------------------- choice */

struct scene {
    const struct tamisi_option *options;
    size_t count;
    const struct tamisi_timing *timings;
    size_t timing_count;
    const struct tamisi_bucket *bucket;      /* of the plan, or the one that was found */
    const struct tamisi_gpu_identity *gpu; /* the same */
};

static bool is_option(const struct scene *scene, const struct tamisi_timing *timing)
{
    for (size_t i = 0; i < scene->count; i++)
        if (tamisi_hash_equal(&scene->options[i].source, &timing->source)) return true;
    return false;
}

/* The time of an option where the scene is set; NULL: there is none. */
static const struct tamisi_timing *find_timing(const struct scene *scene, size_t option, const struct tamisi_bucket *bucket)
{
    for (size_t i = 0; i < scene->timing_count; i++) {
        const struct tamisi_timing *timing = &scene->timings[i];

        if (timing->state != TAMISI_STARTED && tamisi_hash_equal(&timing->source, &scene->options[option].source) &&
            tamisi_bucket_equal(&timing->bucket, bucket) && tamisi_gpu_equal(&timing->gpu, scene->gpu))
            return timing;
    }
    return NULL;
}

/* How unlike two GPUs of one compute capability are: octaves of multiprocessors, then whatever else differs. */
static double gpu_distance(const struct tamisi_gpu_identity *a, const struct tamisi_gpu_identity *b)
{
    const double sms = a->sm_count > 0 && b->sm_count > 0 ? octaves(a->sm_count, b->sm_count) : 1;

    return sms + (a->l2_bytes != b->l2_bytes ? 0.25 : 0) + (a->driver_major != b->driver_major ? 0.125 : 0);
}

/* The timing whose bucket and GPU are nearest to the plan's: this GPU before others, then by the bucket. NULL: none. */
static const struct tamisi_timing *find_nearest(const struct scene *scene)
{
    const struct tamisi_timing *nearest = NULL;
    double least_gpu = 0, least = 0;

    for (size_t i = 0; i < scene->timing_count; i++) {
        const struct tamisi_timing *timing = &scene->timings[i];
        const double distance = tamisi_bucket_distance(&timing->bucket, scene->bucket);
        const double gpu = gpu_distance(&timing->gpu, scene->gpu);

        if (timing->state != TAMISI_TIMED || distance < 0 || timing->gpu.cc != scene->gpu->cc || !is_option(scene, timing))
            continue;
        if (nearest && (gpu > least_gpu || (gpu == least_gpu && distance >= least))) continue;
        nearest = timing;
        least_gpu = gpu;
        least = distance;
    }
    return nearest;
}

/* A kernel that was wrong once, whatever the shape, is not trusted at another, nor on a GPU like it with such a driver. */
static bool is_bad(const struct scene *scene, size_t option)
{
    for (size_t i = 0; i < scene->timing_count; i++) {
        const struct tamisi_timing *timing = &scene->timings[i];

        if (timing->state >= TAMISI_WRONG && timing->gpu.cc == scene->gpu->cc &&
            timing->gpu.driver_major == scene->gpu->driver_major &&
            tamisi_hash_equal(&timing->source, &scene->options[option].source))
            return true;
    }
    return false;
}

/* Of those in `order` from `first`, which goes next: the least time, or of those that tie with it the lowest rank. */
static size_t pick_timed(const struct scene *scene, const size_t *order, size_t first, size_t end)
{
    const struct tamisi_timing *standard = find_timing(scene, 0, scene->bucket), *best = NULL;
    size_t picked = first;

    for (size_t i = first; i < end; i++) {
        const struct tamisi_timing *timing = find_timing(scene, order[i], scene->bucket);

        if (!best || timing->median_us < best->median_us) {
            best = timing;
            picked = i;
        }
    }
    for (size_t i = first; i < end; i++) {
        const struct tamisi_timing *timing = find_timing(scene, order[i], scene->bucket);
        const bool loses = standard && standard->state == TAMISI_TIMED && timing->median_us > standard->median_us;

        if (order[i] < order[picked] && !loses && tamisi_timing_tie(timing, best)) picked = i;
    }
    return picked;
}

/* Put the one at `at` first, and those before it one on: the rest stays in order of rank. */
static void move_up(size_t *order, size_t first, size_t at)
{
    const size_t moved = order[at];

    memmove(order + first + 1, order + first, (at - first) * sizeof *order);
    order[first] = moved;
}

enum class { TIMED, STOPPED, UNTIMED, BAD, CLASSES };

static enum class class_of(const struct scene *scene, size_t option, bool known)
{
    const struct tamisi_timing *timing = known ? find_timing(scene, option, scene->bucket) : NULL;

    if (is_bad(scene, option)) return BAD;
    if (!timing) return UNTIMED;
    if (timing->state == TAMISI_REFUSED) return BAD;
    return timing->state == TAMISI_TIMED ? TIMED : STOPPED;
}

/* By class, and within each by rank. */
static void sort_classes(const struct scene *scene, size_t *order, bool known, size_t sizes[CLASSES])
{
    size_t filled = 0;

    for (int class = TIMED; class < CLASSES; class++) {
        const size_t first = filled;

        for (size_t i = 0; i < scene->count; i++)
            if (class_of(scene, i, known) == (enum class)class) order[filled++] = i;
        sizes[class] = filled - first;
    }
}

/* What the first of `order` loses in the buckets at most an octave beside this one; -1: nothing is known of them. */
static double find_regret(const struct scene *scene, size_t chosen)
{
    double regret = -1;

    for (size_t i = 0; i < scene->timing_count; i++) {
        const struct tamisi_timing *timing = &scene->timings[i];
        const double distance = tamisi_bucket_distance(&timing->bucket, scene->bucket);
        const struct tamisi_timing *own = NULL;

        if (timing->state == TAMISI_TIMED && distance > 0 && distance <= 1 && tamisi_gpu_equal(&timing->gpu, scene->gpu) &&
            is_option(scene, timing))
            own = find_timing(scene, chosen, &timing->bucket);
        if (!own || (own->state != TAMISI_TIMED && own->state != TAMISI_STOPPED) || timing->median_us <= 0) continue;
        regret = fmax(regret, fmax(own->median_us / timing->median_us - 1, 0));
    }
    return regret;
}

void tamisi_choose(struct tamisi_choice *out, size_t *order, const struct tamisi_option *options, size_t count,
                   const struct tamisi_timing *timings, size_t timing_count, const struct tamisi_bucket *bucket,
                   const struct tamisi_gpu_identity *gpu)
{
    struct scene scene = {options, count, timings, timing_count, bucket, gpu};
    const struct tamisi_timing *nearest = find_nearest(&scene), *first, *standard;
    size_t sizes[CLASSES];

    *out = (struct tamisi_choice){.reason = TAMISI_BY_DEFAULT, .gain = 1, .regret = -1};
    if (nearest) {
        out->bucket = nearest->bucket;
        out->distance = tamisi_bucket_distance(&nearest->bucket, bucket);
        out->reason = !tamisi_gpu_equal(&nearest->gpu, gpu)           ? TAMISI_BY_OTHER_GPU
                      : tamisi_bucket_equal(&nearest->bucket, bucket) ? TAMISI_BY_BUCKET
                                                                      : TAMISI_BY_NEAREST;
        scene.bucket = &nearest->bucket;
        scene.gpu = &nearest->gpu;
    }
    sort_classes(&scene, order, nearest != NULL, sizes);
    out->timed = sizes[TIMED];
    for (size_t i = 0; i < sizes[TIMED]; i++) move_up(order, i, pick_timed(&scene, order, i, sizes[TIMED]));
    if (out->timed == 0) {
        out->reason = TAMISI_BY_DEFAULT;
        return;
    }
    first = find_timing(&scene, order[0], scene.bucket);
    standard = find_timing(&scene, 0, scene.bucket);
    if (standard && standard->state == TAMISI_TIMED && first->median_us > 0)
        out->gain = fmax(standard->median_us / first->median_us, 1);
    out->regret = find_regret(&scene, order[0]);
}
