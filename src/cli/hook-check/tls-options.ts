/** The options with which a command connects to a hook server. */
import { parseAddress } from "../../sdk/address.ts";
import type { ClientTls } from "../../sdk/credentials.ts";
import { type OptionSpec, type ParsedOptions, UsageError } from "../options.ts";

export const TLS_OPTIONS: readonly OptionSpec[] = [
  { name: "tls", help: "Use TLS, with the system's authorities" },
  { name: "ca", value: "FILE", help: "Who signs the server's certificate; implies TLS", completes: "file" },
  { name: "cert", value: "FILE", help: "Our certificate, for servers that ask for one", completes: "file" },
  { name: "key", value: "FILE", help: "Its key", completes: "file" },
  {
    name: "server-name",
    value: "NAME",
    help: "The name in the server's certificate",
    default: "the host of ADDRESS",
  },
];

/** Undefined: plaintext. */
export function tlsOf(options: ParsedOptions): ClientTls | undefined {
  const [ca, cert, key, serverName] = ["ca", "cert", "key", "server-name"].map((name) => options.value(name));
  if ((cert === undefined) !== (key === undefined)) throw new UsageError("--cert and --key belong together");
  if (!options.flag("tls") && ca === undefined && cert === undefined && serverName === undefined)
    return undefined;
  return { ca, cert, key, serverName };
}

/** The operand as it stands, once it is known to be an address. */
export function hookAddress(operand: string): string {
  try {
    parseAddress(operand);
    return operand;
  } catch (error) {
    throw new UsageError((error as Error).message);
  }
}
