import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { describe, it } from "node:test";
import { parse as parseYaml } from "yaml";
import { Metrics } from "../../../src/telemetry/metrics.ts";

const read = (path: string) => readFileSync(new URL(`../../../packaging/${path}`, import.meta.url), "utf8");

interface Panel {
  readonly id: number;
  readonly type: string;
  readonly title: string;
  readonly gridPos: { readonly x: number; readonly y: number; readonly w: number; readonly h: number };
  readonly targets?: readonly { readonly expr: string }[];
}
interface AlertRule {
  readonly alert: string;
  readonly expr: string;
  readonly labels: Record<string, string>;
  readonly annotations: Record<string, string>;
}
const dashboard = JSON.parse(read("grafana/warp.json")) as { uid: string; panels: Panel[] };
const alerts = (
  parseYaml(read("prometheus/warp.rules.yaml")) as { groups: { rules: AlertRule[] }[] }
).groups.flatMap(({ rules }) => rules);

const queries: [where: string, expression: string][] = [
  ...dashboard.panels.flatMap((panel) =>
    (panel.targets ?? []).map(({ expr }): [string, string] => [panel.title, expr]),
  ),
  ...alerts.map(({ alert, expr }): [string, string] => [alert, expr]),
];

/** Every series that the registry can export, with its labels. */
async function series(): Promise<Map<string, Set<string>>> {
  const { registry } = new Metrics({ version: "test" });
  const found = new Map<string, Set<string>>();
  for (const metric of registry.getMetricsAsArray()) {
    const { name, type, labels, labelNames } = metric as unknown as Record<"name" | "type", string> &
      Record<"labels" | "labelNames", string[]>;
    const own = new Set([...(Array.isArray(labels) ? labels : (labelNames ?? [])), "instance", "job"]);
    const names = type === "histogram" ? [`${name}_bucket`, `${name}_sum`, `${name}_count`] : [name];
    for (const one of names) found.set(one, one.endsWith("_bucket") ? new Set([...own, "le"]) : own);
  }
  return found;
}
/** Names of series in an expression, with the labels that it selects by. */
function selectors(expression: string): [name: string, labels: string[]][] {
  return [...expression.matchAll(/\b((?:warp|process|nodejs)_[a-z0-9_]+)(?:\{([^}]*)\})?/g)].map(
    ([, name, selection = ""]) => {
      return [name!, [...selection.matchAll(/([a-z_]+)\s*(?:=~|!=|!~|=)/g)].map((match) => match[1]!)];
    },
  );
}

describe("dashboard and alerts", () => {
  it("ask only for metrics that exist, by labels that they have", async () => {
    const known = await series();
    for (const [where, expression] of queries) {
      for (const [name, labels] of selectors(expression)) {
        assert.ok(known.has(name), `${where}: ${name}`);
        for (const label of labels) assert.ok(known.get(name)!.has(label), `${where}: ${name}{${label}}`);
      }
    }
  });

  it("group only by labels that one of their metrics has", async () => {
    const known = await series();
    for (const [where, expression] of queries) {
      const available = new Set(selectors(expression).flatMap(([name]) => [...(known.get(name) ?? [])]));
      for (const [, list] of expression.matchAll(/\bby \(([^)]*)\)/g)) {
        for (const label of list!.split(",").map((part) => part.trim())) {
          assert.ok(available.has(label), `${where}: by (${label})`);
        }
      }
    }
  });

  it("show every metric of warp's own", async () => {
    const shown = new Set(
      queries.flatMap(([, expression]) =>
        selectors(expression).map(([name]) => name.replace(/_(?:bucket|sum|count)$/, "")),
      ),
    );
    const own = [...(await series()).keys()].map((name) => name.replace(/_(?:bucket|sum|count)$/, ""));
    assert.deepEqual(
      [...new Set(own)].filter((name) => name.startsWith("warp_") && !shown.has(name)),
      [],
    );
  });

  it("have balanced brackets in every query", () => {
    for (const [where, expression] of queries) {
      for (const [open, close] of ["()", "[]", "{}"]) {
        assert.equal(
          expression.split(open!).length,
          expression.split(close!).length,
          `${where}: ${open}${close}`,
        );
      }
    }
  });

  it("have panels with ids of their own that overlap nowhere and stay on the grid", () => {
    const { panels } = dashboard;
    assert.equal(new Set(panels.map(({ id }) => id)).size, panels.length);
    const cells = new Map<string, string>();
    for (const { title, gridPos } of panels) {
      assert.ok(gridPos.x + gridPos.w <= 24, title);
      for (let x = gridPos.x; x < gridPos.x + gridPos.w; x++) {
        for (let y = gridPos.y; y < gridPos.y + gridPos.h; y++) {
          assert.equal(cells.get(`${x},${y}`), undefined, `${title} over ${cells.get(`${x},${y}`)}`);
          cells.set(`${x},${y}`, title);
        }
      }
    }
  });

  it("see the first of what happens once: its series is there before, or the alert looks for new ones", async () => {
    const exported = (await new Metrics({ version: "test" }).text()).split("\n");
    const sudden = alerts.filter((rule) => !("for" in rule) && /increase\(.*> 0/s.test(rule.expr));
    assert.ok(sudden.length > 4);
    for (const { alert, expr } of sudden) {
      if (/ unless .* offset /.test(expr)) continue;
      const [, name = "", selection = ""] = /increase\((\w+)(?:\{([^}]*)\})?\[/.exec(expr) ?? [];
      const labels = selection === "" ? [] : selection.split(",");
      const isThere = (line: string) =>
        /^\w+/.exec(line)?.[0] === name && labels.every((label) => line.includes(label));
      assert.ok(exported.some(isThere), `${alert}: ${name}{${selection}}`);
    }
  });

  it("have alerts with a name of their own, a severity and a summary", () => {
    assert.equal(new Set(alerts.map(({ alert }) => alert)).size, alerts.length);
    for (const { alert, labels, annotations } of alerts) {
      assert.match(labels.severity ?? "", /^(?:page|ticket)$/, alert);
      assert.ok((annotations.summary ?? "").length > 10, alert);
    }
  });
});
