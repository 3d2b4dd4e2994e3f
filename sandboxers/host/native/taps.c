/* See taps.h. The devices stay down until they are in a pod's network. */
#define _GNU_SOURCE
#include "taps.h"
#include "launcher.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define TUN_DEVICE "/dev/net/tun"

int host_open_taps(unsigned count) {
  for (unsigned i = 0; i < count; i++) {
    /* The namespace counts in which it is opened. */
    const int fd = open(TUN_DEVICE, O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0 && (errno == ENOENT || errno == ENODEV || errno == ENXIO)) {
      return host_fail(CODE_FAILED_PRECONDITION,
                       "cannot make a tap device: no %s: load the kernel module tun", TUN_DEVICE);
    }
    if (fd < 0) return host_fail_errno("cannot open %s", TUN_DEVICE);
    struct ifreq request;
    memset(&request, 0, sizeof request);
    request.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
    (void)snprintf(request.ifr_name, sizeof request.ifr_name, "tap%u", i);
    if (ioctl(fd, TUNSETIFF, &request) != 0) {
      return host_fail_errno("cannot make the tap device \"%s\"", request.ifr_name);
    }
    const int wanted = TAP_FIRST_FD + (int)i;
    /* Not closed when the program begins. */
    if (fd == wanted) {
      if (fcntl(fd, F_SETFD, 0) != 0) return host_fail_errno("cannot hand over a tap device");
    } else {
      if (dup2(fd, wanted) < 0) return host_fail_errno("cannot hand over a tap device");
      (void)close(fd);
    }
  }
  return 0;
}
