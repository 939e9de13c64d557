#include "task_slab.h"

#include <algorithm>

#include "occupancy.h"
#include "system_memory.h"

namespace millrace {
namespace {

// All of it is backed at once: a segment is filled as soon as it has its memory.
uint8_t* AllocateBacked(size_t bytes) {
  return static_cast<uint8_t*>(SystemAllocate(bytes, true, "tasks"));
}

unsigned Magnitude(unsigned units) {
  unsigned bits = 0;
  for (; units > 1; units >>= 1) bits++;
  return bits;
}

}  // namespace

TaskSlab::~TaskSlab() {
  for (const auto& region : regions_) {
    if (region != nullptr) SystemFree(region->base, kRegionBytes);
  }
  for (uint8_t* base : spare_) SystemFree(base, kRegionBytes);
}

SlabBlock TaskSlab::Allocate(size_t bytes) {
  SlabBlock block;
  block.bytes = static_cast<uint32_t>(bytes);
  if (bytes > kSharedBytesMax) {
    block.data = AllocateBacked(bytes);
    block.region = kOwnMapping;
    big_ += bytes;
    return block;
  }
  const auto units = static_cast<unsigned>((bytes + kUnitBytes - 1) / kUnitBytes);
  uint32_t& first = first_[Magnitude(units)];
  uint32_t number = first;
  // Only regions that are too full for any block of this magnitude may be passed over for good.
  bool passed_all = true;
  unsigned at = kUnits;
  for (; number < regions_.size(); number++) {
    Region* region = regions_[number].get();
    if (region == nullptr) continue;
    if (region->run_max >= units) {
      at = FindRun(region, units);
      if (at != kUnits) break;
    }
    if (region->run_max >= 1u << Magnitude(units)) passed_all = false;
    if (passed_all) first = number + 1;
  }
  if (at == kUnits) {
    number = OpenRegion();
    at = 0;
  }
  Region* region = regions_[number].get();
  for (unsigned unit = at; unit < at + units;) {
    const unsigned from = unit & 63;
    const unsigned count = units - (unit - at) < 64 - from ? units - (unit - at) : 64 - from;
    const uint64_t mask = (count == 64 ? ~uint64_t{0} : (uint64_t{1} << count) - 1) << from;
    region->used[unit >> 6] |= mask;
    unit += count;
  }
  region->free_units -= units;
  if (region->run_max > region->free_units) region->run_max = region->free_units;
  block.region = number;
  block.data = region->base + size_t{at} * kUnitBytes;
  return block;
}

void TaskSlab::Free(const SlabBlock& block) {
  if (block.region == kOwnMapping) {
    SystemFree(block.data, block.bytes);
    big_ -= block.bytes;
    return;
  }
  Region* region = regions_[block.region].get();
  const auto units = static_cast<unsigned>((block.bytes + kUnitBytes - 1) / kUnitBytes);
  const auto at =
      static_cast<unsigned>(static_cast<size_t>(block.data - region->base) / kUnitBytes);
  for (unsigned unit = at; unit < at + units;) {
    const unsigned from = unit & 63;
    const unsigned count = units - (unit - at) < 64 - from ? units - (unit - at) : 64 - from;
    const uint64_t mask = (count == 64 ? ~uint64_t{0} : (uint64_t{1} << count) - 1) << from;
    region->used[unit >> 6] &= ~mask;
    unit += count;
  }
  region->free_units += units;
  region->run_max = region->free_units;  // a bound; the next search that fails makes it exact
  for (uint32_t& first : first_) {
    if (first > block.region) first = block.region;
  }
  if (region->free_units < kUnits) return;
  spare_.push_back(region->base);
  regions_[block.region].reset();
  region_count_--;
  while (!regions_.empty() && regions_.back() == nullptr) regions_.pop_back();
  // Beyond the share of what is left they go at once.
  while (spare_.size() > kSpareRegionsMax + region_count_ / kSpareShare) FreeSpare();
}

void TaskSlab::Trim() {
  const size_t half = std::min((spare_low_ + 1) / 2, kTrimRegionsMax);
  for (size_t count = 0; count < half && CanTrim(); count++) FreeSpare();
  spare_low_ = spare_.size();
}

void TaskSlab::FreeSpare() {
  SystemFree(spare_.back(), kRegionBytes);
  spare_.pop_back();
  spare_low_ = std::min(spare_low_, spare_.size());
}

uint32_t TaskSlab::OpenRegion() {
  auto region = std::make_unique<Region>();
  region->free_units = kUnits;
  region->run_max = kUnits;
  if (spare_.empty()) {
    region->base = static_cast<uint8_t*>(SystemAllocateHuge(kRegionBytes, "tasks"));
  } else {
    region->base = spare_.back();
    spare_.pop_back();
    spare_low_ = std::min(spare_low_, spare_.size());
  }
  region_count_++;
  // The lowest unused number; there are few, and regions are opened rarely.
  uint32_t number = 0;
  while (number < regions_.size() && regions_[number] != nullptr) number++;
  if (number == regions_.size()) regions_.emplace_back();
  regions_[number] = std::move(region);
  for (uint32_t& first : first_) {
    if (first > number) first = number;
  }
  return number;
}

// Where a run of this many free units begins, or kUnits. Makes run_max exact when there is none.
unsigned TaskSlab::FindRun(Region* region, unsigned units) {
  unsigned longest = 0;
  unsigned unit = 0;
  while (unit < kUnits) {
    // The next free unit.
    uint64_t word = ~region->used[unit >> 6] & (~uint64_t{0} << (unit & 63));
    while (word == 0 && (unit = (unit | 63) + 1) < kUnits) word = ~region->used[unit >> 6];
    if (unit >= kUnits) break;
    const unsigned begin = (unit & ~63u) + CountTrailingZeros(word);
    // The next used one after it.
    unit = begin;
    word = region->used[unit >> 6] & (~uint64_t{0} << (unit & 63));
    while (word == 0 && unit - begin < units && (unit = (unit | 63) + 1) < kUnits) {
      word = region->used[unit >> 6];
    }
    const unsigned end = unit >= kUnits ? kUnits
                         : word == 0    ? (unit | 63) + 1
                                        : (unit & ~63u) + CountTrailingZeros(word);
    if (end - begin >= units) return begin;
    if (end - begin > longest) longest = end - begin;
    unit = end;
  }
  region->run_max = longest;
  return kUnits;
}

bool TaskSlab::Check() const {
  size_t count = 0;
  for (const auto& region : regions_) {
    if (region == nullptr) continue;
    count++;
    unsigned free_units = 0;
    unsigned run = 0;
    for (unsigned unit = 0; unit < kUnits; unit++) {
      const bool used = (region->used[unit >> 6] >> (unit & 63)) & 1;
      run = used ? 0 : run + 1;
      if (!used) free_units++;
      if (run > region->run_max) return false;
    }
    if (free_units != region->free_units || free_units == kUnits) return false;
  }
  return count == region_count_ && spare_low_ <= spare_.size();
}

}  // namespace millrace
