// deno-lint-ignore-file no-console -- a script talks to a person
/**
 * `deno task package`: a Debian package of everything, with the deno that runs it, by dpkg-deb. The
 * same sources, tools and SOURCE_DATE_EPOCH make the same package.
 *
 * @module
 */

import { parseArgs } from "node:util";
import { SandboxError } from "../../sandboxers/lifecycle/errors.ts";
import { install, planInstall } from "../../cli/install/install.ts";
import { installedItems, SANDBOXER_KINDS } from "../../cli/install/layout.ts";
import { MANIFEST_PATH } from "../../cli/install/manifest.ts";
import { GUEST_DIRECTORY } from "../../guest/image/paths.ts";
import { bundle, BUNDLE_DIRECTORY } from "../bundle.ts";
import { controlText, SCRIPTS } from "./control.ts";

const HELP = `Builds a Debian package of everything: build/quasaur_VERSION_ARCHITECTURE.deb

Usage: deno task package [--version VERSION] [--bundle DIR] [--guest DIR | --no-guest]
                         [--out DIR] [--compression LEVEL] [--maintainer "NAME <ADDRESS>"]

  --version VERSION   the package's version (default: that of deno.json)
  --bundle DIR        a bundle that is there; otherwise one is made
  --guest DIR         what microVMs boot (default ${GUEST_DIRECTORY}, where it was built)
  --no-guest          a package without it: it is built on each machine, or configured
  --out DIR           where the package goes (default build)
  --compression LEVEL zstd's, 1 to 19 (default 12)
  -h, --help          print this

SOURCE_DATE_EPOCH: the time of all files, in seconds (default: that of the last commit).`;

/** What to package. */
export interface DebOptions {
  /** A complete bundle. */
  readonly bundle: string;
  /** The directory of kernel and initrd of microVMs; undefined to leave them out. */
  readonly guest: string | undefined;
  /** Where the package goes; made where it is missing. */
  readonly outDir: string;
  /** The package's version. */
  readonly version: string;
  /** The time of all files, in seconds since the epoch. */
  readonly epochSeconds: number;
  /** zstd's level, 1 to 19. */
  readonly compression: number;
  /** Who answers for it: a name and an address. */
  readonly maintainer: string;
}

/** Who answers for a package that somebody builds for themselves. */
export const DEFAULT_MAINTAINER = "Quasaur packagers <root@localhost>";

/** Debian's names of architectures. */
const ARCHITECTURES: Readonly<Record<string, string>> = { x86_64: "amd64", aarch64: "arm64" };

/** What microVMs boot, as guest/image makes it. */
const GUEST_FILES = ["vmlinux", "initrd.cpio", "manifest.json"];

/** The oldest C library that deno itself says it needs. */
const GLIBC_MINIMUM = "2.35";

/**
 * Builds the package.
 *
 * @param options What to package.
 * @returns The package's path.
 * @throws {SandboxError} `FailedPrecondition` where dpkg-deb is missing or fails.
 */
export async function buildDeb(options: DebOptions): Promise<string> {
  const architecture = ARCHITECTURES[Deno.build.arch] ?? Deno.build.arch;
  await Deno.mkdir(options.outDir, { recursive: true });
  const stage = await Deno.makeTempDir({ dir: options.outDir, prefix: ".deb-" });
  try {
    await Deno.chmod(stage, 0o755);
    await putFiles(stage, options);
    const glibc = await glibcOf([
      `${stage}/usr/lib/quasaur/build/libquasaur-guest.so`,
      `${stage}/usr/lib/quasaur/build/quasaur-launcher`,
      `${stage}/usr/lib/quasaur/deno`,
    ]);
    const { version, maintainer } = options;
    const installedKib = Math.ceil(await bytesBelow(stage) / 1024);
    const facts = { version, architecture, maintainer, installedKib, glibc };
    await putControl(stage, controlText(facts));
    const file = `${options.outDir}/quasaur_${version}_${architecture}.deb`;
    await pack(stage, `${file}.new`, options);
    await Deno.rename(`${file}.new`, file);
    return file;
  } finally {
    await Deno.remove(stage, { recursive: true });
  }
}

