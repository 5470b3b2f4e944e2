/*
 * tamis.h: the public interface of libtamis, all of it.
 *
 * libtamis runs Token Sparse Attention for the prefill of a language model: per layer and head it scores tokens by the
 * last queries' attention, keeps enough of them to cover all but a small part of the mass, attends among the kept tokens
 * only, and scatters the result back to full length with zeros elsewhere. Method: "Token Sparse Attention: Efficient
 * Long-Context Inference with Interleaved Token Selection", arXiv 2602.03216.
 *
 * In rising order of difficulty:
 *   1. the operator in one call      tamis_context_create, tamis_store_open, tamis_plan_create, tamis_run
 *   2. the operator in its steps     tamis_score, tamis_select, tamis_compress, tamis_attend, tamis_decompress;
 *                                    with a block pattern tamis_make_blocks and tamis_attend_blocks;
 *                                    with an output map tamis_attend_map
 *   3. device memory and streams     tamis_memory_*, tamis_stream_*: for hosts that use no CUDA toolkit of their own
 *   4. which layers to run sparse    tamis_drift_*: measured from a model's hidden states
 *
 * Conventions, which hold for every function:
 *   - Symbols in shapes: B batch, Hq query heads, Hkv key/value heads, L seq_len, D head_dim, W window, C capacity,
 *     T = ceil(C / 128) blocks.
 *   - A function that can fail returns a tamis_status; tamis_last_error() then has one line of text. Out-parameters come
 *     first; on failure a handle out-parameter is set to NULL and every other one is left as it was.
 *   - Handles are opaque. Each `create` or `open` has a `free`; freeing NULL does nothing. Free plans and drifts before the
 *     context and store they were made from, memory and streams before their context; and a plan or drift only when the work
 *     that it has queued is done and no CUDA graph that captured some is run any more: its kernels go with it.
 *   - Option and problem structs begin with their own size (`struct_size`), set by the *_INIT macros, so that a later
 *     library can tell which members the caller knew. A longer struct, of a newer header, is fine while the members that
 *     this library does not know are zero.
 *   - The library never prints, exits or aborts. Messages go to the log callback, if one was given.
 *   - Running a plan allocates nothing, synchronises nothing and puts every launch on the caller's stream, so a run can be
 *     captured in a CUDA graph and replayed with other data. The number of kept tokens never visits the host.
 */
#ifndef TAMIS_H
#define TAMIS_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define TAMIS_API __attribute__((visibility("default")))
#else
#define TAMIS_API
#endif

/* ---------------------------------------------------------------------------------------------- version and errors */

#define TAMIS_VERSION_MAJOR 0
#define TAMIS_VERSION_MINOR 1
#define TAMIS_VERSION_PATCH 0
#define TAMIS_VERSION_NUMBER (TAMIS_VERSION_MAJOR * 10000 + TAMIS_VERSION_MINOR * 100 + TAMIS_VERSION_PATCH)

/** Version of the library that is linked; compare with TAMIS_VERSION_NUMBER. */
TAMIS_API uint32_t tamis_version(void);

/** The same as text, "0.1.0". */
TAMIS_API const char *tamis_version_string(void);

/** Result of a call. The values are pinned; new ones are appended. */
typedef enum tamis_status {
    TAMIS_OK = 0,
    TAMIS_EINVAL = -1,       /* an argument is wrong; the message names it */
    TAMIS_ENOMEM = -2,       /* host or device memory ran out */
    TAMIS_ENOTFOUND = -3,    /* no such file, spec or kernel */
    TAMIS_EUNSUPPORTED = -4, /* a valid request that this build, store or device cannot serve */
    TAMIS_EIO = -5,          /* reading or writing a file failed */
    TAMIS_ECORRUPT = -6,     /* a file's content is damaged */
    TAMIS_EVERSION = -7,     /* a file was made by a newer tamis */
    TAMIS_ENODEVICE = -8,    /* no NVIDIA driver, or no such GPU */
    TAMIS_ECUDA = -9,        /* a CUDA driver call failed */
    TAMIS_ECOMPILE = -10,    /* NVRTC is missing or rejected a kernel; tamis_last_error_detail() has its log */
    TAMIS_EWORKSPACE = -11   /* the workspace is smaller than the plan asks for */
} tamis_status;

/** The name of a status, "TAMIS_EINVAL"; "unknown status" for a value that is none. */
TAMIS_API const char *tamis_status_name(tamis_status status);

/**
 * What the last call of this thread that returns a tamis_status had to say: one line, "" after success. Never NULL. It
 * belongs to the thread and holds until its next such call.
 */
TAMIS_API const char *tamis_last_error(void);

/** More about it where there is more: a compiler's log, several lines. "" if none. Same lifetime. */
TAMIS_API const char *tamis_last_error_detail(void);

/* --------------------------------------------------------------------------------------------------------- context */

typedef struct tamis_context tamis_context; /* one device and one log; may be shared by threads */
typedef struct tamis_store tamis_store;     /* one open store; may be shared by threads */
typedef struct tamis_plan tamis_plan;       /* immutable; may be run by many threads with separate workspaces */

/** A CUDA stream: the type behind CUstream and cudaStream_t, so either can be passed as it is. NULL: the default stream. */
typedef struct CUstream_st *tamis_stream;

