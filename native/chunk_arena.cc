#include "chunk_arena.h"

#include <cstring>

#include "occupancy.h"

namespace millrace {

ChunkArena::ChunkArena() : bases_(1, nullptr), pages_(1, Page{}) {}

ChunkRef ChunkArena::Allocate(unsigned size_class) {
  uint32_t number = LowestWithRoom(size_class);
  if (number == 0) number = OpenPage(size_class);
  Page& page = pages_[number];
  ChunkRef ref = page.free_head;
  if (ref != kNoChunk) {
    page.free_head = At(ref)->next;
  } else {
    ref = (number << kUnitBits) | (static_cast<uint32_t>(page.fresh++) << size_class);
  }
  if (++page.used == page.capacity) ClearRoom(number);

  Chunk* chunk = At(ref);
  chunk->next = kNoChunk;
  chunk->begin = 0;
  chunk->end = 0;
  chunk->capacity = static_cast<uint8_t>(Capacity(size_class));
  chunk->size_class = static_cast<uint8_t>(size_class);
  return ref;
}

void ChunkArena::Free(ChunkRef ref) {
  const uint32_t number = ref >> kUnitBits;
  Page& page = pages_[number];
  if (page.used-- == page.capacity) SetRoom(number);
  if (page.used == 0) {
    ClosePage(number);
    return;
  }
  At(ref)->next = page.free_head;
  page.free_head = ref;
}

ChunkRef ChunkArena::Lower(ChunkRef ref) {
  const unsigned size_class = At(ref)->size_class;
  const uint32_t number = LowestWithRoom(size_class);
  if (number == 0 || number >= ref >> kUnitBits) return ref;
  const ChunkRef lower = Allocate(size_class);
  std::memcpy(static_cast<void*>(At(lower)), At(ref), kUnitBytes << size_class);
  Free(ref);
  return lower;
}

void ChunkArena::Clear() {
  source_.ReturnAll();
  // All numbers are unused now: forget them, and with them the size of the tables.
  bases_.assign(1, nullptr);
  bases_.shrink_to_fit();
  pages_.assign(1, Page{});
  pages_.shrink_to_fit();
  for (Room& room : room_) room = {};
}

size_t ChunkArena::bytes() const {
  return source_.bytes() + bases_.capacity() * sizeof(char*) + pages_.capacity() * sizeof(Page);
}

uint32_t ChunkArena::OpenPage(unsigned size_class) {
  const uint32_t number = source_.Take();
  if (number >= pages_.size()) {
    pages_.resize(number + 1, Page{});
    bases_.resize(number + 1, nullptr);
  }
  bases_[number] = source_.AddressOf(number);
  Page& page = pages_[number];
  page = Page{};
  page.size_class = static_cast<uint8_t>(size_class);
  page.capacity = static_cast<uint16_t>(kPageBytes / (kUnitBytes << size_class));
  SetRoom(number);
  return number;
}

void ChunkArena::ClosePage(uint32_t number) {
  ClearRoom(number);
  bases_[number] = nullptr;
  source_.Return(number);
}

// The lowest page of a size class with room, or 0.
uint32_t ChunkArena::LowestWithRoom(unsigned size_class) {
  Room& room = room_[size_class];
  while (room.first < room.words.size()) {
    const uint64_t word = room.words[room.first];
    if (word != 0) return static_cast<uint32_t>(room.first * 64 + CountTrailingZeros(word));
    room.first++;
  }
  return 0;
}

void ChunkArena::SetRoom(uint32_t number) {
  Room& room = room_[pages_[number].size_class];
  const size_t word = number / 64;
  if (word >= room.words.size()) room.words.resize(word + 1, 0);
  room.words[word] |= uint64_t{1} << (number % 64);
  if (word < room.first) room.first = word;
}

void ChunkArena::ClearRoom(uint32_t number) {
  room_[pages_[number].size_class].words[number / 64] &= ~(uint64_t{1} << (number % 64));
}

}  // namespace millrace
