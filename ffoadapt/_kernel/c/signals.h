/* Signals are shared where the addresses that a library calls are known: for ELF on Linux. */

#ifndef FFOADAPT_SIGNALS_H
#define FFOADAPT_SIGNALS_H

#if defined(__linux__) && defined(__LP64__)
#define SHARED
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <link.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#endif

#include <stddef.h>

#ifdef SHARED
__attribute__((visibility("hidden")))
int replace_calls(const char **paths, ptrdiff_t count,
                  int (*for_sigaction)(int, const struct sigaction *, struct sigaction *),
                  void (*(*for_signal)(int, void (*)(int)))(int));
#endif

#endif
