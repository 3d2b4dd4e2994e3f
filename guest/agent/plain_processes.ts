/**
 * Answers for an agent that is not PID 1 and so has no containers: `exec` starts a plain process of
 * the machine it runs on. For developing and testing the agent without a virtual machine; only the
 * variable `QUASAUR_AGENT_SOCKET` switches it on, which no guest sets.
 *
 * @module
 */

import { AgentError } from "../protocol/agent_error.ts";
import type { Json, JsonObject } from "../protocol/messages.ts";
import type { RequestHandlers } from "../protocol/peer.ts";
import type { Agent } from "./agent.ts";
import type { NamedProcess } from "./exits.ts";
import { SIGKILL, SPAWN_SESSION, SPAWN_TERMINAL } from "./linux.ts";
import { after } from "./loop.ts";
import { ProcessStdio } from "./stdio.ts";
import { systemError } from "./errno.ts";
import * as sys from "./sys.js";

/**
 * The handlers of this module.
 *
 * @param agent What they work on.
 */
export function plainRequests(agent: Agent): RequestHandlers {
  const { processes } = agent;
  return {
    exec: ({ container, exec, process, stdio: streams }) => {
      const name = { container, exec };
      processes.reserve(name);
      const stdio = new ProcessStdio(agent.streams, streams);
      try {
        const pid = startPlain(process, stdio);
        stdio.closeChildEnds();
        processes.add({ name, pid, stdio, streams });
        return { pid };
      } catch (thrown) {
        stdio.abandon("the process was not started");
        throw thrown;
      }
    },
    kill: ({ signal, container, exec }) => {
      processes.signal({ container, exec }, signal);
      return {};
    },
    pids: ({ container }) => ({
      pids: processes.of(container).filter(isRunning).map(({ pid }) => pid),
    }),
    deleteContainer: ({ container }) => {
      for (const process of processes.of(container)) {
        if (isRunning(process)) sys.kill(process.pid, SIGKILL);
      }
      processes.forget(container);
      return {};
    },
    inventory: () => {
      const containers = new Map<string, NamedProcess[]>();
      for (const process of processes.all()) {
        const { container } = process.name;
        containers.set(container, [...containers.get(container) ?? [], process]);
      }
      return {
        containers: [...containers].map(([container, all]) => ({
          container,
          state: all.some(isRunning) ? "running" : "stopped",
          processes: all.filter(isRunning).map(({ name, pid, streams }) => ({
            exec: name.exec,
            pid,
            stdio: streams,
          })),
        })),
        lastStream: agent.streams.lastStream,
      };
    },
    powerOff: () => {
      after(100, () => sys.exit(0));
      return {};
    },
  };
}

function isRunning(process: NamedProcess): boolean {
  return process.exit === undefined;
}

function startPlain(process: JsonObject, stdio: ProcessStdio): number {
  const argv = texts(process["args"], "args");
  const env = texts(process["env"] ?? [], "env");
  const cwd = process["cwd"];
  const terminal = stdio.hasTerminal ? stdio.openTerminal() : undefined;
  const fds = terminal === undefined ? stdio.childFds : [terminal, terminal, terminal];
  const flags = SPAWN_SESSION | (terminal === undefined ? 0 : SPAWN_TERMINAL);
  const pid = sys.spawn(argv, env, typeof cwd === "string" ? cwd : null, fds, flags);
  if (pid < 0) throw systemError(`cannot execute "${argv[0] ?? ""}"`, pid);
  return pid;
}

function texts(list: Json | undefined, name: string): string[] {
  if (list !== undefined && list instanceof Array) {
    const found = list.filter((each) => typeof each === "string");
    if (found.length === list.length) return found;
  }
  throw new AgentError("InvalidArgument", `cannot execute: "${name}" is not a list of texts`);
}
