/*
 * Looks its arguments up with WasmEdge's sock_getaddrinfo and prints the first IPv4 address of each,
 * or the error.
 */
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define WASI(name) __attribute__((import_module("wasi_snapshot_preview1"), import_name(name)))
#define RESULTS_MAX 4

struct address {
  uint8_t family;
  uint32_t length;
  uint8_t *bytes; /* two of the port, then the address */
};
struct result {
  uint16_t flags;
  uint8_t family;
  uint8_t type;
  uint32_t protocol;
  uint32_t address_length;
  struct address *address;
  char *name;
  uint32_t name_length;
  struct result *next;
};

int32_t look_up(const char *node, uint32_t node_length, const char *service,
                uint32_t service_length, const struct result *hints, struct result **results,
                uint32_t max, uint32_t *count) WASI("sock_getaddrinfo");

static void resolve(const char *node) {
  static uint8_t bytes[RESULTS_MAX][32];
  static char names[RESULTS_MAX][256];
  struct address addresses[RESULTS_MAX] = {0};
  struct result results[RESULTS_MAX] = {0};
  for (int i = 0; i < RESULTS_MAX; i++) {
    addresses[i].bytes = bytes[i];
    results[i].address = &addresses[i];
    results[i].name = names[i];
    results[i].next = i + 1 < RESULTS_MAX ? &results[i + 1] : NULL;
  }
  const struct result hints = {.family = 1 /* IPv4 */, .type = 2 /* stream */};
  struct result *first = results;
  uint32_t count = 0;
  int32_t error =
      look_up(node, (uint32_t)strlen(node), "80", 2, &hints, &first, RESULTS_MAX, &count);
  const uint8_t *ip = &bytes[0][2];
  if (error == 0 && count > 0) {
    printf("%s: %d.%d.%d.%d\n", node, ip[0], ip[1], ip[2], ip[3]);
  } else {
    printf("%s: error %d\n", node, error);
  }
}

int main(int argc, char **argv) {
  for (int i = 1; i < argc; i++) resolve(argv[i]);
  return 0;
}
