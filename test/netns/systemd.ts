/** A real systemd as the first process of namespaces of its own, with warp's package installed. */

import { spawn, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { type Finished, type Lab, type Namespace, Program, root } from "./lab.ts";

const PROGRAM = join(root, "test/netns/programs/systemd.sh");
const GROUPS = "/sys/fs/cgroup";
const TIMEOUT_MS = 60_000;

export class Systemd {
  private readonly pid: string;

  private constructor(pid: string) {
    this.pid = pid;
  }

  /** Boots in a network namespace; the lab ends it. */
  static async boot(lab: Lab, namespace: Namespace, packageFile: string): Promise<Systemd> {
    const group = ownGroup();
    mkdirSync(group, { recursive: true });
    const folder = join(lab.folder, "systemd");
    mkdirSync(folder);
    const spaces = ["--fork", "--mount", "--pid", "--uts", "--ipc", "--cgroup", "--kill-child"];
    const inGroup = 'echo $$ > "$0/cgroup.procs" && exec "$@"';
    const command = ["nsenter", `--net=/run/netns/${namespace.name}`, "unshare", ...spaces];
    const child = spawn("sh", ["-c", inGroup, group, ...command, "sh", PROGRAM, folder, packageFile]);
    const program = new Program("systemd", child);
    lab.own(program);
    const systemd = new Systemd(await childOf(child.pid as number, program));
    lab.onEnd(async () => {
      systemd.attempt("systemctl", ["exit", "0", "--force", "--force"]);
      await program.stop("SIGKILL");
      await removeGroup(group);
    });
    for (const deadline = Date.now() + TIMEOUT_MS; ; await pause(100)) {
      const { stdout } = systemd.attempt("systemctl", ["is-system-running"]);
      if (/^(running|degraded)$/m.test(stdout)) return systemd;
      if (Date.now() > deadline) throw new Error(`systemd is not up: ${stdout}${program.lines.join("\n")}`);
    }
  }

  /** Runs to the end in its namespaces; throws with the output unless it exits with 0. */
  run(command: string, ...args: string[]): string {
    const { status, stdout, stderr } = this.attempt(command, args);
    if (status === 0) return stdout;
    throw new Error(`${command} ${args.join(" ")}: exit ${status}\n${stdout}${stderr}\n${this.journal()}`);
  }

  attempt(command: string, args: readonly string[]): Finished {
    const done = spawnSync("nsenter", [...this.entering, command, ...args], {
      encoding: "utf8",
      timeout: TIMEOUT_MS,
      env: ENVIRONMENT,
    });
    return { status: done.status ?? -1, stdout: done.stdout ?? "", stderr: done.stderr ?? "" };
  }

  /** Goes on beside the test. */
  async complete(command: string, ...args: string[]): Promise<Finished> {
    const program = new Program(
      command,
      spawn("nsenter", [...this.entering, command, ...args], { env: ENVIRONMENT }),
    );
    const timer = setTimeout(() => program.child.kill("SIGKILL"), TIMEOUT_MS);
    const status = await program.ended;
    clearTimeout(timer);
    return { status, stdout: program.stdout, stderr: program.stderr };
  }

  /** A property of a unit, as `systemctl show` has it. */
  show(property: string, unit = "warp.service"): string {
    return this.run("systemctl", "show", "--value", "-p", property, unit).trim();
  }

  /** What warp's units have said, but for the mail that went through. */
  journal(): string {
    const { stdout } = this.attempt("journalctl", ["--no-pager", "-o", "cat", "-u", "warp*"]);
    return stdout.replace(/^.*"code":"delivery".*\n/gm, "");
  }

  private get entering(): readonly string[] {
    return ["--all", "--root", "--wd", "--target", this.pid];
  }
}

const ENVIRONMENT = { PATH: "/usr/sbin:/usr/bin:/sbin:/bin", LC_ALL: "C" };

/** False where a systemd can be booted, else what is missing. */
export function systemdUnavailable(): string | false {
  if (!existsSync("/lib/systemd/systemd")) return "systemd is not installed";
  if (groupLine() === undefined) return "there is no control group that systemd could have";
  return false;
}

/** Of this process: the hierarchy in which systemd keeps its groups. */
function groupLine(): { readonly mount: string; readonly path: string } | undefined {
  const isUnified = existsSync(join(GROUPS, "cgroup.controllers"));
  const mount = isUnified ? GROUPS : join(GROUPS, "systemd");
  const wanted = isUnified ? "0::" : ":name=systemd:";
  const line = readFileSync("/proc/self/cgroup", "utf8")
    .split("\n")
    .find((each) => each.includes(wanted));
  if (line === undefined || !existsSync(mount)) return undefined;
  return { mount, path: line.slice(line.indexOf("/")) };
}

function ownGroup(): string {
  const { mount, path } = groupLine() as { mount: string; path: string };
  return join(mount, path, `warptest-${process.pid}`);
}

/** The innermost first, once what was in it has ended. */
async function removeGroup(group: string): Promise<void> {
  for (const entry of readdirSync(group, { withFileTypes: true })) {
    if (entry.isDirectory()) await removeGroup(join(group, entry.name));
  }
  for (const deadline = Date.now() + 10_000; ; await pause(50)) {
    try {
      return rmdirSync(group);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EBUSY" || Date.now() > deadline) throw error;
    }
  }
}

/** unshare's only child, which becomes systemd. */
async function childOf(pid: number, program: Program): Promise<string> {
  for (const deadline = Date.now() + 10_000; Date.now() < deadline; await pause(20)) {
    const children = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim();
    if (children !== "") return children.split(" ")[0] as string;
  }
  throw new Error(`systemd did not start:\n${program.lines.join("\n")}`);
}
