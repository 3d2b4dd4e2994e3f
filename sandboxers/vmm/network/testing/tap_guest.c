/*
 * Stands in for a guest, and for its neighbour, in tests of the pod network.
 *
 *     tap_guest guest MAC IPV4       answers ARP and ICMP echo requests at the tap, descriptor 10
 *     tap_guest ping IPV4 COUNT      sends echo requests; exit status 0 when every answer came
 *     tap_guest serve IP PORT        says "served" to everybody who connects
 *     tap_guest ask IP PORT          prints what a TCP server says; exit status 0 when it said something
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <net/ethernet.h>
#include <netinet/if_ether.h>
#include <netinet/ip.h>
#include <netinet/ip_icmp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define TAP_FD 10
#define FRAME_BYTES_MAX 70000
#define HEADER_BYTES 10
/* Not short: machines are busy. Where no answer is expected, COUNT or PORT is negative. */
#define ANSWER_MS 8000
#define SILENCE_MS 500

static uint16_t checksum(const uint8_t *bytes, size_t length) {
  uint32_t sum = 0;
  for (size_t i = 0; i + 1 < length; i += 2) sum += (uint32_t)(bytes[i] << 8 | bytes[i + 1]);
  if (length % 2 == 1) sum += (uint32_t)(bytes[length - 1] << 8);
  while (sum >> 16 != 0) sum = (sum & 0xffff) + (sum >> 16);
  return htons((uint16_t)~sum);
}

static int answer_arp(uint8_t *frame, const uint8_t *mac, const uint8_t *address) {
  struct ether_arp *arp = (struct ether_arp *)(frame + sizeof(struct ether_header));
  if (ntohs(arp->ea_hdr.ar_op) != ARPOP_REQUEST || memcmp(arp->arp_tpa, address, 4) != 0) return 0;
  arp->ea_hdr.ar_op = htons(ARPOP_REPLY);
  memcpy(arp->arp_tha, arp->arp_sha, 6);
  memcpy(arp->arp_tpa, arp->arp_spa, 4);
  memcpy(arp->arp_sha, mac, 6);
  memcpy(arp->arp_spa, address, 4);
  return 1;
}

static int answer_echo(uint8_t *frame, size_t length, const uint8_t *address) {
  struct iphdr *ip = (struct iphdr *)(frame + sizeof(struct ether_header));
  const size_t header = (size_t)ip->ihl * 4;
  const size_t total = ntohs(ip->tot_len);
  if (ip->protocol != IPPROTO_ICMP || memcmp(&ip->daddr, address, 4) != 0) return 0;
  if (total < header + 8 || sizeof(struct ether_header) + total > length) return 0;
  struct icmphdr *icmp = (struct icmphdr *)((uint8_t *)ip + header);
  if (icmp->type != ICMP_ECHO) return 0;
  const uint32_t from = ip->saddr;
  ip->saddr = ip->daddr;
  ip->daddr = from;
  icmp->type = ICMP_ECHOREPLY;
  icmp->checksum = 0;
  icmp->checksum = checksum((uint8_t *)icmp, total - header);
  ip->check = 0;
  ip->check = checksum((uint8_t *)ip, header);
  return 1;
}

static int guest(const char *mac_text, const char *address_text) {
  uint8_t mac[6];
  uint8_t address[4];
  if (sscanf(mac_text, "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", mac, mac + 1, mac + 2, mac + 3, mac + 4,
             mac + 5) != 6 || inet_pton(AF_INET, address_text, address) != 1) {
    return 2;
  }
  static uint8_t buffer[FRAME_BYTES_MAX];
  for (;;) {
    struct pollfd polled = {.fd = TAP_FD, .events = POLLIN};
    if (poll(&polled, 1, -1) < 0) return 1;
    const ssize_t length = read(TAP_FD, buffer, sizeof buffer);
    if (length < 0 && (errno == EAGAIN || errno == EBADFD)) {
      (void)usleep(1000); /* the tap is on its way to another namespace */
      continue;
    }
    if (length < 0) return 1;
    if (length < HEADER_BYTES + (ssize_t)sizeof(struct ether_header)) continue;
    uint8_t *frame = buffer + HEADER_BYTES;
    struct ether_header *ethernet = (struct ether_header *)frame;
    const size_t size = (size_t)length - HEADER_BYTES;
    int answers = 0;
    if (ntohs(ethernet->ether_type) == ETHERTYPE_ARP) answers = answer_arp(frame, mac, address);
    if (ntohs(ethernet->ether_type) == ETHERTYPE_IP) answers = answer_echo(frame, size, address);
    if (!answers) continue;
    memcpy(ethernet->ether_dhost, ethernet->ether_shost, 6);
    memcpy(ethernet->ether_shost, mac, 6);
    memset(buffer, 0, HEADER_BYTES);
    const ssize_t written = write(TAP_FD, buffer, (size_t)length);
    (void)written; /* a lost packet */
  }
}

