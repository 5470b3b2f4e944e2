/*
 * tune_wire.h: what the tuner and the process that runs candidates for it say to each other: one request, one answer, over
 * two pipes, each a struct as it lies in memory. Both ends are one build of one program; a mark tells other things apart.
 *
 * The process is `tamis tune-worker STORE ORDINAL`, which reads requests from its standard input until that ends, and
 * answers on its standard output.
 */
#ifndef TUNE_WIRE_H
#define TUNE_WIRE_H

#include "tune.h"

#define TUNE_WIRE_MARK 0x74756e33u /* of this version of the structs */

enum tune_wire_op {
    TUNE_WIRE_HELLO, /* which device is it? */
    TUNE_WIRE_CHECK, /* is the candidate right? */
    TUNE_WIRE_TIME   /* one round */
};

struct tune_wire_request {
    unsigned mark;
    enum tune_wire_op op;
    tamis_problem problem;
    struct tune_lists lists;
    char family[16];
    char variant[TAMISI_SYMBOL_SIZE];
};

struct tune_wire_answer {
    unsigned mark;
    enum tune_verdict verdict;
    tamis_status status; /* of TUNE_BROKEN */
    bool numerics;       /* of TUNE_BROKEN too: it is the default kernels that are wrong, so that no other can be judged */
    char why[TUNE_WHY];
    struct tune_round round;        /* to TIME */
    struct tamisi_gpu_identity gpu; /* these to HELLO */
    char arch[16];
    int devices; /* how many there are */
};

/* tune_wire.c. All of it or false, errno set; 0 where the other end is gone. Seconds; infinite where negative. */
bool tune_wire_read(int file, void *out, size_t bytes, double seconds);
bool tune_wire_write(int file, const void *data, size_t bytes);

/* tune_serve.c: the process's side; the exit code. */
int tune_serve(const char *store, int ordinal, int in, int out);

#endif
