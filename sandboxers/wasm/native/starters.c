/*
 * Starters: threads that only make guest threads. To install a seccomp filter takes longer than
 * all else that starts a thread, but threads inherit the filter of the one that makes them. So for
 * each filter there is one starter, which has it, and a guest gets it for nothing.
 */
#define _GNU_SOURCE
#include "internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>

/* Filters that are used at a time, that of guests without one of the caller's included. */
#define STARTERS_MAX 16u
#define STARTER_STACK_BYTES 262144u
#define FOUR_GIB_SHIFT 32

struct starter {
  pthread_t thread;
  uint8_t *stack;
  struct filter_frame frame;
  struct sock_filter *filter; /* the caller's part */
  uint32_t filter_count;
  uint64_t last_used;
  struct starter *next_ending;
  /* Shared with the thread. */
  pthread_mutex_t mutex;
  pthread_cond_t changed;
  enum { STARTER_STARTING, STARTER_READY, STARTER_FAILED, STARTER_ENDING } state;
  int error;
  struct quasaur_guest *first;
  struct quasaur_guest **last;
};

/* Only the host's thread touches these. */
static struct starter *starters[STARTERS_MAX];
static struct starter *ending;
static uint64_t uses;

static void make_thread(struct quasaur_guest *guest) {
  pthread_attr_t attributes;
  pthread_t thread;
  int error = pthread_attr_init(&attributes);
  if (error == 0) {
    error = pthread_attr_setstack(&attributes, guest->stacks.stack, guest->stacks.stack_bytes);
    if (error == 0) error = pthread_create(&thread, &attributes, quasaur_guest_main, guest);
    (void)pthread_attr_destroy(&attributes);
  }
  if (error == 0) return; /* from here on the guest may be gone */
  guest->has_thread = false;
  atomic_store(&guest->ended, true);
  quasaur_write_record(guest, QUASAUR_REFUSED, (uint64_t)error, QUASAUR_STEP_THREAD);
}

static int become_starter(const struct starter *starter) {
  if (quasaur_block_signals() != 0) return EINVAL;
  if (prctl(PR_SET_NAME, "quasaur-starter", 0, 0, 0) != 0) return errno;
  /* Guests inherit the empty bounding set: 41 calls that none of them needs to make. What is left
   * where it is not allowed, nobody can gain either, for want of new privileges. */
  for (int capability = 0; prctl(PR_CAPBSET_READ, capability, 0, 0, 0) >= 0; capability++) {
    (void)prctl(PR_CAPBSET_DROP, capability, 0, 0, 0);
  }
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return errno;
  return quasaur_filter_enforce(&starter->frame, starter->filter, starter->filter_count);
}

static void *starter_main(void *argument) {
  struct starter *starter = argument;
  const int error = become_starter(starter);
  pthread_mutex_lock(&starter->mutex);
  starter->error = error;
  starter->state = error == 0 ? STARTER_READY : STARTER_FAILED;
  pthread_cond_signal(&starter->changed);
  while (starter->state == STARTER_READY || starter->first != NULL) {
    struct quasaur_guest *guest = starter->first;
    if (guest == NULL) {
      pthread_cond_wait(&starter->changed, &starter->mutex);
      continue;
    }
    starter->first = guest->next;
    if (starter->first == NULL) starter->last = &starter->first;
    pthread_mutex_unlock(&starter->mutex);
    make_thread(guest);
    pthread_mutex_lock(&starter->mutex);
  }
  pthread_mutex_unlock(&starter->mutex);
  return NULL;
}

/* Maps a stack of which all addresses have the same upper half: filters compare halves. */
static int map_stack(struct starter *starter) {
  const int protection = PROT_READ | PROT_WRITE;
  const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK;
  void *first = mmap(NULL, STARTER_STACK_BYTES, protection, flags, -1, 0);
  if (first == MAP_FAILED) return errno;
  starter->stack = first;
  const uintptr_t start = (uintptr_t)first;
  if (start >> FOUR_GIB_SHIFT != (start + STARTER_STACK_BYTES) >> FOUR_GIB_SHIFT) {
    /* The first one is in the way of an equally unlucky second one. */
    void *second = mmap(NULL, STARTER_STACK_BYTES, protection, flags, -1, 0);
    const int error = errno;
    (void)munmap(first, STARTER_STACK_BYTES);
    starter->stack = NULL;
    if (second == MAP_FAILED) return error;
    starter->stack = second;
  }
  starter->frame.start = (uintptr_t)starter->stack;
  starter->frame.end = starter->frame.start + STARTER_STACK_BYTES;
  return 0;
}

