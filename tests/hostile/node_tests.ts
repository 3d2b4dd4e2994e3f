/**
 * Registers tests that share a node: it starts before the first and ends after the last test of a
 * mode. A failed test prints the end of the sandboxer's log.
 *
 * @module
 */

import type { Mode } from "./modes.ts";
import { HostileNode, type NodeOptions } from "./node.ts";

/** Registers one test. */
export type RegisterHostileTest = (
  name: string,
  test: (node: HostileNode) => Promise<void>,
) => void;

/**
 * Makes the node of the tests of one mode.
 *
 * @param mode How guests run.
 * @param options What it is like.
 */
export function hostileTests(mode: Mode, options: NodeOptions): RegisterHostileTest {
  const tests: [string, (node: HostileNode) => Promise<void>][] = [];
  Deno.test(`hostile guests, ${mode.name}`, async (context) => {
    await using node = await HostileNode.start(mode, options);
    for (const [name, test] of tests) {
      await context.step(`${mode.name}: ${name}`, async () => {
        try {
          await test(node);
        } catch (error) {
          Deno.stderr.writeSync(new TextEncoder().encode(`${await node.logTail()}\n`));
          throw error;
        }
      });
    }
  });
  return (name, test) => tests.push([name, test]);
}