static int ping(const char *address_text, int wanted) {
  const int count = wanted < 0 ? -wanted : wanted;
  const int limit_ms = wanted < 0 ? SILENCE_MS : ANSWER_MS;
  struct sockaddr_in to = {.sin_family = AF_INET};
  const int fd = socket(AF_INET, SOCK_RAW, IPPROTO_ICMP);
  if (fd < 0 || inet_pton(AF_INET, address_text, &to.sin_addr) != 1) return 2;
  for (int i = 0; i < count; i++) {
    uint8_t packet[1400];
    memset(packet, i, sizeof packet);
    struct icmphdr *icmp = (struct icmphdr *)packet;
    *icmp = (struct icmphdr){.type = ICMP_ECHO};
    icmp->un.echo.id = htons((uint16_t)getpid());
    icmp->un.echo.sequence = htons((uint16_t)i);
    icmp->checksum = checksum(packet, sizeof packet);
    if (sendto(fd, packet, sizeof packet, 0, (struct sockaddr *)&to, sizeof to) < 0) return 1;
    for (;;) {
      struct pollfd polled = {.fd = fd, .events = POLLIN};
      if (poll(&polled, 1, limit_ms) != 1) return 1;
      uint8_t answer[2048];
      const ssize_t length = read(fd, answer, sizeof answer);
      if (length < 28 || answer[20] != ICMP_ECHOREPLY) continue;
      if (memcmp(answer + 24, packet + 4, 4) == 0) break;
    }
  }
  return 0;
}

/* Either family's. The length of it, or 0. */
static socklen_t address_of(const char *text, int port, struct sockaddr_storage *address) {
  struct sockaddr_in *v4 = (struct sockaddr_in *)address;
  struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)address;
  memset(address, 0, sizeof *address);
  if (inet_pton(AF_INET, text, &v4->sin_addr) == 1) {
    v4->sin_family = AF_INET;
    v4->sin_port = htons((uint16_t)port);
    return sizeof *v4;
  }
  if (inet_pton(AF_INET6, text, &v6->sin6_addr) != 1) return 0;
  v6->sin6_family = AF_INET6;
  v6->sin6_port = htons((uint16_t)port);
  return sizeof *v6;
}

static int ask(const char *address_text, int wanted) {
  const int port = wanted < 0 ? -wanted : wanted;
  const int limit_ms = wanted < 0 ? SILENCE_MS : ANSWER_MS;
  struct sockaddr_storage to;
  const socklen_t length_of_to = address_of(address_text, port, &to);
  struct timeval limit = {limit_ms / 1000, limit_ms % 1000 * 1000};
  const int fd = length_of_to == 0 ? -1 : socket(to.ss_family, SOCK_STREAM, 0);
  if (fd < 0) return 2;
  (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
  (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  if (connect(fd, (struct sockaddr *)&to, length_of_to) != 0) return 1;
  char text[256];
  const ssize_t length = read(fd, text, sizeof text);
  return length > 0 && write(STDOUT_FILENO, text, (size_t)length) == length ? 0 : 1;
}

static int serve(const char *address_text, int port) {
  struct sockaddr_storage at;
  const socklen_t length = address_of(address_text, port, &at);
  const int fd = length == 0 ? -1 : socket(at.ss_family, SOCK_STREAM, 0);
  if (fd < 0) return 2;
  if (bind(fd, (struct sockaddr *)&at, length) != 0 || listen(fd, 8) != 0) return 1;
  (void)write(STDOUT_FILENO, "listens\n", 8);
  for (;;) {
    const int client = accept(fd, NULL, NULL);
    if (client < 0) return 1;
    (void)send(client, "served", 6, MSG_NOSIGNAL);
    (void)close(client);
  }
}

int main(int argc, char **argv) {
  if (argc == 4 && strcmp(argv[1], "guest") == 0) return guest(argv[2], argv[3]);
  if (argc == 4 && strcmp(argv[1], "ping") == 0) return ping(argv[2], atoi(argv[3]));
  if (argc == 4 && strcmp(argv[1], "serve") == 0) return serve(argv[2], atoi(argv[3]));
  if (argc == 4 && strcmp(argv[1], "ask") == 0) return ask(argv[2], atoi(argv[3]));
  return 2;
}
