/**
 * The order of replies (RFC 5321 §4.2, RFC 2920 §3.2): every command takes a slot when it is read; whoever answers fills
 * the slot; slots leave from the front, as far as they are filled.
 */

export interface Slot {
  wire: Buffer | undefined;
  /** Runs when the reply has been handed to the socket; set by `onceSent`. */
  sent: (() => void) | undefined;
}

/**
 * What follows the reply. Not written as `slot.sent = () => …`: V8 takes a function that is assigned to a property for a
 * method and puts it among the old objects, where it holds the whole ended session until the next collection of the heap.
 */
export function onceSent(slot: Slot, run: () => void): void {
  slot.sent = run;
}

export class ReplyQueue {
  private slots: Slot[] = [];
  private head = 0;
  private readonly write: (wire: Buffer) => void;

  constructor(write: (wire: Buffer) => void) {
    this.write = write;
  }

  /** Commands that wait for their reply. */
  get waiting(): number {
    return this.slots.length - this.head;
  }

  open(): Slot {
    const slot: Slot = { wire: undefined, sent: undefined };
    this.slots.push(slot);
    return slot;
  }

  /** The oldest command without a reply. */
  oldest(): Slot | undefined {
    return this.slots[this.head];
  }

  fill(slot: Slot, wire: Buffer): void {
    slot.wire = wire;
    while (this.head < this.slots.length && this.slots[this.head]?.wire !== undefined) {
      const ready = this.slots[this.head++] as Slot;
      this.write(ready.wire as Buffer);
      ready.sent?.();
    }
    if (this.head === this.slots.length) {
      this.slots.length = 0;
      this.head = 0;
    } else if (this.head > 256) {
      this.slots.splice(0, this.head);
      this.head = 0;
    }
  }

  /** Everything that waits is dropped: the connection ends. */
  abandon(): void {
    this.slots.length = 0;
    this.head = 0;
  }
}
