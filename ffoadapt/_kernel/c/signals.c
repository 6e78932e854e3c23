/* Ctrl-C while a solver with a handler of its own runs.

   Some solvers put a handler for SIGINT in place while they solve, and back what they found when they
   are done. Meanwhile Python sees no signal; one that comes after the solver's last look at its flag
   is lost; and where solves overlap in threads, the last to end puts back the handler of another. So
   the solvers share: what their libraries call as sigaction() and signal() is replaced by functions
   that leave the process with one handler, which calls the one that was there before and those of the
   solvers. It stays, because it also knows when the last signal came: compiled code that calls Python
   back, to look at an argument, may swallow the exception that Python's handler raises there.

   Where the addresses are that a library calls is known for ELF alone: elsewhere nothing is shared,
   and _interrupts.py does what can be done without. */

#include "signals.h"

#include "kernel.h" /* last: it hides what is declared from there on */

#ifdef SHARED

enum { GUESTS = 8 }; /* handlers of solvers at a time; any further one is not called */

typedef void (*Handler)(int, siginfo_t *, void *);

static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER; /* for what follows but for the handler */
static sigset_t turn_signals;                            /* of the thread whose turn it is */
static int depth;                                        /* solves that have a handler in place */
static struct sigaction host;                            /* what was there before them */
static _Atomic(uintptr_t) guests[GUESTS];
static _Atomic(double) last = -INFINITY; /* when the last signal came, by the clock that only grows */

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static uintptr_t address(const struct sigaction *action)
{
    return action->sa_flags & SA_SIGINFO ? (uintptr_t)action->sa_sigaction
                                         : (uintptr_t)action->sa_handler;
}

static int plain(uintptr_t handler)
{
    return handler == (uintptr_t)SIG_DFL || handler == (uintptr_t)SIG_IGN;
}

/* No signal comes to a thread while it is its turn: a solver's handler may call signal() itself, and
   would wait for the thread that it has stopped. */
static void take_turn(void)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_mutex_lock(&turn);
    turn_signals = before;
}

