import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import kafkajs from "kafkajs"
import {
  assign,
  assignSticky,
  type Claim,
  decodeClaim,
  encodeClaim,
  protocols,
  roundRobinName,
  stickyName,
  subscribedTopics
} from "../src/internal/assigner.ts"
import {
  type Assignment,
  decodeAssignment,
  decodeSubscription,
  encodeAssignment,
  encodeSubscription
} from "../src/internal/groupData.ts"

const member = (memberId: string, topics: ReadonlyArray<string>, claim: Partial<Claim> = {}) => ({
  memberId,
  topics: new Set(topics),
  generation: -1,
  owned: {},
  ...claim
})

const size = (assignment: Assignment | undefined) =>
  Object.values(assignment ?? {}).reduce((sum, partitions) => sum + partitions.length, 0)

const twelve = () => 12

describe("concurrent-kafka-sticky", () => {
  it("shares out evenly", () => {
    const result = assignSticky(
      [member("a", ["t"]), member("b", ["t"]), member("c", ["t"]), member("d", ["t"]), member("e", ["t"])],
      twelve
    )
    assert.deepStrictEqual(
      [...result.values()].map(size).sort((a, b) => a - b),
      [2, 2, 2, 3, 3]
    )
  })

  it("takes no more than balance needs from somebody who owns", () => {
    const all = { t: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11] }
    const result = assignSticky([member("a", ["t"], { generation: 3, owned: all }), member("b", ["t"])], twelve)
    assert.deepStrictEqual(result.get("a"), Object.assign(Object.create(null), { t: [0, 1, 2, 3, 4, 5] }))
    assert.strictEqual(size(result.get("b")), 6)
  })

  it("takes from each no more than it has too much, and gives nobody another's for its own", () => {
    const owners = [0, 1, 2, 3].map((i) => Array.from({ length: 6 }, (_, p) => i * 6 + p))
    const members = owners.map((t, i) => member(`m${i}`, ["t"], { generation: 3, owned: { t } }))
    const result = assignSticky([...members, member("m4", ["t"]), member("m5", ["t"])], () => 24)
    owners.forEach((own, i) => {
      const now = result.get(`m${i}`)!["t"]!
      assert.strictEqual(now.length, 4)
      assert.includeMembers(own, [...now])
    })
  })

  it("the highest generation wins where two claim the same, whatever their order", () => {
    const old = { generation: 4, owned: { t: [0, 1] } }
    const recent = { generation: 5, owned: { t: [0, 1] } }
    for (const [a, b] of [
      [old, recent],
      [recent, old]
    ] as const) {
      const result = assignSticky([member("a", ["t"], a), member("b", ["t"], b)], () => 4)
      assert.deepStrictEqual(result.get(a === recent ? "a" : "b")?.["t"], [0, 1])
    }
  })

  it("gives a topic to those who are subscribed to it", () => {
    const result = assignSticky([member("a", ["s", "t"]), member("b", ["t"])], () => 4)
    assert.deepStrictEqual(result.get("a")?.["s"], [0, 1, 2, 3])
    assert.deepStrictEqual(result.get("b")?.["t"], [0, 1, 2, 3])
  })

  it("a claim to what is not there any more, or not subscribed, is nothing", () => {
    const result = assignSticky([member("a", ["t"], { generation: 1, owned: { t: [0, 7], gone: [0] } })], () => 2)
    assert.deepStrictEqual(Object.entries(result.get("a") ?? {}), [["t", [0, 1]]])
  })

  const Member = Schema.Struct({
    topics: Schema.Array(Schema.Literals(["p", "q", "r"])),
    generation: Schema.Int.check(Schema.isBetween({ minimum: -1, maximum: 4 })),
    p: Schema.Array(Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 9 }))),
    q: Schema.Array(Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 9 })))
  })
  const Counts = Schema.Struct({
    p: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 8 })),
    q: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 8 })),
    r: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 8 }))
  })
  it.effect.prop(
    "every partition that somebody is subscribed to has exactly one owner who is, and no move would even it out",
    [Schema.Array(Member), Counts],
    ([given, counts]) =>
      Effect.sync(() => {
        const members = given
          .slice(0, 6)
          .map(({ generation, p, q, topics }, i) => member(`m${i}`, topics, { generation, owned: { p, q } }))
        const result = assignSticky(members, (topic) => counts[topic as "p"])
        const owners = new Map<string, string>()
        for (const [memberId, assignment] of result) {
          for (const [topic, partitions] of Object.entries(assignment)) {
            assert.isTrue(members.find((m) => m.memberId === memberId)?.topics.has(topic as never))
            for (const partition of partitions) {
              assert.isFalse(owners.has(`${topic}/${partition}`))
              owners.set(`${topic}/${partition}`, memberId)
            }
          }
        }
        for (const topic of ["p", "q", "r"] as const) {
          const wanted = members.some((m) => m.topics.has(topic as never)) ? counts[topic] : 0
          assert.strictEqual([...owners.keys()].filter((key) => key.startsWith(topic)).length, wanted)
        }
        for (const [key, owner] of owners) {
          for (const other of members) {
            if (!other.topics.has(key.slice(0, 1) as never)) continue
            assert.isAtMost(size(result.get(owner)) - size(result.get(other.memberId)), 1)
          }
        }
      })
  )
})

