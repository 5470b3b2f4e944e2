// made by: tamis show SPEC --variant compress_d128_bm64_t256 --arch sm_80
// tamis_compress_d128_bm64_t256: 256 threads, 0 bytes of dynamic shared memory

/*
 * kernel_args.h: what the host passes to each kernel, one struct a stage.
 *
 * Read by two compilers: gcc, through the gpu_*.c files that fill the structs, and NVRTC, through the templates that
 * include this text. So it uses only types that both give the same layout. A change of any struct, or of the grid that a
 * kernel expects, needs a new TAMIS_KERNEL_ABI: a store's kernels are used only by a library of the same number.
 *
 * Shapes as in tamis.h: B batch, Hq, Hkv, L, D, W window, C capacity, Hi index_heads, Hc compact_heads; N = L - W, the
 * number of candidates.
 */

#define TAMIS_KERNEL_ABI 2

/* A (B, H, rows, D) tensor of 16-bit elements; strides in elements, the last dimension contiguous. */
struct tamis_rows {
    void *data;
    long long batch_stride;
    long long head_stride;
    long long row_stride;
};

/* A CUtensorMap by value: how the tensor copy engine sees a (B, H, rows, D) tensor. Boxes are 64 columns by a tile's rows. */
struct __attribute__((aligned(64))) tamis_tensor_map {
    unsigned long long opaque[16];
};

/* score_stats, score_merge and score_sum: operator.md step 1 in two passes over the keys. */
struct tamis_score_args {
    struct tamis_rows q;  /* (B, Hq, L, D) */
    struct tamis_rows k;  /* (B, Hkv, L, D) */
    float *partial;       /* (B, Hq, W, chunks, 2): running max and sum of a chunk of keys, in log2 units */
    float *lse2;          /* (B, Hq, lse2_rows), the first W of a row: log2 of the sum of exp2 over all keys */
    float *score;         /* (B, Hq, N) */
    long long seq_len;    /* L */
    long long chunk_keys; /* keys a chunk; a multiple of 256 */
    int chunks;
    int lse2_rows; /* W rounded up to a multiple of 64 */
    int batch;
    int q_heads;
    int kv_heads;
    int window;
    float scale_log2; /* scale * log2(e) */
};

/* score_stats_tma and score_sum_tma: the same with persistent blocks and the tensor copy engine (sm_90a). */
struct tamis_score_tma_args {
    struct tamis_tensor_map q; /* boxes of the tile of queries; score_sum_tma alone reads it */
    struct tamis_tensor_map k; /* boxes of the kernel's own tile of keys */
    struct tamis_score_args score;
};

/* select_pool: step 2, and what heads rank by. */
struct tamis_pool_args {
    const float *score;   /* (B, Hq, N) */
    float *rank;          /* (B, Hi, N) */
    float *mean;          /* (B, N) */
    long long candidates; /* N */
    int q_heads;
    int index_heads;
    int pool;
};

/* select_budget: step 3. block_m blocks a sequence: a cluster. */
struct tamis_budget_args {
    const float *mean;    /* (B, N); read only where fixed_keep < 0 */
    int *kept;            /* (B) */
    long long seq_len;    /* L */
    long long candidates; /* N */
    long long min_tokens; /* M */
    long long fixed_keep; /* tokens to keep outside the window; -1: by coverage; N: all, dense */
    double coverage;      /* tau */
};

/* select_tokens: step 4. block_m blocks a (sequence, index head): a cluster. */
struct tamis_tokens_args {
    const float *rank; /* (B, Hi, N) */
    const int *kept;   /* (B) */
    int *indices;      /* (B, Hi, C) */
    long long seq_len;
    long long candidates;
    long long capacity; /* C */
    int index_heads;
};

/* compress_rows: step 5 for one tensor. */
struct tamis_compress_args {
    struct tamis_rows source;  /* (B, Hs, L, D) */
    struct tamis_rows compact; /* (B, H, C, D) */
    const int *kept;           /* (B) */
    const int *indices;        /* (B, Hi, C) */
    long long seq_len;
    long long capacity;
    int heads;        /* H, of `compact` */
    int source_heads; /* Hs, a divisor of H */
    int index_heads;  /* Hi, a divisor of H */
    int skip_dense;   /* 1: copy nothing for a sequence that keeps all its tokens */
};

