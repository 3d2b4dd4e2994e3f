/**
 * Runs inside of the agent's engine in the place of the agent, and tries the native module out. It
 * prints a line for each check, and `done` when the event loop has survived what it must survive.
 *
 * @module
 */

import "./globals.ts";
import { checkChannel } from "./channel_test_program.ts";
import { EBADF, EEXIST, EINVAL, ENOENT, ENOSPC, errnoName, ESRCH } from "./errno.ts";
import {
  CLOCK_MONOTONIC,
  EPOLLIN,
  NETLINK_ROUTE,
  O_NONBLOCK,
  O_RDONLY,
  S_IFDIR,
  S_IFMT,
} from "./linux.ts";
import { after, sleep, startLoop, watch } from "./loop.ts";
import { check, same, throws } from "./native_test_checks.ts";
import { run, startReaping } from "./processes.ts";
import * as sys from "./sys.js";

const directory = sys.getenv("TEST_DIRECTORY") ?? "/nonexistent";

function checkFiles(): void {
  const path = `${directory}/a/b/c`;
  same("mkdirAll makes all", sys.mkdirAll(path, 0o700), 0);
  same("mkdirAll takes what is there", sys.mkdirAll(path, 0o700), 0);
  const found = sys.stat(path);
  check("stat tells the type", typeof found !== "number" && (found.mode & S_IFMT) === S_IFDIR);
  same("writeFile writes", sys.writeFile(`${path}/f`, "größer\n"), 0);
  same("readFile reads", sys.readFile(`${path}/f`), "größer\n");
  same("readFile is bounded", errnoName(Number(sys.readFile(`${path}/f`, 3))), "EFBIG");
  same("readFile tells what is missing", sys.readFile(`${path}/none`), -ENOENT);
  check("readFile reads /proc", String(sys.readFile("/proc/self/status")).includes("Name:"));
  same("mkdir tells what exists", sys.mkdir(path, 0o755), -EEXIST);
  same("symlink and readlink", [sys.symlink("f", `${path}/l`), sys.readlink(`${path}/l`)], [
    0,
    "f",
  ]);
  same("readdir is sorted", sys.readdir(path), ["f", "l"]);
  throws("a zero byte in a path is refused", () => sys.unlink(`${path}/f\0x`));
  same("removeAll removes all", [sys.removeAll(`${directory}/a`), sys.lstat(`${directory}/a`)], [
    0,
    -ENOENT,
  ]);
  same("removeAll takes what is missing", sys.removeAll(`${directory}/a`), 0);
  const fd = sys.open("/proc/self/exe", O_RDONLY);
  const bytes = new Uint8Array(4);
  same("readInto fills an array", [sys.readInto(fd, bytes), bytes[0], bytes[1]], [4, 0x7f, 0x45]);
  throws("a read past the buffer is refused", () => sys.read(fd, bytes.buffer, 2, 3));
  throws("a text is no descriptor", () => Reflect.apply(sys.close, undefined, ["7"]));
  same("close closes", [sys.close(fd), sys.close(fd)], [0, -EBADF]);
}

function checkText(): void {
  const buffer = new ArrayBuffer(8);
  same("encodeUtf8 encodes", sys.encodeUtf8("aß€", buffer, 1), 6);
  same("decodeUtf8 decodes", sys.decodeUtf8(buffer, 1, 6), "aß€");
  same("encodeUtf8 tells a small buffer", sys.encodeUtf8("123456789", buffer, 0), -ENOSPC);
  same(
    "bad UTF-8 is replaced",
    new TextDecoder().decode(Uint8Array.of(0x61, 0xff, 0x62)),
    "a\ufffdb",
  );
  same("half a pair is replaced", [...new TextEncoder().encode("\ud83d")], [0xef, 0xbf, 0xbd]);
  for (const text of ["", "a", "ab", "abc", "abcd"]) {
    const bytes = new TextEncoder().encode(text);
    const encoded = sys.encodeBase64(bytes.buffer, 0, bytes.length);
    const decoded = sys.decodeBase64(encoded);
    same(
      `base64 of "${text}"`,
      typeof decoded !== "number" && new TextDecoder().decode(decoded),
      text,
    );
  }
  same("base64 is checked", [sys.decodeBase64("a*bc"), sys.decodeBase64("abcde")], [
    -EINVAL,
    -EINVAL,
  ]);
}

