/**
 * The requests that are about the guest and its containers, each handed to the part that does it.
 *
 * @module
 */

import type { RequestHandlers } from "../protocol/peer.ts";
import type { Agent } from "./agent.ts";
import { boundContainers } from "./cgroups.ts";
import { Containers } from "./containers.ts";
import { Disks } from "./disks.ts";
import { log } from "./log.ts";
import { RB_POWER_OFF } from "./linux.ts";
import { after, sleep } from "./loop.ts";
import { MemoryVolumes } from "./memory_volumes.ts";
import { prepareAhead } from "./ahead.ts";
import { useIdleTime } from "./idle_time.ts";
import { Pod, setClock } from "./setup.ts";
import { rehearse } from "./rehearsal.ts";
import { SharedPids } from "./shared_pids.ts";
import { SharedTree } from "./shared_tree.ts";
import * as sys from "./sys.js";
import { bringOnline, giveMemoryBack, guestUsage } from "./usage.ts";
import { Volumes } from "./volumes.ts";

/** How long the answer to `powerOff` may take to reach the host, in milliseconds. */
const ANSWER_MS = 20;
/** How long killed containers may take to end before the power goes, in milliseconds. */
const LAST_MS = 200;

/**
 * Makes the handlers. Containers, volumes and the rest begin empty.
 *
 * @param agent What they work on.
 */
export function guestRequests(agent: Agent): RequestHandlers {
  const pod = new Pod();
  const disks = new Disks();
  const shared = new SharedTree();
  const memory = new MemoryVolumes();
  const volumes = new Volumes("/run/volumes");
  const containers = new Containers({
    agent,
    pod,
    disks,
    shared,
    memory,
    volumes,
    pids: new SharedPids(),
  });
  return {
    setup: (args) => {
      const isSetUp = () => done(useIdleTime(pod, disks));
      const settingUp = pod.setUp(args);
      return settingUp === undefined ? isSetUp() : settingUp.then(isSetUp);
    },
    renew: (args) => done(pod.renew(args)),
    rehearse: ({ container }) => rehearse(container).then(done),
    setTime: ({ timeMs }) => done(setClock(timeMs)),
    mountShared: ({ tag }) => done(shared.mount(tag)),
    volumeSync: ({ volume, entries }) => done(volumes.sync(volume, entries)),
    volumeRead: ({ volume, path, offset, length }) => volumes.read(volume, path, offset, length),
    createContainer: async (args) => ({ pid: await containers.create(args) }),
    startContainer: ({ container }) => done(containers.start(container)),
    exec: async (args) => ({ pid: await containers.exec(args) }),
    kill: (args) => done(containers.kill(args)),
    pause: ({ container }) => containers.pause(container).then(done),
    resume: ({ container }) => containers.resume(container).then(done),
    update: ({ container, resources }) => done(containers.update(container, resources)),
    pids: ({ container }) => ({ pids: containers.pids(container) }),
    deleteContainer: ({ container }) => containers.delete(container).then(done),
    usage: () => guestUsage(containers.usage()),
    inventory: () => {
      after(0, () => containers.retell());
      return { containers: containers.inventory(), lastStream: agent.streams.lastStream };
    },
    online: () => {
      const cpus = bringOnline();
      boundContainers();
      return { cpus };
    },
    quiesce: () => {
      prepareAhead();
      return done(giveMemoryBack());
    },
    powerOff: () => {
      powerOff(containers, shared).catch((thrown) => log("error", String(thrown)));
      return {};
    },
  };
}

/** The empty answer of a request that says nothing. */
function done(_nothing: void): Record<never, never> {
  return {};
}

async function powerOff(containers: Containers, shared: SharedTree): Promise<void> {
  await sleep(ANSWER_MS);
  containers.killAll();
  for (let waitedMs = 0; waitedMs < LAST_MS && containers.hasProcesses(); waitedMs += 10) {
    await sleep(10);
  }
  shared.unmount();
  sys.reboot(RB_POWER_OFF);
}
