/**
 * What members of a classic group tell each other through the coordinator, which does not look inside: subscriptions
 * (`ConsumerProtocolSubscription`) and assignments (`ConsumerProtocolAssignment`).
 *
 * Written in version 0, which everybody reads; a subscription that says what is owned in version 2, the first one with a place for its
 * generation. A coordinator that changes the group to the `consumer` protocol reads it there. Of later versions the fields behind are
 * left unread.
 */

/** partitions by topic */
export type Assignment = Readonly<Record<string, ReadonlyArray<number>>>

export interface Subscription {
  readonly topics: ReadonlyArray<string>
  readonly userData: Buffer | null
  /** nothing before version 1 */
  readonly owned: Assignment
  /** that it was owned in; -1 before version 2 */
  readonly generation: number
}

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

const nothing = Buffer.alloc(0)

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
  get left(): number {
    return this.buffer.length - this.at
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
  /** Without a prototype: a topic may be called "constructor". */
  partitions(): Assignment {
    const partitions: Record<string, ReadonlyArray<number>> = Object.create(null)
    for (let topics = this.int32(); topics > 0; topics--) {
      const topic = this.text()
      partitions[topic] = this.array(() => this.int32())
    }
    return partitions
  }
}

/** `version [topic] user_data` */
export const encodeSubscription = (topics: ReadonlyArray<string>, userData: Buffer): Buffer =>
  Buffer.concat([int16(0), int32(topics.length), ...topics.map(text), int32(userData.length), userData])

/** `version [topic] user_data [topic [partition]] generation` */
export const encodeOwning = (topics: ReadonlyArray<string>, owned: Assignment, generation: number): Buffer =>
  Buffer.concat([int16(2), int32(topics.length), ...topics.map(text), int32(0), ...byTopic(owned), int32(generation)])

const byTopic = (partitions: Assignment): ReadonlyArray<Buffer> => {
  const topics = Object.entries(partitions)
  return [
    int32(topics.length),
    ...topics.flatMap(([topic, some]) => [text(topic), int32(some.length), ...some.map(int32)])
  ]
}

/** Throws when it is none. */
export const decodeSubscription = (data: Buffer): Subscription => {
  const r = new Reader(data)
  const version = r.int16()
  const topics = r.array(() => r.text())
  const length = r.int32()
  return {
    topics,
    userData: length < 0 ? null : r.bytes(length),
    owned: version >= 1 && r.left > 0 ? r.partitions() : {},
    generation: version >= 2 && r.left > 0 ? r.int32() : -1
  }
}

/** `version [topic [partition]] user_data` */
export const encodeAssignment = (assignment: Assignment, userData: Buffer = nothing): Buffer =>
  Buffer.concat([int16(0), ...byTopic(assignment), int32(userData.length), userData])

/** Throws when it is no assignment; nothing at all is an empty one. */
export const decodeAssignment = (data: Buffer | null): Assignment => readAssignment(data).assignment

/** Beside it what the leader has added. */
export const readAssignment = (data: Buffer | null): { readonly assignment: Assignment; readonly userData: Buffer } => {
  if (data === null || data.length === 0) return { assignment: Object.create(null), userData: nothing }
  const r = new Reader(data)
  r.int16()
  const assignment = r.partitions()
  const length = r.left === 0 ? 0 : r.int32()
  return { assignment, userData: length <= 0 ? nothing : r.bytes(length) }
}
