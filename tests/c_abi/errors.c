/*
 * Opens the page at argv[1] and reads it; prints both codes. Every call without its pointers must say so, and where
 * there is no interval the ends must be all of time. Exit code 1, with the place, where something is not so.
 */
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

static int null_is_an_error_everywhere(void)
{
    struct truebound_interval interval;
    struct truebound_tick tick;
    struct truebound_elapsed elapsed;
    struct truebound_publication publication;
    truebound_reader *reader = (truebound_reader *)&interval;
    memset(&tick, 0x7f, sizeof tick);
    EXPECT(truebound_open(NULL) == TRUEBOUND_ERR_ARGUMENT);
    EXPECT(truebound_open_at("/", NULL) == TRUEBOUND_ERR_ARGUMENT);
    EXPECT(truebound_open_at(NULL, NULL) == TRUEBOUND_ERR_ARGUMENT);
    EXPECT(truebound_open_at(NULL, &reader) == TRUEBOUND_ERR_ARGUMENT && reader == NULL);
    EXPECT(truebound_now(NULL, NULL) == TRUEBOUND_ERR_ARGUMENT);
    EXPECT(truebound_now(NULL, &interval) == TRUEBOUND_ERR_ARGUMENT && interval.latest_ns == INT64_MAX);
    EXPECT(truebound_now_strict(NULL, &interval) == TRUEBOUND_ERR_ARGUMENT && interval.earliest_ns == INT64_MIN);
    EXPECT(truebound_tick_now(NULL, &tick) == TRUEBOUND_ERR_ARGUMENT);
    EXPECT(truebound_elapsed(NULL, &tick, &elapsed) == TRUEBOUND_ERR_ARGUMENT && elapsed.least_ns == 0);
    EXPECT(truebound_elapsed(&tick, NULL, &elapsed) == TRUEBOUND_ERR_ARGUMENT && elapsed.most_ns == INT64_MAX);
    EXPECT(truebound_elapsed(&tick, &tick, NULL) == TRUEBOUND_ERR_ARGUMENT);
    EXPECT(truebound_publication(NULL, &publication) == TRUEBOUND_ERR_ARGUMENT && publication.source[0] == 0);
    EXPECT(truebound_confirm(NULL, 0, 0) == TRUEBOUND_ERR_ARGUMENT);
    EXPECT(truebound_wait_until_passed(NULL, 0, 0) == TRUEBOUND_ERR_ARGUMENT);
    truebound_close(NULL);
    return 0;
}

/* Ticks that no agent gives: whatever comes out, least <= most. */
static int hostile_ticks_are_harmless(void)
{
    for (int fill = 0; fill < 256; fill++) {
        struct truebound_tick first, second;
        struct truebound_elapsed elapsed;
        memset(&first, fill, sizeof first);
        memset(&second, 255 - fill, sizeof second);
        second.epoch = first.epoch;
        EXPECT(truebound_elapsed(&first, &second, &elapsed) == TRUEBOUND_OK);
        EXPECT(elapsed.least_ns >= 0 && elapsed.least_ns <= elapsed.most_ns);
    }
    return 0;
}

/* Where there is no interval: all of time, and a text that says why. */
static int nothing_is_all_of_time(const truebound_reader *reader, int code)
{
    struct truebound_interval now;
    struct truebound_publication said;
    char text[256];
    EXPECT(truebound_now(reader, &now) == code);
    EXPECT(now.earliest_ns == INT64_MIN && now.tai_earliest_ns == INT64_MIN);
    EXPECT(now.latest_ns == INT64_MAX && now.tai_latest_ns == INT64_MAX);
    EXPECT(truebound_confirm(reader, INT64_MAX, now.epoch) == code);
    EXPECT(truebound_wait_until_passed(reader, INT64_MIN, 0) == code);
    EXPECT(truebound_error_text(code, text, sizeof text) == strlen(text));
    if (truebound_publication(reader, &said) == TRUEBOUND_OK) {
        EXPECT(said.half_width_ns == INT64_MAX);
        EXPECT(code != TRUEBOUND_ERR_NO_BOUND || (said.status == now.status && said.reason == now.reason));
        EXPECT(truebound_reason_text(said.reason, text, sizeof text) == strlen(text));
    }
    return 0;
}

int main(int argc, char **argv)
{
    truebound_reader *reader = NULL;
    struct truebound_interval now;
    int opened, read;
    EXPECT(argc == 2);
    if (null_is_an_error_everywhere() || hostile_ticks_are_harmless()) {
        return 1;
    }
    opened = truebound_open_at(argv[1], &reader);
    EXPECT((opened == TRUEBOUND_OK) == (reader != NULL));
    read = truebound_now(reader, &now);
    if (reader != NULL && read != TRUEBOUND_OK && nothing_is_all_of_time(reader, read)) {
        return 1;
    }
    printf("%d %d\n", opened, read);
    truebound_close(reader);
    return 0;
}
