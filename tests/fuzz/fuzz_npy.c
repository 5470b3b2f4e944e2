/*
 * fuzz_npy.c: any bytes as an .npy file. They are refused with a message, or what was read is as large as its shape says.
 */
#include "npy.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct npy npy;
    if (npy_parse(&npy, "fuzz.npy", data, size) != TAMIS_OK) {
        if (strncmp(tamis_last_error(), "fuzz.npy: ", 10) != 0) abort();
        return 0;
    }
    size_t bytes = npy_type_bytes(npy.type);
    for (int i = 0; i < npy.rank; i++) bytes *= (size_t)npy.shape[i];
    if (npy.rank > NPY_MAX_RANK || bytes != npy.bytes || bytes > size) abort();
    if (memcmp(npy.data, data + size - bytes, bytes) != 0) abort();
    npy_free(&npy);
    return 0;
}
