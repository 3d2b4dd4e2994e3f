/**
 * What a Debian package says of itself, and what its scripts do.
 *
 * @module
 */

import {
  CONTAINERD_MINIMUM,
  EROFS_MINIMUM,
  QEMU_MINIMUM,
  RUNSC_MINIMUM,
  WASMEDGE_MINIMUM,
} from "../../sandboxers/minimum_versions.ts";

/** What differs from package to package. */
export interface PackageFacts {
  /** The version, as Debian writes it. */
  readonly version: string;
  /** Such as `amd64`. */
  readonly architecture: string;
  /** Who answers for it: a name and an address. */
  readonly maintainer: string;
  /** The size of its files, in KiB. */
  readonly installedKib: number;
  /** The oldest C library that its programs run with, such as `2.34`. */
  readonly glibc: string;
}

/** The text of the file `control`. */
export function controlText(facts: PackageFacts): string {
  const depends = [
    `containerd (>= ${CONTAINERD_MINIMUM}) | containerd.io (>= ${CONTAINERD_MINIMUM})`,
    `libc6 (>= ${facts.glibc})`,
    "libgcc-s1",
    "libseccomp2",
  ];
  const recommends = [
    `libwasmedge0 (>= ${WASMEDGE_MINIMUM})`,
    `qemu-system-x86 (>= ${QEMU_MINIMUM})`,
    "virtiofsd",
    `erofs-utils (>= ${EROFS_MINIMUM})`,
    `runsc (>= 0.0~${RUNSC_MINIMUM})`,
    "containernetworking-plugins",
  ];
  return `Package: quasaur
Version: ${facts.version}
Architecture: ${facts.architecture}
Maintainer: ${facts.maintainer}
Installed-Size: ${facts.installedKib}
Section: admin
Priority: optional
Depends: ${depends.join(", ")}
Recommends: ${recommends.join(", ")}
Description: sandboxes for containers: WebAssembly, microVMs, application kernels
 A container runtime for containerd 2.1 or newer with several kinds of sandbox
 on one node. One resident process for each kind serves all pods of that kind.
 .
 The recommended packages bring what the kinds run: WasmEdge for WebAssembly,
 QEMU for microVMs, runsc for gVisor. Services are not enabled by installing.
`;
}

/** The units, for scripts. */
const UNITS = "quasaur-wasm.service quasaur-vmm.service quasaur-quark.service";

/** Whether systemd runs: in an image that is being built, or a container, it does not. */
const IF_SYSTEMD = `if [ -d /run/systemd/system ]; then`;

/** The maintainer scripts by name. */
export const SCRIPTS: Readonly<Record<string, string>> = {
  postinst: `#!/bin/sh
set -e

if [ "$1" = configure ]; then
	if [ -d /run/systemd/system ]; then
		systemctl daemon-reload
		# Their pods outlive a restart. Those of the wasm sandboxer do so only with a process of their
		# own: it goes on as it is, until somebody restarts it.
		for unit in quasaur-vmm.service quasaur-quark.service; do
			systemctl try-restart "$unit" || true
		done
	fi
	if [ -z "$2" ]; then
		echo "quasaur: next: quasaur containerd config --apply"
		echo "quasaur: then: systemctl enable --now ${UNITS}"
		echo "quasaur: then: systemctl restart containerd"
	elif [ -d /run/systemd/system ] && systemctl --quiet is-active quasaur-wasm.service; then
		echo "quasaur: quasaur-wasm.service still runs the old version; containers on its threads end"
		echo "quasaur: when it is restarted: systemctl restart quasaur-wasm"
	fi
fi
`,
  prerm: `#!/bin/sh
set -e

if [ "$1" = remove ]; then
	# What \`quasaur containerd config --apply\` added; containerd would look for shims that go now.
	/usr/bin/quasaur containerd config --undo || true
	${IF_SYSTEMD}
		systemctl disable --now ${UNITS} || true
	fi
fi
`,
  postrm: `#!/bin/sh
set -e

if [ "$1" = remove ] && [ -d /run/systemd/system ]; then
	systemctl daemon-reload || true
fi
if [ "$1" = purge ]; then
	rm -rf /var/cache/quasaur /var/cache/quasaur-deno
	# Root file systems of pods that still run may be mounted there: deleting would go into them.
	if ! grep -q ' /run/quasaur' /proc/self/mounts; then
		rm -rf /run/quasaur
	fi
	if [ -d /etc/quasaur ]; then
		rmdir --ignore-fail-on-non-empty /etc/quasaur
	fi
fi
`,
};
