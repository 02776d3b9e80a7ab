/**
 * Counters, gauges and histograms whose hot path is an addition: prom-client's own hash their labels at every call. They
 * stand in a prom-client Registry, which exports, merges and sums them. Every metric has a cap on its label sets; what
 * comes after it is counted under `other`, so that no peer can make the metrics grow.
 */
import type { Aggregator, Registry } from "prom-client";

export interface CellOptions {
  readonly name: string;
  readonly help: string;
  readonly labels?: readonly string[];
  /** How the values of several workers become one; default: their sum. */
  readonly aggregator?: Aggregator;
  /** Label sets at most; default 2000. */
  readonly maxCells?: number;
}
export interface ExportedValue {
  readonly labels: Readonly<Record<string, string | number>>;
  readonly value: number;
  readonly metricName?: string;
}
export interface ExportedMetric {
  readonly name: string;
  readonly help: string;
  readonly type: "counter" | "gauge" | "histogram";
  readonly values: readonly ExportedValue[];
  readonly aggregator: Aggregator;
}

const DEFAULT_MAX_CELLS = 2000;
const SEPARATOR = "\u0000";

/** Finds the cell of a label set; makes it where there is room. */
abstract class Metric<Cell> {
  readonly name: string;
  readonly help: string;
  readonly labels: readonly string[];
  readonly aggregator: Aggregator;
  abstract readonly type: ExportedMetric["type"];
  readonly #maxCells: number;
  readonly #cells = new Map<string, { readonly cell: Cell; readonly values: readonly string[] }>();
  /** The one asked for last, which is most often the one asked for next. */
  #last: { readonly cell: Cell; readonly values: readonly string[] } | undefined;

  constructor(registry: Registry, options: CellOptions) {
    this.name = options.name;
    this.help = options.help;
    this.labels = options.labels ?? [];
    this.aggregator = options.aggregator ?? "sum";
    this.#maxCells = options.maxCells ?? DEFAULT_MAX_CELLS;
    // A Registry asks of a metric only name, help, type, aggregator, get and reset.
    registry.registerMetric(this as unknown as Parameters<Registry["registerMetric"]>[0]);
  }

  /** The cell of these label values, in the order of `labels`. Keep it where it is used often. */
  cell(...values: readonly string[]): Cell {
    if (this.#last !== undefined && areSame(values, this.#last.values)) return this.#last.cell;
    const key = values.length === 1 ? values[0]! : values.join(SEPARATOR);
    const found = this.#cells.get(key);
    if (found !== undefined) {
      this.#last = found;
      return found.cell;
    }
    if (this.#cells.size >= this.#maxCells && !values.every((value) => value === "other")) {
      return this.cell(...values.map(() => "other"));
    }
    const cell = this.makeCell();
    this.#cells.set(key, { cell, values });
    return cell;
  }
  /** Forgets every cell for which `matches` says so. */
  remove(matches: (values: readonly string[]) => boolean): void {
    for (const [key, { values }] of this.#cells) if (matches(values)) this.#cells.delete(key);
    this.#last = undefined;
  }
  reset(): void {
    this.#cells.clear();
    this.#last = undefined;
  }
  get(): Promise<ExportedMetric> {
    const values = [...this.#cells.values()].flatMap(({ cell, values: labelValues }) => {
      const labels: Record<string, string> = {};
      for (const [index, name] of this.labels.entries()) labels[name] = labelValues[index] ?? "";
      return this.exportCell(cell, labels);
    });
    const { name, help, type, aggregator } = this;
    return Promise.resolve({ name, help, type, aggregator, values });
  }

  protected abstract makeCell(): Cell;
  protected abstract exportCell(cell: Cell, labels: Readonly<Record<string, string>>): ExportedValue[];
}

function areSame(a: readonly string[], b: readonly string[]): boolean {
  for (let i = 0; i < b.length; i++) if (a[i] !== b[i]) return false;
  return a.length === b.length;
}

export interface NumberCell {
  value: number;
}
/** Only grows: `counter.cell("a").value++`. */
export class Counter extends Metric<NumberCell> {
  readonly type = "counter" as const;
  constructor(registry: Registry, options: CellOptions) {
    super(registry, options);
    // A counter without labels is there from the start, so that its first increase is seen.
    if (this.labels.length === 0) this.cell();
  }
  protected override makeCell(): NumberCell {
    return { value: 0 };
  }
  protected override exportCell(cell: NumberCell, labels: Readonly<Record<string, string>>): ExportedValue[] {
    return [{ labels, value: cell.value }];
  }
}
/** Goes up and down. */
export class Gauge extends Metric<NumberCell> {
  readonly type = "gauge" as const;
  protected override makeCell(): NumberCell {
    return { value: 0 };
  }
  protected override exportCell(cell: NumberCell, labels: Readonly<Record<string, string>>): ExportedValue[] {
    return [{ labels, value: cell.value }];
  }
}

/** One distribution; buckets aren't cumulative until they are exported. */
export class HistogramCell {
  readonly counts: Float64Array;
  sum = 0;
  readonly #bounds: readonly number[];

  constructor(bounds: readonly number[]) {
    this.#bounds = bounds;
    this.counts = new Float64Array(bounds.length + 1);
  }
  observe(value: number): void {
    let index = 0;
    while (index < this.#bounds.length && value > this.#bounds[index]!) index++;
    this.counts[index]!++;
    this.sum += value;
  }
}
export class Histogram extends Metric<HistogramCell> {
  readonly type = "histogram" as const;
  readonly #bounds: readonly number[];

  /** `bounds`: upper bounds of the buckets, ascending, without +Inf. */
  constructor(registry: Registry, options: CellOptions, bounds: readonly number[]) {
    super(registry, options);
    this.#bounds = bounds;
  }
  protected override makeCell(): HistogramCell {
    return new HistogramCell(this.#bounds);
  }
  protected override exportCell(
    cell: HistogramCell,
    labels: Readonly<Record<string, string>>,
  ): ExportedValue[] {
    const values: ExportedValue[] = [];
    let count = 0;
    for (const [index, bucket] of cell.counts.entries()) {
      count += bucket;
      const le = this.#bounds[index] ?? "+Inf";
      values.push({ labels: { le, ...labels }, value: count, metricName: `${this.name}_bucket` });
    }
    values.push({ labels, value: cell.sum, metricName: `${this.name}_sum` });
    values.push({ labels, value: count, metricName: `${this.name}_count` });
    return values;
  }
}
