/* The phases of a run: connect everybody, warm up, measure, drain. */
#include "load.h"

#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/timerfd.h>
#include <unistd.h>

static double own_processor_seconds(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

/* One turn of the loop: what the sockets have, until `until` (0: do not wait). */
static void turn(struct load *load, int64_t until) {
    struct epoll_event events[512];
    int64_t wait = until - now_ns();
    struct timespec limit = {wait > 0 ? wait / 1000000000 : 0, wait > 0 ? wait % 1000000000 : 0};
    int count = epoll_pwait2(load->epoll, events, 512, &limit, NULL);
    for (int i = 0; i < count; i++) {
        struct client *client = events[i].data.ptr;
        if (client->phase == CLOSED) continue;
        if (client->phase == CONNECTING || events[i].events & (EPOLLIN | EPOLLERR | EPOLLHUP)) client_readable(load, client);
        if (events[i].events & EPOLLOUT) client_flush(load, client);
    }
    flush_all(load);
}

static void idle(struct load *load, double seconds) {
    int64_t until = now_ns() + (int64_t)(seconds * 1e9);
    while (now_ns() < until) turn(load, until);
}

bool run_connect(struct load *load, struct outcome *outcome) {
    const struct options *options = &load->options;
    int started = 0, seen = 0;
    outcome->resident_before = resident_kib(options);
    double processor = processor_seconds(options);
    int64_t start = now_ns(), progress = start;
    while (load->ready + load->closed < load->client_count) {
        while (started < load->client_count && load->connecting < options->burst) client_connect(load, &load->clients[started++]);
        turn(load, now_ns() + 100000000);
        if (load->ready + load->closed != seen) {
            seen = load->ready + load->closed;
            progress = now_ns();
        }
        if ((double)(now_ns() - progress) > options->patience * 1e9) break;
    }
    outcome->connect_seconds = (double)(now_ns() - start) / 1e9;
    outcome->connect_processor = processor_seconds(options) - processor;
    idle(load, options->settle);
    outcome->resident_joined = resident_kib(options);
    return load->ready == load->client_count;
}

static void publish(struct load *load, int64_t at) {
    const struct options *options = &load->options;
    static char *data, *text;
    if (!data) {
        data = calloc(1, (size_t)options->payload + 1);
        text = malloc((size_t)options->payload + 512);
    }
    uint32_t message = load->tally->sent++;
    int stride = options->pairs ? 2 : options->size;
    int groups = options->pairs ? options->pairs : options->rooms;
    struct client *sender = &load->clients[(int)(message % (uint32_t)groups) * stride];
    stamp_write(data, (size_t)options->payload, message, at);
    size_t length = dialect_publication(load, sender, data, text, (size_t)options->payload + 512);
    client_write(load, sender, text, length);
}

/* Closed loop: keep in_flight publications on their way. Open loop: what the schedule says, stamped with the time at
 * which it was due, so that a server that is late pays for it (no "coordinated omission"). */
static void publish_until(struct load *load, int64_t start, int64_t end, uint32_t first) {
    const struct options *options = &load->options;
    struct tally *tally = load->tally;
    for (int64_t now = now_ns(); now < end && tally->sent < MAX_MESSAGES - 1 && !load->closed; now = now_ns()) {
        int64_t due = end;
        if (options->in_flight) {
            while (tally->sent - tally->complete < (uint32_t)options->in_flight) publish(load, now);
            if ((double)(now - tally->last_arrival) > options->patience * 1e9) return;
        } else {
            while ((due = start + (int64_t)((double)(tally->sent - first) * 1e9 / options->rate)) <= now && due < end)
                publish(load, due);
        }
        flush_all(load);
        int64_t latest = now + 50000000;
        turn(load, due < end ? (due < latest ? due : latest) : (end < latest ? end : latest));
    }
}

static void drain(struct load *load) {
    struct tally *tally = load->tally;
    tally->last_arrival = now_ns();
    while (tally->complete < tally->sent && !load->closed) {
        turn(load, now_ns() + 50000000);
        if ((double)(now_ns() - tally->last_arrival) > load->options.patience * 1e9) break;
    }
}

/* Memory is looked at two seconds after the measured phase began, or at its end if that comes first. */
static void measure(struct load *load, struct outcome *outcome, int64_t start) {
    const struct options *options = &load->options;
    uint32_t first = load->tally->sent;
    int64_t middle = start + 2000000000, end = start + (int64_t)(options->seconds * 1e9);
    publish_until(load, start, middle < end ? middle : end, first);
    outcome->resident_2s = resident_kib(options);
    if (middle < end) publish_until(load, start, end, first);
    outcome->schedule_seconds = (double)(now_ns() - start) / 1e9;
}

void run_publish(struct load *load, struct outcome *outcome) {
    struct tally *tally = load->tally;
    tally->last_arrival = now_ns();
    publish_until(load, now_ns(), now_ns() + (int64_t)(load->options.warmup * 1e9), 0);
    tally->is_measuring = true;
    tally->first_measured = tally->sent;
    uint64_t received = tally->received, bytes = tally->bytes;
    int64_t start = tally->last_arrival = now_ns();
    double processor = processor_seconds(&load->options), own = own_processor_seconds();
    measure(load, outcome, start);
    drain(load);
    outcome->seconds = (double)(now_ns() - start) / 1e9;
    outcome->processor = processor_seconds(&load->options) - processor;
    outcome->own_processor = own_processor_seconds() - own;
    outcome->received = tally->received - received;
    outcome->bytes = tally->bytes - bytes;
    outcome->messages = tally->sent - tally->first_measured;
    idle(load, 0.05); /* whoever sends something twice gets the time to do so */
    outcome->total_received = tally->received;
    outcome->total_expected = (uint64_t)tally->sent * tally->receivers;
    outcome->resident_end = resident_kib(&load->options);
}
