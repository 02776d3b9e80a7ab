/** docker-compose.yml and the Kubernetes manifest: valid, and wired as the capture needs it. */
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { parse, parseAllDocuments } from "yaml";
import { z } from "zod";
import { loadFile } from "../../../src/config/load.ts";

const root = new URL("../../../", import.meta.url);
const path = (name: string) => fileURLToPath(new URL(name, root));
const text = (name: string) => readFileSync(path(name), "utf8");

interface Service {
  readonly image?: string;
  readonly build?: string | { readonly context: string; readonly dockerfile?: string };
  readonly network_mode?: string;
  readonly cap_add?: readonly string[];
  readonly command?: readonly string[];
  readonly depends_on?: Readonly<Record<string, { readonly condition: string }>>;
  readonly volumes?: readonly string[];
}
const compose = parse(text("docker-compose.yml"), { merge: true }) as {
  readonly services: Readonly<Record<string, Service>>;
  readonly volumes: Readonly<Record<string, unknown>>;
};
const hasCompose = spawnSync("docker", ["compose", "version"]).status === 0;

// Where the command is; the wiring is looked at everywhere.
if (hasCompose) {
  test("docker compose takes the file", () => {
    execFileSync("docker", ["compose", "--file", path("docker-compose.yml"), "config", "--quiet"]);
  });
}

test("the compose file puts proxy and rules into the mail server's network namespace, rules first", () => {
  const { mta, rules, warp } = compose.services;
  assert.equal(mta!.network_mode, undefined);
  assert.deepEqual([rules!.network_mode, warp!.network_mode], ["service:mta", "service:mta"]);
  assert.deepEqual(rules!.cap_add, ["NET_ADMIN"]);
  assert.equal(warp!.depends_on!.rules!.condition, "service_completed_successfully");
});

test("the compose file names only files, volumes and services that are there", () => {
  for (const [name, { build, volumes = [], depends_on = {} }] of Object.entries(compose.services)) {
    if (build !== undefined) checkBuild(name, typeof build === "string" ? { context: build } : build);
    for (const volume of volumes) assert.ok(volume.split(":")[0]! in compose.volumes, `${name}: ${volume}`);
    for (const needed of Object.keys(depends_on)) assert.ok(needed in compose.services, `${name}: ${needed}`);
  }
});

/** The Dockerfile is there, and what it copies is in its context (no pattern of .dockerignore is that fine). */
function checkBuild(
  name: string,
  { context, dockerfile = "Dockerfile" }: { context: string; dockerfile?: string },
): void {
  const file = join(context, dockerfile);
  assert.ok(existsSync(path(file)), `${name}: ${file}`);
  const ignored = existsSync(path(join(context, ".dockerignore")));
  const letIn = ignored
    ? text(join(context, ".dockerignore"))
        .split("\n")
        .map((line) => line.replace(/^!/, ""))
    : undefined;
  for (const [, sources = ""] of text(file).matchAll(/^COPY (?!--from)(.*) \S+$/gm)) {
    for (const source of sources.split(" ")) {
      assert.ok(existsSync(path(join(context, source))), `${name}: ${source}`);
      assert.ok(letIn === undefined || letIn.includes(source), `${name}: ${source} is in .dockerignore`);
    }
  }
}

test("the commands of the compose file are right usage", () => {
  for (const [name, { image, command = [] }] of Object.entries(compose.services)) {
    if (image !== "warp") continue;
    const argv = command[0] === "rules" ? command.filter((word) => word !== "--apply") : command;
    // The last one wins: only the command line is looked at.
    const { stderr, status } = spawnSync(process.execPath, [path("src/cli/main.ts"), ...argv, "--help"], {
      encoding: "utf8",
    });
    assert.equal(status, 0, `${name}: ${stderr}`);
  }
});

const manifest = parseAllDocuments(text("packaging/kubernetes/warp-sidecar.yaml")).map(
  (document) => document.toJS() as { kind: string } & Record<string, never>,
);
const { roots, ...schema } = JSON.parse(text("test/fixtures/kubernetes-schema.json"));
const checkerOf = (kind: string) => z.fromJSONSchema({ ...schema, $ref: `#/$defs/${roots[kind]}` });

for (const object of manifest) {
  test(`the Kubernetes ${object.kind} is valid, and a misspelt key in it is not`, () => {
    const checker = checkerOf(object.kind);
    const checked = checker.safeParse(object);
    assert.ok(checked.success, JSON.stringify(checked.error?.issues));
    assert.ok(!checker.safeParse({ ...object, metdata: {} }).success);
    for (const [right, wrong] of [
      ["labels", "lables"],
      ["containers", "container"],
      ["containerPort", "port"],
      ["targetPort", "target"],
    ] as const) {
      const said = JSON.stringify(object);
      if (!said.includes(`"${right}"`)) continue;
      assert.ok(!checker.safeParse(JSON.parse(said.replaceAll(`"${right}"`, `"${wrong}"`))).success, wrong);
    }
  });
}

test("the sidecar lets through the user that it runs as, and its configuration is right", (t) => {
  const pod = (
    manifest.find(({ kind }) => kind === "StatefulSet") as never as { spec: { template: { spec: Pod } } }
  ).spec.template.spec;
  const [rules, warp] = pod.initContainers;
  assert.deepEqual(rules!.args, ["rules", "--apply", "--uid", String(warp!.securityContext.runAsUser)]);
  assert.equal(warp!.restartPolicy, "Always");
  const config = (
    manifest.find(({ kind }) => kind === "ConfigMap") as never as { data: Record<string, string> }
  ).data["warp.yaml"]!;
  const folder = mkdtempSync(join(tmpdir(), "warp-kubernetes-"));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  // Its folders are the volume's, which are not here.
  writeFileSync(join(folder, "warp.yaml"), config.replaceAll("/var/lib/warp", folder));
  const { config: loaded } = loadFile(join(folder, "warp.yaml"), {});
  assert.ok(loaded.timeouts.drainMs < pod.terminationGracePeriodSeconds * 1000);
});
interface Pod {
  readonly terminationGracePeriodSeconds: number;
  readonly initContainers: readonly {
    readonly args: readonly string[];
    readonly restartPolicy?: string;
    readonly securityContext: { readonly runAsUser: number };
  }[];
}
