#pragma once

#include <cstdint>

#include "ops/cuda/passing.cuh"

// Barriers in shared memory, bulk copies into it, and what orders them (PTX ISA, mbarrier and cp.async.bulk).

namespace vrwkv::ops::cuda::hopper {

__device__ __forceinline__ uint32_t shared_address(const void* pointer) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

/// An mbarrier: completes a phase when `arrivals` threads have arrived and the bytes announced have come.
struct Barrier {
  uint64_t state;

  __device__ __forceinline__ void init(int arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(&state)), "r"(arrivals) : "memory");
  }
  __device__ __forceinline__ void arrive() {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(&state)) : "memory");
  }
  /// Arrives at the barrier in this place of block `block` of the cluster.
  __device__ __forceinline__ void arrive_at(int block) {
    asm volatile(
        "{\n.reg .b32 there;\n"
        "mapa.shared::cluster.u32 there, %0, %1;\n"
        "mbarrier.arrive.shared::cluster.b64 _, [there];\n}\n" ::"r"(shared_address(&state)),
        "r"(block)
        : "memory");
  }
  /// Arrives once all copies that this thread has begun with copy_piece() have come.
  __device__ __forceinline__ void arrive_behind_copies() {
    asm volatile("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" ::"r"(shared_address(&state)) : "memory");
  }
  /// Arrives, and announces `bytes` that a copy brings.
  __device__ __forceinline__ void expect(int bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(&state)), "r"(bytes)
                 : "memory");
  }
  /// Waits for the end of the phase of this parity; the phases before the first count as ended.
  __device__ __forceinline__ void wait(int parity) {
    asm volatile(
        "{\n"
        ".reg .pred done;\n"
        "again:\n"
        "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
        "@!done bra again;\n"
        "}\n" ::"r"(shared_address(&state)),
        "r"(parity)
        : "memory");
  }
};

/// Barriers of a ring's stages: what was fetched has come, and all readers have read it.
template <int stages>
struct RingBarriers {
  Barrier full[stages], read[stages];

  /// By one thread of the block, which publishes them. `readers` arrive for each stage.
  __device__ __forceinline__ void init(int readers) {
    for (int stage = 0; stage < stages; ++stage) {
      full[stage].init(1);
      read[stage].init(readers);
    }
  }
};

/// Makes initialised barriers visible to the copy engine.
__device__ __forceinline__ void publish_barriers() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

/// Orders ordinary writes to shared memory before reads of the tensor cores: this thread's, a barrier among the threads
/// comes after it; or those that it knows of by a barrier, before its own products.
__device__ __forceinline__ void publish_writes() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

/// Copies `bytes` (a multiple of 16, as are both addresses) to shared memory; `barrier` counts them.
__device__ __forceinline__ void copy_bulk(void* to, const void* from, int bytes, Barrier& barrier) {
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
                   shared_address(to)),
               "l"(from), "r"(bytes), "r"(shared_address(&barrier.state))
               : "memory");
}

/// The same of what nobody reads after this.
__device__ __forceinline__ void copy_bulk_last(void* to, const void* from, int bytes, Barrier& barrier) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [%0], [%1], %2, [%3], %4;" ::
          "r"(shared_address(to)),
      "l"(from), "r"(bytes), "r"(shared_address(&barrier.state)), "l"(last_read())
      : "memory");
}

/// copy_bulk() to this place in every block of the cluster in `blocks`, a bit for each; in each its barrier counts
/// them.
__device__ __forceinline__ void copy_bulk_to_cluster(void* to, const void* from, int bytes, Barrier& barrier,
                                                     int blocks) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%0], [%1], %2, [%3], "
      "%4;" ::"r"(shared_address(to)),
      "l"(from), "r"(bytes), "r"(shared_address(&barrier.state)), "h"(static_cast<short>(blocks))
      : "memory");
}

/// Copies `bytes` (a multiple of 16, as are both addresses) from shared memory, see publish_writes(). It belongs to the
/// group that end_stores() ends.
__device__ __forceinline__ void store_bulk(void* to, const void* from, int bytes) {
  asm volatile("cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], %2;" ::"l"(to), "r"(shared_address(from)),
               "r"(bytes)
               : "memory");
}

__device__ __forceinline__ void end_stores() { asm volatile("cp.async.bulk.commit_group;" ::: "memory"); }

/// Waits until this thread's store_bulk() have read shared memory.
__device__ __forceinline__ void wait_stores_read() { asm volatile("cp.async.bulk.wait_group.read 0;" ::: "memory"); }

/// All threads of a cluster meet, without waiting for their loads and stores: afterwards all see published barriers,
/// but not what else was written.
__device__ __forceinline__ void meet_cluster() {
  asm volatile(
      "barrier.cluster.arrive.relaxed.aligned;\n"
      "barrier.cluster.wait.acquire.aligned;\n" ::
          : "memory");
}

/// All threads of a cluster meet.
__device__ __forceinline__ void sync_cluster() {
  asm volatile(
      "barrier.cluster.arrive.release.aligned;\n"
      "barrier.cluster.wait.acquire.aligned;\n" ::
          : "memory");
}

/// This block's number in its cluster.
__device__ __forceinline__ int rank_in_cluster() {
  unsigned rank;
  asm("mov.u32 %0, %cluster_ctarank;" : "=r"(rank));
  return static_cast<int>(rank);
}

/// Copies 16 bytes to shared memory, zeros where not `exists`; an ordinary write to it. See arrive_behind_copies().
__device__ __forceinline__ void copy_piece(void* to, const void* from, bool exists) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)), "l"(from),
               "r"(exists ? 16 : 0)
               : "memory");
}

/// Asks for `bytes` (a multiple of 16) to be brought into the second cache.
__device__ __forceinline__ void prefetch(const void* from, int bytes) {
  asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(from), "r"(bytes) : "memory");
}

}  // namespace vrwkv::ops::cuda::hopper
