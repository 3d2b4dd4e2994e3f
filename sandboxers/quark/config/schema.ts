/**
 * The schema of `quark.toml`: every key with its type, its default and what it is for.
 *
 * @module
 */

import { type Section, section, setting } from "../../config/schema.ts";
import { choice, FLAG, integer, list, PATH, text } from "../../config/value_types.ts";
import { LOG_LEVELS } from "../../log.ts";
import { APP_KERNELS } from "../app_kernel.ts";
import {
  type GvisorSection,
  type KernelSection,
  NETWORK_CHOICES,
  OVERLAY_CHOICES,
  PLATFORM_CHOICES,
  type QuarkConfig,
  type QuarkSection,
  type SandboxSection,
} from "./config.ts";

const sandbox: Section<SandboxSection> = section("The sandboxer itself.", {
  logLevel: setting(choice(LOG_LEVELS), "info", "What is logged. The flag --log-level goes first."),
});

const kernel: Section<KernelSection> = section("Which application kernel pods get.", {
  default: setting(
    choice(APP_KERNELS),
    "gvisor",
    "For pods whose runtime handler's type names neither of them: it is looked for in the type's",
    "name, as in io.containerd.quasaur-gvisor.v1.",
  ),
});

const gvisor: Section<GvisorSection> = section("gVisor.", {
  path: setting(
    PATH,
    "/usr/bin/runsc",
    "The program. The permission set of the sandboxer names it too: change both.",
  ),
  platform: setting(
    choice(PLATFORM_CHOICES),
    "auto",
    "How system calls are caught. auto tries systrap, then ptrace, once per boot of the host; kvm is",
    "only used where it is asked for here.",
  ),
  network: setting(
    choice(NETWORK_CHOICES),
    "auto",
    "How pods are connected. sandbox: gVisor's own stack; host: the host's kernel, inside the pod's",
    "network namespace; none: loopback only; auto: the first of sandbox and host that works here.",
  ),
  overlay: setting(
    choice(OVERLAY_CHOICES),
    "none",
    "Where containers' writes to their root file system go. none: to the file system itself, which",
    "containerd throws away with the container; memory, self: to memory or a file of the sandbox.",
    "A sandbox whose containers write there can be saved (quasaur snapshot) only with memory.",
  ),
  fileAccess: setting(
    choice(["exclusive", "shared"]),
    "exclusive",
    "Whether files of root file systems are a container's alone, so that it may keep them in memory.",
    "Volumes are always shared.",
  ),
  directfs: setting(
    FLAG,
    true,
    "Whether the sandbox opens files by itself, which is faster, or has another process open them.",
  ),
  rawSockets: setting(
    FLAG,
    false,
    "Whether containers that have CAP_NET_RAW may use it, for example for ping.",
  ),
  seccomp: setting(
    FLAG,
    true,
    "Whether the system call filters that containers come with count inside. gVisor's kernel answers",
    "all system calls either way.",
  ),
  commandTimeoutInS: setting(
    integer(1, 3600, "s"),
    60,
    "How long one run of the program may take.",
  ),
  debug: setting(FLAG, false, "Keep logs of the program and its sandboxes in the pod's directory."),
  extraArgs: setting(
    list(text(/^--?[A-Za-z][\w-]*(=.*)?$/, "a flag such as --strace or --name=value")),
    [],
    "Further global flags of the program. They come after ours and are not looked at.",
  ),
});

const quark: Section<QuarkSection> = section("Quark.", {
  path: setting(
    PATH,
    "/usr/local/bin/quark",
    "The program. Root owns it and all above it, and nobody else can write there.",
  ),
  configPath: setting(
    PATH,
    "/etc/quark/config.json",
    'Its own configuration. It has to say "Sandboxed": true.',
  ),
  readyTimeoutInS: setting(
    integer(1, 3600, "s"),
    30,
    "How long a sandbox may take until its task service answers.",
  ),
});

/** The schema. */
export const QUARK_SCHEMA: Section<QuarkConfig> = section("", { sandbox, kernel, gvisor, quark });

/** Keys of the files that users of runsc's containerd shim and of Kuasar know, and what stands for them. */
export const FOREIGN_KEYS: Readonly<Record<string, string>> = {
  "sandbox.enable_tracing": "there is no tracing: remove it",
  "gvisor.binary_name": 'it is called "gvisor.path"',
  "gvisor.runsc_path": 'it is called "gvisor.path"',
  "gvisor.overlay2": 'it is called "gvisor.overlay"',
  "gvisor.runsc_config": 'put its flags into "gvisor.extra_args"',
  "gvisor.debug_log": "logs go to the pod's directory: set gvisor.debug",
  "gvisor.root": "it lies below --dir: remove it",
  "quark.binary_path": 'it is called "quark.path"',
  "quark.config": 'it is called "quark.config_path"',
};
