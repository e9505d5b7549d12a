/*
 * truebound.h - what time is it, with proof: earliest <= true time <= latest.
 *
 * A truebound agent publishes a page in shared memory (client/PAGE.md); these functions read it. While the agent's
 * stated assumptions hold, true time was between the two ends at some instant during the call.
 *
 *     truebound_reader *reader;
 *     struct truebound_interval now;
 *     if (truebound_open(&reader) == TRUEBOUND_OK && truebound_now(reader, &now) == TRUEBOUND_OK)
 *         printf("%lld to %lld\n", (long long)now.earliest_ns, (long long)now.latest_ns);
 *     truebound_close(reader);
 *
 * Order of two readings, on one host or two: A was before B if A.tai_latest_ns < B.tai_earliest_ns. Compare ends, never
 * midpoints. Instants that are stored or sent are TAI: Unix time repeats a second at a leap.
 *
 * Threads: one reader serves all threads at once. No function keeps or changes anything that a caller can see, but
 * truebound_close: after it the reader is gone, for every thread. A reader survives fork, but not into
 * another time namespace (unshare): there only truebound_now_strict and truebound_tick refuse.
 *
 * Every pointer is checked for NULL (TRUEBOUND_ERR_ARGUMENT); otherwise it must point to what its type says.
 *
 * Link: -ltruebound, or libtruebound.a with -lpthread -ldl -lm -lgcc_s. C99 or C++11. 64-bit Linux.
 */
#ifndef TRUEBOUND_H
#define TRUEBOUND_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Changes when a program compiled against the old header could go wrong with the new library. Functions, and codes of
 * errors, reasons and statuses may be added within a version.
 */
#define TRUEBOUND_ABI_VERSION 1

/* The library's TRUEBOUND_ABI_VERSION. Compare it once where the library is loaded by name. */
uint32_t truebound_abi_version(void);

/* ── errors ── 0: it worked. Positive: below. Negative: minus an errno of open, stat or mmap. */

#define TRUEBOUND_OK 0
#define TRUEBOUND_ERR_ARGUMENT 1 /* a NULL pointer */
/* Opening. */
#define TRUEBOUND_ERR_TRUNCATED 2            /* no regular file, or shorter than a page */
#define TRUEBOUND_ERR_WRITABLE_BY_OTHERS 3   /* group or others may write to it: anybody could forge the bound */
#define TRUEBOUND_ERR_FOREIGN_OWNER 4        /* owned by neither root nor this user */
#define TRUEBOUND_ERR_NOT_A_PAGE 5           /* not a truebound page */
#define TRUEBOUND_ERR_LAYOUT_VERSION 6       /* a page of another layout: another version of the agent */
#define TRUEBOUND_ERR_OTHER_BOOT 7           /* written before this host was booted */
#define TRUEBOUND_ERR_OTHER_CLOCK 8          /* ages by a virtual clock (tests) */
#define TRUEBOUND_ERR_OTHER_TIME_NAMESPACE 9 /* this process's raw clock is shifted against the agent's; reading too */
/* Reading: why there is no interval. */
#define TRUEBOUND_ERR_NO_BOUND 20            /* the agent has none: see status and reason */
#define TRUEBOUND_ERR_STALE 21               /* the bound has expired: is the agent running? */
#define TRUEBOUND_ERR_BEFORE_REFERENCE 22    /* the raw clock is before the bound's reference instant */
#define TRUEBOUND_ERR_CONTENDED 23           /* publications overtook the read a thousand times */
#define TRUEBOUND_ERR_MALFORMED 24           /* the page says something that no agent says */
#define TRUEBOUND_ERR_SLEPT 25               /* the host slept since the page was published */
#define TRUEBOUND_ERR_VM_MOVED 26            /* the hypervisor paused, moved or restored this VM since */
#define TRUEBOUND_ERR_VMCLOCK_HIDDEN 27      /* the agent watches the hypervisor's page, this process cannot */
#define TRUEBOUND_ERR_CLOCKSOURCE_CHANGED 28 /* the kernel's clocksource is another one since */
#define TRUEBOUND_ERR_REPLACED 29            /* the page's file was removed or replaced: open its path again */
/* Leases and waiting. */
#define TRUEBOUND_ERR_EXPIRED 40       /* the instant may have passed */
#define TRUEBOUND_ERR_EPOCH_CHANGED 41 /* the agent withdrew the bounds that the caller relied on */
#define TRUEBOUND_ERR_TIMEOUT 42       /* the instant has not certainly passed yet */
/* An error that a later version of the library added underneath. */
#define TRUEBOUND_ERR_OTHER 99

