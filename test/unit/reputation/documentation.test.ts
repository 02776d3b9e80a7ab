// docs/reputation.md and docs/reply-classes.md say what the program does: their numbers are computed here again.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { describe, it } from "node:test";
import { replyClassesPage } from "../../../src/deliverability/reply-classes-page.ts";
import { COUNTERS, EMPTY_TALLY, type Tally } from "../../../src/reputation/counts.ts";
import { normaliseAddress, type Strip } from "../../../src/reputation/identity.ts";
import { DEFAULT_PRIOR, DEFAULT_STRENGTH, DEFAULT_WEIGHTS, score } from "../../../src/reputation/score.ts";
import { askedTier } from "../../../src/reputation/tiers.ts";
import { MemoryReputationStore } from "../../../src/stores/reputation-memory.ts";
import { settingsWith } from "../../integration/reputation-settings.ts";

const page = (name: string) => readFileSync(new URL(`../../../docs/${name}.md`, import.meta.url), "utf8");
const text = page("reputation");
const HOUR = 3_600_000;
const DAY = 24 * HOUR;
const settings = settingsWith([HOUR, DAY]);

/** Rows of the table whose head begins so. */
function rows(head: string): string[][] {
  const lines = text.split("\n");
  const at = lines.findIndex((line) => line.startsWith(head));
  assert.ok(at >= 0, `no table ${head}`);
  const body = lines.slice(at + 2);
  const end = body.findIndex((line) => !line.startsWith("|"));
  return body.slice(0, end).map((line) =>
    line
      .split("|")
      .slice(1, -1)
      .map((cell) => cell.trim()),
  );
}
function tally(cell: string): Tally {
  const numbers = cell.split(" ").map(Number);
  assert.equal(numbers.length, COUNTERS.length);
  return Object.fromEntries(COUNTERS.map((name, i) => [name, numbers[i]])) as Tally;
}

describe("docs/reputation.md", () => {
  it("has the formula with its numbers", () => {
    const { defer, refuse, unknown, spam } = DEFAULT_WEIGHTS;
    assert.ok(text.includes(`bad  = ${defer}·defer + ${refuse}·refuse + ${unknown}·unknown + ${spam}·spam`));
    assert.ok(
      text.includes(`mean = (${DEFAULT_STRENGTH} · prior + good) / (${DEFAULT_STRENGTH} + good + bad)`),
    );
    assert.ok(text.includes(`The prior of the longest window is ${DEFAULT_PRIOR}`));
  });
  it("has worked numbers that are right", () => {
    const found = rows("| sender | hour | day | score");
    assert.ok(found.length >= 10);
    for (const [name, hour, day, value, tier] of found) {
      const computed = score([tally(hour!), tally(day!)], settings.score);
      assert.equal(computed.toFixed(3), value, name ?? "");
      assert.equal(askedTier("neutral", computed, settings.ladder), tier, name ?? "");
    }
  });
  it("tells the spam run and the days after it as they go", () => {
    let now = 1_000_000_000_000;
    const id = "mail_from:a@example.com";
    const store = new MemoryReputationStore({ settings, now: () => now });
    const send = (what: Partial<Tally>, ms: number) => {
      store.count(id, { ...EMPTY_TALLY, ...what }, 1);
      now += ms;
    };
    for (let i = 0; i < 1_440; i += 1) send({ ok: 1 }, 60_000);
    const [hour, day] = store.standing(id).counts.windows;
    assert.ok(text.includes(`\`ok\` of ${Math.round(hour!.ok)} in the hour's window and 1,038 in the day's`));
    assert.equal(Math.round(day!.ok), 1_038);
    assert.ok(text.includes(`(score ${store.standing(id).score.toFixed(3)}, tier good)`));
    const run = new Map(rows("| spam sent").map(([sent, ...rest]) => [Number(sent!.replace(",", "")), rest]));
    let poorAfter = 0;
    for (let sent = 1; sent <= 10_000; sent += 1) {
      send({ ok: 1, spam: 1 }, 200);
      const { score: value, tier } = store.standing(id);
      if (tier === "poor" && poorAfter === 0) poorAfter = sent;
      if (run.has(sent)) assert.deepEqual([value.toFixed(3), tier], run.get(sent), `${sent} sent`);
    }
    assert.ok(text.includes(`It is poor after ${poorAfter} messages.`));
    const ends = now;
    const back = rows("| days later");
    assert.ok(back.length >= 5 && run.size >= 5);
    for (const [days, ...expected] of back) {
      while (now < ends + Number(days) * DAY) send({ ok: 1 }, 60_000);
      const { score: value, tier } = store.standing(id);
      assert.deepEqual([value.toFixed(3), tier], expected, `${days} days`);
    }
  });
  it("shows addresses as they are normalised", () => {
    for (const [strip, before, after] of rows("| strip | before")) {
      const bare = (cell: string) => cell.replaceAll("`", "");
      const name = strip!.split(" ")[0] as Strip;
      assert.equal(normaliseAddress(bare(before!), new Set([name])), bare(after!));
    }
  });
});

describe("docs/reply-classes.md", () => {
  it("is what the table gives", () => {
    assert.equal(page("reply-classes"), replyClassesPage());
  });
});
