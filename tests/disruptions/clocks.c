/* Under LD_PRELOAD: a host whose clocks somebody else turns. Adds to CLOCK_BOOTTIME and CLOCK_REALTIME what the file
 * $TRUEBOUND_TEST_CLOCKS says at this moment, so that a test can put a host to sleep or step its clock without touching
 * the machine's. The file holds four little numbers of eight bytes: ns added to CLOCK_BOOTTIME, ns added to
 * CLOCK_REALTIME, and a slew of CLOCK_REALTIME: ppm, and CLOCK_MONOTONIC_RAW at its begin, ns. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/timex.h>
#include <time.h>

static volatile const int64_t *added;
static int (*kernels_gettime)(clockid_t, struct timespec *);
static int (*kernels_adjtime)(clockid_t, struct timex *);

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("TRUEBOUND_TEST_CLOCKS");
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    void *page = fd < 0 ? MAP_FAILED : mmap(NULL, 4 * sizeof(int64_t), PROT_READ, MAP_SHARED, fd, 0);

    kernels_gettime = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    kernels_adjtime = (int (*)(clockid_t, struct timex *))dlsym(RTLD_NEXT, "clock_adjtime");
    if (page == MAP_FAILED || !kernels_gettime || !kernels_adjtime)
        abort();
    added = page;
}

static void add(struct timespec *time, int64_t ns)
{
    int64_t sum = time->tv_nsec + ns % 1000000000;

    time->tv_sec += ns / 1000000000;
    if (sum < 0)
        time->tv_sec -= 1, sum += 1000000000;
    if (sum >= 1000000000)
        time->tv_sec += 1, sum -= 1000000000;
    time->tv_nsec = sum;
}

static int64_t slewed_ns(void)
{
    struct timespec raw;

    if (!added[2] || kernels_gettime(CLOCK_MONOTONIC_RAW, &raw))
        return 0;
    return (raw.tv_sec * 1000000000 + raw.tv_nsec - added[3]) / 1000 * added[2] / 1000;
}

int clock_gettime(clockid_t clock, struct timespec *time)
{
    int outcome = kernels_gettime(clock, time);

    if (!outcome && clock == CLOCK_BOOTTIME)
        add(time, added[0]);
    if (!outcome && clock == CLOCK_REALTIME)
        add(time, added[1] + slewed_ns());
    return outcome;
}

/* Whoever slews tells the kernel so: one microsecond per tick is 100 ppm. */
int clock_adjtime(clockid_t clock, struct timex *timex)
{
    int outcome = kernels_adjtime(clock, timex);

    if (clock == CLOCK_REALTIME)
        timex->tick += added[2] / 100;
    return outcome;
}
