import assert from "node:assert/strict";
import type { SandboxSpec } from "../lifecycle/spec.ts";
import { sandboxSpec } from "../lifecycle/testing/specs.ts";
import { podFiles, writePodFiles } from "./pod_files.ts";

/** What is written for a pod. */
async function written(changes: Partial<SandboxSpec>): Promise<Record<string, string>> {
  const directory = await Deno.makeTempDir({ prefix: "quasaur-files-" });
  try {
    await writePodFiles(directory, sandboxSpec("pod1", changes));
    return Object.fromEntries(
      await Promise.all(
        podFiles(directory).map(async ({ source, destination }) =>
          [destination, await Deno.readTextFile(source)] as const
        ),
      ),
    );
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

Deno.test("a pod knows its own name, its loopback and its name servers", async () => {
  const files = await written({
    hostname: "web",
    network: { kind: "none" },
    dns: { servers: ["10.0.0.1"], searches: ["a.example", "b"], options: ["ndots:5"] },
  });
  assert.equal(files["/etc/hostname"], "web\n");
  assert.match(files["/etc/hosts"] ?? "", /^127\.0\.0\.1\tlocalhost$/m);
  assert.equal(
    files["/etc/resolv.conf"],
    "search a.example b\nnameserver 10.0.0.1\noptions ndots:5\n",
  );
});

Deno.test("a pod without DNS settings looks names up as the host does", async () => {
  const files = await written({});
  assert.equal(
    files["/etc/resolv.conf"],
    await Deno.readTextFile("/etc/resolv.conf").catch(() => ""),
  );
});
