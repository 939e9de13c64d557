// From ready to running and back: claims, batch frames, result frames.
#include <algorithm>
#include <cmath>

#include "task_table.h"

namespace millrace {
namespace {

// The share of a new measurement in the moving average of run times.
constexpr double kNewRunShare = 0.1;

}  // namespace

TaskTable::Batch* TaskTable::FindBatch(Handle handle) {
  return const_cast<Batch*>(static_cast<const TaskTable*>(this)->FindBatch(handle));
}

const TaskTable::Batch* TaskTable::FindBatch(Handle handle) const {
  const auto number = static_cast<uint32_t>(handle);
  if (number >= batches_.size()) return nullptr;
  const Batch& batch = batches_[number];
  return batch.used && batch.generation == handle >> 32 ? &batch : nullptr;
}

TaskTable::Claimed TaskTable::Claim(Handle cut_handle, const ClaimLimits& limits, const Now& now) {
  Claimed claimed;
  Cut* cut = FindCut(cut_handle);
  if (cut == nullptr) return claimed;
  const bool alone = limits.mode == ClaimMode::kAlone;
  const uint32_t queue_number = QueueOf(limits.place, alone);
  const uint32_t tasks_max = alone ? 1 : limits.tasks_max;
  ReadyQueue& queue = ready_[queue_number];
  Batch* batch = nullptr;
  uint32_t number_of_batch = 0;
  double work_ms = 0;
  claimed.end = ClaimEnd::kFull;
  while (claimed.tasks < tasks_max && work_ms < limits.work_ms_max &&
         claimed.bytes < limits.bytes_max) {
    ReadyQueue::Head head;
    if (!queue.Peek(&head)) {
      claimed.end = ClaimEnd::kNothing;
      break;
    }
    const uint32_t ahead = queue.Ahead(head, kPrefetchAhead);
    if (ahead != ReadyQueue::kNone && ahead >> kPageBits < page_limit_) Prefetch(ahead);
    if (!IsReadyEntry(queue_number, head.token, head.stamp)) {
      queue.Skip(head);
      continue;
    }
    const Page& page = PageOf(head.token);
    Task* task = page.tasks + (head.token & (kPageTasks - 1));
    const Type& type = types_[task->type];
    if (alone && (ready_[limits.place].is_shut(type.queue_type) ||
                  !HasTenantCredit(task->type, task->tenant))) {
      // Those who run alone share a queue, whatever their types: it must not hold up the others.
      queue.Take(head);
      queue.Release(head.type);
      aside_.push_back(head.token);
      continue;
    }
    if (limits.mode == ClaimMode::kAhead && type.is_just_in_time) {
      claimed.end = ClaimEnd::kNothing;
      break;
    }
    Segment* segment = page.segment;
    if (segment->touched_by != cut->number && claimed.segments == limits.segments_max) {
      claimed.end = ClaimEnd::kSegments;
      break;
    }
    if (Touch(cut, segment)) {
      claimed.segments++;
      claimed.segment_tasks += segment->count;
    }
    // A segment with ends left to file stays dirty for the next commit.
    if (segment->ended_count == 0) UnmarkDirty(segment);

    queue.Take(head);
    if (alone) ready_[limits.place].Occupy(type.queue_type);
    if (limits_tenants_) SpendTenantCredits(task->type, task->tenant);
    counters_->ready[limits.place]--;
    StopTimer(task);
    task->flags &= static_cast<uint8_t>(~(kReady | kTimed));
    Move(task, TaskState::kRunning, now.wall_ms);
    strings_.AddReference(executor_);
    task->mark = executor_;
    if (task->attempt < UINT16_MAX) task->attempt++;

    if (batch == nullptr) {
      if (unused_batches_.empty()) {
        number_of_batch = static_cast<uint32_t>(batches_.size());
        batches_.emplace_back();
      } else {
        number_of_batch = unused_batches_.back();
        unused_batches_.pop_back();
      }
      batch = &batches_[number_of_batch];
      batch->used = true;
      // Batches are few and short-lived; 2^21 of one number take days, and by then no handle of the
      // first is held.
      batch->generation = batch->generation == kGenerationMax ? 1 : batch->generation + 1;
      claimed.batch = MakeHandle(batch->generation, number_of_batch);
      counters_->batches++;
    }
    task->flags |= kInBatch;
    task->link = number_of_batch;
    segment->in_batches++;
    batch->tasks.push_back(head.token);
    claimed.tasks++;
    claimed.bytes += task->payload_length;
    // An unknown run time counts as little: the first batch finds out.
    if (!std::isnan(type.average_run_ms)) work_ms += type.average_run_ms;
  }
  if (!aside_.empty()) ReturnAside(queue_number, now);
  if (batch != nullptr) {
    batch->has_reported.assign(batch->tasks.size(), 0);
    batch->open = claimed.tasks;
    counters_->running += claimed.tasks;
  }
  return claimed;
}

size_t TaskTable::MeasureBatch(Handle handle) {
  const Batch* batch = FindBatch(handle);
  // What has reported may be gone by now.
  if (batch == nullptr || batch->open != batch->tasks.size()) return 0;
  sizer_.Reset(kBatchBytes);
  pack_number_++;
  if (packed_.size() < strings_.limit()) packed_.resize(strings_.limit(), Packed{0, 0});
  const auto add = [this](uint32_t string) {
    Packed& packed = packed_[string];
    if (packed.by == pack_number_) return;
    const std::string& text = strings_.Text(string);
    packed.by = pack_number_;
    packed.string = sizer_.AppendString(string, text.data(), text.size());
  };
  for (size_t i = 0; i < batch->tasks.size(); i++) {
    const uint32_t number = batch->tasks[i];
    if (i + kPrefetchAhead < batch->tasks.size()) Prefetch(batch->tasks[i + kPrefetchAhead]);
    const Task* task = At(number);
    Segment* segment = SegmentOf(number);
    add(types_[task->type].name);
    add(task->tenant);
    if (segment->packed_by != pack_number_) {
      segment->packed_by = pack_number_;
      segment->packed_string = sizer_.AppendString(~uint64_t{0}, segment->ref, segment->ref_length);
    }
    sizer_.AddRecord();
    sizer_.AddBytes(task->payload_length);
    if ((task->traits & kHasExtras) != 0) sizer_.AddBytes(ReadAs<uint32_t>(RecordOf(number) + 52));
#if !defined(_MSC_VER)
    __builtin_prefetch(segment->frame + segment->bytes_offset + task->payload_at);
#endif
  }
  return sizer_.total();
}

// REQUIRES: MeasureBatch of this batch was the last call.
void TaskTable::WriteBatch(Handle handle, double token, uint8_t* out) {
  const Batch* batch = FindBatch(handle);
  sizer_.WriteHead(FrameKind::kBatch, out);
  uint8_t* at = out + sizer_.records_offset();
  uint8_t* const bytes = out + sizer_.bytes_offset();
  uint32_t used = 0;
  for (size_t slot = 0; slot < batch->tasks.size(); slot++, at += kBatchBytes) {
    const uint32_t number = batch->tasks[slot];
    const Task* task = At(number);
    const Segment* segment = SegmentOf(number);
    const uint8_t* source = segment->frame + segment->bytes_offset;
    uint32_t version = 0;
    uint32_t metadata_at = 0;
    uint32_t metadata_length = 0;
    const uint32_t payload_at = used;
    if (task->payload_length > 0) {
      std::memcpy(bytes + used, source + task->payload_at, task->payload_length);
    }
    used += task->payload_length;
    if ((task->traits & kHasExtras) != 0) {
      const uint8_t* record = RecordOf(number);
      version = ReadAs<uint32_t>(record + 56);
      metadata_length = ReadAs<uint32_t>(record + 52);
      if (metadata_length > 0) {
        metadata_at = used;
        std::memcpy(bytes + used, source + ReadAs<uint32_t>(record + 48), metadata_length);
        used += metadata_length;
      }
    }
    // The layout is drawn over readBatchEntry in src/core/records.ts.
    WriteAs<uint32_t>(at, static_cast<uint32_t>(slot));
    WriteAs<uint16_t>(at + 4, packed_[types_[task->type].name].string);
    WriteAs<uint16_t>(at + 6, packed_[task->tenant].string);
    WriteAs<double>(at + 8, token);
    WriteAs<uint16_t>(at + 16, task->attempt);
    WriteAs<uint16_t>(at + 18, static_cast<uint16_t>(IndexOf(number)));
    WriteAs<uint32_t>(at + 20, version);
    WriteAs<uint16_t>(at + 24, segment->packed_string);
    WriteAs<uint16_t>(at + 26, 0);
    WriteAs<uint32_t>(at + 28, 0);
    WriteAs<uint32_t>(at + 32, payload_at);
    WriteAs<uint32_t>(at + 36, task->payload_length);
    WriteAs<uint32_t>(at + 40, metadata_at);
    WriteAs<uint32_t>(at + 44, metadata_length);
  }
}

bool TaskTable::ApplyResults(Handle handle, const uint8_t* frame, size_t length, const Now& now,
                             std::vector<Verdict>* verdicts) {
  Batch* batch = FindBatch(handle);
  if (batch == nullptr) return false;
  FrameView view;
  if (FrameView::Open(frame, length, FrameKind::kResults, &view) != FrameError::kNone) return false;
  results_.resize(view.count());
  size_t end_bytes = 0;
  for (uint32_t i = 0; i < view.count(); i++) {
    if (ReadResult(view, i, &results_[i]) != FrameError::kNone) return false;
    if (results_[i].outcome == Outcome::kCompleted) end_bytes += results_[i].bytes_length;
  }
  // References may overlap, so that a small frame could claim to hold much.
  if (end_bytes > length) return false;
  EndBlock* end = end_bytes > 0 ? NewEnd(end_bytes) : nullptr;
  uint32_t end_used = 0;
  for (const ResultFields& result : results_) {
    Verdict verdict = {
        0,     static_cast<uint8_t>(result.outcome),  result.attempt,     result.slot,
        kNone, view.bytes_offset() + result.bytes_at, result.bytes_length};
    const bool has_slot = result.slot < batch->tasks.size();
    if (!has_slot || batch->has_reported[result.slot]) {
      // A slot answers once; the task behind it may be gone by now, so only one that still runs
      // here is named.
      verdict.outcome = kStale;
      verdicts->push_back(verdict);
      continue;
    }
    const uint32_t number = batch->tasks[result.slot];
    Task* task = At(number);
    batch->has_reported[result.slot] = 1;
    batch->open--;
    LeaveBatch(number, task);
    Type& type = types_[task->type];
    if (result.outcome != Outcome::kNotStarted) {
      type.average_run_ms =
          std::isnan(type.average_run_ms)
              ? result.run_ms
              : type.average_run_ms * (1 - kNewRunShare) + result.run_ms * kNewRunShare;
    }
    const bool is_ours = !SegmentOf(number)->is_released;
    if (is_ours && result.outcome == Outcome::kCompleted) {
      if (result.bytes_length > 0) {
        std::memcpy(end->bytes() + end_used, view.Bytes(result.bytes_at), result.bytes_length);
      }
      Finish(number, task, TaskState::kCompleted, end, end_used, result.bytes_length, now.wall_ms);
      end_used += result.bytes_length;
    } else if (is_ours && result.outcome == Outcome::kNotStarted &&
               (task->flags & kCancelAsked) == 0) {
      BackToPending(number, task, now);
    } else {
      verdict.task = HandleOf(number);
      verdict.attempt = task->attempt;
      verdict.type = task->type;
      verdicts->push_back(verdict);
    }
  }
  if (end != nullptr && end->references == 0) slab_.Free(SlabBlock(end->block));
  return true;
}

bool TaskTable::EndBatch(Handle handle, std::vector<Handle>* lost) {
  Batch* batch = FindBatch(handle);
  if (batch == nullptr) return false;
  for (size_t slot = 0; slot < batch->tasks.size(); slot++) {
    if (batch->has_reported[slot]) continue;
    const uint32_t number = batch->tasks[slot];
    LeaveBatch(number, At(number));
    lost->push_back(HandleOf(number));
  }
  FreeBatch(batch);
  return true;
}

bool TaskTable::Unclaim(Handle handle, const Now& now, std::vector<Handle>* left) {
  Batch* batch = FindBatch(handle);
  if (batch == nullptr) return false;
  for (size_t slot = 0; slot < batch->tasks.size(); slot++) {
    if (batch->has_reported[slot]) continue;
    const uint32_t number = batch->tasks[slot];
    Task* task = At(number);
    LeaveBatch(number, task);
    if ((task->flags & kCancelAsked) || SegmentOf(number)->is_released) {
      left->push_back(HandleOf(number));
    } else {
      BackToPending(number, task, now);
    }
  }
  FreeBatch(batch);
  return true;
}

size_t TaskTable::Unreported(Handle handle, uint32_t* out, size_t capacity) const {
  const Batch* batch = FindBatch(handle);
  size_t count = 0;
  if (batch == nullptr) return 0;
  for (uint32_t slot = 0; slot < batch->tasks.size() && count < capacity; slot++) {
    if (!batch->has_reported[slot]) out[count++] = slot;
  }
  return count;
}

size_t TaskTable::TypesOf(Handle handle, uint32_t* out, size_t capacity) const {
  const Batch* batch = FindBatch(handle);
  if (batch == nullptr) return 0;
  const size_t count = std::min(batch->tasks.size(), capacity);
  // A task that has reported may be gone with its segment.
  for (size_t slot = 0; slot < count; slot++) {
    out[slot] = batch->has_reported[slot] ? kNone : At(batch->tasks[slot])->type;
  }
  return count;
}

bool TaskTable::PlaceOf(Handle handle, Handle* batch, uint32_t* slot) const {
  const Task* task = FindTask(handle);
  if (task == nullptr || (task->flags & kInBatch) == 0) return false;
  const Batch& b = batches_[task->link];
  const auto found = std::find(b.tasks.begin(), b.tasks.end(), static_cast<uint32_t>(handle));
  *batch = MakeHandle(b.generation, task->link);
  *slot = static_cast<uint32_t>(found - b.tasks.begin());
  return true;
}

const std::string* TaskTable::ExecutorOf(Handle handle) const {
  const Task* task = FindTask(handle);
  if (task == nullptr || task->state == TaskState::kPending) return nullptr;
  const bool is_over = (task->flags & kSettled) != 0 || task->mark == kNone;
  return is_over ? nullptr : &strings_.Text(task->mark);
}

void TaskTable::LeaveBatch(uint32_t number, Task* task) {
  task->flags &= static_cast<uint8_t>(~kInBatch);
  SegmentOf(number)->in_batches--;
  const Type& type = types_[task->type];
  ready_[type.place].Release(type.queue_type);
  if ((task->traits & kAmongAlone) != 0) ready_[QueueOf(*task)].Release(QueueTypeOf(*task));
  counters_->running--;
}

void TaskTable::FreeBatch(Batch* batch) {
  batch->used = false;
  batch->tasks.clear();
  batch->has_reported.clear();
  batch->open = 0;
  unused_batches_.push_back(static_cast<uint32_t>(batch - batches_.data()));
  counters_->batches--;
}

}  // namespace millrace
