// TaskSlab: memory for segments of tasks and for results, in blocks of any size.
//
// Blocks live in regions of 2 MiB, a huge page each where the system has them. When the last block
// of a region is freed, the region becomes a spare one, up to a bound. To have a megabyte backed by
// the system again costs as much as a thousand tasks' way through the table, so a load that comes
// in waves should not pay for it with every wave. What no wave takes goes back: between two calls
// of Trim() the smallest number of spare regions is kept in mind, and half of those that lay there
// all the time go. An idle slab is down to one after a few calls, a busy one loses nothing it uses.
//
// A region is cut into units of 256 bytes, one bit each; a block is a run of units in the lowest
// region that has one, so that the higher regions become empty. Larger blocks than an eighth of a
// region are mapped by themselves.
//
// Why not malloc: a million waiting tasks come and go in waves, and what malloc keeps of the crest
// depends on who happened to allocate last. Here one block is one segment, all its tasks and their
// payloads side by side.
//
// Thread safety: none. Out of memory ends the process, as it does in V8.
// Cost: Allocate O(1) amortized plus a scan of one region's bitmap (128 words at most); Free
// O(units / 64).
#ifndef MILLRACE_NATIVE_TASK_SLAB_H_
#define MILLRACE_NATIVE_TASK_SLAB_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace millrace {

// What the owner of a block keeps to give it back.
struct SlabBlock {
  uint8_t* data = nullptr;  // aligned to 64 bytes; not zeroed
  uint32_t region = 0;
  uint32_t bytes = 0;  // as asked for
};

class TaskSlab {
 public:
  static constexpr size_t kRegionBytes = 2 * 1024 * 1024;
  static constexpr size_t kUnitBytes = 256;
  static constexpr size_t kSharedBytesMax = kRegionBytes / 8;

  TaskSlab() = default;
  ~TaskSlab();
  TaskSlab(const TaskSlab&) = delete;
  TaskSlab& operator=(const TaskSlab&) = delete;

  // REQUIRES: 0 < bytes < 2^32.
  SlabBlock Allocate(size_t bytes);
  void Free(const SlabBlock& block);

  // Gives back half of the spare regions that no block needed since the last call, rounded up; at
  // most kTrimRegionsMax, and never the last one. To be called at even intervals while CanTrim().
  void Trim();
  // Whether there are spare regions that Trim() would give back if nothing needs them.
  bool CanTrim() const { return spare_.size() > kSpareRegionsMin; }

  // Bytes taken from the system, spare regions included.
  size_t bytes() const {
    return region_count_ * kRegionBytes + spare_.size() * kRegionBytes + big_;
  }
  // Verifies that the bitmaps fit the counts.
  bool Check() const;

 private:
  static constexpr unsigned kUnits = kRegionBytes / kUnitBytes;
  static constexpr unsigned kWords = kUnits / 64;
  static constexpr uint32_t kOwnMapping = ~0u;
  // Sizes are looked for from where a region for their order of magnitude was last seen.
  static constexpr unsigned kMagnitudes = 14;
  // Spare regions: so many at most, and a share of those in use; and what Trim() leaves.
  static constexpr size_t kSpareRegionsMax = 16;
  static constexpr size_t kSpareShare = 8;
  static constexpr size_t kSpareRegionsMin = 1;
  // Giving back a region takes some ten microseconds.
  static constexpr size_t kTrimRegionsMax = 16;

  struct Region {
    uint8_t* base;
    uint32_t free_units;
    uint32_t run_max;  // no run of free units is longer
    uint64_t used[kWords];
  };

  uint32_t OpenRegion();
  void FreeSpare();
  static unsigned FindRun(Region* region, unsigned units);

  std::vector<std::unique_ptr<Region>> regions_;  // by number; null when the number is unused
  std::vector<uint8_t*> spare_;
  size_t spare_low_ = 0;              // the fewest that were spare since the last Trim()
  uint32_t first_[kMagnitudes] = {};  // no region before has a run of this magnitude
  size_t region_count_ = 0;
  size_t big_ = 0;
};

}  // namespace millrace

#endif  // MILLRACE_NATIVE_TASK_SLAB_H_
