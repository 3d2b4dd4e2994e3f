/**
 * How long it takes from the wish for a container to its guest's first byte where everything is as
 * it should be on a node: compiled code from the cache, and all confinement on: a network namespace,
 * an own root directory, a user without rights, a list of system calls. The peer is a process of the
 * engine's own command line for each guest, with none of that.
 *
 * @module
 */

import type { SeccompSpec } from "../../sandboxers/lifecycle/spec.ts";
import { type BenchContext, takeSamples } from "../benchmark.ts";
import { type Measurement, OURS } from "../result.ts";
import { GuestHost, type GuestRequest } from "../support/guest_host.ts";
import { networkNamespace } from "../support/network_namespace.ts";
import { processToFirstByte, several, WASMEDGE } from "../support/wasmedge_process.ts";

/** What containers are allowed on most nodes, in short: all calls of WASI, and no others. */
const SECCOMP: SeccompSpec = {
  defaultAction: { kind: "deny", errno: 1 },
  rules: [{
    names: [
      ...["accept", "accept4", "bind", "close", "connect", "epoll_create1", "epoll_ctl"],
      ...["epoll_pwait", "epoll_wait", "fallocate", "fcntl", "fdatasync", "fstat", "fsync"],
      ...[
        "ftruncate",
        "getdents64",
        "getpeername",
        "getsockname",
        "getsockopt",
        "linkat",
        "listen",
      ],
      ...["lseek", "mkdirat", "nanosleep", "newfstatat", "openat", "pread64", "preadv", "pwrite64"],
      ...["pwritev", "read", "readlinkat", "readv", "recvfrom", "recvmsg", "renameat", "sendmsg"],
      ...["sendto", "setsockopt", "shutdown", "socket", "statx", "symlinkat", "timerfd_create"],
      ...["timerfd_settime", "unlinkat", "utimensat", "write", "writev"],
    ],
    action: { kind: "allow" },
    args: [],
  }],
};

/** A guest with as few rights as a careful pod gives. */
const CONFINED: GuestRequest = {
  guest: "hello",
  user: { uid: 1_000, gid: 1_000, additionalGids: [1_001, 1_002] },
  seccomp: SECCOMP,
};

/**
 * Measures from create to the first byte, compiled and confined.
 *
 * @param context See {@link BenchContext}.
 */
export async function aotStart(context: BenchContext): Promise<Measurement[]> {
  const { signal } = context;
  await using namespace = await networkNamespace();
  await using host = await GuestHost.open({
    guests: ["hello"],
    engine: "compiled",
    network: { kind: "namespace", path: namespace.path },
    signal,
  });
  const contenders = [
    { name: OURS, sample: () => several(() => host.timeToFirstByte(CONFINED)) },
    { name: WASMEDGE, sample: () => several(() => processToFirstByte("hello")) },
  ];
  const rounds = { count: 60, warmUps: 10, budgetMs: 20_000 };
  const samples = await takeSamples(context, contenders, rounds);
  return [{
    name: "compiled and confined start to first byte",
    unit: "ms",
    series: new Map([...samples].map(([name, blocks]) => [name, blocks.flat()])),
    peer: WASMEDGE,
    goals: [
      { kind: "value", atMost: 0.5 },
      { kind: "ratio", peer: WASMEDGE, atMost: 1 / 40, written: "1/40" },
    ],
  }];
}
