// Memory straight from the system, in whole pages: what is given back lowers the process's size at
// once.
#ifndef MILLRACE_NATIVE_SYSTEM_MEMORY_H_
#define MILLRACE_NATIVE_SYSTEM_MEMORY_H_

#include <cstddef>
#include <cstdio>
#include <cstdlib>

#if defined(_WIN32)
#include <windows.h>
#else
#include <sys/mman.h>
#endif

namespace millrace {

// Zeroed memory; ends the process when there is none, saying that it was for `purpose`. With
// `populate` the system backs all of it at once, which is cheaper than a fault for each 4 KiB.
inline void* SystemAllocate(size_t bytes, bool populate, const char* purpose) {
#if defined(_WIN32)
  (void)populate;
  void* base = VirtualAlloc(nullptr, bytes, MEM_RESERVE | MEM_COMMIT, PAGE_READWRITE);
  const bool failed = base == nullptr;
#else
  int flags = MAP_PRIVATE | MAP_ANONYMOUS;
#if defined(MAP_POPULATE)
  if (populate) flags |= MAP_POPULATE;
#else
  (void)populate;
#endif
  void* base = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, flags, -1, 0);
  const bool failed = base == MAP_FAILED;
#endif
  if (failed) {
    std::fprintf(stderr, "millrace: out of memory for %s\n", purpose);
    std::abort();
  }
  return base;
}

// Gives back what SystemAllocate gave, whole.
inline void SystemFree(void* base, size_t bytes) {
#if defined(_WIN32)
  (void)bytes;
  VirtualFree(base, 0, MEM_RELEASE);
#else
  munmap(base, bytes);
#endif
}

}  // namespace millrace

#endif  // MILLRACE_NATIVE_SYSTEM_MEMORY_H_
