/**
 * A config.json as strictly as Quark reads it: a name in a list of choices that it does not know, a
 * member that is missing or of another type, and it gives up.
 *
 * Source: QuarkContainer/Quark qvisor/src/runc/oci/mod.rs.
 *
 * @module
 */

/** A config.json that Quark can read. */
export interface QuarkSpec {
  /** The process. */
  readonly process: QuarkSpecProcess;
  /** The root file system. */
  readonly root: { readonly path: string };
  /** Mounts that Quark makes by itself. */
  readonly mounts: readonly { readonly destination: string; readonly type: string }[];
  /** Free text. */
  readonly annotations: Readonly<Record<string, string>>;
  /** Undefined where it is missing. */
  readonly linux: { readonly namespaces: readonly QuarkNamespace[] } | undefined;
}

/** A process. */
export interface QuarkSpecProcess {
  /** Command and arguments. */
  readonly args: readonly string[];
  /** As `NAME=value`. */
  readonly env: readonly string[];
  /** Where it starts. */
  readonly cwd: string;
  /** Who it runs as. */
  readonly user: { readonly uid: number; readonly gid: number };
}

/** A namespace. */
export interface QuarkNamespace {
  /** Such as `network`. */
  readonly type: string;
  /** Empty for a new one. */
  readonly path: string;
}

type Object = Readonly<Record<string, unknown>>;

const CAPABILITIES = new Set(
  ("CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE " +
    "NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO " +
    "SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME " +
    "SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG " +
    "WAKE_ALARM BLOCK_SUSPEND AUDIT_READ").split(" ").map((name) => `CAP_${name}`),
);
const RLIMITS = new Set(
  ("CPU FSIZE DATA STACK CORE RSS NPROC NOFILE MEMLOCK AS LOCKS SIGPENDING MSGQUEUE NICE RTPRIO " +
    "RTTIME").split(" ").map((name) => `RLIMIT_${name}`),
);
const NAMESPACES = new Set(["mount", "cgroup", "uts", "ipc", "user", "pid", "network"]);
const SECCOMP_ACTIONS = new Set(
  ["KILL", "TRAP", "ERRNO", "TRACE", "ALLOW"].map((name) => `SCMP_ACT_${name}`),
);
const RESOURCE_NUMBERS: Readonly<Record<string, Readonly<Record<string, "i64" | "u64">>>> = {
  memory: { limit: "i64", reservation: "i64", swap: "i64", swappiness: "u64" },
  cpu: { shares: "u64", quota: "i64", period: "u64" },
  pids: { limit: "i64" },
};

/**
 * Reads a config.json.
 *
 * @param text The document.
 * @throws Error Where Quark would panic.
 */
export function parseQuarkSpec(text: string): QuarkSpec {
  const spec = asObject(JSON.parse(text), "the document");
  const process = parseQuarkProcess(member(spec, "process"));
  const root = asObject(member(spec, "root"), "root");
  const linux = spec["linux"] === undefined ? undefined : asObject(spec["linux"], "linux");
  checkResources(linux?.["resources"]);
  checkSeccomp(linux?.["seccomp"]);
  return {
    process,
    root: { path: asString(root["path"] ?? "", "root.path") },
    mounts: asList(spec["mounts"] ?? [], "mounts").map((item) => {
      const mount = asObject(item, "mounts[]");
      return {
        destination: asString(mount["destination"] ?? "", "destination"),
        type: asString(mount["type"] ?? "", "type"),
      };
    }),
    annotations: stringMap(spec["annotations"] ?? {}, "annotations"),
    linux: linux === undefined ? undefined : {
      namespaces: asList(linux["namespaces"] ?? [], "namespaces").map((item) => {
        const namespace = asObject(item, "namespaces[]");
        const type = oneOf(member(namespace, "type"), NAMESPACES, "namespaces[].type");
        return { type, path: asString(namespace["path"] ?? "", "namespaces[].path") };
      }),
    },
  };
}

/**
 * Reads a process: that of a config.json, or of an exec.
 *
 * @param value The object.
 * @throws Error Where Quark would not take it.
 */
export function parseQuarkProcess(value: unknown): QuarkSpecProcess {
  const process = asObject(value, "process");
  const user = asObject(member(process, "user"), "process.user");
  const sets = asObject(process["capabilities"] ?? {}, "process.capabilities");
  for (const names of Object.values(sets)) {
    for (const name of asList(names, "capabilities")) oneOf(name, CAPABILITIES, "capability");
  }
  for (const item of asList(process["rlimits"] ?? [], "process.rlimits")) {
    const limit = asObject(item, "rlimits[]");
    oneOf(member(limit, "type"), RLIMITS, "rlimits[].type");
    asInteger(limit["soft"] ?? 0, "rlimits[].soft", "u64");
    asInteger(limit["hard"] ?? 0, "rlimits[].hard", "u64");
  }
  return {
    args: asList(member(process, "args"), "args").map((item) => asString(item, "args[]")),
    env: asList(process["env"] ?? [], "env").map((item) => asString(item, "env[]")),
    cwd: asString(process["cwd"] ?? "", "cwd"),
    user: {
      uid: asInteger(user["uid"] ?? 0, "uid", "u64"),
      gid: asInteger(user["gid"] ?? 0, "gid", "u64"),
    },
  };
}

function checkResources(value: unknown): void {
  const resources = asObject(value ?? {}, "resources");
  for (const [name, kinds] of Object.entries(RESOURCE_NUMBERS)) {
    const group = asObject(resources[name] ?? {}, name);
    for (const [key, kind] of Object.entries(kinds)) {
      if (group[key] !== undefined) asInteger(group[key], `${name}.${key}`, kind);
    }
  }
}

function checkSeccomp(value: unknown): void {
  if (value === undefined) return;
  const seccomp = asObject(value, "seccomp");
  oneOf(member(seccomp, "defaultAction"), SECCOMP_ACTIONS, "defaultAction");
  for (const item of asList(seccomp["syscalls"] ?? [], "syscalls")) {
    oneOf(member(asObject(item, "syscalls[]"), "action"), SECCOMP_ACTIONS, "action");
  }
}

function member(parent: Object, name: string): unknown {
  if (parent[name] === undefined) throw new Error(`missing field \`${name}\``);
  return parent[name];
}

function asObject(value: unknown, name: string): Object {
  if (typeof value === "object" && value !== null && !Array.isArray(value)) {
    return Object.fromEntries(Object.entries(value));
  }
  throw new Error(`invalid type at ${name}: expected a map`);
}

function asList(value: unknown, name: string): readonly unknown[] {
  if (Array.isArray(value)) return value;
  throw new Error(`invalid type at ${name}: expected a sequence`);
}

function asString(value: unknown, name: string): string {
  if (typeof value === "string") return value;
  throw new Error(`invalid type at ${name}: expected a string`);
}

function asInteger(value: unknown, name: string, kind: "i64" | "u64"): number {
  if (Number.isInteger(value) && typeof value === "number" && (kind === "i64" || value >= 0)) {
    return value;
  }
  throw new Error(`invalid value ${JSON.stringify(value)} at ${name}: expected ${kind}`);
}

function stringMap(value: unknown, name: string): Readonly<Record<string, string>> {
  return Object.fromEntries(
    Object.entries(asObject(value, name)).map(([key, item]) => [key, asString(item, name)]),
  );
}

function oneOf(value: unknown, choices: ReadonlySet<string>, name: string): string {
  if (typeof value === "string" && choices.has(value)) return value;
  throw new Error(`unknown variant ${JSON.stringify(value)} at ${name}`);
}
