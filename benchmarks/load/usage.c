/* Processor time and memory of the server processes, from /proc: all their threads, user and system time. */
#include "load.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static double processor_seconds_of(pid_t pid) {
    char path[64], line[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *file = fopen(path, "r");
    if (!file) return 0;
    size_t length = fread(line, 1, sizeof line - 1, file);
    fclose(file);
    line[length] = 0;
    unsigned long user = 0, system = 0;
    const char *after_name = strrchr(line, ')');   /* the name may hold spaces and brackets */
    if (!after_name) return 0;
    sscanf(after_name + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system);
    return (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
}

double processor_seconds(const struct options *options) {
    double sum = 0;
    for (int i = 0; i < options->pid_count; i++) sum += processor_seconds_of(options->pids[i]);
    return sum;
}

static long resident_kib_of(pid_t pid) {
    char path[64];
    long pages = 0;
    snprintf(path, sizeof path, "/proc/%d/statm", (int)pid);
    FILE *file = fopen(path, "r");
    if (!file) return 0;
    if (fscanf(file, "%*d %ld", &pages) != 1) pages = 0;
    fclose(file);
    return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

long resident_kib(const struct options *options) {
    long sum = 0;
    for (int i = 0; i < options->pid_count; i++) sum += resident_kib_of(options->pids[i]);
    return sum;
}