typedef enum tamis_log_level { TAMIS_LOG_WARNING = 1, TAMIS_LOG_INFO = 2 } tamis_log_level;

/** Receives one line without a newline. May be called from any thread that is inside a tamis call. */
typedef void (*tamis_log_fn)(void *payload, tamis_log_level level, const char *message);

#define TAMIS_DEVICE_CPU (-1) /* the CPU backend: same stages in plain C, on all cores; "device" pointers are host ones */

/** Arithmetic of the CPU backend. The GPU always computes scores, softmax and sums in fp32. */
typedef enum tamis_precision { TAMIS_FP32 = 0, TAMIS_FP64 = 1 } tamis_precision;

typedef struct tamis_context_options {
    size_t struct_size;
    int32_t device;            /* CUDA ordinal, or TAMIS_DEVICE_CPU */
    int32_t cpu_threads;       /* CPU backend: number of threads, at most 1024; 0: one per online core */
    tamis_precision precision; /* CPU backend only */
    tamis_log_fn log;          /* NULL: silent */
    void *log_payload;
} tamis_context_options;

#define TAMIS_CONTEXT_OPTIONS_INIT {sizeof(tamis_context_options), 0, 0, TAMIS_FP32, NULL, NULL}

/**
 * Open a device. A GPU context uses the device's primary CUDA context, the one that the CUDA runtime and frameworks use.
 *
 * @param options  NULL: GPU 0, silent.
 * @return TAMIS_OK; TAMIS_EINVAL; TAMIS_ENODEVICE (no libcuda, no such ordinal); TAMIS_EUNSUPPORTED (driver older than
 *         CUDA 12.0, or a GPU older than compute capability 8.0); TAMIS_ECUDA; TAMIS_ENOMEM.
 */
TAMIS_API tamis_status tamis_context_create(tamis_context **out, const tamis_context_options *options);
TAMIS_API void tamis_context_free(tamis_context *context);

/* ----------------------------------------------------------------------------------------------------------- store */

typedef enum tamis_store_mode {
    TAMIS_STORE_READ = 0,  /* never written; a store on read-only media is opened this way too */
    TAMIS_STORE_WRITE = 1, /* kernels compiled on first use are added; falls back to READ, with a warning, if it must */
    TAMIS_STORE_CREATE = 2 /* like WRITE, and made if absent; fails if it cannot be written */
} tamis_store_mode;

typedef struct tamis_store_options {
    size_t struct_size;
    tamis_store_mode mode;
    tamis_log_fn log; /* told of damaged entries, which count as absent; NULL: silent */
    void *log_payload;
} tamis_store_options;

#define TAMIS_STORE_OPTIONS_INIT {sizeof(tamis_store_options), TAMIS_STORE_WRITE, NULL, NULL}

/**
 * Open a store, the file that `tamis gen` writes: specs, kernel sources, cubins; and, after `tamis tune`, timings.
 *
 * Several processes may use one store at once. A damaged entry counts as absent and is reported to `log`.
 *
 * @param path     File name; NULL: the user's cache, $TAMIS_CACHE_DIR/cache.tamis, else $XDG_CACHE_HOME/tamis/cache.tamis,
 *                 else $HOME/.cache/tamis/cache.tamis.
 * @param options  NULL: the defaults of TAMIS_STORE_OPTIONS_INIT.
 * @return TAMIS_OK; TAMIS_EINVAL; TAMIS_ENOTFOUND; TAMIS_EIO; TAMIS_ECORRUPT (no tamis store, or damaged beyond its
 *         entries); TAMIS_EVERSION (made by a newer tamis); TAMIS_ENOMEM.
 */
TAMIS_API tamis_status tamis_store_open(tamis_store **out, const char *path, const tamis_store_options *options);
TAMIS_API void tamis_store_free(tamis_store *store);

/* --------------------------------------------------------------------------------------------------------- problem */

typedef enum tamis_dtype { TAMIS_BF16 = 0, TAMIS_FP16 = 1 } tamis_dtype;

/** How many tokens are kept (operator definition, step 3). */
typedef enum tamis_policy {
    TAMIS_DENSE = 0,    /* all of them: plain attention */
    TAMIS_COVERAGE = 1, /* enough to cover all but `coverage` of the head-mean score mass: differs between sequences */
    TAMIS_RATIO = 2,    /* ceil(ratio * (L - W)) */
    TAMIS_COUNT = 3     /* `count` */
} tamis_policy;

/** Which heads choose together (step 4). */
typedef enum tamis_scope {
    TAMIS_SCOPE_HEAD = 0,     /* each query head its own tokens: the paper's */
    TAMIS_SCOPE_KV_GROUP = 1, /* the query heads of one KV head choose by their summed score; K and V stay shared */
    TAMIS_SCOPE_LAYER = 2     /* all heads choose by the head-mean score */
} tamis_scope;

typedef struct tamis_selection {
    tamis_policy policy;
    tamis_scope scope;
    int32_t window;     /* W: the last queries, which score the keys before them and are always kept; 1..1024 */
    int32_t pool;       /* width of the moving average over scores; odd, 1..63; 1: none */
    int64_t min_tokens; /* M: never keep fewer outside the window; L <= M + W is dense */
    double coverage;    /* tau in [0, 1), TAMIS_COVERAGE */
    double ratio;       /* in (0, 1], TAMIS_RATIO */
    int64_t count;      /* >= 0, TAMIS_COUNT */
} tamis_selection;

