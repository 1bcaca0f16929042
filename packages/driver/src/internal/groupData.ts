/**
 * What members of a classic group tell each other through the coordinator, which does not look inside: subscriptions
 * (`ConsumerProtocolSubscription`) and assignments (`ConsumerProtocolAssignment`). Written in version 0, which everybody reads; of
 * later versions the fields behind are left unread.
 */

export interface Subscription {
  readonly topics: ReadonlyArray<string>
  readonly userData: Buffer | null
}

/** partitions by topic */
export type Assignment = Readonly<Record<string, ReadonlyArray<number>>>

const int16 = (value: number): Buffer => {
  const b = Buffer.allocUnsafe(2)
  b.writeInt16BE(value)
  return b
}

const int32 = (value: number): Buffer => {
  const b = Buffer.allocUnsafe(4)
  b.writeInt32BE(value)
  return b
}

const text = (value: string): Buffer => {
  const content = Buffer.from(value, "utf8")
  return Buffer.concat([int16(content.length), content])
}

/** Throws RangeError behind the end. */
class Reader {
  readonly buffer: Buffer
  at = 0
  constructor(buffer: Buffer) {
    this.buffer = buffer
  }
  int16(): number {
    return this.buffer.readInt16BE((this.at += 2) - 2)
  }
  int32(): number {
    return this.buffer.readInt32BE((this.at += 4) - 4)
  }
  bytes(length: number): Buffer {
    if (length < 0 || this.at + length > this.buffer.length) throw new RangeError("it is longer than its bytes")
    return this.buffer.subarray(this.at, (this.at += length))
  }
  text(): string {
    return this.bytes(this.int16()).toString("utf8")
  }
  array<A>(read: () => A): Array<A> {
    const out: Array<A> = []
    for (let left = this.int32(); left > 0; left--) out.push(read())
    return out
  }
}

/** `version [topic] user_data` */
export const encodeSubscription = (topics: ReadonlyArray<string>, userData: Buffer): Buffer =>
  Buffer.concat([int16(0), int32(topics.length), ...topics.map(text), int32(userData.length), userData])

/** Throws when it is none. */
export const decodeSubscription = (data: Buffer): Subscription => {
  const r = new Reader(data)
  r.int16()
  const topics = r.array(() => r.text())
  const length = r.int32()
  return { topics, userData: length < 0 ? null : r.bytes(length) }
}

/** `version [topic [partition]] user_data` */
export const encodeAssignment = (assignment: Assignment): Buffer => {
  const topics = Object.entries(assignment)
  return Buffer.concat([
    int16(0),
    int32(topics.length),
    ...topics.flatMap(([topic, partitions]) => [text(topic), int32(partitions.length), ...partitions.map(int32)]),
    int32(0)
  ])
}

/** Throws when it is no assignment; nothing at all is an empty one. Without a prototype: a topic may be called "constructor". */
export const decodeAssignment = (data: Buffer | null): Assignment => {
  const assignment: Record<string, ReadonlyArray<number>> = Object.create(null)
  if (data === null || data.length === 0) return assignment
  const r = new Reader(data)
  r.int16()
  for (let topics = r.int32(); topics > 0; topics--) {
    const topic = r.text()
    assignment[topic] = r.array(() => r.int32())
  }
  return assignment
}
