import assert from "node:assert/strict";
import type { Descriptors } from "./kind.ts";
import { Stdio } from "./stdio.ts";

/** Descriptors of this process of which some are non-blocking. */
class Modes implements Descriptors {
  readonly nonblocking: Set<number>;

  constructor(...nonblocking: readonly number[]) {
    this.nonblocking = new Set(nonblocking);
  }

  pipe(): never {
    throw new Error("no pipe is needed");
  }

  close(fd: number): void {
    throw new Error(`descriptor ${fd} is the caller's`);
  }

  isNonblocking(fd: number): boolean {
    return this.nonblocking.has(fd);
  }

  setNonblocking(fd: number, on: boolean): void {
    if (on) this.nonblocking.add(fd);
    else this.nonblocking.delete(fd);
  }
}

Deno.test("inherited streams are lent in blocking mode and given back as they were", () => {
  const modes = new Modes(0, 2);
  using stdio = new Stdio(modes, { stdin: "inherit", stdout: "inherit", stderr: "inherit" }, "it");
  assert.deepEqual([...modes.nonblocking], []);
  assert.deepEqual(stdio.spec, {
    stdin: { kind: "fd", fd: 0 },
    stdout: { kind: "fd", fd: 1 },
    stderr: { kind: "fd", fd: 2 },
    terminal: false,
  });
  stdio.closeGuestEnds();
  assert.deepEqual([...modes.nonblocking].sort(), [0, 2]);
});

Deno.test("streams that are not inherited are left as they are", () => {
  const modes = new Modes(0, 1, 2);
  using stdio = new Stdio(modes, { stdin: "null", stdout: "null", stderr: "null" }, "it");
  assert.equal(modes.nonblocking.size, 3);
  assert.equal(stdio.spec.stdout.kind, "null");
  assert.equal(stdio.isPiped("stdout"), false);
});
