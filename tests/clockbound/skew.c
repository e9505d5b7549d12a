/* A CLOCK_REALTIME that a test sets and slews, for the programs that it is preloaded into: the kernel's, which nobody
 * touches, plus what a file says.
 *
 *   V(t) = t + offset + rate·(t − origin)      t the kernel's CLOCK_REALTIME, ns; rate in ppb
 *
 * SKEW_FILE names the file: a sequence number (odd while it changes), origin, offset and rate, 8 bytes each. Every other
 * clock is the kernel's own; CLOCK_TAI therefore tells these programs the truth.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_S 1000000000LL

struct law {
    _Atomic uint64_t sequence;
    _Atomic int64_t origin_ns;
    _Atomic int64_t offset_ns;
    _Atomic int64_t rate_ppb;
};

typedef int gettime_function(clockid_t, struct timespec *);

static struct law *law;
static gettime_function *real_gettime;

__attribute__((constructor)) static void set_up(void)
{
    const char *path = getenv("SKEW_FILE");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    void *mapped = file >= 0 ? mmap(NULL, sizeof *law, PROT_READ, MAP_SHARED, file, 0) : MAP_FAILED;
    if (mapped == MAP_FAILED) {
        fprintf(stderr, "skew: SKEW_FILE cannot be mapped\n");
        _exit(2);
    }
    close(file);
    real_gettime = (gettime_function *)dlsym(RTLD_NEXT, "clock_gettime");
    law = mapped;
}

/* The kernel's time is read inside the lock: a reading is of one law, and of a moment at which that was in force. */
static int64_t skewed_now_ns(clockid_t clock)
{
    struct timespec now;
    for (;;) {
        uint64_t sequence = atomic_load(&law->sequence);
        int64_t origin_ns = atomic_load(&law->origin_ns), offset_ns = atomic_load(&law->offset_ns);
        int64_t rate_ppb = atomic_load(&law->rate_ppb);
        real_gettime(clock, &now);
        int64_t t = now.tv_sec * NS_PER_S + now.tv_nsec;
        if (sequence % 2 == 0 && sequence == atomic_load(&law->sequence))
            return t + offset_ns + (int64_t)((__int128)(t - origin_ns) * rate_ppb / NS_PER_S);
    }
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    if (law == NULL || (clock != CLOCK_REALTIME && clock != CLOCK_REALTIME_COARSE)) {
        if (real_gettime == NULL)
            real_gettime = (gettime_function *)dlsym(RTLD_NEXT, "clock_gettime");
        return real_gettime(clock, now);
    }
    int64_t v = skewed_now_ns(clock);
    now->tv_sec = v / NS_PER_S;
    now->tv_nsec = v % NS_PER_S;
    return 0;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    (void)zone;
    struct timespec precise;
    clock_gettime(CLOCK_REALTIME, &precise);
    now->tv_sec = precise.tv_sec;
    now->tv_usec = precise.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *where)
{
    struct timespec precise;
    clock_gettime(CLOCK_REALTIME, &precise);
    if (where)
        *where = precise.tv_sec;
    return precise.tv_sec;
}