/** Which keys a query sees. */
typedef enum tamis_mask {
    TAMIS_CAUSAL = 0, /* those up to its own position */
    TAMIS_FULL = 1    /* all: plain attention, for TAMIS_DENSE only; the score stays causal, as it is defined */
} tamis_mask;

typedef struct tamis_problem {
    size_t struct_size;
    tamis_dtype dtype; /* storage of Q, K, V and the output */
    int32_t batch;     /* B; batch * kv_heads is at most 65535 */
    int32_t q_heads;   /* Hq, a multiple of kv_heads, at most 1024 */
    int32_t kv_heads;  /* Hkv; query head h reads KV head h / (Hq / Hkv) */
    int32_t head_dim;  /* D: 64, 96, 128 or 256 */
    int64_t seq_len;   /* L, from 1 to 2^24 */
    double scale;      /* of the logits; 0: 1 / sqrt(D) */
    tamis_selection selection;
    tamis_mask mask; /* of the attention; a struct that ends before it is causal */
} tamis_problem;

/** A dense causal bf16 problem of batch 1, with the paper's window 128, pool 7, min_tokens 1024; geometry, length unset. */
#define TAMIS_PROBLEM_INIT                                                                                                 \
    {                                                                                                                      \
        sizeof(tamis_problem), TAMIS_BF16, 1, 0, 0, 0, 0, 0.0,                                                             \
            {TAMIS_DENSE, TAMIS_SCOPE_HEAD, 128, 7, 1024, 0.0, 1.0, 0}, TAMIS_CAUSAL                                       \
    }

/**
 * Fill a problem from a spec in the store: head geometry, dtype, scale and selection. `batch` becomes 1, `seq_len` 0 (set
 * them) and `mask` TAMIS_CAUSAL.
 *
 * @param out   Must come with `struct_size` set (TAMIS_PROBLEM_INIT).
 * @param name  The spec's name; NULL: the store's only spec.
 * @return TAMIS_OK; TAMIS_EINVAL; TAMIS_ENOTFOUND (the message lists the names there are); TAMIS_EIO; TAMIS_ECORRUPT.
 */
TAMIS_API tamis_status tamis_store_problem(tamis_problem *out, tamis_store *store, const char *name);

/**
 * Which layers of the model a spec in the store makes sparse: those that a host runs with the spec's selection, and the others
 * with TAMIS_DENSE.
 *
 * @param layers    The model's number of attention layers; 0 where the spec does not say.
 * @param sparse    Receives the first `capacity` of them, ascending, counted from 0; may be NULL when capacity is 0.
 * @param needed    If not NULL: how many there are; 0 where the spec names none, and the host has to decide.
 * @param name      The spec's name; NULL: the store's only spec.
 * @return as tamis_store_problem().
 */
TAMIS_API tamis_status tamis_store_layers(int32_t *layers, int32_t *sparse, size_t capacity, size_t *needed,
                                          tamis_store *store, const char *name);

/* --------------------------------------------------------------------------------------------------------- pattern */
/*
 * A pattern says which blocks of 128 keys each block of 128 queries attends to: attention is block-sparse then, on the whole
 * sequence or, under a policy that drops tokens, on those that were kept, in their order. Causal problems only. A query sees
 * the keys of the listed blocks up to its own position; one that sees none gets a row of zeros, and the log-sum-exp -inf.
 */
#define TAMIS_BLOCK_SIZE 128

typedef enum tamis_pattern_kind {
    TAMIS_PATTERN_NONE = 0,           /* every block: plain attention */
    TAMIS_PATTERN_HOST_BLOCKS = 1,    /* those that the run's arguments name */
    TAMIS_PATTERN_SLIDING = 2,        /* the first tokens and the last before each query: StreamingLLM, arXiv 2309.17453 */
    TAMIS_PATTERN_VERTICAL_SLASH = 3, /* columns and diagonals that the last queries attend to: MInference, arXiv 2407.02490 */
    TAMIS_PATTERN_FLEXPREFILL = 4,    /* of each head query-aware blocks or vertical-slash: FlexPrefill, arXiv 2502.20766 */
    TAMIS_PATTERN_XATTENTION = 5,     /* blocks by sums over antidiagonals: XAttention, arXiv 2503.16428 */
    TAMIS_PATTERN_TOPK_BLOCKS = 6     /* the best blocks by mean Q and mean K */
} tamis_pattern_kind;

/** How a host names blocks. */
typedef enum tamis_blocks_form {
    TAMIS_BLOCKS_LISTS = 0, /* count and list */
    TAMIS_BLOCKS_BITS = 1,  /* a bit a block */
    TAMIS_BLOCKS_ROWS = 2   /* index arrays, as BSR matrices have them */
} tamis_blocks_form;