/* attend: step 6, on full or compact rows; writes compact rows or, given indices, straight to their tokens' places. */
struct tamis_attend_args {
    struct tamis_rows q;      /* (B, Hq, rows, D): full rows read through `indices` if given, else compact or dense ones */
    struct tamis_rows k, v;   /* (B, Hc, C, D) */
    struct tamis_rows k_full; /* (B, Hkv, L, D), with v_full: read instead of k, v where kept[b] == L; data may be 0 */
    struct tamis_rows v_full;
    struct tamis_rows output; /* (B, Hq, rows, D): rows placed through `indices` if given */
    float *lse;               /* (B, Hq, lse_rows) or 0; natural log */
    const int *kept;          /* (B), or 0: every sequence has seq_len rows */
    const int *indices;       /* (B, Hi, C), or 0: row i is row i */
    long long seq_len;        /* L */
    long long capacity;       /* C: bound on kept[b], from which the grid is made */
    long long lse_rows;       /* row length of lse: C or L */
    int q_heads;
    int kv_heads;      /* of k_full, v_full */
    int compact_heads; /* Hc, of k, v */
    int index_heads;   /* Hi */
    int causal;        /* 0: every row sees all rows */
    float scale_log2;
};

/* attend_tma: step 6 with persistent blocks and the tensor copy engine (sm_90a). */
struct tamis_attend_tma_args {
    struct tamis_tensor_map q; /* read where there are no indices; else rows of Q are gathered through attend.q */
    struct tamis_tensor_map k, v;
    struct tamis_tensor_map k_full, v_full; /* used where attend.k_full.data is given */
    struct tamis_attend_args attend;
    int tiles; /* of block_m rows, of the capacity */
    int heads; /* B * Hq; tiles * heads fits 31 bits */
    unsigned *counter; /* 0 at the start; the tiles that blocks have taken beyond each one's first */
};

/* decompress_rows: step 7. */
struct tamis_decompress_args {
    struct tamis_rows compact; /* (B, Hq, C, D); data 0: write the dropped rows only */
    struct tamis_rows output;  /* (B, Hq, L, D) */
    const float *compact_lse;  /* (B, Hq, C) or 0 */
    float *lse;                /* (B, Hq, L) or 0 */
    const int *kept;           /* (B) */
    const int *indices;        /* (B, Hi, C) */
    long long seq_len;
    long long capacity;
    int q_heads;
    int index_heads;
};

/*
 * rows.cuh: rows of a strided tensor as bytes, for the kernels that only move them.
 */

/* Row 0 of one head. */
__device__ __forceinline__ char *row_bytes(const tamis_rows &rows, int sequence, int head)
{
    return static_cast<char *>(rows.data) + 2 * (sequence * rows.batch_stride + head * rows.head_stride);
}

/* The index list of one (sequence, index head). */
__device__ __forceinline__ const int *index_list(const int *indices, int sequence, int index_head, int index_heads,
                                                 long long capacity)
{
    return indices + (static_cast<long long>(sequence) * index_heads + index_head) * capacity;
}

/* 16 bytes that this kernel reads once: not kept in L1. */
__device__ __forceinline__ int4 load_once(const void *pointer)
{
    int4 value;
    asm volatile("ld.global.nc.L1::no_allocate.v4.s32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w)
                 : "l"(pointer));
    return value;
}

constexpr int kBlockM = 64; // rows a block
constexpr int kThreads = 256;
constexpr int kChunks = 16; // 16-byte chunks a row

// grid = (blocks of rows of the capacity, H, B).
extern "C" __global__ void __launch_bounds__(kThreads) tamis_compress_d128_bm64_t256(const __grid_constant__ tamis_compress_args args)
{
    const int head = blockIdx.y, sequence = blockIdx.z;
    const int kept = args.kept[sequence];
    const int first = blockIdx.x * kBlockM;
    if (first >= kept || (args.skip_dense && kept == args.seq_len)) return;

    const int *token = index_list(args.indices, sequence, head / (args.heads / args.index_heads), args.index_heads,
                                  args.capacity);
    const char *source = row_bytes(args.source, sequence, head / (args.heads / args.source_heads));
    char *compact = row_bytes(args.compact, sequence, head);
    const int rows = min(kBlockM, kept - first);
#pragma unroll 4
    for (int i = threadIdx.x; i < rows * kChunks; i += kThreads) {
        const int row = first + i / kChunks, chunk = i % kChunks;
        const int4 value = load_once(source + 2 * args.source.row_stride * token[row] + chunk * 16);
        *reinterpret_cast<int4 *>(compact + 2 * args.compact.row_stride * row + chunk * 16) = value;
    }
}
