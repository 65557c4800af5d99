/* What a program can do that a simulation must carry, or refuse: `does WHAT`. */
#define _GNU_SOURCE
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

static int sleeps(void) {
    time_t before = time(NULL);
    printf("began at %ld\n", (long)before);
    sleep(3600);
    printf("slept %ld s\n", (long)(time(NULL) - before));
    return 3;
}

/* Threads that print through one FILE, whose lock is libc's own. */
static void *print_lines(void *name) {
    for (int line = 0; line < 500; line++) {
        printf("%s %d\n", (char *)name, line);
        if (line % 50 == 0) usleep(1000);
    }
    return NULL;
}

static int prints(void) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    pthread_t threads[4];
    char *names[4] = {"one", "two", "three", "four"};
    for (int i = 0; i < 4; i++) pthread_create(&threads[i], NULL, print_lines, names[i]);
    for (int i = 0; i < 4; i++) pthread_join(threads[i], NULL);
    return 0;
}

static int draws(void) {
    unsigned long number;
    FILE *device = fopen("/dev/urandom", "r");
    if (getrandom(&number, sizeof number, 0) != sizeof number || !device) return 1;
    printf("%lx ", number);
    if (fread(&number, sizeof number, 1, device) != 1) return 1;
    printf("%lx %p\n", number, malloc(1));
    return 0;
}

static sigjmp_buf back;
static void on_fault(int signal) { siglongjmp(back, signal); }

static int faults(void) {
    struct sigaction action = {.sa_handler = on_fault};
    sigaction(SIGSEGV, &action, NULL);
    for (int i = 0; i < 3; i++)
        if (sigsetjmp(back, 1) == 0) *(volatile int *)0 = 1;
    printf("caught three of its own\n");
    return 0;
}

static int forks(void) { return fork() < 0; }
static int shells(void) { return system("true"); }

static int locks(void) {
    pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    pthread_mutex_lock(&lock);
    return pthread_mutex_lock(&lock);
}

static int spins(void) {
    for (volatile long i = 0;; i++) {
    }
}

static int leaves(void) {
    printf("not flushed");
    _exit(4);
}

int main(int count, char **arguments) {
    struct { const char *name; int (*does)(void); } all[] = {
        {"sleeps", sleeps}, {"prints", prints}, {"draws", draws}, {"faults", faults}, {"forks", forks},
        {"shells", shells}, {"locks", locks}, {"spins", spins}, {"leaves", leaves},
    };
    for (unsigned i = 0; count > 1 && i < sizeof all / sizeof *all; i++)
        if (strcmp(all[i].name, arguments[1]) == 0) return all[i].does();
    return 2;
}
