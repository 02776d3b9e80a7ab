/**
 * What the configuration needs of this host: are the files that it names there, readable, and what they should be; do
 * the plugins have their settings? Looked at before the proxy says that it listens, and by `warp check-config`.
 */
import { X509Certificate } from "node:crypto";
import { accessSync, constants, readFileSync, statSync } from "node:fs";
import { dirname } from "node:path";
import { createSecureContext } from "node:tls";
import type { Problem } from "./parse.ts";
import type { Config } from "./schema.ts";

type Path = readonly PropertyKey[];

export function checkHost(config: Config): readonly Problem[] {
  const problems: Problem[] = [...checkPlugins(config)];
  const add = (problem: Problem | undefined): void => {
    if (problem !== undefined) problems.push(problem);
  };
  const { downstreamTls, filter, journal, reputation } = config;
  if (downstreamTls !== undefined) {
    problems.push(...checkPair(["downstream_tls"], downstreamTls.cert, downstreamTls.key));
  }
  for (const [index, rule] of config.tls.entries()) {
    if (rule.ca !== undefined) add(checkAuthorities(["tls", index, "ca"], rule.ca));
  }
  for (const [index, { tls }] of config.hooks.entries()) {
    if (tls?.ca !== undefined) add(checkAuthorities(["hooks", index, "tls", "ca"], tls.ca));
    if (tls?.cert !== undefined && tls.key !== undefined) {
      problems.push(...checkPair(["hooks", index, "tls"], tls.cert, tls.key));
    }
  }
  const redisTls = config.redis?.tls;
  if (redisTls?.ca !== undefined) add(checkAuthorities(["redis", "tls", "ca"], redisTls.ca));
  if (redisTls?.cert !== undefined && redisTls.key !== undefined) {
    problems.push(...checkPair(["redis", "tls"], redisTls.cert, redisTls.key));
  }
  if (filter.spool !== undefined) add(checkDirectory(["filter", "spool"], filter.spool, false));
  if (journal !== undefined) add(checkDirectory(["journal", "dir"], journal.dir, true));
  if (reputation.stateFile !== undefined) {
    add(checkDirectory(["reputation", "state_file"], dirname(reputation.stateFile), false));
  }
  return problems;
}

/** In the original's words, which its users know. The environment was filled in before. */
function checkPlugins(config: Config): readonly Problem[] {
  const problems: Problem[] = [];
  const missing = (text: string): number => problems.push({ path: [], text });
  for (const plugin of config.plugins) {
    if (plugin === "mysql" && config.mysql.dsn === undefined)
      missing("missing dsn for mysql, please set `DSN`");
    if (plugin === "sqlite" && config.sqlite.dsn === undefined)
      missing("missing dsn for sqlite, please set `DSN`");
    if (plugin === "file" && config.file.path === undefined)
      missing("missing path for file, please set `FILE_PATH`");
    if (plugin !== "slack") continue;
    if (config.slack.token === undefined) missing("missing SLACK_TOKEN, please set `SLACK_TOKEN`");
    if (config.slack.channel === undefined) missing("missing SLACK_CHANNEL, please set `SLACK_CHANNEL`");
  }
  const { mysql, sqlite } = config;
  const usesBoth = config.plugins.includes("mysql") && config.plugins.includes("sqlite");
  if (usesBoth && mysql.dsn !== undefined && mysql.dsn === sqlite.dsn) {
    missing("one dsn can't serve mysql and sqlite, please set `MYSQL_DSN` and `SQLITE_DSN`");
  }
  return problems;
}

function contentOf(path: Path, file: string): { readonly text: Buffer } | { readonly problem: Problem } {
  try {
    return { text: readFileSync(file) };
  } catch (error) {
    return { problem: { path, text: `was "${file}", which can't be read: ${reason(error)}` } };
  }
}

function checkAuthorities(path: Path, file: string): Problem | undefined {
  const content = contentOf(path, file);
  if ("problem" in content) return content.problem;
  if (!content.text.includes("-----BEGIN")) {
    return { path, text: `was "${file}", which holds no certificate in PEM form` };
  }
  try {
    createSecureContext({ ca: content.text });
    return undefined;
  } catch (error) {
    return { path, text: `was "${file}", which can't be used: ${reason(error)}` };
  }
}

function checkPair(path: Path, certFile: string, keyFile: string): readonly Problem[] {
  const [certPath, keyPath] = [
    [...path, "cert"],
    [...path, "key"],
  ];
  const cert = contentOf(certPath, certFile);
  const key = contentOf(keyPath, keyFile);
  const unreadable = [cert, key].flatMap((content) => ("problem" in content ? [content.problem] : []));
  if (unreadable.length > 0 || !("text" in cert) || !("text" in key)) return unreadable;
  const unusable = [
    ...(cert.text.includes("CERTIFICATE-----")
      ? []
      : [{ path: certPath, text: `was "${certFile}", which holds no certificate in PEM form` }]),
    ...keyProblem(keyPath, keyFile, key.text),
  ];
  if (unusable.length > 0) return unusable;
  try {
    createSecureContext({ cert: cert.text, key: key.text });
  } catch (error) {
    const text = `was "${certFile}", which can't be used with the key "${keyFile}": ${reason(error)}`;
    return [{ path: certPath, text }];
  }
  return validity(certPath, certFile, new X509Certificate(cert.text));
}

function keyProblem(path: Path, file: string, pem: Buffer): readonly Problem[] {
  if (!pem.includes("PRIVATE KEY-----"))
    return [{ path, text: `was "${file}", which holds no private key in PEM form` }];
  // PKCS #8 says it in its first line, the older form in a header (RFC 1421 §4.6.1.1).
  if (!pem.includes("BEGIN ENCRYPTED PRIVATE KEY") && !pem.includes("Proc-Type: 4,ENCRYPTED")) return [];
  const text = `was "${file}", which is encrypted, and nobody is there to be asked for its passphrase; should be a key without one (openssl pkey -in FILE -out NEW)`;
  return [{ path, text }];
}

/** A warning: clients that don't verify are served all the same, and a clock may be wrong. */
function validity(path: Path, file: string, { validFromDate, validToDate }: X509Certificate) {
  const now = Date.now();
  if (validToDate.getTime() < now) return [doubt(`expired on ${validToDate.toISOString()}`)];
  if (validFromDate.getTime() > now) return [doubt(`is valid only from ${validFromDate.toISOString()} on`)];
  return [];

  function doubt(what: string): Problem {
    return { path, text: `was "${file}", which ${what}`, isWarning: true };
  }
}

/** A directory that can be written to, or (`mayBeMade`) whose parent can. */
function checkDirectory(path: Path, directory: string, mayBeMade: boolean): Problem | undefined {
  try {
    if (!statSync(directory).isDirectory())
      return { path, text: `was "${directory}", which is no directory` };
    accessSync(directory, constants.W_OK | constants.X_OK);
    return undefined;
  } catch (error) {
    const isMissing = (error as NodeJS.ErrnoException).code === "ENOENT";
    if (isMissing && mayBeMade && directory !== dirname(directory)) {
      const above = checkDirectory(path, dirname(directory), true);
      return above === undefined
        ? undefined
        : { path, text: `was "${directory}", which can't be made there: ${above.text}` };
    }
    const problem = isMissing ? "isn't there" : `can't be written to: ${reason(error)}`;
    return { path, text: `directory "${directory}" ${problem}` };
  }
}

function reason(error: unknown): string {
  const { code, message } = error as NodeJS.ErrnoException;
  if (code === "ENOENT") return "no such file";
  if (code === "EACCES") return "permission denied";
  return message;
}
