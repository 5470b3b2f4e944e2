/*
 * translate.hpp: preprocessed CUDA C++ to C++ that compiles against device.hpp. Text to text, a line stays a line:
 *   asm("...": ...)       calls of the functions of ptx.hpp, a statement of PTX each (translate_asm.cpp)
 *   __shared__ T a[8], b; variables of the block that runs
 *   extern __shared__     a pointer to its dynamic shared memory
 *   __global__            behind it all, an entry "emulated_NAME" for each kernel, which takes addresses of parameters
 */
#pragma once

#include <stdexcept>
#include <string>

namespace emulate {

struct CannotTranslate : std::runtime_error {
    using std::runtime_error::runtime_error;
};

std::string translate(const std::string &source);

/* What stands between the parentheses of an asm statement, as a block of C++. `number` tells its labels from others'. */
std::string translate_asm(const std::string &inside, int number);

/* ---- text */

bool is_word(char c);
/* Where the bracket that opens at `open` is closed, over strings and brackets of all kinds. */
size_t closing(const std::string &text, size_t open);
size_t skip_space(const std::string &text, size_t at);
size_t skip_word(const std::string &text, size_t at);
size_t skip_string(const std::string &text, size_t at); /* from its first quote to behind its last */
std::string trimmed(const std::string &text);

} // namespace emulate
