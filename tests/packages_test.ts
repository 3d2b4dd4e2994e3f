/**
 * What is installed works: the bundle, its services and the Debian package, each on a machine of its
 * own, with the real containerd at its usual place.
 *
 * @module
 */

import assert from "node:assert/strict";
import { buildDeb, DEFAULT_MAINTAINER } from "../scripts/package/deb.ts";
import { GUEST_DIRECTORY } from "../guest/image/paths.ts";
import { GUESTS_BUILD_DIR } from "./guests/build.ts";
import { copyBundle } from "./support/built_bundle.ts";
import { removeCgroup } from "./support/cgroups.ts";
import { Cri } from "./support/cri.ts";
import { busyboxImage, imageArchive, wasmImage } from "./support/oci_image.ts";
import { PrivateMachine } from "./support/private_machine.ts";
import { startUnit, UnitFile } from "./support/unit_file.ts";
import { waitFor } from "./support/wait.ts";
import config from "../deno.json" with { type: "json" };

/** Whether what takes long is run too. */
const IS_LONG = Deno.env.get("QUASAUR_LONG_TESTS") === "1";

/** Services that are started; a microVM's template takes long to boot where the host emulates. */
const KINDS = ["wasm", "quark", ...(IS_LONG ? ["vmm"] : [])];

/** What all tests of this file share: a directory, and in it the bundle. */
let shared = "";
let home = "";

Deno.test.beforeAll(async () => {
  shared = await Deno.makeTempDir({ dir: "/var/tmp", prefix: "quasaur-packages-" });
  home = `${shared}/bundle`;
  await copyBundle(home);
});

Deno.test.afterAll(async () => {
  await Deno.remove(shared, { recursive: true });
});

/** Everything in a machine that is Quasaur's by its name, beside what this machine has anyway. */
async function ownFiles(machine: PrivateMachine): Promise<string[]> {
  const places = ["/etc", "/usr", "/var/lib", "/var/cache", "/run", "/opt"];
  const { stdout } = await machine.run(
    ["find", ...places, "-name", "*quasaur*", "-not", "-path", "/var/lib/containerd/*", "-print"],
  );
  return stdout.split("\n").filter((line) => line !== "").sort();
}

/** Makes the bundle look like an earlier version. */
async function earlierBundle(version: string): Promise<string> {
  const directory = `${shared}/earlier`;
  await copyTree(home, directory);
  for (const name of ["quasaur", "quasaur-wasm", "quasaur-vmm", "quasaur-quark"]) {
    const text = await Deno.readTextFile(`${directory}/${name}.js`);
    const changed = text.replaceAll(`version:"${config.version}"`, `version:"${version}"`);
    assert.notEqual(changed, text, `${name}.js names its version`);
    await Deno.writeTextFile(`${directory}/${name}.js`, changed);
  }
  const json = await Deno.readTextFile(`${directory}/deno.json`);
  await Deno.writeTextFile(`${directory}/deno.json`, json.replace(config.version, version));
  return directory;
}

async function copyTree(from: string, to: string): Promise<void> {
  const { success } = await new Deno.Command("cp", { args: ["-a", from, to] }).output();
  assert.ok(success);
}

/** Starts containerd in a machine and brings in an image of a module and one of busybox. */
async function startContainerd(machine: PrivateMachine): Promise<void> {
  await machine.daemon("containerd", ["containerd"]);
  await waitFor("containerd", async () => {
    return (await machine.run(["ctr", "version"], { check: false })).status === 0;
  });
  const module = await Deno.readFile(`${GUESTS_BUILD_DIR}/sleep.wasm`);
  const images = [
    wasmImage("quasaur.test/sleep:1", module),
    await busyboxImage("quasaur.test/busybox:1"),
  ];
  for (const [index, image] of images.entries()) {
    const path = `${shared}/image-${index}.tar`;
    await Deno.writeFile(path, await imageArchive(image));
    await machine.run(["ctr", "-n", "k8s.io", "images", "import", path]);
  }
}

