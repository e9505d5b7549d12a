/* A CLOCK_REALTIME of its own for one program, whose truth is known: the judge's side is virtual_clock.rs.
 *
 *   V(t) = t + offset + freq·x + wander·period/2π·(1 − cos(2π·x/period))     an oscillator of its own, x = t − origin
 *            + stepped + slewed + rate·(t − since)                            what the program made of it
 *
 * t is the kernel's CLOCK_REALTIME, which stays as it is: the program reads, steers and steps V, and gets its kernel
 * stamps in V. CLOCK_MONOTONIC and timers are untouched. The law in force is in a file for the judge, under a seqlock.
 * Preloaded (LD_PRELOAD), so it covers what goes through the C library: that is ptp4l, and not chronyd's helpers.
 *
 *   VIRTUAL_CLOCK       offset in ns, frequency error in ppb, amplitude of the wander in ppb, its period in s
 *   VIRTUAL_CLOCK_FILE  where the law is written
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/errqueue.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/timex.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_S 1000000000LL
/* A stamp may be older than the newest change of rate; nobody reads one that is 64 changes old. */
#define REMEMBERED 64
/* struct timex counts frequency in 2⁻¹⁶ ppm, and ticks of 1/100 s in µs: one more is 100 ppm. */
#define FREQ_UNIT (1e-6 / 65536)
#define TICK_UNIT 100e-6
#define NOMINAL_TICK 10000

struct oscillator {
    int64_t origin_ns;
    double offset_ns;
    double freq;
    double wander;
    double period_ns;
};

struct steering {
    int64_t since_ns;
    int64_t stepped_ns;
    double slewed_ns;
    double rate;
};

