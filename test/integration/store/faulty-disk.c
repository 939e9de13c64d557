/*
 * A disk that is slow, fails, or is full, on demand: preloaded in front of libc by faulty-disk.ts.
 *
 *   FAULTY_DISK_SLOW_MS   milliseconds that fdatasync, fsync and msync take longer
 *   FAULTY_DISK_FAIL      while this file exists, they do nothing and fail with EIO
 *   FAULTY_DISK_FULL      while this file exists, writes to files take one page, and then fail with ENOSPC
 *   FAULTY_DISK_META      while this file exists, writes of less than a page fail with ENOSPC, as LMDB's meta pages are
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static int switched_on(const char *variable) {
  const char *file = getenv(variable);
  return file != NULL && access(file, F_OK) == 0;
}

/* Returns 0 when the real call should follow. */
static int before_sync(void) {
  const char *slow = getenv("FAULTY_DISK_SLOW_MS");
  if (slow != NULL) {
    long ms = atol(slow);
    struct timespec pause = {ms / 1000, (ms % 1000) * 1000000L};
    while (nanosleep(&pause, &pause) != 0) {
    }
  }
  if (!switched_on("FAULTY_DISK_FAIL")) return 0;
  errno = EIO;
  return -1;
}

/* Returns how many bytes to write; 0: as many as asked for; -1: fail. */
static ssize_t room(int fd, size_t count) {
  struct stat file;
  if (fstat(fd, &file) != 0 || !S_ISREG(file.st_mode)) return 0;
  errno = ENOSPC;
  if (switched_on("FAULTY_DISK_META")) return count < 512 ? -1 : 0;
  if (!switched_on("FAULTY_DISK_FULL")) return 0;
  return count > 4096 ? 4096 : -1;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

int fdatasync(int fd) { return before_sync() ? -1 : REAL(fdatasync)(fd); }
int fsync(int fd) { return before_sync() ? -1 : REAL(fsync)(fd); }
int msync(void *start, size_t length, int flags) {
  return before_sync() ? -1 : REAL(msync)(start, length, flags);
}

ssize_t write(int fd, const void *bytes, size_t count) {
  ssize_t part = room(fd, count);
  return part < 0 ? -1 : REAL(write)(fd, bytes, part ? (size_t)part : count);
}
ssize_t pwrite(int fd, const void *bytes, size_t count, off_t offset) {
  ssize_t part = room(fd, count);
  return part < 0 ? -1 : REAL(pwrite)(fd, bytes, part ? (size_t)part : count, offset);
}
ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t offset) {
  ssize_t part = room(fd, count);
  return part < 0 ? -1 : REAL(pwrite64)(fd, bytes, part ? (size_t)part : count, offset);
}
ssize_t writev(int fd, const struct iovec *parts, int count) {
  size_t bytes = 0;
  for (int i = 0; i < count; i++) bytes += parts[i].iov_len;
  ssize_t part = room(fd, bytes);
  if (part < 0) return -1;
  return part ? REAL(write)(fd, parts[0].iov_base, part) : REAL(writev)(fd, parts, count);
}
