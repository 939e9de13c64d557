// StringInterner: strings as small numbers, counted, so that a name that nobody uses any more is
// forgotten.
//
// Task types, tenants and executors are few but repeated in every record. A node that has seen a
// million tenants come and go holds the ones it has tasks of.
#ifndef MILLRACE_NATIVE_STRING_INTERNER_H_
#define MILLRACE_NATIVE_STRING_INTERNER_H_

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "hash_index.h"

namespace millrace {

class StringInterner {
 public:
  // The number of a string, with one more reference to it.
  uint32_t Acquire(const char* text, size_t length) {
    const uint32_t hash = HashBytes(text, length, index_.seed());
    uint32_t id = FindHashed(text, length, hash);
    if (id != HashIndex::kNone) {
      entries_[id].references++;
      return id;
    }
    if (unused_.empty()) {
      id = static_cast<uint32_t>(entries_.size());
      entries_.emplace_back();
    } else {
      id = unused_.back();
      unused_.pop_back();
    }
    entries_[id].text.assign(text, length);
    entries_[id].references = 1;
    entries_[id].hash = hash;
    index_.Insert(hash, id);
    text_bytes_ += length;
    return id;
  }

  void AddReference(uint32_t id) { entries_[id].references++; }

  // Returns whether it was the last reference, after which the number may come to mean another
  // string.
  bool Release(uint32_t id) {
    Entry& entry = entries_[id];
    if (--entry.references != 0) return false;
    index_.Erase(entry.hash, id);
    text_bytes_ -= entry.text.size();
    std::string().swap(entry.text);
    unused_.push_back(id);
    return true;
  }

  // The number of a string that is known, else HashIndex::kNone.
  uint32_t Find(const char* text, size_t length) const {
    return FindHashed(text, length, HashBytes(text, length, index_.seed()));
  }

  // REQUIRES: somebody holds a reference.
  const std::string& Text(uint32_t id) const { return entries_[id].text; }
  uint32_t references(uint32_t id) const { return entries_[id].references; }
  // All numbers are below this.
  uint32_t limit() const { return static_cast<uint32_t>(entries_.size()); }
  size_t size() const { return index_.size(); }
  size_t bytes() const {
    return index_.bytes() + entries_.capacity() * sizeof(Entry) +
           unused_.capacity() * sizeof(uint32_t) + text_bytes_;
  }

 private:
  struct Entry {
    std::string text;
    uint32_t references = 0;
    uint32_t hash = 0;
  };

  uint32_t FindHashed(const char* text, size_t length, uint32_t hash) const {
    return index_.Find(hash, [&](uint32_t id) {
      const std::string& known = entries_[id].text;
      return known.size() == length && std::memcmp(known.data(), text, length) == 0;
    });
  }

  std::vector<Entry> entries_;
  std::vector<uint32_t> unused_;
  HashIndex index_;
  size_t text_bytes_ = 0;
};

}  // namespace millrace

#endif  // MILLRACE_NATIVE_STRING_INTERNER_H_
