/**
 * Builds a Debian package: `node scripts/build-deb.ts [FOLDER]` (default: build/). It holds the compiled program, its
 * dependencies, the Node that runs it, units, man page, completions and documents. Needs dpkg-deb, and a checkout that
 * is built (`npm run build`).
 */
import { spawnSync } from "node:child_process";
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { version } from "../src/cli/version.ts";

const ROOT = fileURLToPath(new URL("../", import.meta.url));
const HOME = "usr/lib/warp";
const ARCHITECTURES: Readonly<Record<string, string>> = { x64: "amd64", arm64: "arm64" };

/** Writes the package into `folder` and gives its path. `level`: of the compression, 1 to 9. */
export function buildDeb(folder: string, level = 9): string {
  const architecture = ARCHITECTURES[process.arch];
  if (architecture === undefined) throw new Error(`there is no Debian architecture for ${process.arch}`);
  for (const path of ["dist/cli/main.js", "build/Release/warp_native.node"]) {
    if (!existsSync(join(ROOT, path))) throw new Error(`${path} is missing; npm run build makes it`);
  }
  const tree = mkdtempSync(join(tmpdir(), "warp-deb-"));
  try {
    chmodSync(tree, 0o755);
    copyProgram(tree);
    copySystemFiles(tree);
    writeControl(tree, architecture);
    mkdirSync(folder, { recursive: true });
    const file = join(folder, `warp_${version().version}_${architecture}.deb`);
    run("dpkg-deb", ["--root-owner-group", "-Zgzip", `-z${level}`, "--build", tree, file]);
    return file;
  } finally {
    rmSync(tree, { recursive: true });
  }
}

function copyProgram(tree: string): void {
  const home = join(tree, HOME);
  for (const path of ["dist", "build/Release/warp_native.node", "proto", "package.json", "LICENSE"]) {
    copy(join(ROOT, path), join(home, path));
  }
  writeFileSync(join(home, "dist/COMMIT"), `${version().commit}\n`);
  for (const path of productionModules()) {
    const isNode = /^node_modules\/node-linux-/.test(path);
    // Of the bundled Node the program only, without headers and pages.
    const parts = isNode ? ["bin/node", "LICENSE", "package.json"] : ["."];
    for (const part of parts) copy(join(ROOT, path, part), join(home, path, part));
  }
  const node = `${HOME}/node_modules/node-linux-${process.arch}/bin/node`;
  const program = existsSync(join(tree, node)) ? `/${node}` : "node";
  write(join(tree, "usr/bin/warp"), `#!/bin/sh\nexec ${program} /${HOME}/dist/cli/main.js "$@"\n`, 0o755);
}

/** Paths below the project of what the program needs to run, and of the bundled Node of this architecture. */
function productionModules(): string[] {
  const list = run("npm", ["ls", "--omit=dev", "--all", "--parseable"]).split("\n");
  const paths = list.filter((path) => path !== "").map((path) => relative(ROOT, path));
  // Those that build the addon are dependencies of the checkout, not of the built program.
  const skipped = new Set(["node_modules/node-gyp", "node_modules/node-addon-api"]);
  return paths.filter((path) => path.startsWith("node_modules/") && !skipped.has(path));
}

function copySystemFiles(tree: string): void {
  const packaging = join(ROOT, "packaging");
  for (const unit of ["warp.service", "warp-rules.service", "warp-hook@.service", "warp.socket"]) {
    copy(join(packaging, "systemd", unit), join(tree, "usr/lib/systemd/system", unit));
  }
  copy(join(packaging, "systemd/warp.sysusers"), join(tree, "usr/lib/sysusers.d/warp.conf"));
  copy(join(packaging, "warp.yaml"), join(tree, "etc/warp/warp.yaml"));
  const manual = gzipSync(readFileSync(join(ROOT, "docs/warp.1")), { level: 9 });
  write(join(tree, "usr/share/man/man1/warp.1.gz"), manual);
  copy(join(packaging, "completion/warp.bash"), join(tree, "usr/share/bash-completion/completions/warp"));
  copy(join(packaging, "completion/_warp"), join(tree, "usr/share/zsh/vendor-completions/_warp"));
  copy(join(packaging, "completion/warp.fish"), join(tree, "usr/share/fish/vendor_completions.d/warp.fish"));
  const documents = join(tree, "usr/share/doc/warp");
  copy(join(ROOT, "docs"), documents);
  copy(join(ROOT, "CHANGELOG.md"), join(documents, "CHANGELOG.md"));
  copy(join(ROOT, "LICENSE"), join(documents, "copyright"));
  for (const folder of ["grafana", "prometheus", "sysctl"])
    copy(join(packaging, folder), join(documents, folder));
}

function writeControl(tree: string, architecture: string): void {
  const control = [
    "Package: warp",
    `Version: ${version().version}`,
    `Architecture: ${architecture}`,
    "Maintainer: The warp maintainers <warp@localhost>",
    "Section: mail",
    "Priority: optional",
    "Depends: libc6 (>= 2.28), libstdc++6, libgcc-s1",
    "Recommends: nftables",
    "Suggests: redis-server, rspamd",
    "Description: outbound transparent SMTP proxy with a gRPC hook protocol",
    " The kernel hands it this host's connections to port 25; it asks where they",
    " were going, connects there itself, with TLS where that is offered, and",
    " carries the dialogue across. Hooks observe and filter it.",
  ];
  write(join(tree, "DEBIAN/control"), `${control.join("\n")}\n`);
  write(join(tree, "DEBIAN/conffiles"), "/etc/warp/warp.yaml\n");
  for (const script of ["postinst", "prerm", "postrm"]) {
    write(join(tree, "DEBIAN", script), readFileSync(join(ROOT, "packaging/deb", script)), 0o755);
  }
}

function copy(from: string, to: string): void {
  mkdirSync(dirname(to), { recursive: true });
  cpSync(from, to, { recursive: true, dereference: true });
}
function write(path: string, content: string | Buffer, mode = 0o644): void {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, content, { mode });
}
function run(command: string, argv: readonly string[]): string {
  const result = spawnSync(command, argv, { cwd: ROOT, encoding: "utf8", maxBuffer: 64 * 1024 * 1024 });
  if (result.status !== 0) throw new Error(`${command} failed: ${result.error?.message ?? result.stderr}`);
  return result.stdout;
}

if (process.argv[1] === fileURLToPath(import.meta.url))
  console.log(buildDeb(process.argv[2] ?? join(ROOT, "build")));
