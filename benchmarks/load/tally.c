/* What was received, and how long it took. The histogram has 64 buckets per power of two (an error of at most 1.6 %),
 * the idea of HdrHistogram. */
#include "load.h"

#include <stdlib.h>
#include <sys/mman.h>

struct tally *tally_new(uint32_t receivers) {
    struct tally *tally = calloc(1, sizeof *tally);
    tally->receivers = receivers;
    tally->got = mmap(NULL, sizeof(uint32_t) * MAX_MESSAGES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (tally->got == MAP_FAILED) {
        perror("load: mmap");
        exit(1);
    }
    return tally;
}

static void histogram_add(struct histogram *histogram, uint64_t value) {
    int power = value < 64 ? 5 : 63 - __builtin_clzll(value);
    unsigned bucket = value < 64 ? (unsigned)value : (unsigned)(power - 5) * 64 + ((value >> (power - 6)) & 63);
    histogram->buckets[bucket]++;
    histogram->count++;
}

double histogram_quantile(const struct histogram *histogram, double quantile) {
    uint64_t wanted = (uint64_t)(quantile * (double)histogram->count), seen = 0;
    for (unsigned bucket = 0; bucket < 64 * 58; bucket++) {
        seen += histogram->buckets[bucket];
        if (seen > wanted || (seen && seen == histogram->count)) {
            if (bucket < 64) return bucket;
            int power = (int)(bucket / 64) + 5;
            return (double)(1ULL << power) + ((double)(bucket % 64) + 0.5) * (double)(1ULL << (power - 6));
        }
    }
    return 0;
}

void tally_received(struct tally *tally, struct client *client, uint32_t message, int64_t sent_at, int64_t now) {
    if (message >= tally->sent) {
        tally->strange++;
        return;
    }
    tally->received++;
    tally->last_arrival = now;
    if (client->last_message > message) tally->disorder++;
    client->last_message = message + 1;
    uint32_t got = ++tally->got[message];
    if (got == tally->receivers) tally->complete++;
    else if (got > tally->receivers) tally->surplus++;
    if (tally->is_measuring && message >= tally->first_measured)
        histogram_add(&tally->latency, now > sent_at ? (uint64_t)(now - sent_at) : 0);
}
