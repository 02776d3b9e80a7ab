/**
 * The tables that the sqlite and mysql sinks fill, once for both dialects: first the original's two with the original's
 * columns, then what we add to them, then our own. Every added column may be NULL, so that rows of the original stay as
 * they are. `docs/sinks.md` tells the same to those who write queries.
 */

/** How a column is declared, and what its values are cut to, in each dialect. */
export interface Column {
  readonly name: string;
  readonly sqlite: string;
  readonly mysql: string;
  /** Longest value in MySQL: characters of a varchar, octets of a text. */
  readonly characters?: number;
  readonly octets?: number;
}
export interface Table {
  readonly name: string;
  readonly columns: readonly Column[];
  readonly primaryKey: readonly string[];
  readonly indexes: readonly Index[];
}
export interface Index {
  readonly name: string;
  readonly columns: readonly string[];
}

/** What is written in one row, in the order of the table's columns. */
export type Value = string | number | bigint | Uint8Array | null;
export type Row = readonly Value[];

const short = (name: string, characters: number): Column => ({
  name,
  sqlite: "text",
  mysql: `varchar(${characters})`,
  characters,
});
const text = (name: string): Column => ({ name, sqlite: "text", mysql: "text", octets: 65_535 });
const octets = (name: string): Column => ({ name, sqlite: "blob", mysql: "mediumblob" });
const integer = (name: string): Column => ({ name, sqlite: "integer", mysql: "bigint" });
const flag = (name: string): Column => ({ name, sqlite: "integer", mysql: "tinyint" });
const real = (name: string): Column => ({ name, sqlite: "real", mysql: "double" });
const key = (column: Column): Column => ({ ...column, mysql: `${column.mysql} NOT NULL` });
/** NULL at no row, but with no default that only one server knows. */
const moment: Column = {
  name: "occurred_at",
  sqlite: "datetime",
  mysql: "timestamp(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6)",
};

const connections: Table = {
  name: "connections",
  columns: [
    key(short("id", 26)),
    short("mail_from", 512),
    short("mail_to", 512),
    moment,
    integer("elapse"),
    // Ours:
    short("event_id", 26),
    short("proxy", 255),
    short("client_ip", 45),
    integer("client_port"),
    short("destination_ip", 45),
    integer("destination_port"),
    short("source_ip", 45),
    short("pool", 255),
    short("rule", 255),
    short("tier", 64),
    short("provider", 255),
    text("helo"),
    short("auth_user", 512),
    short("tls_version", 32),
    short("tls_cipher", 64),
    short("tls_peer_name", 255),
    flag("tls_verified"),
    text("tls_reason"),
    short("tls_policy", 16),
    short("client_tls_version", 32),
    text("greeting"),
    integer("transactions"),
    integer("legs"),
    integer("octets_in"),
    integer("octets_out"),
    real("duration_ms"),
    short("closed_by", 32),
    text("close_reason"),
  ],
  primaryKey: ["id"],
  indexes: [
    { name: "connections_occurred_at", columns: ["occurred_at"] },
    { name: "connections_mail_from", columns: ["mail_from", "occurred_at"] },
    { name: "connections_mail_to", columns: ["mail_to", "occurred_at"] },
    // Finds the original's rows, which have none.
    { name: "connections_event", columns: ["event_id", "occurred_at"] },
  ],
};

const communications: Table = {
  name: "communications",
  columns: [
    key(short("id", 26)),
    key(short("connection_id", 26)),
    key(short("direction", 2)),
    text("data"),
    moment,
    // Ours:
    short("transaction_id", 26),
    integer("leg"),
    short("origin", 16),
    flag("tls"),
    short("code", 64),
    flag("truncated"),
    flag("redacted"),
    integer("sequence"),
    octets("data_raw"),
  ],
  primaryKey: ["id"],
  indexes: [
    { name: "communications_connection", columns: ["connection_id", "occurred_at"] },
    { name: "communications_occurred_at", columns: ["occurred_at"] },
  ],
};

