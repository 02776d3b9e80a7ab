/** What one Observe stream carries: the events of one Source, from memory where they are, else from the journal. */

import type { Journal, LeftJournal } from "../stores/journal.ts";
import type { JournalReader } from "../stores/journal-reader.ts";
import type { Block } from "./block.ts";
import type { SourceFacts } from "./event-encoding.ts";
import type { EventLog } from "./event-log.ts";

export interface Feed {
  readonly source: SourceFacts;
  /** The last sequence there is by now. */
  readonly last: number;
  /** Nothing more is ever added. */
  readonly finite: boolean;
  /**
   * The run of events that holds `sequence`, or, where that is gone, the next one that is there. Undefined: nothing is
   * there yet (or, where `finite`, at all). A block from memory comes at once, and is to be used at once: its octets are
   * written over when the log has forgotten them.
   */
  next(sequence: number): Block | undefined | Promise<Block | undefined>;
  close(): Promise<void>;
}

export function liveFeed(log: EventLog, journal: Journal | undefined): Feed {
  let reader: JournalReader | undefined;
  /** It has one segment open, which is deleted once it is acknowledged: its room on the disk comes back with this. */
  const endReading = async (): Promise<void> => {
    const ended = reader;
    reader = undefined;
    await ended?.close();
  };
  const feed: Feed = {
    source: log.source,
    finite: false,
    get last() {
      return log.readable;
    },
    next(sequence) {
      if (sequence > log.readable) return undefined;
      const fromMemory = () => log.blockWith(Math.max(sequence, log.first));
      if (sequence >= log.first || journal === undefined) {
        if (reader === undefined) return fromMemory();
        // Meanwhile memory may have forgotten it again.
        return endReading().then(() => feed.next(sequence));
      }
      reader ??= journal.reader();
      return reader
        .from(sequence)
        .then((onDisk) => (onDisk !== undefined && onDisk.firstSequence < log.first ? onDisk : fromMemory()));
    },
    close: endReading,
  };
  return feed;
}

export function leftFeed(journal: LeftJournal): Feed {
  const reader = journal.reader();
  return {
    source: journal.source,
    finite: true,
    last: journal.last,
    next: (sequence) => reader.from(sequence),
    close: () => reader.close(),
  };
}
