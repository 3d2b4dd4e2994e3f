/// <reference types="./sys.d.ts" />
/**
 * Stands in for the agent's native module under Deno, so that the pure parts of the agent can be
 * loaded there by tests: no call exists. In the agent's bundle the native module takes its place.
 *
 * @module
 */
export {};
