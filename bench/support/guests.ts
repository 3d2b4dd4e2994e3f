/**
 * Finds the guests that set-up has built.
 *
 * @module
 */

import { type GuestName, GUESTS_BUILD_DIR } from "../../tests/guests/build.ts";

/**
 * The path of a guest's module.
 *
 * @param name The guest.
 */
export function guestPath(name: GuestName): string {
  return `${GUESTS_BUILD_DIR}/${name}.wasm`;
}
