/*
 * library.hpp: a kernel's source as code that runs here.
 */
#pragma once

#include <string>

namespace emulate {

/*
 * Translate, compile and open the source. What was compiled before, by the same compiler and with the same headers, is taken
 * from $TAMIS_EMULATE_CACHE (a folder; else one in $TMPDIR). NULL: `message` says why, and names the compiler's log.
 */
void *open_library(const std::string &source, const std::string &arch, std::string &message);
void close_library(void *library);

} // namespace emulate
