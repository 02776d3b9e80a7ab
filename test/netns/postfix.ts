/**
 * A whole Postfix of our own: its configuration, queue and mail below the lab's folder, none of the machine's touched.
 * It can be the client (a queue that delivers by routes that a test gives) and the destination (mail ends in a maildir).
 */

import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import type { Certificate } from "./certificate.ts";
import type { Lab, Namespace, Program } from "./lab.ts";
import { type ReceivedMessage, readMessage } from "./message.ts";

export interface PostfixOptions {
  readonly name: string;
  readonly hostname: string;
  /** Domains whose mail is kept in the maildir. */
  readonly domains?: readonly string[];
  /** Addresses to listen on; none: this instance only sends. */
  readonly listen?: readonly string[];
  /** Offers STARTTLS with it. */
  readonly certificate?: Certificate;
  /** Domain → next hop in Postfix' form: "smtp:[192.0.2.10]:25". */
  readonly routes?: Readonly<Record<string, string>>;
  /** More lines of main.cf. */
  readonly settings?: Readonly<Record<string, string>>;
}

const services = `
pickup    unix  n - n 60 1 pickup
cleanup   unix  n - n -  0 cleanup
qmgr      unix  n - n 300 1 qmgr
tlsmgr    unix  - - n 1000? 1 tlsmgr
rewrite   unix  - - n - - trivial-rewrite
bounce    unix  - - n - 0 bounce
defer     unix  - - n - 0 bounce
trace     unix  - - n - 0 bounce
verify    unix  - - n - 1 verify
flush     unix  n - n 1000? 0 flush
proxymap  unix  - - n - - proxymap
proxywrite unix - - n - 1 proxymap
smtp      unix  - - n - - smtp
relay     unix  - - n - - smtp
showq     unix  n - n - - showq
error     unix  - - n - - error
retry     unix  - - n - - error
discard   unix  - - n - - discard
virtual   unix  - n n - - virtual
anvil     unix  - - n - 1 anvil
scache    unix  - - n - 1 scache
postlog   unix-dgram n - n - 1 postlogd
`;

export class Postfix {
  /** Its log. */
  readonly program: Program;
  readonly #namespace: Namespace;
  readonly #folder: string;

  private constructor(namespace: Namespace, folder: string, program: Program) {
    this.#namespace = namespace;
    this.#folder = folder;
    this.program = program;
  }

  static async start(lab: Lab, namespace: Namespace, options: PostfixOptions): Promise<Postfix> {
    const folder = join(lab.folder, `postfix-${options.name}`);
    writeConfiguration(folder, options);
    const etc = join(folder, "etc");
    const log = join(folder, "log");
    writeFileSync(log, "");
    // Returns when it runs; says nothing of why it doesn't where stderr is no terminal, so the log has to.
    const started = await namespace.complete("postfix", ["-c", etc, "start"]);
    if (started.status !== 0)
      throw new Error(`postfix start failed: ${started.stderr}${readFileSync(log, "utf8")}`);
    lab.onEnd(async () => {
      await namespace.complete("postfix", ["-c", etc, "abort"]);
    });
    const program = namespace.start("tail", ["-n", "+1", "-F", log]);
    const postfix = new Postfix(namespace, folder, program);
    await program.line(/daemon started/);
    return postfix;
  }

