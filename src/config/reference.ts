/** The schema as a tree of documented keys: what the reference page prints and where nearest keys are looked up. */
import type { z } from "zod";
import { configSchema } from "./schema.ts";

export interface KeyReference {
  /** As in the file: "on_failure"; "NAME" for the keys of a map. */
  readonly key: string;
  readonly description: string;
  /** "duration", "one of `a`, `b`", "section", "list of networks", "map". */
  readonly kind: string;
  /** As it would stand in the file; undefined: none. */
  readonly default: unknown;
  readonly required: boolean;
  readonly isList: boolean;
  readonly isMap: boolean;
  readonly children: readonly KeyReference[];
}

/** The top level of the file, in its order. */
export function configReference(): readonly KeyReference[] {
  return childrenOf(configSchema);
}

/** The keys that may stand in the section at `path` (a list's indices are skipped); empty where none may. */
export function keysAt(path: readonly PropertyKey[]): readonly string[] {
  let level = configReference();
  for (const step of path) {
    if (typeof step === "number") continue;
    const found = level.find((child) => child.key === step) ?? level.find((child) => child.key === "NAME");
    if (found === undefined) return [];
    level = found.children;
  }
  return level.map((child) => child.key);
}

/** Path of every key of the file, "capture.mode", without list indices and map names. */
export function everyKey(level: readonly KeyReference[] = configReference(), prefix = ""): readonly string[] {
  return level.flatMap((child) => {
    const path = prefix === "" ? child.key : `${prefix}.${child.key}`;
    return [path, ...everyKey(child.children, path)];
  });
}

interface Unwrapped {
  readonly core: z.core.$ZodType;
  readonly default: unknown;
  readonly optional: boolean;
}

/** Takes off default, optional, transform and preprocess. */
function unwrap(schema: z.core.$ZodType): Unwrapped {
  const def = schema._zod.def as unknown as {
    readonly type: string;
    readonly innerType?: z.core.$ZodType;
    readonly in?: z.core.$ZodType;
    readonly out?: z.core.$ZodType;
    readonly defaultValue?: unknown;
  };
  if (def.type === "prefault" || def.type === "default") {
    return { ...unwrap(def.innerType!), default: def.defaultValue, optional: true };
  }
  if (def.type === "optional") return { ...unwrap(def.innerType!), optional: true };
  if (def.type === "pipe") {
    // A scalar carries its kind on the pipe; elsewhere the side that isn't a transform has the keys.
    if (metaOf(schema).kind !== undefined) return { core: schema, default: undefined, optional: false };
    const isTransform = def.in!._zod.def.type === "transform";
    return unwrap(isTransform ? def.out! : def.in!);
  }
  return { core: schema, default: undefined, optional: false };
}

function metaOf(schema: z.core.$ZodType): {
  readonly kind?: string;
  readonly description?: string | undefined;
} {
  return (schema as z.ZodType).meta() ?? {};
}

function childrenOf(schema: z.core.$ZodType): readonly KeyReference[] {
  const def = unwrap(schema).core._zod.def as unknown as {
    readonly type: string;
    readonly shape?: Readonly<Record<string, z.core.$ZodType>>;
    readonly element?: z.core.$ZodType;
    readonly valueType?: z.core.$ZodType;
  };
  if (def.type === "array") return childrenOf(def.element!);
  if (def.type === "record") return [referenceOf("NAME", def.valueType!)];
  return Object.entries(def.shape ?? {}).map(([key, value]) => referenceOf(key, value));
}

function referenceOf(key: string, schema: z.core.$ZodType): KeyReference {
  const { core, default: defaultValue, optional } = unwrap(schema);
  const type = core._zod.def.type;
  return {
    key,
    description: metaOf(schema).description ?? "",
    kind: kindOf(core),
    default: defaultValue,
    required: !optional,
    isList: type === "array",
    isMap: type === "record",
    children: childrenOf(schema),
  };
}

function kindOf(core: z.core.$ZodType): string {
  const kind = metaOf(core).kind;
  if (kind !== undefined) return kind;
  const def = core._zod.def as unknown as {
    readonly type: string;
    readonly entries?: Readonly<Record<string, string>>;
    readonly element?: z.core.$ZodType;
  };
  if (def.type === "enum")
    return Object.values(def.entries!)
      .map((word) => `\`${word}\``)
      .join(", ");
  if (def.type === "array") return `list: ${kindOf(unwrap(def.element!).core)}`;
  if (def.type === "record") return "map";
  return "section";
}