/* What the judge maps: words of 8 bytes. */
struct page {
    _Atomic uint64_t sequence; /* odd while it changes */
    struct oscillator oscillator;
    struct steering steering;
    uint64_t adjustments;
    uint64_t refused;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static struct page *page;
static struct steering history[REMEMBERED]; /* newest last, at changes − 1 */
static uint64_t changes;
static long freq_units;
static long tick_us = NOMINAL_TICK;
static int status_bits;

static void set_up(void);

/* The C library's own function, below this one. */
#define REAL(name) ((__typeof__(&name))next_symbol(#name))

static void *next_symbol(const char *name)
{
    void *symbol = dlsym(RTLD_NEXT, name);
    if (!symbol) {
        fprintf(stderr, "virtual_clock: the C library has no %s\n", name);
        abort();
    }
    return symbol;
}

static void die(const char *what)
{
    perror(what);
    abort(); /* rather than to let the program at the real clock */
}

static int64_t ns_of(struct timespec ts)
{
    return ts.tv_sec * NS_PER_S + ts.tv_nsec;
}

static struct timespec timespec_of(int64_t ns)
{
    int64_t nanos = ((ns % NS_PER_S) + NS_PER_S) % NS_PER_S;
    return (struct timespec){.tv_sec = (ns - nanos) / NS_PER_S, .tv_nsec = nanos};
}

static int kernel_clock(clockid_t id, struct timespec *ts)
{
    static __typeof__(&clock_gettime) real;
    if (!real)
        real = REAL(clock_gettime);
    return real(id, ts);
}

static int64_t kernel_now(void)
{
    struct timespec ts;
    kernel_clock(CLOCK_REALTIME, &ts);
    return ns_of(ts);
}

/* ── the law ── */

static double natural(const struct oscillator *o, int64_t t)
{
    double x = (double)(t - o->origin_ns), ns = o->offset_ns + o->freq * x;
    if (o->period_ns > 0)
        ns += o->wander * o->period_ns / (2 * M_PI) * (1 - cos(2 * M_PI * x / o->period_ns));
    return ns;
}

static double slewed(const struct steering *s, int64_t t)
{
    return s->slewed_ns + s->rate * (double)(t - s->since_ns);
}

/* The steering that was in force at t. */
static const struct steering *steering_at(int64_t t)
{
    uint64_t oldest = changes > REMEMBERED ? changes - REMEMBERED : 0;
    uint64_t i = changes - 1;
    while (i > oldest && history[i % REMEMBERED].since_ns > t)
        i--;
    return &history[i % REMEMBERED];
}

static int64_t virtual_at_locked(int64_t t)
{
    const struct steering *s = steering_at(t);
    return t + s->stepped_ns + llround(natural(&page->oscillator, t) + slewed(s, t));
}

static int64_t virtual_at(int64_t t)
{
    pthread_once(&once, set_up);
    pthread_mutex_lock(&lock);
    int64_t v = virtual_at_locked(t);
    pthread_mutex_unlock(&lock);
    return v;
}

static void publish(struct steering next)
{
    history[changes++ % REMEMBERED] = next;
    atomic_fetch_add(&page->sequence, 1);
    page->steering = next;
    page->adjustments++;
    atomic_fetch_add(&page->sequence, 1);
}

/* From now on another rate, and a step of so much. */
static void steer_locked(double rate, int64_t step_ns)
{
    struct steering next = history[(changes - 1) % REMEMBERED];
    int64_t now = kernel_now();
    next.slewed_ns = slewed(&next, now);
    next.since_ns = now;
    next.stepped_ns += step_ns;
    next.rate = rate;
    publish(next);
}

static double present_rate(void)
{
    return (double)freq_units * FREQ_UNIT + (double)(tick_us - NOMINAL_TICK) * TICK_UNIT;
}

static void set_up(void)
{
    const char *parameters = getenv("VIRTUAL_CLOCK"), *path = getenv("VIRTUAL_CLOCK_FILE");
    double offset_ns, freq_ppb, wander_ppb, period_s;
    if (!parameters || !path
        || sscanf(parameters, "%lf %lf %lf %lf", &offset_ns, &freq_ppb, &wander_ppb, &period_s) != 4) {
        fprintf(stderr, "virtual_clock: set VIRTUAL_CLOCK (four numbers) and VIRTUAL_CLOCK_FILE\n");
        abort();
    }
    int file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (file < 0 || ftruncate(file, sizeof *page) < 0)
        die(path);
    page = mmap(NULL, sizeof *page, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (page == MAP_FAILED)
        die(path);
    close(file);
    page->oscillator = (struct oscillator){kernel_now(), offset_ns, freq_ppb * 1e-9, wander_ppb * 1e-9, period_s * 1e9};
    publish((struct steering){.since_ns = page->oscillator.origin_ns});
}

/* ── reading ── */

int clock_gettime(clockid_t id, struct timespec *ts)
{
    int result = kernel_clock(id, ts);
    if (result == 0 && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE || id == CLOCK_TAI)) {
        int64_t real = id == CLOCK_REALTIME ? ns_of(*ts) : kernel_now();
        *ts = timespec_of(ns_of(*ts) + virtual_at(real) - real);
    }
    return result;
}

int gettimeofday(struct timeval *restrict tv, void *restrict zone)
{
    struct timespec ts;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &ts);
    *tv = (struct timeval){.tv_sec = ts.tv_sec, .tv_usec = ts.tv_nsec / 1000};
    return 0;
}

time_t time(time_t *where)
{
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    if (where)
        *where = ts.tv_sec;
    return ts.tv_sec;
}

/* ── steering: nothing of this reaches the kernel ── */

static int refuse(int error)
{
    pthread_once(&once, set_up);
    pthread_mutex_lock(&lock);
    page->refused++;
    pthread_mutex_unlock(&lock);
    errno = error;
    return -1;
}

static int64_t setoffset_ns(const struct timex *tx)
{
    return tx->time.tv_sec * NS_PER_S + tx->time.tv_usec * (tx->modes & ADJ_NANO ? 1 : 1000);
}

