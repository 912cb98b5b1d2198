// CUDA C as C++: a grid runs block by block, the threads of a block as fibres that take turns at barriers. So a sanitizer watches every
// address that a kernel works out, a barrier that not all threads reach is a failure, and the order of threads can be turned round:
// results that depend on it miss a barrier.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <ucontext.h>
#include <unistd.h>
#include <utility>
#include <vector>
#include <sanitizer/common_interface_defs.h>

#define __device__
#define __global__
#define __launch_bounds__(threads)
// Blocks run one after another.
#define __shared__ static

struct Dim {
    unsigned x, y;
};
static Dim threadIdx, blockIdx, blockDim, gridDim;

[[noreturn]] static void fail(const std::string& why) {
    fprintf(stderr, "emulator: %s\n", why.c_str());
    _exit(1);
}

enum State { READY, AT_WARP, AT_BLOCK, DONE };

struct Fibre {
    ucontext_t context;
    State state;
    void* sanitizer;
};

static const unsigned WARP_SIZE = 32;
static const size_t STACK = 1 << 16;
static std::vector<Fibre> fibres;
static std::vector<std::unique_ptr<char[]>> stacks;
static std::vector<float> exchanged;
static unsigned current;
static ucontext_t scheduler;
static void* scheduler_sanitizer;
static const void* scheduler_stack;
static size_t scheduler_size;
static void (*body)(void**);
static void** arguments;

static void wait(State at) {
    Fibre& own = fibres[current];
    own.state = at;
    __sanitizer_start_switch_fiber(&own.sanitizer, scheduler_stack, scheduler_size);
    swapcontext(&own.context, &scheduler);
    __sanitizer_finish_switch_fiber(own.sanitizer, nullptr, nullptr);
}

static void __syncthreads() { wait(AT_BLOCK); }

static float __shfl_xor_sync(unsigned mask, float v, int lanes) {
    if (mask != 0xffffffffu) fail("a shuffle of a part of a warp");
    unsigned own = current;
    exchanged[own] = v;
    wait(AT_WARP);
    float other = exchanged[own ^ lanes];
    wait(AT_WARP);
    return other;
}

static float __int_as_float(int bits) {
    float f;
    memcpy(&f, &bits, 4);
    return f;
}

static void start() {
    __sanitizer_finish_switch_fiber(nullptr, &scheduler_stack, &scheduler_size);
    body(arguments);
    fibres[current].state = DONE;
    __sanitizer_start_switch_fiber(nullptr, scheduler_stack, scheduler_size);
    setcontext(&scheduler);
}

static void resume(unsigned thread) {
    current = thread;
    threadIdx = {thread, 0};
    __sanitizer_start_switch_fiber(&scheduler_sanitizer, stacks[thread].get(), STACK);
    swapcontext(&scheduler, &fibres[thread].context);
    __sanitizer_finish_switch_fiber(scheduler_sanitizer, nullptr, nullptr);
}

// Whether all of a run of threads that have not ended wait at `at`; if so they go on.
static bool release(unsigned first, unsigned end, State at) {
    unsigned waiting = 0, done = 0;
    for (unsigned i = first; i < end; i++) {
        waiting += fibres[i].state == at;
        done += fibres[i].state == DONE;
    }
    if (waiting == 0 || waiting + done < end - first) return false;
    if (done > 0) fail("a barrier that some threads have left behind");
    for (unsigned i = first; i < end; i++) fibres[i].state = READY;
    return true;
}

static void run_block(bool backwards) {
    unsigned threads = blockDim.x;
    while (stacks.size() < threads) stacks.emplace_back(new char[STACK]);
    fibres.assign(threads, Fibre());
    exchanged.assign(threads, 0);
    for (unsigned i = 0; i < threads; i++) {
        getcontext(&fibres[i].context);
        fibres[i].context.uc_stack.ss_sp = stacks[i].get();
        fibres[i].context.uc_stack.ss_size = STACK;
        makecontext(&fibres[i].context, start, 0);
        fibres[i].state = READY;
    }
    for (bool going = true; going;) {
        going = false;
        for (unsigned i = 0; i < threads; i++) {
            unsigned t = backwards ? threads - 1 - i : i;
            if (fibres[t].state == READY) resume(t), going = true;
        }
        for (unsigned w = 0; w < threads; w += WARP_SIZE) going |= release(w, w + WARP_SIZE < threads ? w + WARP_SIZE : threads, AT_WARP);
        going |= release(0, threads, AT_BLOCK);
    }
    for (Fibre& f : fibres) if (f.state != DONE) fail("threads that wait for each other");
}

static void run_grid(void (*kernel)(void**), void** args, Dim grid, unsigned block, bool backwards) {
    body = kernel;
    arguments = args;
    gridDim = grid;
    blockDim = {block, 1};
    for (unsigned i = 0; i < grid.x * grid.y; i++) {
        unsigned at = backwards ? grid.x * grid.y - 1 - i : i;
        blockIdx = {at % grid.x, at / grid.x};
        run_block(backwards);
    }
}