Deno.test("an installed bundle serves containerd, is upgraded under running pods, and goes", async () => {
  const earlier = await earlierBundle("0.0.1");
  await using machine = await PrivateMachine.start([shared]);
  const before = await ownFiles(machine);
  const containerdBefore = await machine.run(["sh", "-c", "cat /etc/containerd/config.toml || :"]);

  const first = await machine.run([`${earlier}/bin/quasaur`, "install", "--containerd"]);
  assert.match(first.stdout, /^quasaur 0\.0\.1 for wasm, vmm, quark: \d+ put, 0 there already$/m);
  assert.match(first.stdout, /^next: systemctl enable --now quasaur-wasm\.service/m);
  const units = ["wasm", "vmm", "quark"].map((kind) =>
    `/usr/lib/systemd/system/quasaur-${kind}.service`
  );
  const verified = await machine.run(["systemd-analyze", "verify", "--man=no", ...units]);
  assert.equal(verified.stderr + verified.stdout, "");

  await using services = new AsyncDisposableStack();
  for (const kind of KINDS) services.use(await startUnit({ machine, name: `quasaur-${kind}` }));
  await startContainerd(machine);
  const cgroup = `/quasaur-packages-${Deno.pid}`;
  try {
    using cri = new Cri(machine.path("/run/containerd/containerd.sock"), `${shared}/logs`, cgroup);
    await using wasm = await cri.runPod({ handler: "quasaur-wasm-process" });
    await using gvisor = await cri.runPod({ handler: "quasaur-gvisor" });
    const module = await wasm.startContainer({ image: "quasaur.test/sleep:1" });
    const shell = await gvisor.startContainer({
      image: "quasaur.test/busybox:1",
      command: ["/bin/sh", "-c", "echo up; exec sleep 1000"],
    });
    await Promise.all([module.printed("sleeping"), shell.printed("up")]);
    assert.match((await machine.run(["quasaur", "version"])).stdout, /^quasaur 0\.0\.1$/m);

    const upgrade = await machine.run([`${home}/bin/quasaur`, "install", "--containerd"]);
    assert.match(upgrade.stdout, new RegExp(`^quasaur ${config.version} over 0\\.0\\.1 for`, "m"));
    assert.match((await machine.run(["quasaur", "version"])).stdout, /^quasaur 0\.1/m);
    await services.disposeAsync();
    await using again = new AsyncDisposableStack();
    for (const kind of KINDS) {
      const service = again.use(await startUnit({ machine, name: `quasaur-${kind}` }));
      if (kind !== "vmm") {
        assert.ok(
          service.told.some((line) => /took over 1 sandboxes/.test(line)),
          `${service.told}`,
        );
      }
    }
    const { stdout } = await waitFor(
      "exec in the gVisor pod",
      () => shell.exec(["/bin/busybox", "echo", "on"]),
    );
    assert.equal(stdout, "on\n");
    assert.deepEqual([await module.state(), await shell.state()], [
      "RUNNING",
      "RUNNING",
    ]);
    if (IS_LONG) await runMicroVm(machine, cri);
    const { stdout: listed } = await machine.run(["quasaur", "ps"]);
    assert.match(listed, /gvisor|quark/);
    await Promise.all([wasm, gvisor].map(({ id }) => cri.removePod(id)));
  } finally {
    await removeCgroup(cgroup);
  }

  await machine.run(["sh", "-c", "echo '# mine' >>/etc/quasaur/vmm.toml"]);
  const gone = await machine.run(["quasaur", "uninstall"], { check: false });
  assert.equal(gone.status, 1);
  assert.match(gone.stderr, /^quasaur: \/etc\/quasaur\/vmm\.toml was changed .*left as it is$/m);
  await machine.run(["rm", "-r", "/etc/quasaur", "/var/cache/quasaur-deno", "/run/quasaur"]);
  const left = (await ownFiles(machine)).filter((path) =>
    !/^\/var\/(log|cache\/quasaur)/.test(path)
  );
  assert.deepEqual(left, before.filter((path) => !path.startsWith("/var/cache/quasaur")));
  const after = await machine.run(["sh", "-c", "cat /etc/containerd/config.toml || :"]);
  assert.equal(after.stdout, containerdBefore.stdout);
});

/** One pod of the vmm kind, to its end. */
async function runMicroVm(machine: PrivateMachine, cri: Cri): Promise<void> {
  await machine.run(["mkdir", "-p", "/etc/cni/net.d"]);
  const network = {
    cniVersion: "1.0.0",
    name: "packages",
    plugins: [{
      type: "bridge",
      bridge: "packages0",
      isGateway: true,
      ipam: { type: "host-local", ranges: [[{ subnet: "10.66.0.0/24" }]] },
    }],
  };
  const path = machine.path("/etc/cni/net.d/10-packages.conflist");
  await Deno.writeTextFile(path, JSON.stringify(network));
  await using pod = await waitFor(
    "containerd to see its network",
    () => cri.runPod({ handler: "quasaur-vmm", network: "pod" }),
  );
  const { stdout } = await pod.runContainer({
    image: "quasaur.test/busybox:1",
    command: ["/bin/busybox", "uname", "-r"],
  });
  assert.notEqual(stdout[0], Deno.osRelease());
}