/** What a pattern is made by. Only the members of its own kind are looked at. */
typedef struct tamis_pattern {
    size_t struct_size;
    tamis_pattern_kind kind;
    struct {
        tamis_blocks_form form; /* that every run's blocks have */
    } host_blocks;
    struct {
        int64_t sink_tokens;   /* >= 0: the first tokens, which every query sees */
        int64_t window_tokens; /* >= 1: the last up to a query, itself included. Both hold for single tokens, not blocks */
    } sliding;
    struct {
        int32_t last_queries;   /* 1..128: that estimate what is attended to */
        int64_t vertical_lines; /* >= 0: columns kept, as lines / 128 + 1 blocks of them */
        int64_t slash_lines;    /* >= 0: diagonals kept, the same way */
        double coverage;        /* in (0, 1]: take as many lines as hold this part of the mass instead; 0: the counts above */
    } vertical_slash;
    struct {
        double gamma;       /* in (0, 1]: part of the attention mass to keep */
        double tau;         /* >= 0: query-aware blocks where the Jensen-Shannon distance is below */
        int64_t min_tokens; /* >= 0: of columns, and of diagonals, at least; sequences of no more attend to all blocks */
        int64_t max_tokens; /* the same at most, but of query-aware heads; 0: no bound */
    } flexprefill;
    struct {
        int32_t stride;   /* 4, 8, 16, 32 or 64: of the antidiagonals in a block */
        double threshold; /* in (0, 1]: part of a query block's estimated mass to keep */
    } xattention;
    struct {
        int64_t blocks; /* >= 1: blocks a query block attends to; 0: by ratio */
        double ratio;   /* in (0, 1]: of the blocks up to the query block, rounded up */
    } topk_blocks;
} tamis_pattern;

/** No pattern, and the published parameters of each kind. */
#define TAMIS_PATTERN_INIT                                                                                                 \
    {                                                                                                                      \
        sizeof(tamis_pattern), TAMIS_PATTERN_NONE, {TAMIS_BLOCKS_LISTS}, {128, 3968}, {64, 1000, 6096, 0.0},               \
            {0.95, 0.1, 1024, 0}, {16, 0.9}, {0, 0.1}                                                                      \
    }

/**
 * The block pattern that a spec in the store names, for the `pattern` of a plan's options: of every layer, on all tokens of
 * a dense one and on those that are kept of a sparse one. A plan has the pattern of its options, not of its store's spec.
 *
 * @param out   Must come with `struct_size` set (TAMIS_PATTERN_INIT). The kind and its parameters become the spec's, or as
 *              published; kind TAMIS_PATTERN_NONE where the spec names none, or was stored by a tamis that did not keep it.
 *              The parameters of the other kinds become the published ones.
 * @param name  The spec's name; NULL: the store's only spec.
 * @return as tamis_store_problem(); TAMIS_EVERSION: a pattern that only a newer tamis knows.
 */
TAMIS_API tamis_status tamis_store_pattern(tamis_pattern *out, tamis_store *store, const char *name);

/**
 * The blocks of one run, in device memory, in the form that the plan's pattern names; the other forms' members are NULL. They
 * are data, as Q and K are: nothing is looked at before the kernels run. Blocks behind a query block's own count as absent. A
 * list that breaks the rules in another way makes the result undefined, but no memory access outside of the tensors and of
 * the arrays, whose lengths `offsets` must keep to.
 *
 * An entry of `list` and `columns` is a block's number in its low 20 bits, and above them 0, or m + 1 where query q of the
 * block sees only the keys whose bits are set in masks[m].
 */
typedef struct tamis_blocks {
    size_t struct_size;
    int32_t mask_count;     /* 0..2047 */
    const uint32_t *masks;  /* LISTS, ROWS: (mask_count, 128, 4), key k of query q bit k % 32 of word (q, k / 32); or NULL */
    const int32_t *count;   /* LISTS: (B, Hq, T) entries of each list, at most T */
    const int32_t *list;    /* LISTS: (B, Hq, T, T), ascending */
    const uint32_t *bits;   /* BITS: (B, Hq, T, ceil(T / 32)); block j is bit j % 32 of word j / 32 */
    const int64_t *offsets; /* ROWS: (B * Hq * T + 1), ascending: where row (b * Hq + h) * T + i begins, and the last ends */
    const int32_t *columns; /* ROWS: (column_count), ascending in each row, at most T a row */
    int64_t column_count;   /* ROWS: what the last of `offsets` says, or more */
} tamis_blocks;

#define TAMIS_BLOCKS_INIT {sizeof(tamis_blocks), 0, NULL, NULL, NULL, NULL, NULL, NULL, 0}

/* ------------------------------------------------------------------------------------------------------------ plan */

/**
 * Choose, and where needed compile and load, the kernels for a problem. All that can fail for want of a kernel fails here.
 *
 * A GPU plan takes kernels from `store` for this GPU's architecture. A kernel whose cubin neither the store nor the user's
 * cache has is compiled with NVRTC, where that is installed, and added to the store; if the store cannot be written, to the
 * cache; else it is kept in memory, with a warning.
 *
 * @param store  NULL is allowed for the CPU backend, which needs none.
 * @return TAMIS_OK; TAMIS_EINVAL; TAMIS_EUNSUPPORTED (the store has no kernel for this head_dim, dtype and GPU, or
 *         none for so large a batch * q_heads * seq_len);
 *         TAMIS_ENOTFOUND, TAMIS_ECORRUPT (the store lacks a source or an entry that its kernels refer to);
 *         TAMIS_ECOMPILE; TAMIS_ECUDA; TAMIS_EIO; TAMIS_ENOMEM.
 */