static void free_starter(struct starter *starter) {
  if (starter->stack != NULL) (void)munmap(starter->stack, STARTER_STACK_BYTES);
  pthread_cond_destroy(&starter->changed);
  pthread_mutex_destroy(&starter->mutex);
  free(starter->filter);
  free(starter);
}

/* Starts the thread and waits until its filter is in force, which takes less than a millisecond. */
static int start_starter(struct starter *starter) {
  pthread_attr_t attributes;
  int error = map_stack(starter);
  if (error != 0) return error;
  error = pthread_attr_init(&attributes);
  if (error != 0) return error;
  error = pthread_attr_setstack(&attributes, starter->stack, STARTER_STACK_BYTES);
  if (error == 0) error = pthread_create(&starter->thread, &attributes, starter_main, starter);
  (void)pthread_attr_destroy(&attributes);
  if (error != 0) return error;
  pthread_mutex_lock(&starter->mutex);
  while (starter->state == STARTER_STARTING) {
    pthread_cond_wait(&starter->changed, &starter->mutex);
  }
  pthread_mutex_unlock(&starter->mutex);
  if (starter->state == STARTER_FAILED) (void)pthread_join(starter->thread, NULL);
  return starter->error;
}

static struct starter *make_starter(int32_t record_fd, const struct sock_filter *filter,
                                      uint32_t count, int *error) {
  struct starter *starter = calloc(1, sizeof *starter);
  *error = ENOMEM;
  if (starter == NULL) return NULL;
  pthread_mutex_init(&starter->mutex, NULL);
  pthread_cond_init(&starter->changed, NULL);
  starter->last = &starter->first;
  starter->frame.record_fd = record_fd;
  starter->filter_count = count;
  starter->filter = count == 0 ? NULL : malloc(sizeof *filter * count);
  if (count > 0 && starter->filter != NULL) {
    memcpy(starter->filter, filter, sizeof *filter * count);
  }
  *error = count > 0 && starter->filter == NULL ? ENOMEM : start_starter(starter);
  if (*error == 0) return starter;
  free_starter(starter);
  return NULL;
}

/* Guests that were given to it are still started; a later sweep finds that it is gone. */
static void end_starter(struct starter *starter) {
  pthread_mutex_lock(&starter->mutex);
  starter->state = STARTER_ENDING;
  pthread_cond_signal(&starter->changed);
  pthread_mutex_unlock(&starter->mutex);
  starter->next_ending = ending;
  ending = starter;
}

/* Frees starters that have ended. Never waits: one may be waiting for the host to read records. */
void quasaur_starters_sweep(void) {
  struct starter **link = &ending;
  while (*link != NULL) {
    struct starter *starter = *link;
    if (pthread_tryjoin_np(starter->thread, NULL) == 0) {
      *link = starter->next_ending;
      free_starter(starter);
    } else {
      link = &starter->next_ending;
    }
  }
}

static bool is_for(const struct starter *starter, int32_t record_fd,
                   const struct sock_filter *filter, uint32_t count) {
  if (starter->filter_count != count) return false;
  if (count == 0) return true;
  return starter->frame.record_fd == record_fd &&
         memcmp(starter->filter, filter, sizeof *filter * count) == 0;
}

/* The starter for a filter; a new one takes the place of that which was not used for longest. */
static struct starter *find_starter(int32_t record_fd, const struct sock_filter *filter,
                                      uint32_t count, int *error) {
  uint32_t place = 0;
  for (uint32_t i = 0; i < STARTERS_MAX; i++) {
    if (starters[i] == NULL) {
      if (starters[place] != NULL) place = i;
    } else if (is_for(starters[i], record_fd, filter, count)) {
      return starters[i];
    } else if (starters[place] != NULL && starters[i]->last_used < starters[place]->last_used) {
      place = i;
    }
  }
  struct starter *starter = make_starter(record_fd, filter, count, error);
  if (starter == NULL) return NULL;
  if (starters[place] != NULL) end_starter(starters[place]);
  starters[place] = starter;
  return starter;
}

/*
 * Has a thread with the caller's filter made for a guest; a failure to make one comes as a record.
 * Returns 0 or an errno.
 */
int quasaur_starter_give(struct quasaur_guest *guest, const struct sock_filter *filter,
                         uint32_t count) {
  int error = 0;
  struct starter *starter = find_starter(guest->spec.record_fd, filter, count, &error);
  if (starter == NULL) return error;
  starter->last_used = ++uses;
  guest->has_thread = true;
  guest->next = NULL;
  pthread_mutex_lock(&starter->mutex);
  *starter->last = guest;
  starter->last = &guest->next;
  pthread_mutex_unlock(&starter->mutex);
  pthread_cond_signal(&starter->changed);
  return 0;
}
