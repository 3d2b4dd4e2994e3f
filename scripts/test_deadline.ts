/**
 * Loaded before tests: gives each a deadline, so that one that waits for what never comes fails by
 * its name and the rest still run. A test that may take longer sets its own `timeout`.
 *
 * @module
 */

/** How long a test may take, in milliseconds: several times what the longest one takes. */
const DEADLINE_MS = (Deno.env.get("QUASAUR_LONG_TESTS") === "1" ? 30 : 5) * 60_000;

/**
 * What `Deno.test` takes, with a deadline where it has none.
 *
 * @param args As for `Deno.test`, in any of its forms.
 * @returns The same in one form.
 */
export function withDeadline(args: readonly unknown[]): Partial<Deno.TestDefinition> {
  const parts = args.map((arg): Partial<Deno.TestDefinition> => {
    if (typeof arg === "string") return { name: arg };
    return typeof arg === "function" ? { name: arg.name, fn: (test) => arg(test) } : Object(arg);
  });
  return Object.assign({ timeout: DEADLINE_MS }, ...parts.toReversed());
}

const plainTest = Deno.test;

Object.defineProperty(Deno, "test", {
  value: new Proxy(plainTest, {
    apply: (target, self, args) => Reflect.apply(target, self, [withDeadline(args)]),
  }),
});
