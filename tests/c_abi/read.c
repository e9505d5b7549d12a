/*
 * Reads the page at argv[1] in every way that truebound.h has, on four threads at once, and prints one interval.
 * Exit code 1, with the place, where two ways contradict each other.
 */
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include <truebound.h>

#define EXPECT(condition)                                              \
    do {                                                               \
        if (!(condition)) {                                            \
            printf("line %d: not so: %s\n", __LINE__, #condition);     \
            return 1;                                                  \
        }                                                              \
    } while (0)

enum { READS = 10000, THREADS = 4 };

/* Reads until READS are done or `earliest` went back; NULL if all is well. */
static void *read_many(void *argument)
{
    const truebound_reader *reader = (const truebound_reader *)argument;
    static char went_back;
    int64_t earliest = INT64_MIN;
    uint64_t epoch = 0;
    for (int i = 0; i < READS; i++) {
        struct truebound_interval now;
        if (truebound_now(reader, &now) != TRUEBOUND_OK || (epoch == now.epoch && now.tai_earliest_ns < earliest)) {
            return &went_back;
        }
        epoch = now.epoch;
        earliest = now.tai_earliest_ns;
    }
    return NULL;
}

static int threads_agree(truebound_reader *reader)
{
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++) {
        EXPECT(pthread_create(&threads[i], NULL, read_many, reader) == 0);
    }
    for (int i = 0; i < THREADS; i++) {
        void *went_back = NULL;
        EXPECT(pthread_join(threads[i], &went_back) == 0);
        EXPECT(went_back == NULL);
    }
    return 0;
}

static int ticks_agree(const truebound_reader *reader)
{
    struct truebound_tick first, second;
    struct truebound_elapsed elapsed;
    EXPECT(truebound_tick_now(reader, &first) == TRUEBOUND_OK);
    EXPECT(truebound_tick_now(reader, &second) == TRUEBOUND_OK);
    EXPECT(second.raw_ns >= first.raw_ns);
    EXPECT(truebound_elapsed(&first, &second, &elapsed) == TRUEBOUND_OK);
    EXPECT(elapsed.least_ns >= 0 && elapsed.least_ns <= elapsed.most_ns);
    EXPECT(elapsed.least_ns <= second.raw_ns - first.raw_ns && elapsed.most_ns >= second.raw_ns - first.raw_ns);
    second.epoch++;
    EXPECT(truebound_elapsed(&first, &second, &elapsed) == TRUEBOUND_OK);
    EXPECT(elapsed.least_ns == 0 && elapsed.most_ns == INT64_MAX);
    return 0;
}

static int leases_and_waiting_agree(const truebound_reader *reader)
{
    struct truebound_interval now, later;
    const int64_t second = 1000000000;
    EXPECT(truebound_now_strict(reader, &now) == TRUEBOUND_OK);
    EXPECT(truebound_confirm(reader, now.tai_latest_ns + 60 * second, now.epoch) == TRUEBOUND_OK);
    EXPECT(truebound_confirm(reader, now.tai_latest_ns, now.epoch) == TRUEBOUND_ERR_EXPIRED);
    EXPECT(truebound_confirm(reader, now.tai_latest_ns + 60 * second, now.epoch + 1) == TRUEBOUND_ERR_EPOCH_CHANGED);

    EXPECT(truebound_wait_until_passed(reader, now.tai_latest_ns, 20 * second) == TRUEBOUND_OK);
    EXPECT(truebound_now(reader, &later) == TRUEBOUND_OK);
    EXPECT(later.tai_earliest_ns > now.tai_latest_ns);
    EXPECT(truebound_wait_until_passed(reader, INT64_MAX, 1) == TRUEBOUND_ERR_TIMEOUT);
    EXPECT(truebound_wait_until_passed(reader, INT64_MAX, INT64_MIN) == TRUEBOUND_ERR_TIMEOUT);
    EXPECT(truebound_wait_until_passed(reader, INT64_MIN, 0) == TRUEBOUND_OK);
    return 0;
}

static int publication_agrees(const truebound_reader *reader)
{
    struct truebound_publication said;
    struct truebound_interval now;
    EXPECT(truebound_publication(reader, &said) == TRUEBOUND_OK);
    EXPECT(truebound_now(reader, &now) == TRUEBOUND_OK);
    EXPECT(said.status == TRUEBOUND_STATUS_LOCKED || said.status == TRUEBOUND_STATUS_HOLDOVER);
    EXPECT(now.status == said.status && now.epoch == said.epoch);
    EXPECT(said.half_width_ns > 0 && said.half_width_ns < INT64_MAX);
    EXPECT(said.groups_configured == 1 && said.groups_answering <= 1);
    EXPECT(strlen(said.source) > 0 && strlen(said.source) < sizeof said.source);
    return 0;
}

int main(int argc, char **argv)
{
    truebound_reader *reader;
    struct truebound_interval now;
    EXPECT(argc == 2);
    EXPECT(truebound_abi_version() == TRUEBOUND_ABI_VERSION);
    EXPECT(truebound_open_at(argv[1], &reader) == TRUEBOUND_OK);
    EXPECT(truebound_now(reader, &now) == TRUEBOUND_OK);
    if (threads_agree(reader) || ticks_agree(reader) || leases_and_waiting_agree(reader) || publication_agrees(reader)) {
        return 1;
    }
    printf("%" PRId64 "\n%" PRId64 "\n%" PRId64 "\n%" PRId64 "\n", now.earliest_ns, now.latest_ns, now.tai_earliest_ns,
           now.tai_latest_ns);
    printf("%" PRIu64 "\n%" PRId32 "\n%s\n", now.epoch, now.tai_offset_s, truebound_status_name(now.status));
    truebound_close(reader);
    return 0;
}