TAMIS_API tamis_status tamis_plan_create(tamis_plan **out, tamis_context *context, tamis_store *store,
                                         const tamis_problem *problem);
TAMIS_API void tamis_plan_free(tamis_plan *plan);

/** Which variant of a kernel a plan takes, where the store has several. */
typedef enum tamis_tuning {
    TAMIS_TUNING_USE = 0,    /* what `tamis tune` found the fastest for the nearest shape; else the default variant */
    TAMIS_TUNING_OFF = 1,    /* the default variant, whatever was timed */
    TAMIS_TUNING_REQUIRE = 2 /* like USE, but a kernel that was not timed on such a GPU, within an octave of length, fails */
} tamis_tuning;

/** What a plan does for a kernel that neither the store nor the user's cache has compiled. */
typedef enum tamis_compiling {
    TAMIS_COMPILE_MISSING = 0, /* compile it, with NVRTC: seconds */
    TAMIS_COMPILE_NEVER = 1    /* fail with TAMIS_ENOTFOUND: nothing but what is there already */
} tamis_compiling;

/**
 * Told of a kernel before it is compiled, and after that, with the milliseconds it took; before, these are negative. Where
 * compiling fails there is no second call.
 */
typedef void (*tamis_compile_fn)(void *payload, const char *kernel, const char *arch, double milliseconds);

typedef struct tamis_plan_options {
    size_t struct_size;
    tamis_tuning tuning;
    tamis_compiling compiling;
    tamis_compile_fn on_compile; /* called inside tamis_plan_create_with(), on its thread; NULL: not told */
    void *on_compile_payload;
    const tamis_pattern *pattern; /* copied; NULL, or a struct that ends before it: every block */
    int32_t output_map; /* 1: every run has an output map, below; 0, or a struct that ends before it: none */
} tamis_plan_options;

#define TAMIS_PLAN_OPTIONS_INIT {sizeof(tamis_plan_options), TAMIS_TUNING_USE, TAMIS_COMPILE_MISSING, NULL, NULL, NULL, 0}

/*
 * An output map is a D x D matrix for each query head, that the head's kept rows are multiplied with before they go to their
 * tokens' places: row vector times matrix,
 *     out[b][h][t][j] = sum over i of row[i] * output_map[h][i][j],
 * where `row` is what the same plan without a map writes there, rounded to the dtype; the sum is rounded once more. Dropped
 * rows stay zero, and the log-sum-exp is the same as without. Where every token is kept, the rows of all are mapped. It is part
 * of the attention kernel, for which the store's spec must have asked (`output_map: true`); there is none on block patterns.
 */

/**
 * As tamis_plan_create(), which is this with the defaults. The CPU backend has no kernels to choose from: there only
 * TAMIS_TUNING_REQUIRE means something, and is met.
 *
 * A variant that does not load is passed over for the next best, with a warning to the context's log.
 *
 * @param options  NULL: the defaults of TAMIS_PLAN_OPTIONS_INIT.
 * @return as tamis_plan_create(); TAMIS_ENOTFOUND too for what the options forbid to make up for; TAMIS_EUNSUPPORTED too where
 *         the store has no kernel with an output map, or one is asked for together with a pattern.
 */
TAMIS_API tamis_status tamis_plan_create_with(tamis_plan **out, tamis_context *context, tamis_store *store,
                                              const tamis_problem *problem, const tamis_plan_options *options);

/** What the plans of a context have cost since it was made. */
typedef struct tamis_counters {
    size_t struct_size;
    int64_t plans;        /* that were made */
    int64_t found;        /* kernels that the store or the user's cache had compiled, or another plan has loaded: hits */
    int64_t compiled;     /* kernels that had to be: misses */
    int64_t passed_over;  /* variants that did not load */
    double compile_ms;    /* spent compiling */
} tamis_counters;

#define TAMIS_COUNTERS_INIT {sizeof(tamis_counters), 0, 0, 0, 0, 0.0}

/**
 * Read them. Plans that other threads are making count in part.
 *
 * @param out  Must come with `struct_size` set (TAMIS_COUNTERS_INIT).
 * @return TAMIS_OK; TAMIS_EINVAL.
 */
TAMIS_API tamis_status tamis_context_counters(tamis_counters *out, const tamis_context *context);

/** Bytes of device memory that tamis_run and the steps need as workspace; 0 for NULL. */
TAMIS_API size_t tamis_plan_workspace_bytes(const tamis_plan *plan);

/** C: the most tokens a head can keep under this plan, the row length of index and compact buffers; 0 for NULL. */
TAMIS_API int64_t tamis_plan_capacity(const tamis_plan *plan);

/** Hi: how many index lists a sequence has: Hq, Hkv or 1 by the scope; 0 for NULL. */
TAMIS_API int32_t tamis_plan_index_heads(const tamis_plan *plan);

/** Hc: how many heads compact K and V have: Hq for scope head, else Hkv; 0 for NULL. */
TAMIS_API int32_t tamis_plan_compact_heads(const tamis_plan *plan);

/** T: blocks of 128 queries, and of keys, in the capacity; 0 for a plan without a pattern, and for NULL. */
TAMIS_API int32_t tamis_plan_block_count(const tamis_plan *plan);

