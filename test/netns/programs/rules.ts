/** `warp rules` with its settings as JSON in WARP_TEST_RULES, for tests of the rules without the rest of the program. */

import { type RulesSettings, rulesCommand } from "../../../src/cli/rules.ts";

const settings = JSON.parse(process.env.WARP_TEST_RULES ?? "{}") as RulesSettings;
process.exitCode = await rulesCommand(process.argv.slice(2), () => settings);
