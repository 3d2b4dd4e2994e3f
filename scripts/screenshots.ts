// deno-lint-ignore-file no-console -- a script talks to a person
/**
 * `deno task screenshots`: takes the pictures in docs/images of real output: real sandboxers with
 * real pods in a private view of this host, the real command in a real terminal.
 *
 * @module
 */

import { REPOSITORY } from "../tests/support/permissions.ts";
import { Tmux } from "../tests/support/tmux.ts";
import { fillDashboard } from "./screenshots/dashboard.ts";
import { dashboardPicture } from "./screenshots/dashboard_picture.ts";
import { Prometheus } from "./screenshots/prometheus.ts";
import { HOME, runOnStage, Stage } from "./screenshots/stage.ts";
import { terminalPicture } from "./screenshots/terminal_picture.ts";

/** Where pictures go. */
const OUT = "docs/images";

/** How wide terminals are unless something else is said, in cells. */
const COLUMNS = 100;

/** What is typed for a picture. */
interface Shot {
  /** The file's name, without its ending. */
  readonly name: string;
  /** How many lines the terminal has. */
  readonly rows: number;
  /** How many cells its lines have. Default {@link COLUMNS}. */
  readonly columns?: number;
  /** The command. */
  readonly command: string;
  /** What it shows once the picture can be taken. */
  readonly shows: RegExp;
  /** Keys that are pressed then, and what it shows once they have had their effect. */
  readonly keys?: readonly (readonly [key: string, shows: RegExp])[];
}

const SHOTS: readonly Shot[] = [
  { name: "ps", rows: 20, command: "quasaur ps", shows: /^ID [^]*\n\$$/m },
  {
    name: "doctor",
    rows: 80,
    columns: 120,
    command: "quasaur doctor",
    shows: /can(not)? run here\n\$$/m,
  },
  {
    name: "top",
    rows: 32,
    command: "quasaur top --interval 1s",
    shows: /^(?=[^]*resize-images .* ready +\d)(?=[^]*build-4711 .* ready +\d)/,
    keys: [["Down", /resize-images/], ["Space", /hub\/\S+ +running/], ["Up", /^EVENTS$/m]],
  },
];

/** Takes a picture. */
async function take(
  { name, rows, columns = COLUMNS, command, shows, keys = [] }: Shot,
): Promise<void> {
  await using tmux = await Tmux.open({
    columns,
    rows,
    env: { PATH: `${HOME}/deploy/bin:${Deno.env.get("PATH") ?? "/usr/bin:/bin"}` },
  });
  await tmux.shows(/^\$$/m);
  await tmux.type(command);
  await tmux.press("Enter");
  await tmux.shows(shows);
  for (const [key, after] of keys) {
    await tmux.press(key);
    await tmux.shows(after);
  }
  const screen = withoutPrompt(await tmux.screen({ styled: true }));
  checkPrivate(screen);
  await Deno.writeTextFile(`${OUT}/${name}.svg`, terminalPicture(screen, columns, command));
  console.log(`${OUT}/${name}.svg`);
}

/** A screen without the shell's next line at its end. */
function withoutPrompt(screen: string): string {
  const lines = screen.split("\n");
  // deno-lint-ignore no-control-regex -- this is what is looked for
  const plain = lines.map((line) => line.replaceAll(/\x1b\[[\d;]*m/g, "").trim());
  const last = plain.findLastIndex((line) => line !== "" && line !== "$");
  return lines.slice(0, last + 1).join("\n");
}

/** Where the dashboard is. */
const DASHBOARD = "deploy/grafana/quasaur.json";

/** How long the dashboard's picture is, in seconds, and what goes before it. */
const DASHBOARD_SECONDS = 90;
const WARM_UP_SECONDS = 10;

/** Draws the dashboard: its own queries, asked of a real Prometheus that scrapes the sandboxers. */
async function takeDashboard(stage: Stage): Promise<void> {
  await using prometheus = await Prometheus.start(stage.metrics);
  await stage.work((WARM_UP_SECONDS + DASHBOARD_SECONDS) * 1000);
  const to = Math.floor(Date.now() / 1000);
  const panels = await fillDashboard(DASHBOARD, prometheus, {
    from: to - DASHBOARD_SECONDS,
    to,
    step: 2,
    rateInterval: "10s",
  });
  const picture = await dashboardPicture(panels, "Quasaur");
  checkPrivate(picture);
  await Deno.writeTextFile(`${OUT}/dashboard.svg`, picture);
  console.log(`${OUT}/dashboard.svg`);
}

/** Refuses a picture that tells where this repository is or what this machine is called. */
function checkPrivate(screen: string): void {
  const words = screen.split(/[^\w.-]+/);
  const told = [
    ...[Deno.hostname()].filter((name) => name !== "localhost" && words.includes(name)),
    ...["/tmp/", "/work/", "/home/", "/root/"].filter((path) => screen.includes(path)),
  ];
  if (told.length > 0) throw new Error(`The picture would tell ${told.join(", ")}:\n${screen}`);
}

/** Takes all pictures whose names were given, or all. */
async function main(names: readonly string[]): Promise<number> {
  if (REPOSITORY !== HOME) return await runOnStage("scripts/screenshots.ts", names);
  await Deno.mkdir(OUT, { recursive: true });
  await using stage = await Stage.set();
  for (const shot of SHOTS) {
    if (names.length === 0 || names.includes(shot.name)) await take(shot);
  }
  if (names.length === 0 || names.includes("dashboard")) await takeDashboard(stage);
  return 0;
}

if (import.meta.main) Deno.exit(await main(Deno.args));