/*
 * Writes what `error` means and what to do next, in English, to `text`: at most `size` bytes with the final zero.
 * Returns the length of the whole text without the zero, as snprintf does; (NULL, 0) asks for it.
 */
size_t truebound_error_text(int error, char *text, size_t size);

/* ── statuses and reasons ── */

#define TRUEBOUND_STATUS_STARTING 0
#define TRUEBOUND_STATUS_LOCKED 1   /* there is a bound, and it is fresh */
#define TRUEBOUND_STATUS_HOLDOVER 2 /* there is a bound, and it grows */
#define TRUEBOUND_STATUS_FREE_RUNNING 3
#define TRUEBOUND_STATUS_DISRUPTED 4
#define TRUEBOUND_STATUS_VOID 5

/* "locked" and so on; "unknown" for any other number. Never NULL, never freed. */
const char *truebound_status_name(uint32_t status);

/* Why the status is what it is. Numbers are never reused; more may be added. */
#define TRUEBOUND_REASON_UNKNOWN 0
#define TRUEBOUND_REASON_NO_SOURCES 1
#define TRUEBOUND_REASON_NO_ANSWER_YET 2
#define TRUEBOUND_REASON_MAJORITY 3
#define TRUEBOUND_REASON_NO_LIAR_TOLERATED 4
#define TRUEBOUND_REASON_ASSUMES_TRUST 5
#define TRUEBOUND_REASON_SOURCES_SILENT 6
#define TRUEBOUND_REASON_AGENT_STOPPED 7
#define TRUEBOUND_REASON_BOUND_EXPIRED 8
#define TRUEBOUND_REASON_SOURCE_JUMPED 9
#define TRUEBOUND_REASON_SOURCES_DISAGREE 10
#define TRUEBOUND_REASON_OSCILLATOR_BROKE 11
#define TRUEBOUND_REASON_TRUST_CONTRADICTED 12
#define TRUEBOUND_REASON_NEW_EPOCH 13
#define TRUEBOUND_REASON_CLOCKSOURCE_CHANGED 14
#define TRUEBOUND_REASON_SUSPENDED 15
#define TRUEBOUND_REASON_RESTARTED 16
#define TRUEBOUND_REASON_FREQUENCY_AUDIT 18
#define TRUEBOUND_REASON_UNKNOWN_CLOCKSOURCE 19
#define TRUEBOUND_REASON_ASSERTED_ONLY 20
#define TRUEBOUND_REASON_VM_MOVED 21

/* One sentence for an operator; buffer and result as with truebound_error_text. */
size_t truebound_reason_text(uint32_t reason, char *text, size_t size);

/* ── opening ── */

typedef struct truebound_reader truebound_reader;

/* Opens the agent's usual page, /run/truebound/bound. On an error *reader is NULL. */
int truebound_open(truebound_reader **reader);

/* The same for the page at `path`. */
int truebound_open_at(const char *path, truebound_reader **reader);

/* Closes. NULL is fine; a reader must not be closed twice. */
void truebound_close(truebound_reader *reader);

/* ── reading ── */

/*
 * True time was in [earliest_ns, latest_ns], both included, at some instant during the call. Where there is no interval
 * the ends are INT64_MIN and INT64_MAX: all of time, which is true too.
 */