function checkSockets(): void {
  const path = `${directory}/s`;
  const listener = sys.unixListen(path, 4);
  const client = sys.unixConnect(path);
  const server = sys.accept(listener);
  check("a unix socket connects", listener >= 0 && client >= 0 && server >= 0);
  const hello = new TextEncoder().encode("hello");
  same("it carries bytes", sys.writeFrom(client, hello, 1, 3), 3);
  const received = new Uint8Array(8);
  same("they come", [sys.readInto(server, received), received[0]], [3, 0x65]);
  same("receiveFd tells that nothing is there", errnoName(sys.receiveFd(server)), "EAGAIN");
  sys.writeFrom(client, hello, 0, 1);
  same("receiveFd tells bytes without one", errnoName(sys.receiveFd(server)), "EPROTO");
  sys.close(client);
  same("receiveFd tells the end", errnoName(sys.receiveFd(server)), "EPIPE");
  sys.close(server);
  sys.close(listener);
  const netlink = sys.netlinkOpen(NETLINK_ROUTE, 0);
  // RTM_GETLINK of interface 1, as nlmsghdr and ifinfomsg.
  const request = new ArrayBuffer(32);
  const view = new DataView(request);
  view.setUint32(0, 32, true);
  view.setUint16(4, 18, true);
  view.setUint16(6, 1, true);
  view.setUint32(20, 1, true);
  same("netlink takes a request", sys.write(netlink, request, 0, 32), 32);
  const answer = new ArrayBuffer(8192);
  check("netlink answers", sys.read(netlink, answer, 0, 8192) > 32);
  same("with RTM_NEWLINK", new DataView(answer).getUint16(4, true), 16);
  sys.close(netlink);
}

async function checkProcesses(): Promise<void> {
  const said = await run({ argv: ["sh", "-c", "echo out; echo err >&2; exit 3"] });
  same("run keeps outputs and status", [said.output, said.errorOutput, said.status], [
    "out\n",
    "err\n",
    3,
  ]);
  const late = await run({ argv: ["sleep", "100"], timeoutMs: 20 });
  same("run bounds the time", [late.timedOut, late.status, late.signaled], [true, 137, true]);
  same("spawn tells what cannot be executed", sys.spawn(["/none"], [], null, [], 0), -ENOENT);
  same("spawn tells a bad directory", sys.spawn(["true"], [], "/none", [], 0), -ENOENT);
  throws("spawn wants texts", () => Reflect.apply(sys.spawn, undefined, [[1], [], null, [], 0]));
  same("kill tells an unknown process", sys.kill(0x3fffffff, 0), -ESRCH);
  const pair = sys.pipe(O_NONBLOCK);
  if (typeof pair === "number") throw new Error("no pipe");
  const { status } = await run({
    argv: ["sh", "-c", "echo swapped >&1; ls -l /proc/self/fd | grep -c pipe"],
    fds: [-1, pair[1], pair[1]],
  });
  const bytes = new Uint8Array(64);
  const count = sys.readInto(pair[0], bytes);
  same("descriptors go where they are wanted", [
    status,
    new TextDecoder().decode(bytes.subarray(0, count)).split("\n")[0],
  ], [0, "swapped"]);
}

/** What must not end the agent: it is the first process of its machine. */
async function checkSurvival(failures: readonly string[]): Promise<void> {
  after(0, () => {
    throw new Error("thrown by a timer");
  });
  void Promise.reject(new Error("rejected by nobody"));
  Promise.reject(new Error("handled")).catch(() => {});
  const pair = sys.pipe(O_NONBLOCK);
  if (typeof pair === "number") throw new Error("no pipe");
  const watched = watch(pair[0], EPOLLIN, () => {
    watched.stop();
    throw new Error("thrown by a handler");
  });
  sys.writeFrom(pair[1], Uint8Array.of(1), 0, 1);
  after(0, () => {
    const grow = (list: unknown[]): number => grow([list]);
    grow([]);
  });
  after(0, () => {
    const all: ArrayBuffer[] = [];
    for (;;) all.push(new ArrayBuffer(1 << 20));
  });
  const texts = ["by a timer", "by nobody", "by a handler", "stack", "out of memory"];
  const isTold = (text: string) => failures.some((failure) => failure.includes(text));
  for (let looks = 0; looks < 1000 && !texts.every(isTold); looks++) await sleep(10);
  for (const text of texts) check(`failure is told: ${text}`, isTold(text));
  check(
    "handled rejections are not told",
    !failures.some((failure) => failure.includes("handled")),
  );
}

async function checkTimers(): Promise<void> {
  const order: number[] = [];
  const start = sys.clock(CLOCK_MONOTONIC);
  for (const delayMs of [30, 10, 20, 10, 0]) after(delayMs, () => order.push(delayMs));
  after(15, () => order.push(15)).cancel();
  await sleep(40);
  same("timers run in order", order, [0, 10, 10, 20, 30]);
  check("timers wait", sys.clock(CLOCK_MONOTONIC) - start >= 40);
  await new Promise<void>((resolve) => setTimeout(resolve, 1));
  check("setTimeout works", true);
}

const failures: string[] = [];
startLoop((message) => {
  failures.push(message);
});
startReaping();

async function main(): Promise<void> {
  checkFiles();
  checkText();
  checkSockets();
  await checkTimers();
  await checkProcesses();
  await checkChannel(directory);
  await checkSurvival(failures);
  sys.printError("done\n");
}

main().catch((thrown) => sys.printError(`FAILED ${String(thrown)}\n`)).finally(() => sys.exit(0));
