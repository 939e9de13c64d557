// Frames in C++: checks and reads what src/core/frame.ts and records.ts write, and writes the same.
//
// The format is drawn in docs/internals/frame-format.md and over the functions of src/core.
// Little-endian throughout; every supported machine is, and the build refuses others.
//
//   header, 32 bytes | string table | records (fixed size, 8-aligned) | bytes
//
// Frames are hostile input. `FrameView::Open` checks the outer shape and the string table, `Bytes`
// each reference into the bytes area; record fields that are numbers are checked by whoever uses
// them. Nothing outside [data, data + length) is read, and nothing is aligned by faith: fields are
// read with memcpy.
//
// The view does not own the bytes. Who checks a frame that another thread might write to must copy
// it first.
#ifndef MILLRACE_NATIVE_FRAME_H_
#define MILLRACE_NATIVE_FRAME_H_

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "frames are read in place: the machine has to be little-endian"
#endif

namespace millrace {

enum class FrameKind : uint8_t { kTasks = 1, kBatch = 2, kResults = 3, kStates = 4 };

constexpr uint32_t kFrameHeaderBytes = 32;
constexpr uint32_t kFrameRecordsMax = 4096;
constexpr uint32_t kFrameStringsMax = 65535;
constexpr uint8_t kFrameVersion = 1;
constexpr uint32_t kFrameMagic = 0x3146524d;  // 'MRF1'

// Bytes of a record, by kind.
constexpr uint32_t kTaskBytes = 64;
constexpr uint32_t kBatchBytes = 48;
constexpr uint32_t kResultBytes = 24;
constexpr uint32_t kStateBytes = 40;

// Values of src/core/states.ts.
enum class TaskState : uint8_t { kPending, kRunning, kCompleted, kFailed, kCancelled, kExpired };
constexpr uint8_t kTaskStates = 6;
enum class Outcome : uint8_t {
  kCompleted,
  kFailed,
  kFailedForGood,
  kSnoozed,
  kCancelled,
  kNotStarted,
};
constexpr uint16_t kOutcomes = 6;

// Why a frame is refused. src/timing tells the reason in words by reading the frame once more with
// the reader of src/core, so that both say the same.
enum class FrameError : uint8_t { kNone, kShape, kString, kBytes, kNumber, kValue };

template <typename T>
T ReadAs(const uint8_t* at) {
  T value;
  std::memcpy(&value, at, sizeof(T));
  return value;
}

template <typename T>
void WriteAs(uint8_t* at, T value) {
  std::memcpy(at, &value, sizeof(T));
}

// Whether a number of a record is a time or a span: finite, from 0 to 2^53 - 1.
inline bool IsTime(double value) { return value >= 0 && value <= 9007199254740991.0; }

inline constexpr size_t AlignedTo8(size_t length) { return (length + 7) & ~size_t{7}; }

struct Text {
  const char* data;
  uint32_t length;
};

class FrameView {
 public:
  // Checks the outer shape. The bytes must stay as they are while the view is used.
  static FrameError Open(const uint8_t* data, size_t length, FrameKind kind, FrameView* view);

  uint32_t count() const { return count_; }
  uint32_t string_count() const { return string_count_; }
  // REQUIRES: index < count().
  const uint8_t* Record(uint32_t index) const {
    return data_ + records_offset_ + size_t{index} * record_bytes_;
  }
  uint32_t records_offset() const { return records_offset_; }
  uint32_t bytes_offset() const { return bytes_offset_; }

  // Where strings are, in order, for a table of string_count() entries.
  void Strings(Text* out) const;

  // Whether a record's reference into the bytes area stays inside. Length 0 refers to nothing,
  // wherever it points.
  bool HasBytes(uint32_t offset, uint32_t length) const {
    return length == 0 || uint64_t{bytes_offset_} + offset + length <= total_;
  }
  // REQUIRES: HasBytes(offset, length).
  const uint8_t* Bytes(uint32_t offset) const { return data_ + bytes_offset_ + offset; }

 private:
  const uint8_t* data_ = nullptr;
  uint32_t count_ = 0;
  uint32_t string_count_ = 0;
  uint32_t records_offset_ = 0;
  uint32_t record_bytes_ = 0;
  uint32_t bytes_offset_ = 0;
  uint32_t total_ = 0;
};

// The records whose fields the table needs, one struct for each kind of src/core/records.ts.

struct TaskFields {
  double due_at_ms;
  double submitted_at_ms;
  double expires_at_ms;
  uint16_t type;
  uint16_t tenant;
  int16_t priority;
  uint16_t attempt;
  uint16_t losses;
  uint32_t payload_at;
  uint32_t payload_length;
  uint32_t metadata_at;
  uint32_t metadata_length;
  uint32_t version;
  uint16_t key;  // 0: none; else a string, counted from 1
};

struct ResultFields {
  uint32_t slot;
  Outcome outcome;
  uint16_t attempt;
  double run_ms;
  uint32_t bytes_at;
  uint32_t bytes_length;
};

struct StateFields {
  uint16_t index;
  TaskState state;
  uint16_t attempt;
  uint16_t losses;
  double due_at_ms;
  double at_ms;
  uint16_t executor;
  uint32_t version;
  uint32_t bytes_at;
  uint32_t bytes_length;
};

// Read record `index` and check every field and reference. REQUIRES: index < count(), a view of
// this kind.
FrameError ReadTask(const FrameView& view, uint32_t index, TaskFields* out);
FrameError ReadResult(const FrameView& view, uint32_t index, ResultFields* out);
FrameError ReadState(const FrameView& view, uint32_t index, StateFields* out);

// A frame about to be written into memory of exactly the right size. Strings are known by the
// caller's numbers and stand in the table in the order of their first Add; that is how src/core
// writes them too.
class FrameSizer {
 public:
  // Starts anew, for records of this many bytes.
  void Reset(uint32_t record_bytes);
  // The place of a string in the table. `key` names it among the caller's strings.
  uint16_t AddString(uint64_t key, const char* text, size_t length);
  // The same for a string that the caller knows not to be there yet; O(1).
  uint16_t AppendString(uint64_t key, const char* text, size_t length);
  void AddRecord() { count_++; }
  void AddBytes(size_t length) { bytes_ += length; }

  size_t records_offset() const { return AlignedTo8(kFrameHeaderBytes + string_bytes_); }
  size_t bytes_offset() const { return records_offset() + size_t{count_} * record_bytes_; }
  size_t total() const { return bytes_offset() + bytes_; }
  // Writes header and string table. REQUIRES: total() bytes at `out`, and the strings are still
  // there.
  void WriteHead(FrameKind kind, uint8_t* out) const;

 private:
  struct Entry {
    uint64_t key;
    const char* text;
    size_t length;
  };
  std::vector<Entry> strings_;
  size_t last_ = 0;
  uint32_t record_bytes_ = 0;
  uint32_t count_ = 0;
  size_t string_bytes_ = 0;
  size_t bytes_ = 0;
};

}  // namespace millrace

#endif  // MILLRACE_NATIVE_FRAME_H_
