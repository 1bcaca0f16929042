/**
 * OffsetCommit and OffsetFetch in those versions that libraries lack.
 *
 * - From version 10 on, Kafka 4.1, both name a topic by its id: an offset of a topic that was deleted is not taken for the next one of its
 *   name, nor told for it.
 * - From version 7 on, Kafka 2.5, OffsetFetch does not tell an offset that a transaction is about to replace: it says
 *   `UNSTABLE_OFFSET_COMMIT` until that one is over (KIP-447).
 */
import type { Broker, TopicEntries } from "../Broker.ts"
import { array, CompactReader, int32, int64, noTags, text, uuid } from "./compact.ts"

type Commit = Parameters<Broker["offsetCommit"]>[0]
type Committed = Awaited<ReturnType<Broker["offsetCommit"]>>
type Fetch = Parameters<Broker["offsetFetch"]>[0]
type Fetched = Awaited<ReturnType<Broker["offsetFetch"]>>

export const offsetCommitKey = 8
export const offsetFetchKey = 9
const byId = 10
const stable = 7

/** A version of a request that is written here, with what reads its answer. */
export interface Exchange<A> {
  readonly apiKey: number
  readonly name: string
  readonly version: number
  readonly body: Buffer
  readonly decode: (answer: Buffer) => A & { readonly clientSideThrottleTime: number }
}

type Offered = { readonly minVersion: number; readonly maxVersion: number } | undefined

const offers = (offered: Offered, version: number): boolean =>
  offered !== undefined && offered.minVersion <= version && version <= offered.maxVersion

const allHaveIds = (topics: ReadonlyArray<TopicEntries<unknown>>): boolean =>
  topics.every(({ topicId }) => topicId !== undefined)

const nameOf = (topics: ReadonlyArray<TopicEntries<unknown>>, id: string): string =>
  topics.find(({ topicId }) => topicId === id)?.topic ?? ""

/**
 * By topic ids; `undefined` where the broker cannot, or one of them is not known: then it is the library's to ask.
 *
 * Version 10: `group_id generation_id_or_member_epoch member_id group_instance_id [topic_id [partition committed_offset
 * committed_leader_epoch committed_metadata]]`
 */
export const offsetCommitOf = (args: Commit, offered: Offered): Exchange<Committed> | undefined => {
  const { groupGenerationId, groupId, groupInstanceId = null, memberId, topics } = args
  if (!allHaveIds(topics) || !offers(offered, byId)) return undefined
  return {
    apiKey: offsetCommitKey,
    name: "OffsetCommit",
    version: byId,
    body: Buffer.concat([
      // of the header: see encodeMetadata
      noTags,
      text(groupId),
      int32(groupGenerationId),
      text(memberId),
      text(groupInstanceId),
      array(topics, ({ partitions, topicId = "" }) =>
        Buffer.concat([
          uuid(topicId),
          array(partitions, ({ metadata, offset, partition }) =>
            Buffer.concat([int32(partition), int64(offset), int32(-1), text(metadata), noTags])
          ),
          noTags
        ])
      ),
      noTags
    ]),
    decode: (answer) => {
      const r = new CompactReader(answer)
      r.tags() // of the response header
      const clientSideThrottleTime = r.int32()
      const responses = r.array(() => {
        const topic = nameOf(topics, r.uuid())
        const partitions = r.array(() => {
          const partition = r.int32()
          const errorCode = r.int16()
          r.tags()
          return { partition, errorCode }
        })
        r.tags()
        return { topic, partitions }
      })
      return { clientSideThrottleTime, responses }
    }
  }
}

/**
 * By topic ids where all are known, or by name; only what is stable, if that was asked for. `undefined` where the broker cannot: then it is
 * the library's to ask.
 *
 * - Version 7: `group_id [name [partition]] require_stable`
 * - Version 10: `[group_id member_id member_epoch [topic_id [partition]]] require_stable`
 */
export const offsetFetchOf = (args: Fetch, offered: Offered): Exchange<Fetched> | undefined => {
  const { groupId, requireStable, topics } = args
  const withIds = allHaveIds(topics) && offers(offered, byId)
  if (!withIds && !offers(offered, stable)) return undefined
  const wanted = array(topics, ({ partitions, topic, topicId = "" }) =>
    Buffer.concat([
      withIds ? uuid(topicId) : text(topic),
      array(partitions, ({ partition }) => int32(partition)),
      noTags
    ])
  )
  const end = Buffer.from([requireStable ? 1 : 0, 0])
  // no member id, and no epoch: who asks is of no interest
  const groups = array([groupId], (id) => Buffer.concat([text(id), text(null), int32(-1), wanted, noTags]))
  return {
    apiKey: offsetFetchKey,
    name: "OffsetFetch",
    version: withIds ? byId : stable,
    body: Buffer.concat([noTags, ...(withIds ? [groups] : [text(groupId), wanted]), end]),
    decode: (answer) => {
      const r = new CompactReader(answer)
      r.tags() // of the response header
      const clientSideThrottleTime = r.int32()
      const ofGroup = () => {
        const responses = r.array(() => {
          const topic = withIds ? nameOf(topics, r.uuid()) : (r.text() ?? "")
          const partitions = r.array(() => {
            const partition = r.int32()
            const offset = r.int64()
            r.int32() // leader epoch
            const metadata = r.text()
            const errorCode = r.int16()
            r.tags()
            return { partition, offset, metadata, errorCode }
          })
          r.tags()
          return { topic, partitions }
        })
        const errorCode = r.int16()
        r.tags()
        return { errorCode, responses }
      }
      if (!withIds) return { clientSideThrottleTime, ...ofGroup() }
      const [found] = r.array(() => {
        r.text()
        return ofGroup()
      })
      return { clientSideThrottleTime, ...(found ?? { responses: [] }) }
    }
  }
}
