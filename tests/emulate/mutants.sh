# mutants.sh: kernels that are broken on purpose, sourced by run.sh. NAME|ARCH|FILE in templates/|what sed does to it: one fault
# each, as people make them. What it breaks must fail; an expression that changes nothing fails too.
# shellcheck shell=bash disable=SC2016,SC2034 # templates have dollars; run.sh reads this
mutants=(
    # The portable kernels.
    'no barrier before a stage is used|sm_80|attend.cu.lua|/this stage is there/s/__syncthreads();//'
    'a stage used before its copies are done|sm_80|attend.cu.lua|s/copy_async_wait<kStages - 2>/copy_async_wait<kStages - 1>/'
    'the next copies into the stage in use|sm_80|attend.cu.lua|s/stage == 0 ? kStages - 1 : stage - 1);/stage);/'
    'rows read before other lanes have put them there|sm_80|attend.cu.lua|/stage_output(s_memory/{n;s/__syncwarp();//}'
    'a causal mask that is off by one|sm_80|include/softmax.cuh|s/column > last_key)/column >= last_key)/'
    'tiles that end behind shared memory|sm_80|attend.cu.lua|s/s_kv = s_q + kBlockM \* kPitch;/s_kv = s_q + kBlockM * kPitch + 32;/'
    'two columns of a fragment exchanged|sm_80|include/tile.cuh|s/((lane >> 3) \& 1) \* 16;/((lane >> 3 ^ 1) \& 1) * 16;/'
    'scores that are summed over the wrong query|sm_80|score.cu.lua|s/const int query = first + 8 \* n + 2/const int query = first + 4 * n + 2/'
    'bins that are not cleared between two rounds|sm_80|include/bins.cuh|s/s_next.template clear<kThreads>();//'
    'rows copied from the token before|sm_80|compress.cu.lua|s/token\[first + lane\] : 0/token[first + lane] - 1 : 0/'
    'steps that read the entry before|sm_80|attend_blocks.cu.lua|s/list.entries\[step \/ kParts\]; };/list.entries[max(step \/ kParts - 1, 0)]; };/'
    'a diagonal block that is not masked|sm_80|attend_blocks.cu.lua|s/mask_logits(s\[m\], first_row/mask_logits(s[m], 128 + first_row/'
    'masks of the next row|sm_80|include/blocks.cuh|s/(row + 8 \* half) \* 4/(row + 8 * half + 1) % 128 * 4/'
    'words of a mask in another order|sm_80|include/blocks.cuh|s/lists.masks\[at + word\]/lists.masks[at + (word ^ 1)]/'
    'bits of a list that all lanes put in one place|sm_80|blocks.cu.lua|s/__popc(word \& ((1u << lane) - 1))/0/'
    'offsets that are counted from zero|sm_80|blocks.cu.lua|s/max(args.offsets\[place\], 0ll)/0ll/'
    # Those of Hopper.
    'an entry that is told to nobody|sm_90a|attend_blocks_wgmma.cu.lua|/shared.entries\[k.stage\] = entry;/d'
    'values behind the last row that are not cleared|sm_90a|attend_blocks_wgmma.cu.lua|/clear_values(shared.v_tile/d'
    'the next entry read again|sm_90a|attend_blocks_wgmma.cu.lua|s/list.entries\[step \/ kParts - 1\]/list.entries[step \/ kParts]/'
    'a turn that is passed to oneself|sm_90a|attend_blocks_wgmma.cu.lua|s/named_arrive(turn_of(1), 256);$/named_arrive(turn_of(0), 256);/'
    'tiles in an order that misses one|sm_90a|blocks.cu.lua|s/order\[atomicAdd(\&s_bins\[bin\], 1)\]/order[s_bins[bin]]/'
    'rows without a key that are divided by zero|sm_90a|attend_blocks_wgmma.cu.lua|s/sum == 0.0f ? 0.0f : 1.0f/1.0f/'
    'a tile loaded before it was given back|sm_90a|attend_wgmma.cu.lua|s/barrier_wait(empty, ring.phase ^ 1);//'
    'keys multiplied before they are there|sm_90a|attend_wgmma.cu.lua|s/barrier_wait(shared.k_full(k.stage), k.phase);//'
    'keys given back before the product is done|sm_90a|attend_wgmma.cu.lua|s/wgmma_wait<1>();/wgmma_wait<2>();/'
    'values given back before the product is done|sm_90a|attend_wgmma.cu.lua|/const auto wait_for_values/{n;s/wgmma_wait<0>();//}'
    'a barrier for one arrival too many|sm_90a|attend_wgmma.cu.lua|s/barrier_init(shared.q_empty(), 4/barrier_init(shared.q_empty(), 1 + 4/'
    'a descriptor whose rows lie too far apart|sm_90a|include/hopper.cuh|s/kStride = 1024 >> 4/kStride = 2048 >> 4/'
    'a ring whose phase does not turn|sm_90a|include/hopper.cuh|s/phase ^= 1;//'
    'another byte count than is copied|sm_90a|score_wgmma.cu.lua|s/barrier_expect(barrier, kTileBytes<kRows>)/barrier_expect(barrier, kTileBytes<kRows> - 16)/'
)
