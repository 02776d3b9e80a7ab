/** warp, but nothing is counted: the program itself always counts, so this is what counting is measured against. */
import { OutcomeSink } from "../../src/egress/outcomes.ts";

OutcomeSink.prototype.wants = () => false;
await import("../../src/cli/main.ts");
