/** A `Broker` on two connections of @platformatic/kafka: a Fetch holds up what comes behind it on its own. */
import type { Address, Broker, Connector, TopicEntries } from "@concurrent-kafka/driver/Broker"
import { addressText } from "@concurrent-kafka/driver/Driver"
import {
  decodeFetch,
  decodeInitProducerId,
  decodeMetadata,
  decodeProduce,
  encodeInitProducerId,
  encodeMetadata,
  encodeProduce,
  initProducerIdKey,
  initProducerIdVersions,
  metadataKey,
  metadataVersion,
  offsetCommitKey,
  offsetCommitOf,
  offsetFetchKey,
  offsetFetchOf,
  produceKey,
  produceVersions,
  versionIn
} from "@concurrent-kafka/driver/Protocol"
import {
  consumerGroupHeartbeatV1,
  fetchV11,
  findCoordinatorV2,
  heartbeatV3,
  joinGroupV5,
  leaveGroupV1,
  listOffsetsV2,
  offsetCommitV7,
  offsetCommitV9,
  offsetFetchV5,
  syncGroupV3
} from "@platformatic/kafka"
import { decompress } from "./codecs.ts"
import { bytes, Link, type LinkSettings } from "./connection.ts"
import { classify } from "./errors.ts"

/** what is added to the time that a broker may take on purpose */
const slack = 5000
const fetchVersion = fetchV11.api.version
const fetchKey = fetchV11.api.key

const named = <A, B>(topics: ReadonlyArray<TopicEntries<A>>, entry: (a: A) => B) =>
  topics.map(({ partitions, topic }) => ({ name: topic, partitions: partitions.map(entry) }))

const entries = <A, B>(
  topics: ReadonlyArray<{ readonly name: string; readonly partitions: ReadonlyArray<A> }>,
  entry: (a: A) => B
): Array<TopicEntries<B>> => topics.map(({ name, partitions }) => ({ topic: name, partitions: partitions.map(entry) }))

/** With what is below it, for tests. */
export interface Linked extends Broker {
  readonly links: ReadonlyArray<Link>
}

