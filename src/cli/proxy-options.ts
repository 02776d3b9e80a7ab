/** The command line of the proxy itself: `warp` without a command. The original's flags are all here. */
import type { CommandSpec } from "./options.ts";

export const spec: CommandSpec = {
  name: "",
  summary:
    "Run the proxy: relay captured SMTP connections to where they were going, and tell hooks of every line",
  description: [
    "Everything that an option says can be said in the file that --config names; an option wins over the file, and the file over the environment. `warp rules` prints the rules that bring traffic here.",
  ],
  options: [
    { name: "config", value: "FILE", help: "Configuration file (YAML)", completes: "file" },
    {
      name: "ip",
      value: "ADDRESS",
      repeatable: true,
      default: "127.0.0.1 and ::1",
      help: "Where it listens; :: for dual stack",
    },
    { name: "port", value: "PORT", default: "10025", help: "Port to listen on" },
    {
      name: "mode",
      value: "MODE",
      choices: ["redirect", "tproxy", "fixed"],
      default: "redirect",
      help: "How connections reach it",
    },
    {
      name: "destination",
      value: "HOST:PORT",
      help: "Send every connection there; implies --mode fixed",
    },
    {
      name: "outbound-ip",
      value: "ADDRESS",
      repeatable: true,
      default: "the client's own",
      help: "Source IP: one IPv4, one IPv6; 0.0.0.0 and :: mean unset",
    },
    { name: "client", value: "NETWORK", repeatable: true, default: "self", help: "Who may connect" },
    {
      name: "upstream-tls",
      value: "POLICY",
      choices: ["none", "may", "encrypt", "verify"],
      default: "may",
      help: "TLS towards destinations for which the file has no rule",
    },
    {
      name: "upstream-ca",
      value: "FILE",
      completes: "file",
      help: "Authorities (PEM) to trust there instead of the system's",
    },
    {
      name: "tls-cert",
      value: "FILE",
      completes: "file",
      help: "Offer STARTTLS to clients with this certificate (PEM)",
    },
    { name: "tls-key", value: "FILE", completes: "file", help: "Its private key (PEM)" },
    {
      name: "hook",
      value: "NAME=ADDRESS",
      repeatable: true,
      help: "A hook server (unix:/path or HOST:PORT), used for what it says of itself",
    },
    { name: "filter", value: "NAME=ADDRESS", repeatable: true, help: "A hook server that filters" },
    { name: "observer", value: "NAME=ADDRESS", repeatable: true, help: "A hook server that observes" },
    {
      name: "plugins",
      value: "LIST",
      help: "Bundled hook servers to start and supervise: mysql, sqlite, file, slack",
    },
    { name: "journal", value: "DIR", completes: "directory", help: "Keep unacknowledged events on disk" },
    { name: "redis", value: "URL", help: "Share reputation through this Redis", default: "in memory" },
    { name: "message-size-limit", value: "OCTETS", default: "10240000", help: "Longest message" },
    { name: "workers", value: "N", default: "1", help: "Processes that accept connections" },
    {
      name: "metrics",
      value: "HOST:PORT",
      default: "off",
      help: "Serve /metrics, /healthz and /readyz there",
    },
    { name: "verbose", help: "Print each line of each dialogue with its direction" },
    {
      name: "log-level",
      value: "LEVEL",
      choices: ["trace", "debug", "info", "warn", "error", "fatal", "silent"],
      default: "info",
      help: "Lowest level that is logged",
    },
    {
      name: "log-format",
      value: "FORMAT",
      choices: ["json", "text"],
      default: "json",
      help: "Form of the log",
    },
    { name: "version", help: "Print version and commit on stderr" },
  ],
  examples: [
    [
      "warp --destination mx.example.net:25",
      "Try it without root: everything sent to port 10025 goes to one server.",
    ],
    ["warp --config /etc/warp/warp.yaml", "Run it with a file; `warp rules --apply` brings the traffic."],
    ["warp -ip 127.0.0.1 -port 10025 -plugins sqlite,file -verbose", "The original's command line."],
  ],
};
