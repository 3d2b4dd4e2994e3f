/**
 * The name of the guest library's file: what build.ts makes and library.ts opens.
 *
 * @module
 */

/** The file name of the library. */
export const LIBRARY_FILE = "libquasaur-guest.so";
