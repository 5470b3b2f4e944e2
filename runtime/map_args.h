/*
 * map_args.h: what the host passes to the attention kernels that apply an output map. Beside kernel_args.h, whose rules hold
 * here too: read by gcc and by NVRTC, and a change of any struct, or of the grid that a kernel expects, needs a new
 * TAMIS_MAP_ABI.
 *
 * A map is (Hq, D, D), 16-bit elements, contiguous. A row of head h is normalised, rounded to 16 bits and multiplied with
 * matrix h, out[j] = sum over i of row[i] * map[h][i][j], before it is written to its token's place. So a matrix lies in memory
 * as D rows of V do, and the row is to it what the probabilities of D keys are to those.
 */
#ifndef TAMIS_MAP_ARGS_H
#define TAMIS_MAP_ARGS_H

#include "kernel_args.h"

#define TAMIS_MAP_ABI 1

/* attend_map: as attend. */
struct tamis_attend_map_args {
    struct tamis_attend_args attend;
    const void *output_map; /* (Hq, D, D) */
};

/* attend_map_tma: as attend_tma. */
struct tamis_attend_map_tma_args {
    struct tamis_attend_tma_args run;
    struct tamis_tensor_map output_map; /* (1, Hq, D, D), in the boxes of v */
};

#endif /* TAMIS_MAP_ARGS_H */
