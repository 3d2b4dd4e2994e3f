// Sockets: netlink, unix, vsock, and descriptors that are handed over.
#include "sys.h"

#include <fcntl.h>
#include <linux/netlink.h>
#include <linux/vm_sockets.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

// Closes a half-made socket and keeps the error; always -1.
static int give_up(int fd) {
  int error = errno;
  close(fd);
  errno = error;
  return -1;
}

static SYS_FUNCTION(sys_socket) {
  struct args a;
  SYS_UNUSED;
  args_begin(&a, ctx, argc, argv);
  int family = args_int(&a), type = args_int(&a), protocol = args_int(&a);
  if (a.failed) return args_answer(&a, -1);
  return args_answer(&a, socket(family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, protocol));
}

static int netlink_open(int protocol, uint32_t groups) {
  struct sockaddr_nl address = {.nl_family = AF_NETLINK, .nl_groups = groups};
  struct timeval limit = {.tv_sec = 5};
  int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol);
  if (fd < 0) return -1;
  if (bind(fd, (struct sockaddr *)&address, sizeof address) ||
      setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit)) {
    return give_up(fd);
  }
  return fd;
}

static SYS_FUNCTION(sys_netlink_open) {
  struct args a;
  SYS_UNUSED;
  args_begin(&a, ctx, argc, argv);
  int protocol = args_int(&a);
  uint32_t groups = (uint32_t)args_int64(&a);
  return args_answer(&a, a.failed ? -1 : netlink_open(protocol, groups));
}

static int unix_address(const char *path, struct sockaddr_un *address) {
  size_t length = strlen(path);
  memset(address, 0, sizeof *address);
  address->sun_family = AF_UNIX;
  if (length >= sizeof address->sun_path) {
    errno = ENAMETOOLONG;
    return -1;
  }
  memcpy(address->sun_path, path, length + 1);
  return 0;
}

static int unix_listen(const char *path, int backlog) {
  struct sockaddr_un address;
  if (unix_address(path, &address)) return -1;
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return -1;
  if (bind(fd, (struct sockaddr *)&address, sizeof address) || listen(fd, backlog)) {
    return give_up(fd);
  }
  return fd;
}

static SYS_FUNCTION(sys_unix_listen) {
  struct args a;
  SYS_UNUSED;
  args_begin(&a, ctx, argc, argv);
  const char *path = args_text(&a);
  int backlog = args_int(&a);
  return args_answer(&a, a.failed ? -1 : unix_listen(path, backlog));
}

static int unix_connect(const char *path) {
  struct sockaddr_un address;
  if (unix_address(path, &address)) return -1;
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return -1;
  // A unix socket connects at once or not at all (-EAGAIN where the listener's queue is full).
  if (connect(fd, (struct sockaddr *)&address, sizeof address)) return give_up(fd);
  return fd;
}

static SYS_FUNCTION(sys_unix_connect) {
  struct args a;
  SYS_UNUSED;
  args_begin(&a, ctx, argc, argv);
  const char *path = args_text(&a);
  return args_answer(&a, a.failed ? -1 : unix_connect(path));
}

static int vsock_listen(int port) {
  struct sockaddr_vm address = {
      .svm_family = AF_VSOCK, .svm_port = (unsigned)port, .svm_cid = VMADDR_CID_ANY};
  int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return -1;
  if (bind(fd, (struct sockaddr *)&address, sizeof address) || listen(fd, 4)) return give_up(fd);
  return fd;
}

static SYS_FUNCTION(sys_vsock_listen) {
  struct args a;
  SYS_UNUSED;
  args_begin(&a, ctx, argc, argv);
  int port = args_int(&a);
  return args_answer(&a, a.failed ? -1 : vsock_listen(port));
}

static int vsock_connect(int cid, int port) {
  struct sockaddr_vm address = {
      .svm_family = AF_VSOCK, .svm_port = (unsigned)port, .svm_cid = (unsigned)cid};
  struct timeval limit = {.tv_sec = 5};
  int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return -1;
  if (setsockopt(fd, AF_VSOCK, SO_VM_SOCKETS_CONNECT_TIMEOUT, &limit, sizeof limit) ||
      connect(fd, (struct sockaddr *)&address, sizeof address) ||
      fcntl(fd, F_SETFL, O_NONBLOCK)) {
    return give_up(fd);
  }
  return fd;
}

static SYS_FUNCTION(sys_vsock_connect) {
  struct args a;
  SYS_UNUSED;
  args_begin(&a, ctx, argc, argv);
  int cid = args_int(&a), port = args_int(&a);
  return args_answer(&a, a.failed ? -1 : vsock_connect(cid, port));
}

static SYS_FUNCTION(sys_accept) {
  struct args a;
  SYS_UNUSED;
  args_begin(&a, ctx, argc, argv);
  int fd = args_int(&a);
  return args_answer(&a, a.failed ? -1 : accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK));
}

static SYS_FUNCTION(sys_shutdown) {
  struct args a;
  SYS_UNUSED;
  args_begin(&a, ctx, argc, argv);
  int fd = args_int(&a), how = args_int(&a);
  return args_answer(&a, a.failed ? -1 : shutdown(fd, how));
}

static int receive_fd(int socket) {
  char bytes[4096];
  // Room for more than one, so that all that come are seen: a sender must not leave strays behind.
  union {
    char space[CMSG_SPACE(8 * sizeof(int))];
    struct cmsghdr align;
  } control;
  struct iovec vector = {.iov_base = bytes, .iov_len = sizeof bytes};
  struct msghdr message = {.msg_iov = &vector,
                           .msg_iovlen = 1,
                           .msg_control = control.space,
                           .msg_controllen = sizeof control.space};
  int received = -1;
  ssize_t count = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
  if (count < 0) return -1;
  for (struct cmsghdr *head = CMSG_FIRSTHDR(&message); head; head = CMSG_NXTHDR(&message, head)) {
    if (head->cmsg_level != SOL_SOCKET || head->cmsg_type != SCM_RIGHTS) continue;
    size_t total = (head->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < total; i++) {
      int fd;
      memcpy(&fd, CMSG_DATA(head) + i * sizeof fd, sizeof fd);
      if (received < 0) received = fd;
      else close(fd);
    }
  }
  if (received < 0) errno = count == 0 ? EPIPE : EPROTO;
  return received;
}

static SYS_FUNCTION(sys_receive_fd) {
  struct args a;
  SYS_UNUSED;
  args_begin(&a, ctx, argc, argv);
  int fd = args_int(&a);
  return args_answer(&a, a.failed ? -1 : receive_fd(fd));
}

const JSCFunctionListEntry sys_sockets[] = {
    SYS_ENTRY("socket", 3, sys_socket),
    SYS_ENTRY("netlinkOpen", 2, sys_netlink_open),
    SYS_ENTRY("unixListen", 2, sys_unix_listen),
    SYS_ENTRY("unixConnect", 1, sys_unix_connect),
    SYS_ENTRY("vsockListen", 1, sys_vsock_listen),
    SYS_ENTRY("vsockConnect", 2, sys_vsock_connect),
    SYS_ENTRY("accept", 1, sys_accept),
    SYS_ENTRY("shutdown", 2, sys_shutdown),
    SYS_ENTRY("receiveFd", 1, sys_receive_fd),
};
const int sys_sockets_count = sizeof sys_sockets / sizeof sys_sockets[0];