Deno.test("the Debian package installs, runs, is removed and purged without a trace", async () => {
  const options = {
    bundle: home,
    guest: IS_LONG ? GUEST_DIRECTORY : undefined,
    outDir: `${shared}/deb`,
    version: config.version,
    epochSeconds: 1_700_000_000,
    compression: 1,
    maintainer: DEFAULT_MAINTAINER,
  };
  const deb = await buildDeb(options);
  assert.match(deb, new RegExp(`/quasaur_${config.version}_(amd64|arm64)\\.deb$`));
  const read = async (...args: string[]) => {
    const { stdout, stderr, success } = await new Deno.Command("dpkg-deb", { args }).output();
    assert.ok(success, new TextDecoder().decode(stderr));
    return new TextDecoder().decode(stdout);
  };
  const contents = await read("--contents", deb);
  for (
    const path of [
      "usr/lib/quasaur/deno",
      "usr/bin/containerd-shim-quasaur-gvisor-v1",
      "usr/share/quasaur/grafana/quasaur.json",
      "usr/share/quasaur/prometheus/scrape.yaml",
    ]
  ) {
    assert.ok(contents.includes(` ./${path}`), path);
  }
  // All times are the same, and all files are root's.
  for (const line of contents.trim().split("\n")) {
    assert.match(line, /^[-dlrwx]{10} root\/root +\d+ 2023-11-14 /);
  }
  assert.match(await read("--field", deb, "Depends"), /^containerd \(>= 2\.1\)/);

  await using machine = await PrivateMachine.start([shared]);
  // What this machine has of the project by other means.
  await machine.run(["rm", "-rf", "/var/cache/quasaur", "/etc/quasaur"]);
  const before = await ownFiles(machine);
  const installed = await machine.run(["dpkg", "--force-unsafe-io", "-i", deb], {
    env: { DEBIAN_FRONTEND: "noninteractive" },
  });
  assert.match(installed.stdout, /quasaur: next: quasaur containerd config --apply/);
  assert.match((await machine.run(["quasaur", "version"])).stdout, /^quasaur 0\.1/m);
  const module = `${GUESTS_BUILD_DIR}/args.wasm`;
  const ran = await machine.run(["quasaur", "run", "wasm", module, "--", "packaged"]);
  assert.match(ran.stdout, /^arg packaged$/m);
  const refused = await machine.run([`${home}/bin/quasaur`, "install"], { check: false });
  assert.match(refused.stderr, /the Debian package quasaur is installed/);
  await machine.run(["quasaur", "containerd", "config", "--apply"]);
  {
    await using service = await startUnit({ machine, name: "quasaur-wasm" });
    await waitFor("a sign of life", () => Promise.resolve(service.told.includes("WATCHDOG=1")));
  }
  await machine.run(["sh", "-c", "echo '# mine' >>/etc/quasaur/vmm.toml"]);
  await machine.run(["dpkg", "--force-unsafe-io", "--remove", "quasaur"]);
  assert.ok((await ownFiles(machine)).includes("/etc/quasaur"), "configuration stays");
  await machine.run(["dpkg", "--force-unsafe-io", "--purge", "quasaur"]);
  const left = await ownFiles(machine);
  assert.deepEqual(left.filter((path) => !before.includes(path)), []);
});

Deno.test("units run what the tasks run, and say what systemd has to know", async () => {
  const tasks: Readonly<Record<string, string>> = config.tasks;
  for (const kind of ["wasm", "vmm", "quark"]) {
    const path = `deploy/systemd/quasaur-${kind}.service`;
    const text = await Deno.readTextFile(path);
    const unit = new UnitFile(text);
    const flags = (command: string) =>
      command.split(/\s+/).filter((it) => /^--v8|^--no-code/.test(it));
    assert.deepEqual(flags(unit.value("ExecStart")), flags(tasks[kind] ?? ""), kind);
    const words = (tasks[kind] ?? "").split(" ");
    const variables = words.slice(0, words.indexOf("deno"));
    for (const variable of variables) {
      assert.ok(unit.all("Environment").join(" ").split(" ").includes(variable), variable);
    }
    assert.deepEqual(
      ["Type", "KillMode", "OOMPolicy", "RuntimeDirectoryPreserve"].map((key) => unit.value(key)),
      ["notify", "process", "continue", "yes"],
    );
    assert.match(text, /^Before=containerd\.service/m);
    // Each setting has its reason above it, or shares that of the one above.
    assert.ok((text.match(/^#/gm)?.length ?? 0) >= 25);
    // Nothing may give the service mounts of its own.
    assert.doesNotMatch(
      text,
      /^(Protect(System|Home|Kernel\w+|Control\w+|Proc)|Private\w+|ReadOnly\w+|Bind\w+|RootDirectory)=/m,
    );
    const { stdout } = await new Deno.Command("systemd-analyze", {
      args: ["security", "--offline=true", "--no-pager", "--threshold=75", path],
      env: { SYSTEMD_COLORS: "0" },
    }).output();
    assert.match(new TextDecoder().decode(stdout), /exposure level for quasaur-\w+\.service: [67]/);
  }
});
