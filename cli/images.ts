/**
 * `quasaur images`: the images that were unpacked for `quasaur run`, and what can be done with images
 * without running them.
 *
 * @module
 */

import { Command } from "commander";
import { openImageStore } from "../sandboxers/embedded/images.ts";
import type { ImageStore, StoredImage } from "../sandboxers/images/store.ts";
import { SandboxError } from "../sandboxers/lifecycle/errors.ts";
import { SOME_FAILED } from "./exit_codes.ts";
import { precompileCommand } from "./precompile.ts";
import { parseDuration } from "./run_values.ts";
import { showBytes } from "./show/amounts.ts";
import { coloursOf } from "./show/colours.ts";
import { type Column, table } from "./show/table.ts";
import { ago } from "./show/times.ts";
import { complain, print } from "./terminal.ts";

const LS_EXAMPLES = `
Shows what \`quasaur run\` has unpacked on this host: each image once, the one used last first. Images in
containerd are shown by \`ctr images ls\`.

Examples:
  quasaur images ls
  quasaur images ls --json | jq -r '.[].digest'`;

const RM_EXAMPLES = `
IMAGE is a digest (with sha256: or without), the unique beginning of one, or a name as ls shows it. One
that a container uses stays; then the exit code is ${SOME_FAILED}.

Examples:
  quasaur images rm 4621fbac7236
  quasaur images rm ./image.tar`;

const PRUNE_EXAMPLES = `
Removes every image that no container uses. They are unpacked again when they are run.

Examples:
  quasaur images prune
  quasaur images prune --unused-for 72h`;

/** Digits of a digest that are shown. */
const DIGITS = 12;

/** What the commands work with; tests have their own. */
export interface ImagesPorts {
  /** Opens the images. */
  open(): Promise<ImageStore>;
  /** Writes to standard output. */
  print(text: string): void;
  /** Tells on standard error what went wrong, as one line. */
  complain(message: string): void;
}

const IMAGES_PORTS: ImagesPorts = {
  open: () => openImageStore({}),
  print,
  complain,
};

/**
 * Makes the command.
 *
 * @param end Receives the exit code.
 * @param ports What it works with.
 */
export function imagesCommand(
  end: (code: number) => void,
  ports: ImagesPorts = IMAGES_PORTS,
): Command {
  return new Command("images")
    .description("Look after unpacked images, and prepare others.")
    .helpCommand(false)
    .addCommand(lsCommand(ports))
    .addCommand(rmCommand(end, ports))
    .addCommand(pruneCommand(ports))
    .addCommand(precompileCommand(end));
}

function lsCommand(ports: ImagesPorts): Command {
  return new Command("ls")
    .description("Show the images that were unpacked.")
    .option("--json", "print JSON: an array of images")
    .option("-q, --quiet", "print digests only")
    .addHelpText("after", LS_EXAMPLES)
    .action(async ({ json, quiet }: { readonly json?: boolean; readonly quiet?: boolean }) => {
      const images = await (await ports.open()).list();
      if (json) ports.print(`${JSON.stringify(images.map(jsonOf), null, 2)}\n`);
      else if (quiet) ports.print(images.map(({ digest }) => `${digest}\n`).join(""));
      else ports.print(table(images, columns(Date.now()), coloursOf(Deno.stdout)));
    });
}

function rmCommand(end: (code: number) => void, ports: ImagesPorts): Command {
  return new Command("rm")
    .description("Remove unpacked images that no container uses.")
    .argument("<IMAGE...>", "digests or names")
    .addHelpText("after", RM_EXAMPLES)
    .action(async (names: string[]) => {
      const store = await ports.open();
      const images = await store.list();
      const wanted: StoredImage[] = [];
      let isGood = true;
      for (const name of names) {
        try {
          wanted.push(findImage(images, name));
        } catch (error) {
          ports.complain(SandboxError.from(error).message);
          isGood = false;
        }
      }
      for (const { image, isRemoved } of await store.remove([...new Set(wanted)])) {
        if (isRemoved) ports.print(`${image.digest}\n`);
        else {
          ports.complain(`cannot remove ${image.digest}: a container or a program uses it`);
          isGood = false;
        }
      }
      end(isGood ? 0 : SOME_FAILED);
    });
}

function pruneCommand(ports: ImagesPorts): Command {
  return new Command("prune")
    .description("Remove all unpacked images that no container uses.")
    .option(
      "--unused-for <DURATION>",
      "only those not used for so long, such as 24h",
      (text: string) => parseDuration(text, "--unused-for", Number.MAX_SAFE_INTEGER),
    )
    .addHelpText("after", PRUNE_EXAMPLES)
    .action(async ({ unusedFor = 0 }: { readonly unusedFor?: number }) => {
      const store = await ports.open();
      await store.removeLeft();
      const before = Date.now() - unusedFor;
      const old = (await store.list()).filter(({ usedAtMs }) => usedAtMs <= before);
      const removed = (await store.remove(old)).filter(({ isRemoved }) => isRemoved);
      for (const { image } of removed) ports.print(`${image.digest}\n`);
      const bytes = removed.reduce((sum, { image }) => sum + image.bytes, 0);
      ports.print(
        `${removed.length} ${removed.length === 1 ? "image" : "images"} removed, ${
          showBytes(bytes)
        }\n`,
      );
    });
}

/** The image that is meant by a name. */
function findImage(images: readonly StoredImage[], name: string): StoredImage {
  const digits = name.replace(/^sha256:/, "");
  const isDigits = /^[0-9a-f]{4,64}$/.test(digits);
  const found = images.filter(({ digest, names }) =>
    names.includes(name) || (isDigits && digest.startsWith(`sha256:${digits}`))
  );
  const [image] = found;
  if (image !== undefined && found.length === 1) return image;
  throw new SandboxError(
    "NotFound",
    image === undefined
      ? `no image "${name}" was unpacked: see \`quasaur images ls\``
      : `${found.length} images are called "${name}": name one by its digest: ` +
        found.slice(0, 4).map(({ digest }) => digest).join(", "),
  );
}

function columns(now: number): Column<StoredImage>[] {
  return [
    { title: "DIGEST", text: ({ digest }) => digest.replace("sha256:", "").slice(0, DIGITS) },
    { title: "NAME", text: ({ names: [name = "-"] }) => name },
    { title: "PLATFORM", text: ({ config }) => config.platform === "" ? "-" : config.platform },
    { title: "SIZE", right: true, text: ({ bytes }) => showBytes(bytes) },
    { title: "FILES", right: true, text: ({ entries }) => `${entries}` },
    { title: "USED", text: ({ usedAtMs }) => ago(usedAtMs, now) },
  ];
}

function jsonOf({ digest, names, bytes, entries, config, createdAtMs, usedAtMs }: StoredImage) {
  const { args, workingDirectory, user, platform, labels } = config;
  return {
    digest,
    names,
    platform,
    bytes,
    entries,
    createdAt: new Date(createdAtMs).toISOString(),
    usedAt: new Date(usedAtMs).toISOString(),
    // Environment values may be secrets.
    config: { args, workingDirectory, user, labels },
  };
}
