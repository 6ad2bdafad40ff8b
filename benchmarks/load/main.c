/* Reads the options, runs the phases, prints one JSON object. Exit status 1: somebody could not connect. */
#include "load.h"

#include <stdlib.h>
#include <sys/epoll.h>

static void prepare(struct load *load, struct options options) {
    *load = (struct load){.options = options, .epoll = epoll_create1(EPOLL_CLOEXEC)};
    load->client_count = options.pairs ? options.pairs * 2 : options.rooms * options.size;
    load->clients = calloc((size_t)load->client_count, sizeof *load->clients);
    load->dirty = calloc((size_t)load->client_count * 4 + 4, sizeof *load->dirty);
    load->buffer = malloc(READ_BUFFER + 1);
    load->tally = tally_new((uint32_t)(options.pairs ? 1 : options.size - 1 - options.stalled));
    for (int i = 0; i < load->client_count; i++) {
        load->clients[i].number = i;
        load->clients[i].room = options.pairs ? 0 : i / options.size;
        load->clients[i].is_stalled = i >= load->client_count - options.stalled;
    }
}

static void print_outcome(const struct load *load, const struct outcome *outcome) {
    const struct tally *tally = load->tally;
    printf("{\"clients\":%d,\"ready\":%d,\"closed\":%d,", load->client_count, load->ready, load->closed);
    printf("\"connect_seconds\":%.4f,\"connect_cpu\":%.4f,", outcome->connect_seconds, outcome->connect_processor);
    printf("\"rss_before\":%ld,\"rss_joined\":%ld,", outcome->resident_before, outcome->resident_joined);
    printf("\"rss_2s\":%ld,\"rss_end\":%ld,", outcome->resident_2s, outcome->resident_end);
    printf("\"seconds\":%.4f,\"schedule_seconds\":%.4f,", outcome->seconds, outcome->schedule_seconds);
    printf("\"cpu\":%.4f,\"own_cpu\":%.4f,", outcome->processor, outcome->own_processor);
    printf("\"messages\":%u,\"deliveries\":%lu,\"bytes\":%lu,", outcome->messages, outcome->received, outcome->bytes);
    printf("\"received\":%lu,\"expected\":%lu,", outcome->total_received, outcome->total_expected);
    printf("\"surplus\":%lu,\"disorder\":%lu,\"strange\":%lu,", tally->surplus, tally->disorder, tally->strange);
    printf("\"p50_us\":%.2f,", histogram_quantile(&tally->latency, 0.5) / 1e3);
    printf("\"p99_us\":%.2f}\n", histogram_quantile(&tally->latency, 0.99) / 1e3);
}

int main(int argc, char **argv) {
    struct options options;
    struct load load;
    struct outcome outcome = {0};
    read_options(&options, argc, argv);
    prepare(&load, options);
    bool is_complete = run_connect(&load, &outcome);
    if (is_complete && !options.is_connect_only) run_publish(&load, &outcome);
    print_outcome(&load, &outcome);
    return is_complete ? 0 : 1;
}