async function putFiles(stage: string, options: DebOptions): Promise<void> {
  const plan = await planInstall({
    bundle: options.bundle,
    prefix: stage,
    kinds: SANDBOXER_KINDS,
    force: false,
  });
  await install(plan, false);
  // dpkg has a list of its own.
  await Deno.remove(`${stage}${MANIFEST_PATH}`);
  await Deno.remove(`${stage}/var/lib/quasaur`);
  await Deno.remove(`${stage}/var/lib`);
  await Deno.remove(`${stage}/var`);
  if (options.guest !== undefined) {
    const to = `${stage}${GUEST_DIRECTORY}`;
    await Deno.mkdir(to, { recursive: true });
    for (const name of GUEST_FILES) {
      await Deno.copyFile(`${options.guest}/${name}`, `${to}/${name}`);
      await Deno.chmod(`${to}/${name}`, 0o644);
    }
  }
  const manual = `${stage}/usr/share/man/man1/quasaur.1`;
  await run("gzip", ["-9", "-n", manual]);
  const changes = `${stage}/usr/share/doc/quasaur/changelog.gz`;
  await Deno.writeFile(changes, await gzipped("CHANGELOG.md"), { mode: 0o644 });
  for await (const { name } of Deno.readDir("docs")) {
    if (!name.endsWith(".md")) continue;
    await Deno.copyFile(`docs/${name}`, `${stage}/usr/share/doc/quasaur/${name}`);
    await Deno.chmod(`${stage}/usr/share/doc/quasaur/${name}`, 0o644);
  }
}

async function gzipped(path: string): Promise<Uint8Array> {
  const { stdout } = await run("gzip", ["-9", "-n", "-c", path]);
  return stdout;
}

/** The newest version of the C library that programs ask for. */
async function glibcOf(files: readonly string[]): Promise<string> {
  const found = [GLIBC_MINIMUM];
  for (const file of files) {
    const text = new TextDecoder("latin1").decode(await Deno.readFile(file));
    found.push(...[...text.matchAll(/GLIBC_(2\.\d+)/g)].map(([, version = ""]) => version));
  }
  const minor = (version: string) => Number(version.split(".")[1]);
  return found.reduce((a, b) => minor(b) > minor(a) ? b : a);
}

async function bytesBelow(directory: string): Promise<number> {
  let bytes = 0;
  for await (const { name, isDirectory, isFile } of Deno.readDir(directory)) {
    if (isDirectory) bytes += 4096 + await bytesBelow(`${directory}/${name}`);
    else if (isFile) bytes += (await Deno.stat(`${directory}/${name}`)).size;
  }
  return bytes;
}

async function putControl(stage: string, control: string): Promise<void> {
  const configs = installedItems(SANDBOXER_KINDS)
    .flatMap((item) => item.type === "file" && item.isConfig ? [`${item.path}\n`] : []);
  await Deno.mkdir(`${stage}/DEBIAN`);
  await Deno.writeTextFile(`${stage}/DEBIAN/control`, control, { mode: 0o644 });
  await Deno.writeTextFile(`${stage}/DEBIAN/conffiles`, configs.join(""), { mode: 0o644 });
  for (const [name, text] of Object.entries(SCRIPTS)) {
    await Deno.writeTextFile(`${stage}/DEBIAN/${name}`, text);
    await Deno.chmod(`${stage}/DEBIAN/${name}`, 0o755);
  }
}

async function pack(stage: string, file: string, options: DebOptions): Promise<void> {
  // Times that are older than this stay as they are: all are made now.
  const env = { SOURCE_DATE_EPOCH: `${options.epochSeconds}` };
  await run("dpkg-deb", [
    ...["--build", "--root-owner-group", "--uniform-compression", "-Zzstd"],
    ...[`-z${options.compression}`, "--threads-max=1", stage, file],
  ], env);
}

