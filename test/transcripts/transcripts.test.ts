/** Every transcript as it stands, and again with its segments cut at every octet: the same octets and events come out. */
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { octetByOctet, optionsOf, parseTranscript, play, whole } from "./transcript.ts";

const folder = new URL("./dialogues/", import.meta.url);

for (const file of readdirSync(folder).filter((name) => name.endsWith(".txt"))) {
  const name = file.replace(/\.txt$/, "").replaceAll("-", " ");
  const transcript = parseTranscript(readFileSync(new URL(file, folder), "utf8"));
  const options = optionsOf(transcript);

  test(`${name}: goes as written`, async () => {
    await play(transcript, options, whole, true);
  });

  test(`${name}: octet by octet it is the same`, async () => {
    const expected = await play(transcript, options, whole, false);
    assert.deepEqual(await play(transcript, options, octetByOctet, false), expected);
  });

  test(`${name}: cut in two anywhere it is the same`, async () => {
    const expected = await play(transcript, options, whole, false);
    for (const [index, step] of transcript.steps.entries()) {
      if (step.kind !== "C" && step.kind !== "S") continue;
      const stride = Math.max(1, Math.floor(step.octets.length / 400));
      for (let at = 1; at < step.octets.length; at += stride) {
        const outcome = await play(
          transcript,
          options,
          (octets, i) => (i === index ? [octets.subarray(0, at), octets.subarray(at)] : [octets]),
          false,
        );
        assert.deepEqual(outcome, expected, `line ${step.line}, cut at ${at}`);
      }
    }
  });
}