/** `syncTimeout`: milliseconds that a SyncGroup may take. */
const makeBroker = (address: Address, settings: LinkSettings, syncTimeout: number): Linked => {
  const link = new Link(address, settings)
  const fetching = new Link(address, settings)
  const { requestTimeout } = settings
  return {
    links: [link, fetching],
    address: addressText(address),
    isConnected: () => link.isConnected(),
    connect: () => link.connect(),
    destroy: () => {
      link.destroy()
      fetching.destroy()
    },
    metadata: (topics) => {
      versionIn(link.versions(metadataKey), { name: "Metadata", min: metadataVersion, max: metadataVersion })
      return link.exchange(metadataKey, metadataVersion, bytes(encodeMetadata(topics)), decodeMetadata)
    },
    findGroupCoordinator: async ({ groupId }) => {
      const { coordinators } = await link.ask(findCoordinatorV2, [0, [groupId]])
      const { errorCode, host, nodeId, port } = coordinators[0]!
      return { errorCode, coordinator: { host, nodeId, port } }
    },
    joinGroup: async ({ groupId, groupInstanceId, groupProtocols, memberId, rebalanceTimeout, sessionTimeout }) => {
      const instance = groupInstanceId ?? null
      const answer = await link.ask(
        joinGroupV5,
        [groupId, sessionTimeout, rebalanceTimeout, memberId, instance, "consumer", [...groupProtocols]],
        { timeout: rebalanceTimeout + slack }
      )
      return {
        errorCode: answer.errorCode,
        generationId: answer.generationId,
        groupProtocol: answer.protocolName ?? "",
        leaderId: answer.leader,
        memberId: answer.memberId,
        members: answer.members.map((member) => ({ memberId: member.memberId, memberMetadata: member.metadata }))
      }
    },
    syncGroup: async ({ generationId, groupAssignment, groupId, groupInstanceId, memberId }) => {
      const assignments = groupAssignment.map((one) => ({ memberId: one.memberId, assignment: one.memberAssignment }))
      const answer = await link.ask(
        syncGroupV3,
        [groupId, generationId, memberId, groupInstanceId ?? null, null, null, assignments],
        { timeout: syncTimeout }
      )
      return { errorCode: answer.errorCode, memberAssignment: answer.assignment }
    },
    heartbeat: ({ groupGenerationId, groupId, groupInstanceId, memberId }) =>
      link.ask(heartbeatV3, [groupId, groupGenerationId, memberId, groupInstanceId ?? null]),
    consumerGroupHeartbeat: async ({ groupId, instanceId, memberEpoch, memberId, owned, rebalanceTimeout, topics }) => {
      const answer = await link.ask(
        consumerGroupHeartbeatV1,
        [
          groupId,
          memberId,
          memberEpoch,
          instanceId ?? null,
          null,
          rebalanceTimeout,
          [...topics],
          null,
          null,
          owned.map(({ partitions, topicId }) => ({ topicId, partitions: [...partitions] }))
        ],
        { tagged: true }
      )
      return {
        errorCode: answer.errorCode,
        errorMessage: answer.errorMessage ?? undefined,
        memberEpoch: answer.memberEpoch,
        heartbeatInterval: answer.heartbeatIntervalMs,
        assignment: answer.assignment?.topicPartitions.map(({ partitions, topicId }) => ({
          // as metadata have it
          topicId: topicId.replaceAll("-", ""),
          partitions
        }))
      }
    },
    leaveGroup: ({ groupId, memberId }) => link.ask(leaveGroupV1, [groupId, [{ memberId }]]),
    offsetCommit: async (args) => {
      const exchange = offsetCommitOf(args, link.versions(offsetCommitKey))
      if (exchange !== undefined)
        return link.exchange(exchange.apiKey, exchange.version, bytes(exchange.body), exchange.decode)
      const { groupGenerationId, groupId, groupInstanceId, groupProtocol, memberId, topics } = args
      const tagged = groupProtocol === "consumer"
      const committed = named(topics, ({ metadata, offset, partition }) => ({
        partitionIndex: partition,
        committedOffset: offset,
        committedLeaderEpoch: -1,
        committedMetadata: metadata
      }))
      const answer = await link.ask(
        // the first version that is checked against the epoch of a member
        tagged ? offsetCommitV9 : offsetCommitV7,
        [groupId, groupGenerationId, memberId, groupInstanceId ?? null, committed],
        { tagged }
      )
      return {
        responses: entries(answer.topics, ({ errorCode, partitionIndex }) => ({ partition: partitionIndex, errorCode }))
      }
    },
    offsetFetch: async (args) => {
      const exchange = offsetFetchOf(args, link.versions(offsetFetchKey))
      if (exchange !== undefined)
        return link.exchange(exchange.apiKey, exchange.version, bytes(exchange.body), exchange.decode)
      const { groupId, topics } = args
      const wanted = topics.map(({ partitions, topic }) => ({
        name: topic,
        partitionIndexes: partitions.map(({ partition }) => partition)
      }))
      const answer = await link.ask(offsetFetchV5, [[{ groupId, topics: wanted }], false])
      return {
        errorCode: answer.errorCode,
        responses: entries(answer.topics, ({ committedOffset, errorCode, metadata, partitionIndex }) => ({
          partition: partitionIndex,
          offset: committedOffset,
          metadata: metadata ?? null,
          errorCode
        }))
      }
    },
    listOffsets: async ({ isolationLevel, topics }) => {
      const wanted = named(topics, ({ partition, timestamp }) => ({
        partitionIndex: partition,
        currentLeaderEpoch: -1,
        timestamp: BigInt(timestamp)
      }))
      const answer = await link.ask(listOffsetsV2, [-1, isolationLevel, wanted])
      return {
        responses: entries(answer.topics, ({ errorCode, offset, partitionIndex }) => ({
          partition: partitionIndex,
          errorCode,
          offset
        }))
      }
    },
    fetch: async ({ isolationLevel, maxBytes, maxWaitTime, minBytes, topics }) => {
      await fetching.connect()
      versionIn(fetching.versions(fetchKey), { name: "Fetch", min: fetchVersion, max: fetchVersion })
      const wanted = topics.map(({ partitions, topic }) => ({
        // a name in this version
        topicId: topic,
        partitions: partitions.map((p) => ({
          partition: p.partition,
          currentLeaderEpoch: -1,
          lastFetchedEpoch: -1,
          fetchOffset: p.fetchOffset,
          partitionMaxBytes: p.maxBytes
        }))
      }))
      return fetching.exchange(
        fetchKey,
        fetchVersion,
        // session 0 in epoch -1: none
        () => fetchV11.createRequest(maxWaitTime, minBytes, maxBytes, isolationLevel, 0, -1, wanted, [], ""),
        (answer) => decodeFetch(answer, fetchVersion),
        maxWaitTime + requestTimeout
      )
    },
    produce: (batches, timeout) => {
      const version = versionIn(link.versions(produceKey), produceVersions)
      const decode = (answer: Buffer) => decodeProduce(answer, version)
      return link.exchange(produceKey, version, bytes(encodeProduce(batches, timeout)), decode, timeout + 1000)
    },
    initProducerId: async () => {
      const version = versionIn(link.versions(initProducerIdKey), initProducerIdVersions)
      return link.exchange(initProducerIdKey, version, bytes(encodeInitProducerId()), decodeInitProducerId)
    }
  }
}

export const makeConnector = (
  bootstrap: ReadonlyArray<Address>,
  settings: LinkSettings,
  syncTimeout: number
): Connector => {
  let turn = 0
  return {
    staticMembership: true,
    groupProtocols: ["classic", "consumer"],
    open: (address) =>
      Promise.resolve(makeBroker(address ?? bootstrap[turn++ % bootstrap.length]!, settings, syncTimeout)),
    classify,
    decompress
  }
}
