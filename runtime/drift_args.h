/*
 * drift_args.h: what the host passes to the kernel of representation drift, as kernel_args.h does it for the operator's: read
 * by gcc and by NVRTC. A change of the struct, or of the grid, needs a new TAMIS_KERNEL_ABI.
 */
#ifndef TAMIS_DRIFT_ARGS_H
#define TAMIS_DRIFT_ARGS_H

#define TAMIS_DRIFT_BLOCKS 256 /* of every launch, on every GPU: each adds to a sum of its own, so that the order is fixed */

/* drift: operator.md, "Which layers are sparse", for some tokens of one layer. */
struct tamis_drift_args {
    const void *h_in;  /* (rows, width) of 16-bit elements: hidden states before the layer */
    const void *h_out; /* and after it */
    long long in_stride, out_stride; /* in elements; the last dimension is contiguous */
    long long rows, width;
    double *sums;       /* (TAMIS_DRIFT_BLOCKS): of ||h_out - h_in|| / (||h_in|| + 1e-8) over the rows; added to */
    long long *counted; /* the rows behind the sums; added to */
};

#endif /* TAMIS_DRIFT_ARGS_H */