/**
 * Describe a plan in text: device, policy, each stage's kernel and resources, workspace.
 *
 * @param buffer  Receives at most `size` bytes, always terminated when size > 0; may be NULL when size is 0.
 * @param needed  If not NULL: bytes for the whole text with its terminator.
 * @return TAMIS_OK, where the text was cut short too; TAMIS_EINVAL; TAMIS_ENOMEM.
 */
TAMIS_API tamis_status tamis_plan_describe(const tamis_plan *plan, char *buffer, size_t size, size_t *needed);

/* ------------------------------------------------------------------------------------------------ 1. the one call */

/**
 * A (B, H, L, D) tensor in the plan's dtype, the last dimension contiguous. Strides are in elements, and may describe any
 * order of the other dimensions, (B, L, H, D) too; multiples of 8, the token's at least D, the others 0 where inputs share
 * rows. `data` is 16-byte aligned device memory of the plan's context (host memory for the CPU backend). What is written
 * must not overlap anything else; tensors that share a stride may interleave by it, as parts of one (B, L, heads, D) buffer or
 * of a (B, 2, H, L, D) one.
 * Arrays of float and int32_t are contiguous, and aligned to their elements.
 */
typedef struct tamis_tensor {
    void *data;
    int64_t batch_stride;
    int64_t head_stride;
    int64_t token_stride;
} tamis_tensor;

typedef struct tamis_run_args {
    size_t struct_size;
    tamis_tensor q;      /* (B, Hq, L, D), read */
    tamis_tensor k;      /* (B, Hkv, L, D), read */
    tamis_tensor v;      /* (B, Hkv, L, D), read */
    tamis_tensor output; /* (B, Hq, L, D), every row written: zero where the token was not selected. No overlap with inputs */
    float *lse;          /* (B, Hq, L) or NULL: natural log of the sum of exp(scaled logits); -inf in dropped rows */
    float *score;        /* (B, Hq, L - W) or NULL: the scores before pooling */
    int32_t *kept;       /* (B) or NULL: kept tokens of each sequence, window included */
    int32_t *indices;    /* (B, Hi, C) or NULL: kept[b] ascending positions each; what lies behind them is unspecified */
    const tamis_blocks *blocks; /* of a plan with TAMIS_PATTERN_HOST_BLOCKS, else NULL; a struct may end before it */
    const void *output_map; /* (Hq, D, D), contiguous, in the dtype, 16-byte aligned device memory, read: of a plan with
                               output_map, else NULL; a struct may end before it */
} tamis_run_args;

#define TAMIS_RUN_ARGS_INIT {sizeof(tamis_run_args), {NULL, 0, 0, 0}, {NULL, 0, 0, 0}, {NULL, 0, 0, 0}, {NULL, 0, 0, 0}, \
                             NULL, NULL, NULL, NULL, NULL, NULL}

/**
 * Run the whole operator on `stream`. Returns as soon as the work is queued (the CPU backend: when it is done).
 *
 * @param workspace        Device memory, 256-byte aligned, private to this call until `stream` has passed it; may be NULL
 *                         if the plan needs none. Its content does not matter.
 * @param workspace_bytes  At least tamis_plan_workspace_bytes(plan).
 * @return TAMIS_OK; TAMIS_EINVAL; TAMIS_EWORKSPACE; TAMIS_ECUDA; TAMIS_ENOMEM (the driver has none for a launch). A fault
 *         inside a kernel is reported by the next call that synchronises, not here. What fails for its arguments has written
 *         and queued nothing.
 */
TAMIS_API tamis_status tamis_run(const tamis_plan *plan, const tamis_run_args *args, void *workspace,
                                 size_t workspace_bytes, tamis_stream stream);

/* --------------------------------------------------------------------------------------------------- 2. the steps */
/*
 * The same operator with its intermediate results in the caller's memory, for a host that brings its own attention
 * kernel, or that averages `mean` over tensor-parallel ranks between score and select. A step reads what the one before it
 * wrote. `workspace` as for tamis_run; the steps of one sequence of calls may share it. Running the five steps gives the
 * same bits as tamis_run. Each returns what tamis_run does.
 */

/**
 * Score every token before the window (definition, steps 1 and 2). Writes nothing when L <= W, where score, rank and mean
 * may be NULL.
 *
 * @param score  (B, Hq, L - W): mean over the last W queries of their softmax probability for the token.
 * @param rank   (B, Hi, L - W): what heads choose by: the pooled score (scope head), its sum over the group (kv_group) or
 *               the head mean (layer).
 * @param mean   (B, L - W): the pooled score's mean over the query heads, not normalised.
 */
TAMIS_API tamis_status tamis_score(const tamis_plan *plan, const tamis_tensor *q, const tamis_tensor *k, float *score,
                                   float *rank, float *mean, void *workspace, size_t workspace_bytes, tamis_stream stream);

/**
 * Decide how many tokens to keep, and which (steps 3 and 4). `mean` is normalised here.
 *
 * @param rank     May be NULL where the plan keeps every token.
 * @param mean     May be NULL but for TAMIS_COVERAGE, where it decides how many.
 * @param kept     (B), written.
 * @param indices  (B, Hi, C), written: kept[b] ascending positions; equal ranks: the lower position wins.
 */
