/**
 * Where the guest's kernel and initrd are built to, and where the sandboxers look for them unless
 * they are told otherwise. One place for the machine and not one in the sources: the VMMs run as
 * users of their own and must be able to reach both files.
 *
 * @module
 */

/** The directory of kernel, initrd and manifest. */
export const GUEST_DIRECTORY = "/var/cache/quasaur/guest";

/** The kernel's file: an uncompressed ELF image with the PVH entry. */
export const KERNEL_FILE = "vmlinux";

/** The initrd's file: an archive that holds the agent and what it needs. */
export const INITRD_FILE = "initrd.cpio";

/** The manifest's file: what both were built from. */
export const MANIFEST_FILE = "manifest.json";

/** The kernel that sandboxers boot unless they are told otherwise. */
export const DEFAULT_KERNEL: string = `${GUEST_DIRECTORY}/${KERNEL_FILE}`;

/** The initrd that sandboxers boot unless they are told otherwise. */
export const DEFAULT_INITRD: string = `${GUEST_DIRECTORY}/${INITRD_FILE}`;