static void apply_locked(const struct timex *tx)
{
    if (tx->modes & ADJ_STATUS)
        status_bits = tx->status & ~(STA_RONLY);
    if (tx->modes & ADJ_NANO)
        status_bits |= STA_NANO;
    if (tx->modes & ADJ_MICRO)
        status_bits &= ~STA_NANO;
    if (tx->modes & ADJ_FREQUENCY)
        freq_units = tx->freq;
    if (tx->modes & ADJ_TICK)
        tick_us = tx->tick;
    int64_t step_ns = tx->modes & ADJ_SETOFFSET ? setoffset_ns(tx) : 0;
    if (tx->modes & (ADJ_FREQUENCY | ADJ_TICK | ADJ_SETOFFSET))
        steer_locked(present_rate(), step_ns);
}

static void report_locked(struct timex *tx)
{
    struct timespec now = timespec_of(virtual_at_locked(kernel_now()));
    tx->freq = freq_units;
    tx->tick = tick_us;
    tx->offset = 0;
    tx->status = status_bits;
    tx->time.tv_sec = now.tv_sec;
    tx->time.tv_usec = status_bits & STA_NANO ? now.tv_nsec : now.tv_nsec / 1000;
}

int clock_adjtime(clockid_t id, struct timex *tx)
{
    unsigned known = ADJ_FREQUENCY | ADJ_TICK | ADJ_SETOFFSET | ADJ_STATUS | ADJ_NANO | ADJ_MICRO | ADJ_MAXERROR
                     | ADJ_ESTERROR | ADJ_TIMECONST | ADJ_TAI;
    struct timex kernel = {0};
    if (id != CLOCK_REALTIME)
        return tx->modes ? refuse(EPERM) : REAL(clock_adjtime)(id, tx);
    if (tx->modes & ~known)
        return refuse(EINVAL);
    if (REAL(clock_adjtime)(id, &kernel) < 0)
        return -1;
    pthread_once(&once, set_up);
    pthread_mutex_lock(&lock);
    apply_locked(tx);
    kernel.modes = tx->modes;
    *tx = kernel; /* tolerance, precision and the like are the kernel's */
    report_locked(tx);
    pthread_mutex_unlock(&lock);
    return TIME_OK;
}

int adjtimex(struct timex *tx)
{
    return clock_adjtime(CLOCK_REALTIME, tx);
}

int ntp_adjtime(struct timex *tx)
{
    return clock_adjtime(CLOCK_REALTIME, tx);
}

int clock_settime(clockid_t id, const struct timespec *ts)
{
    if (id != CLOCK_REALTIME)
        return refuse(EPERM);
    pthread_once(&once, set_up);
    pthread_mutex_lock(&lock);
    steer_locked(present_rate(), ns_of(*ts) - virtual_at_locked(kernel_now()));
    pthread_mutex_unlock(&lock);
    return 0;
}

int settimeofday(const struct timeval *tv, const struct timezone *zone)
{
    (void)zone;
    struct timespec ts = {.tv_sec = tv->tv_sec, .tv_nsec = tv->tv_usec * 1000};
    return clock_settime(CLOCK_REALTIME, &ts);
}

int adjtime(const struct timeval *delta, struct timeval *remaining)
{
    return delta ? refuse(EPERM) : REAL(adjtime)(delta, remaining);
}

/* ── kernel stamps of packets, received and sent ── */

static void convert_stamps(struct msghdr *message)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c)) {
        if (c->cmsg_level != SOL_SOCKET)
            continue;
        if (c->cmsg_type == SCM_TIMESTAMPING || c->cmsg_type == SCM_TIMESTAMPNS) {
            struct timespec ts; /* of three stamps the first is the kernel's; a NIC's own clock is not ours */
            memcpy(&ts, CMSG_DATA(c), sizeof ts);
            if (ns_of(ts) != 0)
                ts = timespec_of(virtual_at(ns_of(ts)));
            memcpy(CMSG_DATA(c), &ts, sizeof ts);
        }
    }
}

ssize_t recvmsg(int socket, struct msghdr *message, int flags)
{
    static __typeof__(&recvmsg) real;
    if (!real)
        real = REAL(recvmsg);
    ssize_t length = real(socket, message, flags);
    if (length >= 0)
        convert_stamps(message);
    return length;
}
