/** Metadata of topics with their ids (KIP-516), without an exception when one of them is missing. */
import { codeName } from "./codes.ts"
import { array, CompactReader, noTags, text } from "./compact.ts"
import type { Address, Metadata, TopicMetadata } from "../Broker.ts"

export const metadataKey = 3
/** the first with ids that brokers answer by name with */
export const metadataVersion = 12

/**
 * The body, with the end of its header before it: a request header of version 2 ends with tagged fields. With the header of version 1, which
 * every library writes, they begin the body.
 */
export const encodeMetadata = (topics: ReadonlyArray<string>): Buffer =>
  Buffer.concat([
    noTags,
    // asked by name
    array(topics, (topic) => Buffer.concat([Buffer.alloc(16), text(topic), noTags])),
    // allow_auto_topic_creation, include_topic_authorized_operations
    Buffer.from([0, 0]),
    noTags
  ])

export const decodeMetadata = (payload: Buffer): Metadata & { readonly clientSideThrottleTime: number } => {
  const r = new CompactReader(payload)
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
    const id = r.uuid()
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