async function run(
  program: string,
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<{ stdout: Uint8Array<ArrayBuffer> }> {
  const output = await new Deno.Command(program, { args: [...args], env: { ...env } }).output()
    .catch((cause: unknown) => {
      throw new SandboxError(
        "FailedPrecondition",
        `cannot build the package: cannot run ${program}: install the Debian packages dpkg and gzip`,
        { cause },
      );
    });
  if (output.success) return output;
  throw new SandboxError(
    "FailedPrecondition",
    `cannot build the package: ${program} failed: ${
      new TextDecoder().decode(output.stderr).trim()
    }`,
  );
}

/** The time of all files: what the environment says, or when the last commit was made. */
async function epochSeconds(): Promise<number> {
  const given = Deno.env.get("SOURCE_DATE_EPOCH");
  if (given !== undefined && /^\d{1,11}$/.test(given)) return Number(given);
  if (given !== undefined) {
    throw new SandboxError(
      "InvalidArgument",
      `invalid SOURCE_DATE_EPOCH ${JSON.stringify(given)}: expected seconds since the epoch`,
    );
  }
  const git = new Deno.Command("git", { args: ["log", "-1", "--format=%ct"] });
  const output = await git.output().catch(() => undefined);
  const seconds = Number(new TextDecoder().decode(output?.stdout));
  return output?.success === true && seconds > 0 ? seconds : Math.floor(Date.now() / 1000);
}

/** The version in deno.json. */
async function sourceVersion(): Promise<string> {
  const { version }: { version?: unknown } = JSON.parse(await Deno.readTextFile("deno.json"));
  if (typeof version === "string") return version;
  throw new SandboxError(
    "FailedPrecondition",
    "cannot build the package: deno.json has no version",
  );
}

async function guestDirectory(named: string | undefined): Promise<string | undefined> {
  const directory = named ?? GUEST_DIRECTORY;
  const there = await Deno.stat(`${directory}/vmlinux`).then(() => true, () => false);
  if (there) return directory;
  if (named === undefined) return undefined;
  throw new SandboxError(
    "NotFound",
    `cannot build the package: ${named} has no vmlinux: make it with \`deno task guest:image\``,
  );
}

async function main(args: readonly string[]): Promise<void> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      "version": { type: "string" },
      "bundle": { type: "string" },
      "guest": { type: "string" },
      "no-guest": { type: "boolean", default: false },
      "out": { type: "string", default: "build" },
      "compression": { type: "string", default: "12" },
      "maintainer": { type: "string", default: DEFAULT_MAINTAINER },
      "help": { type: "boolean", short: "h", default: false },
    },
  });
  if (values.help) return console.log(HELP);
  if (!/^([1-9]|1\d)$/.test(values.compression)) {
    throw new SandboxError(
      "InvalidArgument",
      `invalid --compression ${JSON.stringify(values.compression)}: expected 1 to 19`,
    );
  }
  if (values.bundle === undefined) await bundle({ tell: console.log });
  const guest = values["no-guest"] ? undefined : await guestDirectory(values.guest);
  if (guest === undefined) console.log("without what microVMs boot: it is not built, or left out");
  const file = await buildDeb({
    bundle: values.bundle ?? BUNDLE_DIRECTORY,
    guest,
    outDir: values.out,
    version: values.version ?? await sourceVersion(),
    epochSeconds: await epochSeconds(),
    compression: Number(values.compression),
    maintainer: values.maintainer,
  });
  console.log(`${file}: ${Math.round((await Deno.stat(file)).size / (1 << 20))} MiB`);
}

if (import.meta.main) {
  try {
    await main(Deno.args);
  } catch (error) {
    console.error(SandboxError.from(error).message);
    Deno.exit(1);
  }
}
