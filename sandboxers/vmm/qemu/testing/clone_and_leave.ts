/**
 * Clones a saved machine, writes its record to standard output and ends: another process is to take
 * the machine over. Arguments: the directory of the bench, the saved machine and the place as JSON.
 *
 * @module
 */

import type { MachinePlace, SavedMachine } from "../../hypervisor.ts";
import { limit, qemuIn } from "./fixture.ts";

const [directory = "", saved = "", place = ""] = Deno.args;
const savedMachine: SavedMachine = JSON.parse(saved);
const givenPlace: MachinePlace = JSON.parse(place);
const options = { paused: false, memory: "private" } as const;
const machine = await qemuIn(directory).clone(savedMachine, givenPlace, options, limit());
await machine.attachDisk({ path: `${directory}/first.img`, serial: "x", readonly: true }, limit());
await Deno.stdout.write(new TextEncoder().encode(JSON.stringify(machine.record)));
machine.release();
