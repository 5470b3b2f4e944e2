/*
 * wgmma.cpp: products of a warpgroup that go on while threads do other things. A product is done where its group is waited for:
 * until then accumulators are NaN, and tiles in shared memory are read only then. Each warp does its own 16 of the 64 rows;
 * that its warpgroup's others ask for the same product is checked. And how warpgroups share out a block's registers.
 */
#include "machine.hpp"
#include "matrix.hpp"

#include <cmath>

namespace emulate {

static const unsigned most_columns = 256;

struct PendingProduct {
    WarpgroupProduct of[32];       /* what does not differ between lanes is lane 0's */
    float *d[32][most_columns / 2]; /* columns / 2 a lane */
    unsigned a[32][4];
};

/* The accumulators of products under way, as they will be. */
struct Accumulators {
    float *first; /* lane 0's: by this they are recognised */
    unsigned columns;
    float value[16][most_columns];
    unsigned users; /* products that are not done */
};

struct PendingProducts {
    std::vector<std::unique_ptr<PendingProduct>> products;
    std::vector<size_t> group_ends;
    std::vector<std::unique_ptr<Accumulators>> accumulators;
    bool fenced = false;
    size_t issued = 0;
    size_t places = 0; /* of instructions beside products so far */
};

static PendingProducts &products_of(Warp &warp)
{
    if (!warp.products) warp.products = std::make_shared<PendingProducts>();
    return *warp.products;
}

static PendingProducts &mine() { return products_of(*current->warp); }

/* ---- descriptors: where an element is */

struct Tile {
    unsigned start, lead, stride, swizzle; /* swizzle: the pieces of a row that are exchanged, less one */
    explicit Tile(unsigned long long descriptor)
        : start(static_cast<unsigned>(descriptor & 0x3fff) << 4), lead(static_cast<unsigned>(descriptor >> 16 & 0x3fff) << 4),
          stride(static_cast<unsigned>(descriptor >> 32 & 0x3fff) << 4)
    {
        const unsigned kind = static_cast<unsigned>(descriptor >> 62); /* 1: 128 bytes, 2: 64, 3: 32 */
        if (kind != 1) fail("wgmma: a descriptor of another swizzle than 128 bytes, which this does not know");
        if (descriptor >> 49 & 7) fail("wgmma: a descriptor with a base offset, which this does not know");
        swizzle = 7;
    }
    /* Element (outer, depth); transposed: tiles are stored with the depth outermost. */
    unsigned address(unsigned outer, unsigned depth, bool transposed) const
    {
        const unsigned row = transposed ? depth : outer, column = transposed ? outer : depth;
        const unsigned flat = start + column / 64 * lead + row / 8 * stride + row % 8 * 128 + column % 64 * 2;
        return flat ^ (flat >> 7 & swizzle) << 4;
    }
};

/* (outer, 16) elements of a tile as floats, at out[outer * step_outer + depth * step_depth]. */
static void read_tile(float *out, unsigned step_outer, unsigned step_depth, unsigned long long descriptor, unsigned first,
                      unsigned count, bool transposed, Element element)
{
    const Tile tile(descriptor);
    for (unsigned i = 0; i < (transposed ? 16 : count); i++)
        for (unsigned j = 0; j < (transposed ? count : 16); j += 8) { /* eight elements that lie side by side */
            const unsigned outer = transposed ? j : i, depth = transposed ? i : j;
            const unsigned address = tile.address(first + outer, depth, transposed);
            unsigned short bits[8];
            memcpy(bits, shared_memory(address, 16, "wgmma"), sizeof bits);
            check_fenced(address, "wgmma");
            for (unsigned e = 0; e < 8; e++)
                out[(outer + (transposed ? e : 0)) * step_outer + (depth + (transposed ? 0 : e)) * step_depth] =
                    value_of(element, bits[e]);
        }
}

/* ---- one product */

static Accumulators *find_accumulators(PendingProducts &pending, const float *first)
{
    for (auto &accumulators : pending.accumulators)
        if (accumulators->first == first) return accumulators.get();
    return nullptr;
}

static float *place_of(float (&value)[16][most_columns], int lane, unsigned i)
{
    return &value[lane / 4 + i / 2 % 2 * 8][i / 4 * 8 + 2 * (static_cast<unsigned>(lane) % 4) + i % 2];
}

WIDE_VECTORS static void multiply_now(const PendingProduct &product, Accumulators &accumulators)
{
    const WarpgroupProduct &what = product.of[0];
    static float a[16][16], b[16][most_columns];
    const unsigned first_row = static_cast<unsigned>(current->place.warp) % 4 * 16;
    if (what.a) {
        for (int lane = 0; lane < 32; lane++)
            for (int i = 0; i < 4; i++)
                unpack(&a[lane / 4 + i % 2 * 8][2 * (lane % 4) + i / 2 * 8], what.element, product.a[lane][i]);
    } else {
        read_tile(a[0], 16, 1, what.a_descriptor, first_row, 16, what.transposed_a, what.element);
    }
    read_tile(b[0], 1, most_columns, what.b_descriptor, 0, what.columns, what.transposed_b, what.element);
    if (what.scale_a * what.scale_b < 0)
        for (float (&row)[16] : a)
            for (float &x : row) x = -x;
    for (unsigned i = 0; i < 16; i++)
        for (unsigned j = 0; j < what.columns; j += 8) {
            float *const sum = &accumulators.value[i][j];
            if (!what.accumulate) memset(sum, 0, 8 * sizeof *sum);
            multiply_row(sum, a[i], &b[0][j], most_columns);
        }
}

static void finish_first(PendingProducts &pending)
{
    const std::unique_ptr<PendingProduct> product = std::move(pending.products.front());
    pending.products.erase(pending.products.begin());
    Accumulators *accumulators = find_accumulators(pending, product->d[0][0]);
    multiply_now(*product, *accumulators);
    if (--accumulators->users > 0) return;
    for (int lane = 0; lane < 32; lane++)
        for (unsigned i = 0; i < accumulators->columns / 2; i++) *product->d[lane][i] = *place_of(accumulators->value, lane, i);
    for (size_t i = 0; i < pending.accumulators.size(); i++)
        if (pending.accumulators[i].get() == accumulators)
            pending.accumulators.erase(pending.accumulators.begin() + static_cast<std::ptrdiff_t>(i));
}

/* The four warps of a warpgroup ask for the same, one after another. */
static void compare_warps(const WarpgroupProduct &product, size_t number)
{
    auto &groups = current->block->warpgroup_products;
    const size_t group = static_cast<size_t>(current->place.warp) / 4;
    if (groups.size() <= group) groups.resize(group + 1);
    const unsigned long long what = (product.a ? 0 : product.a_descriptor * 3) + product.b_descriptor + product.columns +
                                    (product.accumulate ? 1ull << 61 : 0);
    if (groups[group].size() == number)
        groups[group].push_back(what);
    else if (groups[group][number] != what)
        fail("wgmma: the warps of a warpgroup ask for different products");
}

/* The four warps execute one and the same instruction, at `place` in the kernel's code. */
static void compare_places(const void *place)
{
    auto &groups = current->block->warpgroup_places;
    const size_t group = static_cast<size_t>(current->place.warp) / 4, number = mine().places++;
    if (groups.size() <= group) groups.resize(group + 1);
    if (groups[group].size() == number)
        groups[group].push_back(place);
    else if (groups[group][number] != place)
        fail("wgmma: the warps of a warpgroup are at different instructions");
}

static void start_product(void *const (&arguments)[32], unsigned)
{
    PendingProducts &pending = mine();
    auto product = std::make_unique<PendingProduct>();
    for (int lane = 0; lane < 32; lane++) {
        const auto &of_lane = *static_cast<const WarpgroupProduct *>(arguments[lane]);
        product->of[lane] = of_lane;
        memcpy(product->d[lane], of_lane.d, of_lane.columns / 2 * sizeof *of_lane.d);
        if (of_lane.a) memcpy(product->a[lane], of_lane.a, sizeof product->a[lane]);
        if (of_lane.b_descriptor != product->of[0].b_descriptor || of_lane.a_descriptor != product->of[0].a_descriptor ||
            of_lane.accumulate != product->of[0].accumulate)
            fail("wgmma: the lanes of a warp ask for different products");
    }
    const WarpgroupProduct &what = product->of[0];
    if (!pending.fenced) fail("wgmma.mma_async: there was no wgmma.fence since the last wait");
    compare_warps(what, pending.issued++);
    Accumulators *accumulators = find_accumulators(pending, product->d[0][0]);
    if (!accumulators) {
        pending.accumulators.push_back(std::make_unique<Accumulators>());
        accumulators = pending.accumulators.back().get();
        accumulators->first = product->d[0][0];
        accumulators->columns = what.columns;
        accumulators->users = 0;
        for (int lane = 0; lane < 32; lane++)
            for (unsigned i = 0; i < what.columns / 2; i++) {
                *place_of(accumulators->value, lane, i) = *product->d[lane][i];
                *product->d[lane][i] = NAN;
            }
    }
    if (accumulators->columns != what.columns)
        fail("wgmma: accumulators of %u and %u columns", accumulators->columns, what.columns);
    accumulators->users++;
    pending.products.push_back(std::move(product));
}

void warpgroup_multiply(WarpgroupProduct &product)
{
    if (product.columns % 8 != 0 || product.columns < 8 || product.columns > most_columns)
        fail("wgmma: %u columns", product.columns);
    meet("wgmma.mma_async", kAllLanes, &product, start_product);
}

void warpgroup_fence()
{
    meet("wgmma.fence", kAllLanes, __builtin_return_address(0), [](void *const (&places)[32], unsigned) {
        compare_places(places[0]);
        mine().fenced = true;
    });
}

void warpgroup_commit()
{
    meet("wgmma.commit_group", kAllLanes, __builtin_return_address(0), [](void *const (&places)[32], unsigned) {
        compare_places(places[0]);
        mine().group_ends.push_back(mine().products.size());
    });
}

struct Wait {
    unsigned pending_groups;
    const void *place;
};

static void finish_groups(void *const (&arguments)[32], unsigned)
{
    PendingProducts &pending = mine();
    const Wait &wait = *static_cast<const Wait *>(arguments[0]);
    const size_t left = wait.pending_groups;
    compare_places(wait.place);
    std::vector<size_t> &ends = pending.group_ends;
    if (ends.size() <= left) return;
    const size_t done = ends.size() - left, products = ends[done - 1];
    for (size_t i = 0; i < products; i++) finish_first(pending);
    ends.erase(ends.begin(), ends.begin() + static_cast<std::ptrdiff_t>(done));
    for (size_t &end : ends) end -= products;
    if (left == 0) pending.fenced = false;
}

void warpgroup_wait(unsigned pending_groups)
{
    Wait wait = {pending_groups, __builtin_return_address(0)};
    meet("wgmma.wait_group", kAllLanes, &wait, finish_groups);
}

/* Registers are not modelled; how a block shares out those that it has is: as many as all its threads can have alike. */
static void share_registers(void *const (&arguments)[32], unsigned)
{
    const Block &block = *current->block;
    const unsigned most = 65536 / static_cast<unsigned>(block.threads.size()) / 8 * 8;
    unsigned all = 0;
    current->warp->registers = static_cast<unsigned>(*static_cast<const int *>(arguments[0]));
    for (const Warp &warp : block.warps) {
        if (warp.registers == 0) return; /* it may give back more than others take */
        all += warp.registers;
    }
    if (all > most * block.warps.size())
        fail("setmaxnreg: %u registers a lane in all of %zu warps, which have %u each", all, block.warps.size(), most);
}

void set_registers(int count)
{
    if (count % 8 != 0 || count < 24 || count > 256) fail("setmaxnreg: %d registers", count);
    meet("setmaxnreg", kAllLanes, &count, share_registers);
}

void end_products(Thread &thread)
{
    if (thread.warp->products && !thread.warp->products->products.empty()) fail("it ends while its products are under way");
}

} // namespace emulate
