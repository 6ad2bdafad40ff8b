/* What the command line asks for. Every option is --name value; unknown names end the program. */
#include "load.h"

#include <stdlib.h>
#include <string.h>

static int read_list(const char *text, int *out, int most) {
    int count = 0;
    for (const char *at = text; *at && count < most;) {
        char *end;
        out[count++] = (int)strtol(at, &end, 10);
        at = *end == ',' ? end + 1 : end;
        if (end == at && *end) break;
    }
    return count;
}

static void set_defaults(struct options *options) {
    memset(options, 0, sizeof *options);
    options->path = "/ws/";
    options->rooms = 1;
    options->size = 2;
    options->in_flight = 1;
    options->warmup = 0.3;
    options->seconds = 2;
    options->patience = 5;
    options->payload = STAMP_LENGTH;
    options->burst = 32;
}

static bool set_option(struct options *options, const char *name, const char *value) {
    if (!strcmp(name, "--dialect")) options->is_socketio = !strcmp(value, "socketio");
    else if (!strcmp(name, "--path")) options->path = value;
    else if (!strcmp(name, "--token")) options->token = value;
    else if (!strcmp(name, "--ports")) options->target_count = read_list(value, options->ports, MAX_TARGETS);
    else if (!strcmp(name, "--pids")) options->pid_count = read_list(value, options->pids, MAX_PIDS);
    else if (!strcmp(name, "--rooms")) options->rooms = atoi(value);
    else if (!strcmp(name, "--size")) options->size = atoi(value);
    else if (!strcmp(name, "--pairs")) options->pairs = atoi(value);
    else if (!strcmp(name, "--stalled")) options->stalled = atoi(value);
    else if (!strcmp(name, "--in-flight")) options->in_flight = atoi(value);
    else if (!strcmp(name, "--rate")) options->rate = atof(value), options->in_flight = 0;
    else if (!strcmp(name, "--warmup")) options->warmup = atof(value);
    else if (!strcmp(name, "--seconds")) options->seconds = atof(value);
    else if (!strcmp(name, "--patience")) options->patience = atof(value);
    else if (!strcmp(name, "--payload")) options->payload = atoi(value);
    else if (!strcmp(name, "--burst")) options->burst = atoi(value);
    else if (!strcmp(name, "--settle")) options->settle = atof(value);
    else if (!strcmp(name, "--connect-only")) options->is_connect_only = atoi(value) != 0;
    else return false;
    return true;
}

void read_options(struct options *options, int argc, char **argv) {
    set_defaults(options);
    for (int i = 1; i < argc; i += 2) {
        if (i + 1 == argc || !set_option(options, argv[i], argv[i + 1])) {
            fprintf(stderr, "load: option %s is unknown or has no value\n", argv[i]);
            exit(2);
        }
    }
    if (!options->target_count || options->payload < STAMP_LENGTH || (!options->in_flight && options->rate <= 0)) {
        fprintf(stderr, "load: --ports, a --payload of at least %d and --in-flight or --rate are needed\n", STAMP_LENGTH);
        exit(2);
    }
}
