/*
 * fiber.hpp: threads that are switched by hand: a stack each, and what a function call would save.
 */
#pragma once

#ifndef __x86_64__
#include <ucontext.h>
#endif

namespace emulate {

struct Fiber {
    char *stack = nullptr; /* its lowest address; null: the program's own */
#ifdef __x86_64__
    void *stack_pointer = nullptr;
#else
    ucontext_t context;
#endif
};

void fiber_open(Fiber &fiber, void (*enter)()); /* enter never returns */
void fiber_close(Fiber &fiber);
void fiber_switch(Fiber &from, Fiber &to);
bool fiber_overflows(const Fiber &fiber, const void *address); /* is the address right below the stack? */

} // namespace emulate
