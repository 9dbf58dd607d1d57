/* What the C workers share: the clock, files, and the lines they are spoken to in (README.md, "Protocol"). */

#ifndef PROTOCOL_H
#define PROTOCOL_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* A `prepare` line. */
typedef struct {
    char directory[4096];
    int is_f64;
    int m, n, k, threads;
    int with_input_gradient;
} request_t;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + 1e-9 * t.tv_nsec;
}

static void fail(const char *what, const char *name) {
    fprintf(stderr, "%s: %s\n", what, name);
    exit(1);
}

/* The words of a `prepare` line: directory, dtype, m, n, K, threads and, at will, "dx". */
static request_t parse_prepare(const char *line) {
    request_t r = {0};
    char dtype[8] = "", extra[8] = "";
    if (sscanf(line, "prepare %4095s %7s %d %d %d %d %7s", r.directory, dtype, &r.m, &r.n, &r.k, &r.threads, extra) < 6)
        fail("cannot read", line);
    r.is_f64 = strcmp(dtype, "f64") == 0;
    r.with_input_gradient = strcmp(extra, "dx") == 0;
    return r;
}

#endif
