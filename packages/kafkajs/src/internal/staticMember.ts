/**
 * JoinGroup, SyncGroup and Heartbeat of a static member. kafkajs knows the versions that have room for an instance id (KIP-345), and its
 * brokers leave it empty. They send what is written here, and what is read here comes back, as with its own.
 *
 * Its OffsetCommit has no such version. Without the id the broker looks for the member id alone, which is another one as soon as somebody
 * else has the instance id: the commit is refused all the same, and the next heartbeat says why.
 */
import type { Broker } from "@concurrent-kafka/driver/Broker"
import { versionIn } from "@concurrent-kafka/driver/Protocol"
import type { KafkaJsBroker } from "./wire.ts"

const joinGroup = { name: "JoinGroup", key: 11, version: 5 }
const heartbeat = { name: "Heartbeat", key: 12, version: 3 }
const syncGroup = { name: "SyncGroup", key: 14, version: 3 }

type Static<A> = A & { readonly groupInstanceId: string }
type Request<K extends "joinGroup" | "syncGroup" | "heartbeat"> = Static<Parameters<Broker[K]>[0]>

const int32 = (value: number): Buffer => {
  const b = Buffer.allocUnsafe(4)
  b.writeInt32BE(value)
  return b
}

const text = (value: string): Buffer => {
  const utf8 = Buffer.from(value, "utf8")
  const length = Buffer.allocUnsafe(2)
  length.writeInt16BE(utf8.length)
  return Buffer.concat([length, utf8])
}

const bytes = (value: Buffer): Buffer => Buffer.concat([int32(value.length), value])

const array = <A>(all: ReadonlyArray<A>, one: (a: A) => ReadonlyArray<Buffer>): Buffer =>
  Buffer.concat([int32(all.length), ...all.flatMap(one)])

class Reader {
  readonly #buffer: Buffer
  #at = 0
  constructor(buffer: Buffer) {
    this.#buffer = buffer
  }
  int16 = (): number => this.#buffer.readInt16BE((this.#at += 2) - 2)
  int32 = (): number => this.#buffer.readInt32BE((this.#at += 4) - 4)
  bytes = (length = this.int32()): Buffer => this.#buffer.subarray(this.#at, (this.#at += Math.max(0, length)))
  /** also one that is null */
  text = (): string => this.bytes(this.int16()).toString("utf8")
  array = <A>(one: () => A): Array<A> => Array.from({ length: this.int32() }, one)
}

const ask = <A>(
  broker: KafkaJsBroker,
  { key, name, version }: typeof joinGroup,
  body: ReadonlyArray<Buffer>,
  read: (reader: Reader) => A,
  requestTimeout?: number
): Promise<A> => {
  versionIn(broker.versions?.[key], { name, min: version, max: version })
  const buffer = Buffer.concat(body)
  return broker.connectionPool.send<A>({
    request: { apiKey: key, apiName: name, apiVersion: version, encode: async () => ({ buf: buffer, buffer }) },
    response: {
      decode: async (payload) => {
        const reader = new Reader(payload)
        const clientSideThrottleTime = reader.int32()
        return { ...read(reader), clientSideThrottleTime }
      },
      parse: (data) => data
    },
    ...(requestTimeout === undefined ? {} : { requestTimeout })
  })
}

/** what is added to the time that a broker may take on purpose */
const slack = 5000

export const joinAsStatic = (broker: KafkaJsBroker, request: Request<"joinGroup">): ReturnType<Broker["joinGroup"]> => {
  const { groupId, groupInstanceId, groupProtocols, memberId, rebalanceTimeout, sessionTimeout } = request
  const body = [
    text(groupId),
    int32(sessionTimeout),
    int32(rebalanceTimeout),
    text(memberId),
    text(groupInstanceId),
    text("consumer"),
    array(groupProtocols, ({ metadata, name }) => [text(name), bytes(metadata)])
  ]
  const read = (reader: Reader) => ({
    errorCode: reader.int16(),
    generationId: reader.int32(),
    groupProtocol: reader.text(),
    leaderId: reader.text(),
    memberId: reader.text(),
    members: reader.array(() => {
      const memberId = reader.text()
      reader.text() // its instance id
      return { memberId, memberMetadata: reader.bytes() }
    })
  })
  return ask(broker, joinGroup, body, read, rebalanceTimeout + slack)
}

export const syncAsStatic = (broker: KafkaJsBroker, request: Request<"syncGroup">): ReturnType<Broker["syncGroup"]> => {
  const { generationId, groupAssignment, groupId, groupInstanceId, memberId } = request
  const body = [
    text(groupId),
    int32(generationId),
    text(memberId),
    text(groupInstanceId),
    array(groupAssignment, (one) => [text(one.memberId), bytes(one.memberAssignment)])
  ]
  return ask(broker, syncGroup, body, (reader) => ({ errorCode: reader.int16(), memberAssignment: reader.bytes() }))
}

export const beatAsStatic = (broker: KafkaJsBroker, request: Request<"heartbeat">): ReturnType<Broker["heartbeat"]> => {
  const { groupGenerationId, groupId, groupInstanceId, memberId } = request
  const body = [text(groupId), int32(groupGenerationId), text(memberId), text(groupInstanceId)]
  return ask(broker, heartbeat, body, (reader) => ({ errorCode: reader.int16() }))
}
