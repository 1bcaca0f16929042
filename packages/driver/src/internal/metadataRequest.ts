/** Metadata of topics with their ids (KIP-516), without an exception when one of them is missing. */
import { codeName } from "./codes.ts"
import type { Address, Metadata, TopicMetadata } from "../Broker.ts"

export const metadataKey = 3
/** the first with ids that brokers answer by name with */
export const metadataVersion = 12

const uvarint = (bytes: Array<number>, value: number): void => {
  while (value > 0x7f) {
    bytes.push((value & 0x7f) | 0x80)
    value >>>= 7
  }
  bytes.push(value)
}

/** The body, with the end of its header before it: see there. */
export const encodeMetadata = (topics: ReadonlyArray<string>): Buffer => {
  const parts: Array<Buffer> = []
  // The request header of version 2 ends with tagged fields. With the header of version 1, which every library writes, they begin the body
  const head: Array<number> = [0]
  uvarint(head, topics.length + 1)
  parts.push(Buffer.from(head))
  for (const topic of topics) {
    const name = Buffer.from(topic, "utf8")
    const length: Array<number> = []
    uvarint(length, name.length + 1)
    // topic_id (zero: asked by name), name, tagged fields
    parts.push(Buffer.alloc(16), Buffer.from(length), name, Buffer.from([0]))
  }
  // allow_auto_topic_creation, include_topic_authorized_operations, tagged fields
  parts.push(Buffer.from([0, 0, 0]))
  return Buffer.concat(parts)
}

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
  uvarint(): number {
    let value = 0
    for (let shift = 0; ; shift += 7) {
      const byte = this.buffer.readUInt8(this.at++)
      value |= (byte & 0x7f) << shift
      if (byte < 0x80) return value
    }
  }
  text(): string | null {
    const length = this.uvarint() - 1
    return length < 0 ? null : this.buffer.toString("utf8", this.at, (this.at += length))
  }
  tags(): void {
    for (let n = this.uvarint(); n > 0; n--) {
      this.uvarint()
      const length = this.uvarint()
      this.at += length
    }
  }
  array<A>(read: () => A): Array<A> {
    const length = this.uvarint() - 1
    const out: Array<A> = []
    for (let i = 0; i < length; i++) out.push(read())
    return out
  }
}

export const decodeMetadata = (payload: Buffer): Metadata & { readonly clientSideThrottleTime: number } => {
  const r = new Reader(payload)
  r.tags() // of the response header
  const clientSideThrottleTime = r.int32()
  const brokers = new Map<number, Address>()
  r.array(() => {
    const id = r.int32()
    const host = r.text() ?? ""
    const port = r.int32()
    r.text() // rack
    r.tags()
    brokers.set(id, { host, port })
  })
  r.text() // cluster id
  r.int32() // controller
  const topics = new Map<string, TopicMetadata>()
  r.array(() => {
    const code = codeName(r.int16())
    const topic = r.text()
    const id = r.buffer.toString("hex", r.at, (r.at += 16))
    r.at += 1 // internal
    const leaders = new Map<number, number>()
    r.array(() => {
      r.int16()
      const partition = r.int32()
      const leader = r.int32()
      r.int32() // leader epoch
      r.array(() => r.int32())
      r.array(() => r.int32())
      r.array(() => r.int32())
      r.tags()
      leaders.set(partition, leader)
    })
    r.int32() // authorized operations
    r.tags()
    if (topic !== null) topics.set(topic, { topic, code, id: /^0*$/.test(id) ? undefined : id, leaders })
  })
  return { brokers, topics, clientSideThrottleTime }
}
