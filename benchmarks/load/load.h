/* The load generator: many WebSocket clients in one epoll loop, one thread.
 *
 * It has to cost far less than the servers it measures, so a received frame is never decoded: the payload of every
 * publication carries a marker (see "stamp" below) that is found with one memchr().
 *
 *   options.c   what the command line asks for
 *   client.c    one client: connect, handshake, join, read, write
 *   dialect.c   what is said on the wire: plain JSON, or Socket.IO's packets
 *   stamp.c     the marker in a payload: message number and time of sending
 *   tally.c     what was received; histogram of latencies
 *   usage.c     processor time and memory of the servers, from /proc
 *   run.c       the phases: connect, warm up, measure, drain
 *   main.c      puts them together and prints one JSON object
 */
#ifndef LOAD_H
#define LOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

enum { MAX_TARGETS = 8, MAX_PIDS = 16, MAX_MESSAGES = 1 << 24, READ_BUFFER = 1 << 20, STAMP_LENGTH = 25 };

/* ---- options.c ---- */

struct options {
    bool is_socketio;          /* speak Engine.IO and Socket.IO instead of plain JSON */
    const char *path;          /* request target of the handshake */
    const char *token;         /* plain dialect: authenticate with it before joining; NULL: do not */
    int ports[MAX_TARGETS];    /* servers on 127.0.0.1; client c goes to number c modulo target_count */
    int target_count;
    pid_t pids[MAX_PIDS];      /* server processes whose time and memory are added up */
    int pid_count;
    int rooms;                 /* number of rooms ... */
    int size;                  /* ... and the members of each, its sender included */
    int pairs;                 /* instead of rooms: so many clients that each send to another one */
    int stalled;               /* the last so many clients stop reading once they have joined */
    int in_flight;             /* closed loop: publications not yet complete at any time; 0: open loop */
    double rate;               /* open loop: publications per second */
    double warmup, seconds;    /* length of the two phases */
    double patience;           /* give up when nothing arrives for so long */
    int payload;               /* length of the data of each publication, in bytes */
    int burst;                 /* clients that may be connecting at the same time */
    bool is_connect_only;      /* stop once everybody has joined */
    double settle;             /* pause before memory is looked at */
};

void read_options(struct options *options, int argc, char **argv);

/* ---- client.c ---- */

enum phase { UNUSED, CONNECTING, UPGRADING, GREETING, AUTHENTICATING, JOINING, READY, CLOSED };

struct client {
    int fd;
    enum phase phase;
    bool is_stalled;
    bool wants_write;          /* EPOLLOUT is asked for */
    int number, room;
    uint32_t last_message;     /* number of the last publication it got, plus one */
    char id[160];              /* what private messages to it are addressed to */
    char *rest;                /* bytes of a frame that is not complete yet */
    size_t rest_length, rest_size;
    char *out;                 /* bytes that wait to be written */
    size_t out_length, out_size;
};

struct load {
    struct options options;
    struct client *clients;
    int client_count;
    int epoll;
    int connecting, ready, closed;
    char *buffer;              /* everything is received into this one */
    struct client **dirty;     /* clients with output of this turn */
    int dirty_count;
    struct tally *tally;
};

int64_t now_ns(void);
void client_connect(struct load *load, struct client *client);
void client_readable(struct load *load, struct client *client);
void client_write(struct load *load, struct client *client, const char *text, size_t length);
void client_flush(struct load *load, struct client *client);
void client_close(struct load *load, struct client *client, const char *why);
void flush_all(struct load *load);

/* ---- dialect.c ---- */

void dialect_upgraded(struct load *load, struct client *client);
void dialect_frame(struct load *load, struct client *client, char *text, size_t length, int64_t now);
size_t dialect_publication(struct load *load, struct client *sender, const char *data, char *out, size_t size);

/* ---- stamp.c ---- */

void stamp_write(char *data, size_t length, uint32_t message, int64_t at);
bool stamp_read(const char *text, size_t length, uint32_t *message, int64_t *at);

/* ---- tally.c ---- */

struct histogram {
    uint64_t count;
    uint32_t buckets[64 * 64];
};

struct tally {
    uint32_t *got;             /* receivers that each publication has reached */
    uint32_t receivers;        /* receivers that each publication has to reach */
    uint32_t sent, complete;
    uint64_t received, bytes;
    uint64_t surplus;          /* publications that somebody got once too often */
    uint64_t disorder;         /* publications that overtook an earlier one of the same sender */
    uint64_t strange;          /* frames that were not expected, such as errors */
    bool is_measuring;
    uint32_t first_measured;   /* publications before this number belong to the warm-up */
    int64_t last_arrival;
    struct histogram latency;  /* of publications of the measured phase, in nanoseconds */
};

struct tally *tally_new(uint32_t receivers);
void tally_received(struct tally *tally, struct client *client, uint32_t message, int64_t sent_at, int64_t now);
double histogram_quantile(const struct histogram *histogram, double quantile);

/* ---- usage.c ---- */

double processor_seconds(const struct options *options);
long resident_kib(const struct options *options);

/* ---- run.c ---- */

struct outcome {
    double connect_seconds, connect_processor;   /* first connect until the last client has joined */
    long resident_before, resident_joined, resident_2s, resident_end;
    double seconds, processor, own_processor;    /* of the measured phase, its drain included */
    uint64_t received, expected, bytes;          /* of the measured phase; of the whole run in total_… */
    uint64_t total_received, total_expected;
    uint32_t messages;
    double schedule_seconds;                     /* the measured phase without its drain */
};

bool run_connect(struct load *load, struct outcome *outcome);
void run_publish(struct load *load, struct outcome *outcome);

#endif
