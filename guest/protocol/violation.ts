/**
 * The error for what the other side must never send. The host gives the connection up on it, for
 * good; the guest, which trusts the host, notes it and goes on.
 *
 * @module
 */

/** The other side broke the protocol. */
export class Violation extends Error {
  /** The name shown in stack traces. */
  override readonly name = "Violation";
}