const transactions: Table = {
  name: "transactions",
  columns: [
    key(short("id", 26)),
    short("transaction_id", 26),
    short("connection_id", 26),
    moment,
    short("proxy", 255),
    short("mail_from", 512),
    octets("mail_from_raw"),
    short("sender_domain", 255),
    short("outcome", 16),
    integer("recipients"),
    integer("recipients_omitted"),
    integer("recipients_accepted"),
    integer("message_octets"),
    text("message_id"),
    flag("bdat"),
    short("client_ip", 45),
    short("destination_ip", 45),
    integer("destination_port"),
    short("source_ip", 45),
    short("pool", 255),
    short("rule", 255),
    short("tier", 64),
    short("provider", 255),
    short("auth_user", 512),
    text("helo"),
    short("tls_version", 32),
    flag("tls_verified"),
    integer("mail_code"),
    text("mail_reply"),
    integer("data_code"),
    text("data_reply"),
    integer("code"),
    short("enhanced_code", 16),
    text("reply"),
    short("origin", 16),
    short("class", 32),
    short("hook", 255),
    real("connect_ms"),
    real("greeting_ms"),
    real("ehlo_ms"),
    real("tls_ms"),
    real("mail_ms"),
    real("rcpt_ms"),
    real("data_ms"),
    real("end_of_data_ms"),
    real("filter_ms"),
    integer("elapse"),
    text("filters"),
  ],
  primaryKey: ["id"],
  indexes: [
    { name: "transactions_occurred_at", columns: ["occurred_at"] },
    { name: "transactions_mail_from", columns: ["mail_from", "occurred_at"] },
    { name: "transactions_sender_domain", columns: ["sender_domain", "occurred_at"] },
    { name: "transactions_connection", columns: ["connection_id"] },
    { name: "transactions_transaction", columns: ["transaction_id"] },
  ],
};

const recipients: Table = {
  name: "recipients",
  columns: [
    key(short("event_id", 26)),
    { name: "position", sqlite: "integer", mysql: "int NOT NULL" },
    short("transaction_id", 26),
    short("connection_id", 26),
    moment,
    short("address", 512),
    octets("address_raw"),
    short("domain", 255),
    integer("rcpt_code"),
    short("rcpt_enhanced_code", 16),
    text("rcpt_reply"),
    real("rcpt_ms"),
    integer("code"),
    short("enhanced_code", 16),
    text("reply"),
    short("origin", 16),
    short("class", 32),
    short("hook", 255),
    real("reply_ms"),
  ],
  primaryKey: ["event_id", "position"],
  indexes: [
    { name: "recipients_occurred_at", columns: ["occurred_at"] },
    { name: "recipients_address", columns: ["address", "occurred_at"] },
    { name: "recipients_domain", columns: ["domain", "occurred_at"] },
    { name: "recipients_code", columns: ["code", "occurred_at"] },
    { name: "recipients_class", columns: ["class", "occurred_at"] },
    { name: "recipients_connection", columns: ["connection_id"] },
  ],
};

const notices: Table = {
  name: "notices",
  columns: [
    key(short("id", 26)),
    short("connection_id", 26),
    moment,
    short("proxy", 255),
    short("kind", 16),
    short("code", 64),
    text("text"),
    text("fields"),
  ],
  primaryKey: ["id"],
  indexes: [{ name: "notices_occurred_at", columns: ["occurred_at"] }],
};

/** In the order in which rows are written: what others refer to comes first. */
export const tables: readonly Table[] = [connections, transactions, recipients, communications, notices];
/** The version that `tables` is, in SQLite's `user_version` and in MySQL's table `warp_schema`. */
export const schemaVersion = 1;
export type TableName = "connections" | "transactions" | "recipients" | "communications" | "notices";

export function tableNamed(name: TableName): Table {
  return tables.find((table) => table.name === name)!;
}
