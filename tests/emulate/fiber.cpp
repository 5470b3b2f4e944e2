/*
 * fiber.cpp: stacks, which are kept for the next fiber, and the switch between two.
 */
#include "fiber.hpp"

#include <sys/mman.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

namespace emulate {

static const size_t stack_bytes = 128 << 10, guard_bytes = 4096; /* what is never touched costs address space alone */
static std::vector<char *> free_stacks;

static char *take_stack()
{
    if (!free_stacks.empty()) {
        char *stack = free_stacks.back();
        free_stacks.pop_back();
        return stack;
    }
    void *memory = mmap(nullptr, guard_bytes + stack_bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
    if (memory == MAP_FAILED || mprotect(memory, guard_bytes, PROT_NONE) != 0) {
        fputs("emulate: no memory for stacks\n", stderr);
        abort();
    }
    return static_cast<char *>(memory) + guard_bytes;
}

void fiber_close(Fiber &fiber)
{
    if (fiber.stack) free_stacks.push_back(fiber.stack);
    fiber.stack = nullptr;
}

bool fiber_overflows(const Fiber &fiber, const void *address)
{
    const char *at = static_cast<const char *>(address);
    return fiber.stack && at < fiber.stack && at >= fiber.stack - guard_bytes;
}

/* Stacks that all began at the same place of a page would share a few lines of the cache. */
static size_t usable_bytes(const char *stack)
{
    const size_t places = 32, step = guard_bytes / places;
    return stack_bytes - reinterpret_cast<uintptr_t>(stack) / (guard_bytes + stack_bytes) % places * step;
}

#ifdef __x86_64__

/* Saves what a function must leave as it was, on the stack; where that is, is all that a fiber is. */
extern "C" void emulate_switch(void **from, void *to);
asm(R"(
.text
.globl emulate_switch
.hidden emulate_switch
.type emulate_switch, @function
emulate_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size emulate_switch, . - emulate_switch
)");

void fiber_open(Fiber &fiber, void (*enter)())
{
    fiber.stack = take_stack();
    void **top = reinterpret_cast<void **>(fiber.stack + usable_bytes(fiber.stack));
    *--top = nullptr; /* where enter's caller would be: at its entry the stack is 8 bytes off a multiple of 16 */
    *--top = reinterpret_cast<void *>(enter);
    for (int i = 0; i < 6; i++) *--top = nullptr;
    fiber.stack_pointer = top;
}

void fiber_switch(Fiber &from, Fiber &to) { emulate_switch(&from.stack_pointer, to.stack_pointer); }

#else

void fiber_open(Fiber &fiber, void (*enter)())
{
    fiber.stack = take_stack();
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack;
    fiber.context.uc_stack.ss_size = usable_bytes(fiber.stack);
    fiber.context.uc_link = nullptr;
    makecontext(&fiber.context, enter, 0);
}

void fiber_switch(Fiber &from, Fiber &to) { swapcontext(&from.context, &to.context); }

#endif

} // namespace emulate