static void end_turn(void)
{
    sigset_t before = turn_signals;
    pthread_mutex_unlock(&turn);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

/* The handler of the process while solvers have theirs. Python's only takes a note, so that it has
   seen the signal before any solver has. All are called with three arguments: those that take one do
   not look at the others. */
static void everyone(int number, siginfo_t *information, void *context)
{
    int error = errno;
    double time = now();
    ((Handler)address(&host))(number, information, context);
    atomic_store(&last, time); /* after Python has its note, so that what it will raise is not missed */
    for (int k = 0; k < GUESTS; k++) {
        uintptr_t guest = atomic_load(&guests[k]);
        if (guest)
            ((Handler)guest)(number, information, context);
    }
    errno = error;
}

/* Puts that handler in place of `at`, unless that ignores the signal, or lets it end the process: who
   does so has said what should happen. Whether it is there. */
static int together(const struct sigaction *at)
{
    if (address(at) == (uintptr_t)everyone)
        return 1;
    if (plain(address(at)))
        return 0;
    struct sigaction all = host = *at;
    all.sa_sigaction = everyone;
    /* Solvers' handlers print; the other stack that a thread may have for signals is too small. */
    all.sa_flags = (all.sa_flags | SA_SIGINFO) & ~SA_ONSTACK;
    return sigaction(SIGINT, &all, NULL) == 0;
}

static void welcome(uintptr_t guest)
{
    for (int k = 0; k < GUESTS; k++) {
        uintptr_t known = atomic_load(&guests[k]);
        if (!known)
            atomic_store(&guests[k], guest);
        if (!known || known == guest)
            return;
    }
}

static void forget_guests(void)
{
    for (int k = 0; k < GUESTS; k++)
        atomic_store(&guests[k], 0);
}

/* What the libraries of solvers call as sigaction(). */
static int shared_sigaction(int number, const struct sigaction *given, struct sigaction *before)
{
    if (number != SIGINT || !given)
        return sigaction(number, given, before);
    struct sigaction at;
    uintptr_t handler = address(given);
    take_turn();
    sigaction(SIGINT, NULL, &at);
    int shared = together(&at);
    if (plain(handler) || handler == address(shared ? &host : &at)) {
        /* What a solver found is put back. */
        if (depth > 0 && --depth == 0)
            forget_guests();
    } else if (shared) {
        welcome(handler);
        depth++;
    }
    if (before)
        *before = shared ? host : at;
    end_turn();
    return 0;
}

/* What they call as signal(). */
static void (*shared_signal(int number, void (*handler)(int)))(int)
{
    struct sigaction given = {.sa_handler = handler}, before;
    if (number != SIGINT)
        return signal(number, handler);
    shared_sigaction(number, &given, &before);
    return (void (*)(int))address(&before);
}

/* A child has the thread that forked alone, and no solve. */
static void in_child(void)
{
    pthread_mutex_init(&turn, NULL);
    depth = 0;
    forget_guests();
}

static int ready(void)
{
    static int done;
    if (!done)
        done = pthread_atfork(NULL, NULL, in_child) == 0;
    return done;
}

/* Unless it was done in the last seconds: it takes a microsecond. */
static void watch(double seconds)
{
    static _Atomic(double) done = -INFINITY;
    struct sigaction at;
    double time = now();
    if (time < atomic_load(&done) + seconds)
        return;
    atomic_store(&done, time);
    sigaction(SIGINT, NULL, &at);
    if (address(&at) == (uintptr_t)everyone || !ready())
        return;
    take_turn();
    sigaction(SIGINT, NULL, &at);
    together(&at);
    end_turn();
}

static int share(const char **paths, Py_ssize_t count)
{
    int sharing = ready() ? replace_calls(paths, count, shared_sigaction, shared_signal) : 0;
    watch(0.0);
    return sharing;
}

static double latest(void) { return atomic_load(&last); }

#else

static int share(const char **paths, Py_ssize_t count) { return 0; }
static double latest(void) { return -INFINITY; }
static void watch(double seconds) {}

#endif

PyDoc_STRVAR(share_doc, "share_interrupts(paths) -> how many loaded libraries share SIGINT: those with "
                        "such a path, or in such a folder (with a slash at the end)");

static PyObject *share_interrupts(PyObject *module, PyObject *args)
{
    enum { HANDLERS = 64 };
    PyObject *given;
    const char *paths[HANDLERS];
    if (!PyArg_ParseTuple(args, "O!", &PyTuple_Type, &given))
        return NULL;
    Py_ssize_t count = PyTuple_Size(given);
    if (count > HANDLERS)
        count = HANDLERS;
    for (Py_ssize_t k = 0; k < count; k++) {
        paths[k] = PyUnicode_AsUTF8AndSize(PyTuple_GetItem(given, k), NULL);
        if (!paths[k])
            return NULL;
    }
    return PyLong_FromLong(share(paths, count));
}

PyDoc_STRVAR(interrupted_doc, "interrupted_since(start) -> whether SIGINT came since then, of "
                              "time.perf_counter, once Python's handlers have run, which may raise");

static PyObject *interrupted_since(PyObject *module, PyObject *start)
{
    double came = latest(); /* first: of a signal that comes now the handler would run later */
    double from = PyFloat_AsDouble(start);
    if ((from == -1.0 && PyErr_Occurred()) || PyErr_CheckSignals())
        return NULL;
    return PyBool_FromLong(came >= from);
}

PyDoc_STRVAR(watch_doc, "watch_interrupts(seconds): have `interrupted_since` know of the next signals, "
                        "unless that was seen to in these last seconds");

static PyObject *watch_interrupts(PyObject *module, PyObject *seconds)
{
    double given = PyFloat_AsDouble(seconds);
    if (given == -1.0 && PyErr_Occurred())
        return NULL;
    watch(given);
    return Py_NewRef(Py_None);
}

PyMethodDef signal_methods[] = {
    {"share_interrupts", share_interrupts, METH_VARARGS, share_doc},
    {"watch_interrupts", watch_interrupts, METH_O, watch_doc},
    {"interrupted_since", interrupted_since, METH_O, interrupted_doc},
    {NULL},
};
