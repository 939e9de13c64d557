// IdHeap: a binary heap of numbers that know their place in it, so that one can be moved or taken
// out anywhere.
//
// The caller says which number comes first (`before(a, b)`) and hears where each one is put
// (`moved(id, at)`).
#ifndef MILLRACE_NATIVE_ID_HEAP_H_
#define MILLRACE_NATIVE_ID_HEAP_H_

#include <cstddef>
#include <cstdint>
#include <vector>

namespace millrace {

class IdHeap {
 public:
  bool empty() const { return ids_.empty(); }
  size_t size() const { return ids_.size(); }
  uint32_t top() const { return ids_[0]; }
  uint32_t at(size_t i) const { return ids_[i]; }
  size_t bytes() const { return ids_.capacity() * sizeof(uint32_t); }

  template <typename Before, typename Moved>
  void Push(uint32_t id, Before before, Moved moved) {
    ids_.push_back(id);
    Up(ids_.size() - 1, before, moved);
  }

  // The number at `at` may have to come earlier or later than it did.
  template <typename Before, typename Moved>
  void Update(size_t at, Before before, Moved moved) {
    if (at > 0 && before(ids_[at], ids_[(at - 1) / 2])) {
      Up(at, before, moved);
    } else {
      Down(at, before, moved);
    }
  }

  template <typename Before, typename Moved>
  void Remove(size_t at, Before before, Moved moved) {
    const uint32_t last = ids_.back();
    ids_.pop_back();
    if (at == ids_.size()) return;
    ids_[at] = last;
    Update(at, before, moved);
  }

 private:
  template <typename Before, typename Moved>
  void Up(size_t hole, Before before, Moved moved) {
    const uint32_t id = ids_[hole];
    while (hole > 0) {
      const size_t parent = (hole - 1) / 2;
      if (!before(id, ids_[parent])) break;
      Put(hole, ids_[parent], moved);
      hole = parent;
    }
    Put(hole, id, moved);
  }

  template <typename Before, typename Moved>
  void Down(size_t hole, Before before, Moved moved) {
    const uint32_t id = ids_[hole];
    for (size_t child = 2 * hole + 1; child < ids_.size(); child = 2 * hole + 1) {
      if (child + 1 < ids_.size() && before(ids_[child + 1], ids_[child])) child++;
      if (!before(ids_[child], id)) break;
      Put(hole, ids_[child], moved);
      hole = child;
    }
    Put(hole, id, moved);
  }

  template <typename Moved>
  void Put(size_t at, uint32_t id, Moved moved) {
    ids_[at] = id;
    moved(id, static_cast<uint32_t>(at));
  }

  std::vector<uint32_t> ids_;
};

}  // namespace millrace

#endif  // MILLRACE_NATIVE_ID_HEAP_H_
