/**
 * The tools that the tests drive: real mail servers, databases, packet filters. As root on Debian they are installed with
 * apt, once, and never left running; elsewhere a suite skips what it lacks. Python packages live in a virtual
 * environment and Go tools in a folder below `.cache/`.
 */

import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { delimiter, join } from "node:path";
import { BootstrapError, hasCommand, root, runOrFail, say } from "./bootstrap.mjs";

/** Command (or a check that succeeds) → Debian package, and the suites that need it. A command may be in /usr/sbin. */
const tools = [
  { command: "ip", package: "iproute2", suites: ["netns"] },
  { command: "nft", package: "nftables", suites: ["netns"] },
  { command: "iptables", package: "iptables", suites: ["netns"] },
  { command: "conntrack", package: "conntrack", suites: ["netns"] },
  { command: "postfix", package: "postfix", suites: ["netns", "integration"] },
  { command: "swaks", package: "swaks", suites: ["netns", "integration", "clients"] },
  { check: "perl -MNet::SSLeay -e 1", package: "libnet-ssleay-perl", suites: ["netns", "integration"] },
  { command: "setpriv", package: "util-linux", suites: ["netns", "integration"] },
  { command: "openssl", package: "openssl", suites: ["unit", "integration", "netns", "clients"] },
  { command: "socat", package: "socat", suites: ["integration", "netns"] },
  { command: "redis-server", package: "redis-server", suites: ["integration"] },
  { command: "mariadbd", package: "mariadb-server", suites: ["integration"] },
  { command: "haproxy", package: "haproxy", suites: ["integration"] },
  { command: "rspamd", package: "rspamd", suites: ["integration"] },
  { command: "zsh", package: "zsh", suites: ["unit"] },
  { command: "fish", package: "fish", suites: ["unit"] },
  { command: "groff", package: "groff-base", suites: ["unit"] },
  { command: "systemd-analyze", package: "systemd", suites: ["unit", "netns"] },
  { command: "git", package: "git", suites: ["generated", "unit"] },
  { command: "python3", package: "python3", suites: ["clients", "integration"] },
  { command: "go", package: "golang-go", suites: ["clients"] },
];

const goTools = [
  "google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.12",
  "google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.6.2",
];

/** Brings what the suites need; gives the environment to run them in. */
export function ensureTools(suiteNames, env) {
  const path = [
    join(root, ".cache/venv/bin"),
    join(root, ".cache/bin"),
    env.PATH,
    "/usr/local/go/bin",
    "/usr/sbin",
  ];
  const extended = { ...env, PATH: path.join(delimiter) };
  process.env.PATH = extended.PATH;
  const needed = tools.filter((tool) => tool.suites.some((name) => suiteNames.includes(name)));
  const missing = needed.filter((tool) => !isThere(tool));
  if (missing.length > 0) installPackages(missing.map((tool) => tool.package));
  if (suiteNames.includes("clients")) {
    ensurePython(extended);
    ensureGoTools(extended);
  }
  return extended;
}

function isThere({ command, check }) {
  return check === undefined
    ? hasCommand(command)
    : spawnSync("sh", ["-c", check], { stdio: "ignore" }).status === 0;
}

function installPackages(packages) {
  if (process.platform !== "linux" || process.getuid() !== 0 || !hasCommand("apt-get")) {
    say(
      `not installed, and only root can install it: ${packages.join(", ")}; the tests that need it are skipped`,
    );
    return;
  }
  say(`installing with apt: ${packages.join(", ")}`);
  const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive", RUNLEVEL: "1" };
  withoutServiceStarts(() => {
    runOrFail("apt-get", ["update", "-qq"], { env, what: "apt-get update" });
    runOrFail("apt-get", ["install", "-qq", "-y", "--no-install-recommends", ...packages], {
      env,
      what: "apt-get",
    });
  });
  if (existsSync("/run/systemd/system")) {
    const units = packages.filter((name) => /postfix|redis|mariadb|haproxy|rspamd/.test(name));
    for (const unit of units) runOrFail("systemctl", ["disable", "--now", unit.replace(/-server$/, "")]);
  }
}

/** Debian starts a service as it installs it, unless policy-rc.d says 101. */
function withoutServiceStarts(action) {
  const policy = "/usr/sbin/policy-rc.d";
  const ours = !existsSync(policy);
  if (ours) writeFileSync(policy, "#!/bin/sh\nexit 101\n", { mode: 0o755 });
  try {
    action();
  } finally {
    if (ours) rmSync(policy, { force: true });
  }
}

/** The Python client, editable, with what its tests and its stub generator need (the extra `dev`). */
function ensurePython(env) {
  const project = join(root, "clients/python");
  if (!existsSync(join(project, "pyproject.toml")) || !hasCommand("python3")) return;
  const venv = join(root, ".cache/venv");
  const stamp = join(venv, "pyproject.toml");
  const wanted = readFileSync(join(project, "pyproject.toml"), "utf8");
  if (existsSync(stamp) && readFileSync(stamp, "utf8") === wanted) return;
  say("installing Python packages for the client tests");
  mkdirSync(join(root, ".cache"), { recursive: true });
  const create = () => runOrFail("python3", ["-m", "venv", venv], { env, what: "python3 -m venv" });
  if (!existsSync(join(venv, "bin/python3"))) {
    try {
      create();
    } catch (error) {
      // Debian packages the module apart from the interpreter.
      if (!(error instanceof BootstrapError)) throw error;
      installPackages(["python3-venv"]);
      create();
    }
  }
  const pip = ["-m", "pip", "install", "-q", "--disable-pip-version-check", "-e", `${project}[dev]`];
  runOrFail(join(venv, "bin/python3"), pip, { env, what: "pip install" });
  writeFileSync(stamp, wanted);
}

function ensureGoTools(env) {
  if (!hasCommand("go") || !existsSync(join(root, "clients/go/go.mod"))) return;
  const bin = join(root, ".cache/bin");
  for (const tool of goTools) {
    const name = tool.split("/").at(-1).split("@")[0];
    if (existsSync(join(bin, name))) continue;
    say(`installing ${name}`);
    runOrFail("go", ["install", tool], {
      env: { ...env, GOBIN: bin, GOFLAGS: "-mod=mod" },
      what: `go install ${name}`,
    });
  }
}
