/** `warp classify "421 4.7.28 …"`: what a receiver's reply means, and which rule of the table says so. */
import { classifyReply, parseReplyText } from "../deliverability/classify.ts";
import { CLASS_MEANINGS } from "../deliverability/reply-classes.ts";
import { type CommandSpec, runCommand, UsageError } from "./options.ts";

export const spec: CommandSpec = {
  name: "classify",
  summary: "Explain the class of a reply",
  description: [
    "Takes a reply as it stands in a log (what comes before its code is skipped), and says how warp counts it. The classes and the rules are in docs/reply-classes.md.",
  ],
  operands: [{ name: "REPLY", help: "The reply; several words are joined", repeatable: true }],
  options: [
    {
      name: "provider",
      value: "NAME",
      help: "Whose reply it is, as events name it: google.com. Its own wordings are asked first",
    },
    { name: "json", help: "One JSON object: class, detail, rule, code, enhanced_code" },
  ],
  examples: [
    [
      'warp classify "421 4.7.28 Our system has detected an unusual rate of unsolicited mail"',
      "A rate limit.",
    ],
    [
      'warp classify --provider qq.com "550 Mailbox unavailable or access denied"',
      "QQ means something of its own.",
    ],
  ],
};

export async function classifyCommand(argv: readonly string[]): Promise<number> {
  return runCommand(spec, argv, (options) => {
    const text = options.operands.join(" ");
    const reply = parseReplyText(text);
    if (reply === undefined) throw new UsageError(`"${text}" has no reply code (2xx to 5xx) in it`);
    const result = classifyReply(reply, options.value("provider"));
    if (options.flag("json")) {
      const { code, enhancedCode } = reply;
      process.stdout.write(`${JSON.stringify({ ...result, code, enhanced_code: enhancedCode })}\n`);
    } else {
      process.stdout.write(
        `${result.class}: ${result.detail} (rule ${result.rule})\n${CLASS_MEANINGS[result.class]}\n`,
      );
    }
    return 0;
  });
}
