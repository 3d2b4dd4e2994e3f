/**
 * Where sandboxers are looked for, for people.
 *
 * @module
 */

import { DEFAULT_ADDRESSES } from "../../sandboxers/client/find.ts";

/**
 * Says where sandboxers are looked for.
 *
 * @param addresses The sockets that were given.
 * @param problems Why some that may be there cannot be reached.
 */
export function places(addresses: readonly string[], problems: readonly string[]): string[] {
  if (problems.length > 0) return [...problems];
  return addresses.length > 0 ? [...addresses] : Object.values(DEFAULT_ADDRESSES);
}