TAMIS_API tamis_status tamis_select(const tamis_plan *plan, const float *rank, const float *mean, int32_t *kept,
                                    int32_t *indices, void *workspace, size_t workspace_bytes, tamis_stream stream);

/**
 * Copy the kept rows together (step 5). Rows at and after kept[b] are not written.
 *
 * @param compact_q             (B, Hq, C, D); may be NULL, together with q, where the host gathers Q itself.
 * @param compact_k, compact_v  (B, Hc, C, D).
 */
TAMIS_API tamis_status tamis_compress(const tamis_plan *plan, const tamis_tensor *q, const tamis_tensor *k,
                                      const tamis_tensor *v, const int32_t *kept, const int32_t *indices,
                                      const tamis_tensor *compact_q, const tamis_tensor *compact_k,
                                      const tamis_tensor *compact_v, void *workspace, size_t workspace_bytes,
                                      tamis_stream stream);

/**
 * Attention among the first kept[b] compact rows (step 6), causal unless the problem's mask says otherwise.
 *
 * @param compact_output  (B, Hq, C, D), rows before kept[b] written.
 * @param compact_lse     (B, Hq, C) or NULL: natural log-sum-exp of the scaled logits, rows before kept[b] written.
 */
TAMIS_API tamis_status tamis_attend(const tamis_plan *plan, const tamis_tensor *compact_q, const tamis_tensor *compact_k,
                                    const tamis_tensor *compact_v, const int32_t *kept, const tamis_tensor *compact_output,
                                    float *compact_lse, void *workspace, size_t workspace_bytes, tamis_stream stream);

/**
 * tamis_attend, which a plan with an output map refuses, with one.
 *
 * @param output_map  (Hq, D, D), as of tamis_run_args.
 */
TAMIS_API tamis_status tamis_attend_map(const tamis_plan *plan, const tamis_tensor *compact_q,
                                        const tamis_tensor *compact_k, const tamis_tensor *compact_v, const int32_t *kept,
                                        const void *output_map, const tamis_tensor *compact_output, float *compact_lse,
                                        void *workspace, size_t workspace_bytes, tamis_stream stream);

/**
 * Make the lists of a plan's pattern from the compact rows, or from the host's own form of them (TAMIS_PATTERN_HOST_BLOCKS).
 *
 * @param compact_q, compact_k  As for tamis_attend; may be NULL under a pattern that does not look at them (host blocks,
 *                              sliding).
 * @param blocks  The host's, for TAMIS_PATTERN_HOST_BLOCKS of another form than lists; else NULL.
 * @param count   (B, Hq, T), written up to the query blocks of kept[b] rows; what lies behind is unspecified.
 * @param list    (B, Hq, T, T), written up to count; what lies behind is unspecified, as makers use it meanwhile. Masks of its
 *                entries: a pattern's own lie in the workspace, which must stay as it is until tamis_attend_blocks has run;
 *                those of index arrays stay the host's.
 */
TAMIS_API tamis_status tamis_make_blocks(const tamis_plan *plan, const tamis_tensor *compact_q, const tamis_tensor *compact_k,
                                         const int32_t *kept, const tamis_blocks *blocks, int32_t *count, int32_t *list,
                                         void *workspace, size_t workspace_bytes, tamis_stream stream);

/**
 * tamis_attend, which a plan with a pattern refuses, on listed blocks.
 *
 * @param blocks  As lists, the host's or tamis_make_blocks'. Entries with masks refer to its masks: of lists made from index
 *                arrays the host names the same ones again. Where they are NULL, to those that tamis_make_blocks has left in
 *                the workspace, if the pattern has any; else such entries count as whole blocks.
 */
TAMIS_API tamis_status tamis_attend_blocks(const tamis_plan *plan, const tamis_tensor *compact_q,
                                           const tamis_tensor *compact_k, const tamis_tensor *compact_v, const int32_t *kept,
                                           const tamis_blocks *blocks, const tamis_tensor *compact_output, float *compact_lse,
                                           void *workspace, size_t workspace_bytes, tamis_stream stream);

/**
 * Put compact rows back at their tokens' places, and zero in every other row (step 7).
 *
 * @param compact_lse, lse  (B, Hq, C) and (B, Hq, L), or both NULL; dropped rows become -inf.
 * @param output            (B, Hq, L, D), every row written.
 */
TAMIS_API tamis_status tamis_decompress(const tamis_plan *plan, const tamis_tensor *compact_output,
                                        const float *compact_lse, const int32_t *kept, const int32_t *indices,
                                        const tamis_tensor *output, float *lse, void *workspace, size_t workspace_bytes,
                                        tamis_stream stream);

/* ---------------------------------------------------------------------------------------- 3. memory and streams */
/*
 * For hosts without a CUDA toolkit. On the CPU backend they are malloc and memcpy, and streams are NULL. Each returns TAMIS_OK,
 * TAMIS_EINVAL, TAMIS_ENOMEM or TAMIS_ECUDA; a fault of work that was queued before may be reported by any of them.
 */

/** Allocate device memory, 256-byte aligned. TAMIS_EINVAL for 0 bytes. */
TAMIS_API tamis_status tamis_memory_alloc(void **out, tamis_context *context, size_t bytes);
/** Give it back, when the work on it is done. NULL: nothing to do. */
TAMIS_API void tamis_memory_free(tamis_context *context, void *memory);

