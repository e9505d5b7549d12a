/* The C client 2.x (clock-bound-ffi), judged as tools/clockbound-clients judges the others: the same arguments, the same
 * lines. True time is CLOCK_TAI less a constant.
 */
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "clockbound.h"

#define NS_PER_S 1000000000LL
#define STRETCH_NS (NS_PER_S / 10)

static int64_t tai_offset_ns;

static int64_t ns_of(struct timespec t)
{
    return t.tv_sec * NS_PER_S + t.tv_nsec;
}

static int64_t truth_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_TAI, &now);
    return ns_of(now) - tai_offset_ns;
}

static const char *status_name(clockbound_clock_status status)
{
    static const char *const names[] = { "unknown", "synchronized", "free-running", "disrupted" };
    return (unsigned)status < 4 ? names[status] : "no status";
}

static const char *error_name(clockbound_err_kind kind)
{
    static const char *const names[] = { "None", "Syscall", "SegmentNotInitialized", "SegmentMalformed",
                                         "CausalityBreach", "SegmentVersionNotSupported" };
    return (unsigned)kind < 6 ? names[kind] : "no error";
}

struct stretch {
    const char *status;
    int64_t from_ns, to_ns, miss_ns, half_ns, widest_ns;
    uint64_t reads, violations;
};

static void print(const struct stretch *s)
{
    printf("{\"from_ns\":%" PRId64 ",\"to_ns\":%" PRId64 ",\"status\":\"%s\",\"reads\":%" PRIu64 ",\"violations\":%" PRIu64
           ",\"miss_ns\":%" PRId64 ",\"half_ns\":%" PRId64 ",\"widest_ns\":%" PRId64 "}\n",
           s->from_ns, s->to_ns, s->status, s->reads, s->violations, s->miss_ns, s->half_ns, s->widest_ns);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    if (argc != 5) {
        fprintf(stderr, "usage: SEGMENT VMCLOCK PAUSE_US TAI_OFFSET_S\n");
        return 2;
    }
    struct timespec pause = { .tv_nsec = atol(argv[3]) * 1000 % NS_PER_S, .tv_sec = atol(argv[3]) / 1000000 };
    tai_offset_ns = atoll(argv[4]) * NS_PER_S;
    clockbound_ctx *context = NULL;
    struct stretch s = { 0 };
    for (;;) {
        clockbound_err open_error = { 0 };
        clockbound_now_result now;
        const char *status;
        int64_t before_ns = truth_ns();
        if (context == NULL && (context = clockbound_vmclock_open(argv[1], argv[2], &open_error)) != NULL)
            continue;
        clockbound_err const *error = context ? clockbound_now(context, &now) : &open_error;
        int64_t after_ns = truth_ns();
        status = error ? error_name(error->kind) : status_name(now.clock_status);
        if (s.reads > 0 && (s.status != status || after_ns - s.from_ns > STRETCH_NS)) {
            print(&s);
            memset(&s, 0, sizeof s);
        }
        if (s.reads++ == 0)
            s.from_ns = before_ns;
        s.status = status;
        s.to_ns = after_ns;
        if (!error) {
            int64_t earliest_ns = ns_of(now.earliest), latest_ns = ns_of(now.latest);
            int64_t below_ns = earliest_ns - after_ns, above_ns = before_ns - latest_ns;
            int64_t miss_ns = below_ns > above_ns ? below_ns : above_ns;
            s.half_ns = (latest_ns - earliest_ns + 1) / 2;
            s.widest_ns = s.half_ns > s.widest_ns ? s.half_ns : s.widest_ns;
            if (miss_ns > 0) {
                s.violations++;
                s.miss_ns = miss_ns > s.miss_ns ? miss_ns : s.miss_ns;
            }
        }
        nanosleep(&pause, NULL);
    }
}
