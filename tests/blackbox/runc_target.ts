/**
 * runc as a target of the black-box suite: shows that the suite asks for what an ordinary runtime
 * does, and not for what we happen to do.
 *
 * @module
 */

import { busyboxImage } from "../support/oci_image.ts";
import { NOTES, type Program, type Target } from "./target.ts";

/** The image with all programs. */
export const RUNC_IMAGE = "quasaur.test/runc:1";

/** The programs as shell scripts. */
const SCRIPTS: Readonly<Record<Program, string>> = {
  args: `for arg in "$0" "$@"; do echo "arg $arg"; done
env | sed 's/^/env /'
exit "\${EXIT_CODE:-0}"`,
  cat: "exec cat",
  cwd: 'for path in "$@"; do echo "$path: $(cat "$path" 2>&1)"; done',
  fs: `for work in "$@"; do
  path=\${work#?:}
  case $work in
    r:*) echo "read $path: $(cat "$path" 2>&1)" ;;
    w:*) if printf written 2>&1 >"$path"; then echo "write $path: ok"; else echo "write $path: no"; fi ;;
  esac
done`,
  hello: "echo hello from runc",
  lines: `exec awk -v count=$1 -v id="$ID" 'BEGIN {
  for (i = 0; i < count; i++) {
    print id " out " i " xxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
    if (i % 10 == 0) print id " err " i >"/dev/stderr"
  }
}'`,
  memory: `dd if=/dev/zero of=/dev/shm/block bs=1M count=$1 2>/dev/null
echo "took $1 MiB"
exec sleep $2`,
  server: `mkdir -p /tmp/www
echo "hello from $ID" >/tmp/www/index.html
echo "listening on $1"
exec httpd -f -p $1 -h /tmp/www`,
  sleep: "echo sleeping\nexec sleep 3600",
  spin: "echo spinning\nwhile :; do :; done",
};

/** Pods of runc. */
export const runcTarget: Target = {
  name: "runc",
  handler: "runc",
  bed: { runc: true },
  image: RUNC_IMAGE,
  importImages: async (bed) => {
    const encoder = new TextEncoder();
    const files = Object.entries(SCRIPTS).map(([name, text]) => ({
      kind: "file" as const,
      path: name,
      data: encoder.encode(`#!/bin/sh\n${text}\n`),
      mode: 0o755,
    }));
    const env = ["PATH=/bin", "FROM_IMAGE=yes"];
    const image = await busyboxImage(RUNC_IMAGE, {
      files: [...files, ...NOTES],
      env,
      entrypoint: ["/args"],
    });
    await bed.containerd.importImage(image);
  },
  path: (program) => `/${program}`,
  greeting: "hello from runc",
  podsAtOnce: 10,
  abilities: {
    hostNetwork: true,
    shell: true,
    workingDirectory: true,
    exec: true,
    terminal: true,
    update: true,
    pause: true,
    memoryLimit: "kills",
  },
};