/** Copy from host to device; the host memory may be reused on return. Waits for `stream`; 0 bytes: nothing is done at all. */
TAMIS_API tamis_status tamis_memory_write(tamis_context *context, void *device, const void *host, size_t bytes,
                                          tamis_stream stream);
/** Copy from device to host. Waits for `stream`; 0 bytes: nothing is done at all. */
TAMIS_API tamis_status tamis_memory_read(tamis_context *context, void *host, const void *device, size_t bytes,
                                         tamis_stream stream);

/** A stream that does not wait for the default stream, nor that for it. */
TAMIS_API tamis_status tamis_stream_create(tamis_stream *out, tamis_context *context);
/** Its work still runs to the end. NULL, the default stream: nothing to do. */
TAMIS_API void tamis_stream_free(tamis_context *context, tamis_stream stream);
/** Wait until all work queued on `stream` is done; reports faults of the kernels in it. */
TAMIS_API tamis_status tamis_stream_synchronize(tamis_context *context, tamis_stream stream);

/* ------------------------------------------------------------------------------------------ 4. representation drift */
/*
 * Token sparsity leaves zeros in most rows of a layer's attention. The layers that bear it best are those that move their
 * tokens least: the drift of a layer is the mean over tokens of ||h_out - h_in|| / (||h_in|| + 1e-8), h being the residual
 * stream before and after the layer, and the sparse layers are those at or below a quantile of the drifts (section "Which
 * layers" of the method). A host adds each layer's hidden states while it prefills some typical prompts densely, then reads
 * the drifts and chooses.
 */

typedef struct tamis_drift tamis_drift; /* immutable; may be used by many threads with separate states */

/**
 * Prepare to measure drifts: on a GPU, take the kernel from the store, as a plan does.
 *
 * @param store   NULL is allowed for the CPU backend.
 * @param dtype   Of the hidden states.
 * @param layers  Of the model, 1 to 1024.
 * @param width   Elements of a token's hidden state, 1 to 2^24.
 * @return TAMIS_OK; TAMIS_EINVAL; TAMIS_ENOTFOUND (the store has no such kernel: it is older than it, or made for another GPU
 *         or dtype); what tamis_plan_create() returns where a kernel cannot be had.
 */
TAMIS_API tamis_status tamis_drift_create(tamis_drift **out, tamis_context *context, tamis_store *store, tamis_dtype dtype,
                                          int32_t layers, int64_t width);
TAMIS_API void tamis_drift_free(tamis_drift *drift);

/** Bytes of device memory that a state takes, about 2 KiB a layer; 0 for NULL. */
TAMIS_API size_t tamis_drift_state_bytes(const tamis_drift *drift);

/**
 * Set a state to nothing measured yet, on `stream`. May be captured in a graph.
 *
 * @param state  Device memory of tamis_drift_state_bytes(), aligned to 8 bytes, used by one stream at a time.
 * @return TAMIS_OK; TAMIS_EINVAL; TAMIS_ECUDA; TAMIS_ENOMEM.
 */
TAMIS_API tamis_status tamis_drift_reset(const tamis_drift *drift, void *state, tamis_stream stream);

/**
 * Add some tokens of one layer, on `stream`: of a long prompt a chunk at a time, of several prompts one after the other. May
 * be captured in a graph. The same calls with the same data give the same bits.
 *
 * @param layer                      Counted from 0.
 * @param h_in, h_out                (rows, width) in the drift's dtype, the last dimension contiguous; any alignment, fastest
 *                                   where pointers and strides are of 16 bytes. Read only; both may be views of one buffer.
 * @param h_in_stride, h_out_stride  Elements from one row to the next, at least the width.
 * @param rows                       0: nothing to do.
 * @return as tamis_drift_reset().
 */
TAMIS_API tamis_status tamis_drift_add(const tamis_drift *drift, void *state, int32_t layer, const void *h_in,
                                       int64_t h_in_stride, const void *h_out, int64_t h_out_stride, int64_t rows,
                                       tamis_stream stream);

/**
 * Read the drifts of all layers, normalised to sum 1. Waits for `stream`.
 *
 * @param out  (layers), on the host.
 * @return TAMIS_OK; TAMIS_EINVAL too where a layer has no rows or its hidden states were not finite; TAMIS_ECUDA; TAMIS_ENOMEM.
 */
TAMIS_API tamis_status tamis_drift_read(double *out, const tamis_drift *drift, const void *state, tamis_stream stream);

/**
 * The layers whose drift is at or below the `delta` quantile of all, by linear interpolation. Pure; needs no context.
 *
 * @param sparse  Receives the first `capacity` of them, ascending; may be NULL when capacity is 0.
 * @param needed  If not NULL: how many there are, at least 1.
 * @param drifts  (layers), finite and not negative; normalised or not.
 * @param delta   0 to 1; the published lists are those of 0.5.
 * @return TAMIS_OK; TAMIS_EINVAL; TAMIS_ENOMEM.
 */
TAMIS_API tamis_status tamis_drift_layers(int32_t *sparse, size_t capacity, size_t *needed, const double *drifts,
                                          size_t layers, double delta);

#ifdef __cplusplus
}
#endif
#endif /* TAMIS_H */