  /** Hands messages to the queue as a local program does (sendmail). */
  async submit(from: string, to: readonly string[], message: string | Buffer): Promise<void> {
    const args = ["-C", join(this.#folder, "etc"), "-i", "-f", from, "--", ...to];
    const done = await this.#namespace.complete("sendmail", args, { input: message });
    if (done.status !== 0) throw new Error(`sendmail: ${done.stderr}`);
  }

  /** The log's lines of deliveries: "to=<…>, relay=…, dsn=2.0.0, status=sent (…)". */
  get deliveries(): readonly string[] {
    return this.program.lines.filter((line) => / status=(sent|deferred|bounced) /.test(line));
  }

  /** Waits until so many deliveries ended, however they ended, and gives their lines. */
  delivered(count: number, timeoutMs = 60_000): Promise<readonly string[]> {
    const enough = () => (this.deliveries.length >= count ? this.deliveries : undefined);
    return this.program.until(enough, `${count} deliveries`, timeoutMs);
  }

  /** Messages that are still in the queue. */
  queued(): number {
    const listing = this.#namespace.run("postqueue", "-c", join(this.#folder, "etc"), "-j");
    return listing.split("\n").filter(Boolean).length;
  }

  flush(): void {
    this.#namespace.run("postqueue", "-c", join(this.#folder, "etc"), "-f");
  }

  /** Waits until so many messages whose id begins so are in the maildir: taken from the client is not yet delivered. */
  arrived(idPrefix: string, count: number, timeoutMs = 60_000): Promise<ReceivedMessage[]> {
    const enough = () => {
      const found = this.received().filter(({ id }) => id.startsWith(idPrefix));
      return found.length >= count ? found : undefined;
    };
    return this.program.until(enough, `${count} messages ${idPrefix}…`, timeoutMs);
  }

  /** What arrived in the maildir; Postfix keeps lines without their CR. */
  received(): ReceivedMessage[] {
    const folder = join(this.#folder, "mail", "new");
    if (!existsSync(folder)) return [];
    return readdirSync(folder).map((name) => readMessage(readFileSync(join(folder, name)), "lf"));
  }
}

function writeConfiguration(folder: string, options: PostfixOptions): void {
  const etc = join(folder, "etc");
  for (const name of ["etc", "queue", "data", "mail"]) mkdirSync(join(folder, name), { recursive: true });
  chmodSync(folder, 0o755);
  const [uid, gid] = postfixUser();
  chownSync(join(folder, "data"), uid, gid);
  chownSync(join(folder, "mail"), uid, gid);
  const listen = options.listen ?? [];
  const inet = listen.map((ip) => `${ip.includes(":") ? `[${ip}]` : ip}:25 inet n - n - - smtpd\n`).join("");
  writeFileSync(join(etc, "master.cf"), `${inet}${services.trimStart()}`);
  writeFileSync(join(etc, "main.cf"), mainCf(folder, options, uid, gid));
}

function mainCf(folder: string, options: PostfixOptions, uid: number, gid: number): string {
  const routes = Object.entries(options.routes ?? {}).map(([domain, hop]) => `{ ${domain} = ${hop} }`);
  const { certificate } = options;
  const settings: Record<string, string> = {
    compatibility_level: "3.6",
    queue_directory: join(folder, "queue"),
    data_directory: join(folder, "data"),
    maillog_file: join(folder, "log"),
    maillog_file_prefixes: folder,
    myhostname: options.hostname,
    mydestination: "",
    mynetworks: "127.0.0.0/8 [::1]/128",
    inet_interfaces: "all",
    inet_protocols: "all",
    alias_maps: "",
    local_recipient_maps: "",
    // Names come from the tests, never from a resolver.
    smtp_dns_support_level: "disabled",
    smtp_host_lookup: "native",
    disable_dns_lookups: "yes",
    smtpd_peername_lookup: "no",
    transport_maps: routes.length === 0 ? "" : `inline:{ ${routes.join(", ")} }`,
    virtual_mailbox_domains: (options.domains ?? []).join(" "),
    virtual_mailbox_maps: "static:./",
    virtual_mailbox_base: join(folder, "mail"),
    virtual_minimum_uid: "1",
    virtual_uid_maps: `static:${uid}`,
    virtual_gid_maps: `static:${gid}`,
    smtpd_relay_restrictions: "permit_mynetworks, reject_unauth_destination",
    smtpd_recipient_restrictions: "",
    message_size_limit: "20480000",
    mailbox_size_limit: "0",
    virtual_mailbox_limit: "0",
    smtpd_client_connection_count_limit: "0",
    in_flow_delay: "0",
    smtpd_tls_security_level: certificate === undefined ? "none" : "may",
    ...(certificate === undefined
      ? {}
      : {
          smtpd_tls_cert_file: certificate.cert,
          smtpd_tls_key_file: certificate.key,
          smtpd_tls_received_header: "yes",
        }),
    ...options.settings,
  };
  return Object.entries(settings)
    .map(([key, value]) => `${key} = ${value}\n`)
    .join("");
}

function postfixUser(): [uid: number, gid: number] {
  const line = readFileSync("/etc/passwd", "utf8")
    .split("\n")
    .find((entry) => entry.startsWith("postfix:"));
  const [, , uid, gid] = (line ?? "").split(":");
  return [Number(uid), Number(gid)];
}
