// DueHeap: a 4-ary min-heap of timers by (due, order), for the few that fit no slot of the wheel.
//
// Storage is in blocks, so that growing never copies. Cost: O(log n), and O(1) to push what is due
// last.
#ifndef MILLRACE_NATIVE_DUE_HEAP_H_
#define MILLRACE_NATIVE_DUE_HEAP_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace millrace {

class DueHeap {
 public:
  struct Item {
    int64_t due;
    uint64_t order;
    uint32_t index;
    uint32_t stamp;
  };

  size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  const Item& top() const { return At(0); }
  const Item& at(size_t i) const { return At(i); }
  size_t bytes() const { return blocks_.size() * kBlockItems * sizeof(Item); }

  void Push(const Item& item) {
    if (size_ == blocks_.size() * kBlockItems) {
      blocks_.emplace_back(new Item[kBlockItems]);
    }
    SiftUp(size_++, item);
  }

  void Pop() { RemoveAt(0); }

  // Takes out the item at a position of the array; another comes to stand there, unless it was the
  // last.
  void RemoveAt(size_t hole) {
    const Item last = At(--size_);
    if (hole < size_) {
      if (hole > 0 && Before(last, At((hole - 1) / kArity))) {
        SiftUp(hole, last);
      } else {
        SiftDown(hole, last);
      }
    }
    // One block stays spare, against a size that swings around a border.
    if (blocks_.size() * kBlockItems >= size_ + 2 * kBlockItems) blocks_.pop_back();
    if (size_ == 0) blocks_.clear();
  }

  void Clear() {
    size_ = 0;
    blocks_.clear();
  }

 private:
  static constexpr size_t kArity = 4;
  static constexpr size_t kBlockItems = 1024;

  static bool Before(const Item& a, const Item& b) {
    return a.due != b.due ? a.due < b.due : a.order < b.order;
  }

  Item& At(size_t i) { return blocks_[i / kBlockItems][i % kBlockItems]; }
  const Item& At(size_t i) const { return blocks_[i / kBlockItems][i % kBlockItems]; }

  void SiftUp(size_t hole, const Item& item) {
    while (hole > 0) {
      const size_t parent = (hole - 1) / kArity;
      if (!Before(item, At(parent))) break;
      At(hole) = At(parent);
      hole = parent;
    }
    At(hole) = item;
  }

  void SiftDown(size_t hole, const Item& item) {
    for (;;) {
      const size_t first = hole * kArity + 1;
      if (first >= size_) break;
      size_t least = first;
      const size_t end = first + kArity < size_ ? first + kArity : size_;
      for (size_t child = first + 1; child < end; child++) {
        if (Before(At(child), At(least))) least = child;
      }
      if (!Before(At(least), item)) break;
      At(hole) = At(least);
      hole = least;
    }
    At(hole) = item;
  }

  std::vector<std::unique_ptr<Item[]>> blocks_;
  size_t size_ = 0;
};

}  // namespace millrace

#endif  // MILLRACE_NATIVE_DUE_HEAP_H_