struct truebound_interval {
    int64_t earliest_ns;     /* Unix time, ns since 1970-01-01T00:00:00Z */
    int64_t latest_ns;       /* the same */
    int64_t tai_earliest_ns; /* TAI, ns since 1970-01-01T00:00:00 TAI; within an epoch it never goes back */
    int64_t tai_latest_ns;   /* the same */
    uint64_t epoch;          /* changes when the agent withdrew its earlier bounds */
    int32_t tai_offset_s;    /* TAI - UTC as used here, s */
    uint32_t status;         /* TRUEBOUND_STATUS_... */
    uint32_t reason;         /* after TRUEBOUND_ERR_NO_BOUND: why; else 0 */
    uint32_t reserved;       /* 0 */
};

/* The interval now. No system call, no lock, no allocation. */
int truebound_now(const truebound_reader *reader, struct truebound_interval *interval);

/*
 * The same, and nothing that this process can see speaks against the page: the host did not sleep, the VM was not
 * moved, clocksource and time namespace are the agent's. What a lease stands on. Some system calls: microseconds.
 */
int truebound_now_strict(const truebound_reader *reader, struct truebound_interval *interval);

/* A reading of this host's raw clock, with what is proved of its rate from then on. It means nothing on another host. */
struct truebound_tick {
    int64_t raw_ns;       /* CLOCK_MONOTONIC_RAW, ns */
    int64_t suspended_ns; /* CLOCK_BOOTTIME - CLOCK_MONOTONIC, ns */
    uint64_t epoch;
    /* For truebound_elapsed alone: the limits of the rate, 2^-40 s/s, and half the wander, 2^-80 per ns. */
    int64_t omega_lo, omega_hi, cap_lo, cap_hi, phase_rate;
    uint64_t half_wander;
};

/* Needs no source of time to be reachable; strict as truebound_now_strict. */
int truebound_tick_now(const truebound_reader *reader, struct truebound_tick *tick);

/* How much true time passed between two ticks of one host. */
struct truebound_elapsed {
    int64_t least_ns; /* at least this */
    int64_t most_ns;  /* at most this; INT64_MAX: nobody can say (the host slept, or the epoch changed) */
};

int truebound_elapsed(const struct truebound_tick *earlier, const struct truebound_tick *later,
                      struct truebound_elapsed *elapsed);

/* What the agent said last, for people and logs. */
struct truebound_publication {
    uint32_t status;            /* TRUEBOUND_STATUS_... */
    uint32_t reason;            /* TRUEBOUND_REASON_... */
    uint64_t epoch;
    int64_t half_width_ns;      /* half the width of the interval now, ns; INT64_MAX: there is none */
    uint32_t groups_configured; /* independence groups of sources */
    uint32_t groups_answering;
    uint32_t foretold;          /* a disruption that the hypervisor foretells: 0 none, 1 in a day, 2 in an hour */
    char source[36];            /* which source carries the bound; UTF-8, ends with a zero */
};

/* TRUEBOUND_ERR_NO_BOUND before the agent's first publication. */
int truebound_publication(const truebound_reader *reader, struct truebound_publication *publication);

/* ── leases and waiting ── */

/*
 * Is a lease that expires at `expires_tai_ns` certainly unexpired, by a strict reading of epoch `epoch`? Call it *after*
 * the protected work and before its result leaves: an answer from before the work says nothing of its end. Effects
 * elsewhere need a fencing token as well. TRUEBOUND_OK, TRUEBOUND_ERR_EXPIRED, TRUEBOUND_ERR_EPOCH_CHANGED, or why
 * there is no reading.
 */
int truebound_confirm(const truebound_reader *reader, int64_t expires_tai_ns, uint64_t epoch);

/*
 * Commit wait: returns TRUEBOUND_OK once `tai_ns` is certainly past by a strict reading, so that whoever reads later reads
 * a later time. Sleeps meanwhile, for about `timeout_ns` at most: then TRUEBOUND_ERR_TIMEOUT, or why there was no reading.
 * 0 only asks.
 */
int truebound_wait_until_passed(const truebound_reader *reader, int64_t tai_ns, int64_t timeout_ns);

#ifdef __cplusplus
}
#endif

#endif
