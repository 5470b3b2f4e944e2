/*
 * fault.cpp: signals that a kernel causes, as failures of its launch: addresses that are nobody's, stacks that overflow, and
 * what -fsanitize finds in it (library.cpp).
 */
#include "machine.hpp"

#include <csignal>

namespace emulate {

static thread_local bool catches; /* on this thread of the process */
static char fault_stack[64 << 10]; /* of its own: the fiber's may be what overflowed */
static const int signals[] = {SIGSEGV, SIGBUS, SIGILL};
static struct sigaction old_actions[sizeof signals / sizeof *signals];
static stack_t old_stack;

/* Left by a switch, not by a return. */
static void on_fault(int number, siginfo_t *info, void *)
{
    if (!catches || !current || launch->failed) { /* no kernel's fault */
        signal(number, SIG_DFL);
        return;
    }
    if (number == SIGILL) fail("a misaligned address, an index beyond an array or a shift beyond a word");
    if (fiber_overflows(current->fiber, info->si_addr)) fail("the stack overflows");
    const char *where = memory_fault(info->si_addr);
    /* A general protection fault, as of a misaligned vector access, comes without an address. */
    if (info->si_addr == nullptr) fail("a null pointer, or a misaligned vector access");
    fail("address %p is in no memory%s%s", info->si_addr, where ? ": " : "", where ? where : "");
}

void catch_faults()
{
    stack_t own = {};
    own.ss_sp = fault_stack;
    own.ss_size = sizeof fault_stack;
    sigaltstack(&own, &old_stack);
    struct sigaction action = {};
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) sigaction(signals[i], &action, &old_actions[i]);
    catches = true;
}

void release_faults()
{
    catches = false;
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) sigaction(signals[i], &old_actions[i], nullptr);
    sigaltstack(&old_stack, nullptr);
}

} // namespace emulate
