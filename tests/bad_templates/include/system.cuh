/*
 * A header that wants a system's header.
 */
#pragma once

#include <cuda_fp16.h>