describe("user data", () => {
  it("comes back as it was", () => {
    const claim = { generation: 7, owned: { "a.b": [3, 1], c: [] } }
    assert.deepStrictEqual(decodeClaim(encodeClaim(claim)), claim)
  })

  it.each([
    null,
    Buffer.alloc(0),
    Buffer.from("no json"),
    Buffer.from("null"),
    Buffer.from("[]"),
    Buffer.from('{"v":2,"g":1,"o":{"t":[0]}}'),
    Buffer.from('{"v":1,"g":"1","o":{"t":[0]}}'),
    Buffer.from('{"v":1,"g":1,"o":[0]}'),
    Buffer.from('{"v":1,"g":1,"o":null}'),
    Buffer.from('{"v":1,"g":1,"o":{"t":[-1]}}'),
    Buffer.from('{"v":1,"g":1,"o":{"t":"0"}}')
  ])("%s owns nothing", (data) => {
    assert.deepStrictEqual(decodeClaim(data), { generation: -1, owned: {} })
  })
})

describe("as the protocol wants it", () => {
  it("offers the sticky assigner first, then the one that plain kafkajs members have, then that of cooperative ones", () => {
    const offered = protocols(["t"], { generation: 1, owned: {} })
    assert.deepStrictEqual(
      offered.map(({ name }) => name),
      ["concurrent-kafka-sticky", "RoundRobinAssigner", "concurrent-kafka-cooperative"]
    )
  })

  it("the leader of a group assigns what all members are subscribed to", async () => {
    const members = [
      { memberId: "a", memberMetadata: protocols(["t"], { generation: 2, owned: { t: [0, 1] } })[0]!.metadata },
      { memberId: "b", memberMetadata: protocols(["t", "u"], { generation: -1, owned: {} })[0]!.metadata }
    ]
    assert.deepStrictEqual([...subscribedTopics(members)].sort(), ["t", "u"])
    const result = assign(stickyName, members, ["t"], () => 2)!
    const of = (id: string) => decodeAssignment(result.find(({ memberId }) => memberId === id)!.memberAssignment)
    assert.deepStrictEqual({ ...of("a") }, { t: [0, 1] })
    assert.deepStrictEqual({ ...of("b") }, { u: [0, 1] })
  })

  it.each([
    [["a", "b"], ["t"], 3],
    [["c", "a", "b"], ["t", "u"], 4],
    [["b", "a", "c"], ["t"], 1]
  ] as const)("assigns %j as kafkajs does when the group has settled on its assigner", async (ids, topics, count) => {
    const members = ids.map((memberId) => ({
      memberId,
      memberMetadata: protocols(topics, { generation: 0, owned: {} })[1]!.metadata
    }))
    const result = assign(roundRobinName, members, topics, () => count)!
    const cluster = {
      findTopicPartitionMetadata: () => Array.from({ length: count }, (_, partitionId) => ({ partitionId }))
    }
    const theirs = await kafkajs.PartitionAssigners.roundRobin({
      cluster: cluster as never,
      groupId: "g",
      logger: undefined as never
    }).assign({ members, topics: [...topics] })
    const byId = (list: typeof result) => list.toSorted((a, b) => (a.memberId < b.memberId ? -1 : 1))
    assert.deepStrictEqual(byId(result), byId(theirs))
  })

  it("writes and reads what kafkajs does", () => {
    const { MemberAssignment, MemberMetadata } = kafkajs.AssignerProtocol
    const userData = Buffer.from("x")
    const topics = ["t", "\u00e4.b", ""]
    assert.deepStrictEqual(
      encodeSubscription(topics, userData),
      MemberMetadata.encode({ version: 0, topics, userData })
    )
    const later = Buffer.concat([MemberMetadata.encode({ version: 3, topics, userData }), Buffer.alloc(9)])
    const { topics: theirTopics, userData: theirData } = decodeSubscription(later)
    assert.deepStrictEqual([theirTopics, theirData], [topics, userData])
    for (const assignment of [{}, { t: [] }, { t: [0, 7, 70_000], "\u00e4.b": [1] }] as ReadonlyArray<Assignment>) {
      const theirs = MemberAssignment.encode({
        version: 0,
        assignment: assignment as Record<string, Array<number>>,
        userData: Buffer.alloc(0)
      })
      assert.deepStrictEqual(encodeAssignment(assignment), theirs)
      assert.deepStrictEqual({ ...decodeAssignment(theirs) }, assignment)
    }
  })

  it("bytes that are no subscription are refused", () => {
    const whole = encodeSubscription(["topic"], Buffer.from("x"))
    for (let length = 0; length < whole.length; length++)
      assert.throws(() => decodeSubscription(whole.subarray(0, length)))
  })

  it("an empty assignment is none", () => {
    assert.deepStrictEqual({ ...decodeAssignment(Buffer.alloc(0)) }, {})
    assert.deepStrictEqual({ ...decodeAssignment(null) }, {})
  })

  it("a topic may be called like something that every object has", async () => {
    const names = ["constructor", "toString", "__proto__"]
    const claim = { generation: 1, owned: Object.fromEntries(names.map((name) => [name, [0]])) }
    const members = [{ memberId: "a", memberMetadata: protocols(names, claim)[0]!.metadata }]
    const [result] = assign(stickyName, members, names, () => 1)!
    const assignment = decodeAssignment(result!.memberAssignment)
    for (const name of ["constructor", "toString"]) assert.deepStrictEqual(assignment[name], [0])
    assert.isUndefined(decodeAssignment(Buffer.alloc(0))["constructor"])
  })

  it("bytes that are no assignment are refused", () => {
    assert.throws(() => decodeAssignment(Buffer.from([0, 0, 0, 0, 0, 9, 1])))
  })

  it("knows no other assigner", async () => {
    assert.isUndefined(assign("range", [], ["t"], () => 1))
  })
})
