/* A wall clock of its own for every process that loads this: the real one and the seconds in /run/clock-ahead. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <time.h>

int clock_gettime(clockid_t clock, struct timespec *now)
{
    static int (*real)(clockid_t, struct timespec *);
    if (!real)
        real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int failed = real(clock, now);
    if (!failed && clock == CLOCK_REALTIME) {
        FILE *file = fopen("/run/clock-ahead", "re");
        long ahead = 0;
        if (file) {
            if (fscanf(file, "%ld", &ahead) != 1)
                ahead = 0;
            fclose(file);
        }
        now->tv_sec += ahead;
    }
    return failed;
}
