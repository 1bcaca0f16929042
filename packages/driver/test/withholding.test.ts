import { assert, describe, it } from "@effect/vitest"
import { cooperativeName, cooperativeProtocols, assign, protocols } from "../src/internal/assigner.ts"
import { type Assignment, decodeSubscription, encodeSubscription, readAssignment } from "../src/internal/groupData.ts"
import { another, type Claimant, isAnother, withhold } from "../src/internal/withholding.ts"

const claimant = (memberId: string, generation: number, owned: Assignment): Claimant => ({
  memberId,
  generation,
  owned
})

const plain = (assignments: ReadonlyMap<string, Assignment>) =>
  Object.fromEntries([...assignments].map(([memberId, assignment]) => [memberId, { ...assignment }]))

const four = () => 4

describe("withholding", () => {
  it("what another one has goes to nobody, and there is another generation", () => {
    const { again, assignments } = withhold(
      [claimant("a", 3, { t: [0, 1, 2, 3] }), claimant("b", -1, {})],
      new Map([
        ["a", { t: [0, 1] }],
        ["b", { t: [2, 3] }]
      ]),
      four
    )
    assert.deepStrictEqual(plain(assignments), { a: { t: [0, 1] }, b: {} })
    assert.isTrue(again)
  })

  it("what nobody has goes to who should have it, at once", () => {
    const { again, assignments } = withhold(
      [claimant("a", 4, { t: [0, 1] }), claimant("b", 4, {})],
      new Map([
        ["a", { t: [0, 1] }],
        ["b", { t: [2, 3] }]
      ]),
      four
    )
    assert.deepStrictEqual(plain(assignments), { a: { t: [0, 1] }, b: { t: [2, 3] } })
    assert.isFalse(again)
  })

  it("a claim of a generation that is over holds back, too: its member still works", () => {
    const target = new Map<string, Assignment>([
      ["a", {}],
      ["b", { t: [0] }]
    ])
    const { again, assignments } = withhold([claimant("a", 2, { t: [0] }), claimant("b", 5, {})], target, four)
    assert.deepStrictEqual(plain(assignments), { a: {}, b: {} })
    assert.isTrue(again)
  })

  it("a newer claim is that of the owner, and of two of one generation nobody is", () => {
    const target = new Map<string, Assignment>([
      ["a", {}],
      ["b", { t: [0, 1] }]
    ])
    const { again, assignments } = withhold(
      [claimant("a", 4, { t: [0] }), claimant("b", 5, { t: [0, 1] }), claimant("c", 5, { t: [1] })],
      target,
      four
    )
    assert.deepStrictEqual(plain(assignments), { a: {}, b: { t: [0] } })
    assert.isTrue(again)
  })

  it("a topic that the leader does not see stays with who has it", () => {
    const { again, assignments } = withhold(
      [claimant("a", 5, { t: [0, 1] }), claimant("b", 5, { t: [2], u: [0] })],
      new Map<string, Assignment>([
        ["a", {}],
        ["b", { u: [0] }]
      ]),
      (topic) => (topic === "t" ? 0 : 1)
    )
    assert.deepStrictEqual(plain(assignments), { a: { t: [0, 1] }, b: { t: [2], u: [0] } })
    assert.isFalse(again)
  })

  it("a topic that is not there and that nobody has is given to nobody", () => {
    const members = [
      { memberId: "a", memberMetadata: cooperativeProtocols(["t"], { generation: 1, owned: {} })[0]!.metadata }
    ]
    const [given] = assign(cooperativeName, members, ["t"], () => 0)!
    assert.deepStrictEqual({ ...readAssignment(given!.memberAssignment).assignment }, {})
  })
})

describe("as members of a cooperative group tell each other", () => {
  const claim = { generation: 7, owned: { t: [0, 1], "a.b": [3] } }

  it("what is owned comes back as it was, with its generation", () => {
    const { generation, owned, topics } = decodeSubscription(cooperativeProtocols(["t", "a.b"], claim)[0]!.metadata)
    assert.deepStrictEqual([generation, { ...owned }, topics], [7, claim.owned, ["t", "a.b"]])
  })

  it("one that says nothing of it owns nothing", () => {
    const { generation, owned } = decodeSubscription(encodeSubscription(["t"], Buffer.alloc(0)))
    assert.deepStrictEqual([generation, { ...owned }], [-1, {}])
  })

  it("one that is not cooperative makes the same claim", () => {
    const offered = protocols(["t", "a.b"], claim)
    assert.deepStrictEqual(
      offered.map(({ name }) => name),
      ["concurrent-kafka-sticky", "RoundRobinAssigner", "concurrent-kafka-cooperative"]
    )
    assert.deepStrictEqual(offered.at(-1), cooperativeProtocols(["t", "a.b"], claim)[0])
  })

  it("all are told that something was withheld, also who has all that it should", () => {
    const metadata = (owned: Assignment) => cooperativeProtocols(["t"], { generation: 2, owned })[0]!.metadata
    const members = [
      { memberId: "a", memberMetadata: metadata({ t: [0, 1, 2] }) },
      { memberId: "b", memberMetadata: metadata({ t: [3] }) }
    ]
    const given = assign(cooperativeName, members, ["t"], four)!
    assert.strictEqual(given.length, 2)
    for (const { memberAssignment } of given) assert.isTrue(isAnother(readAssignment(memberAssignment).userData))
  })

  it.each([Buffer.alloc(0), Buffer.from("null"), Buffer.from('{"v":2,"again":true}'), Buffer.from('{"v":1}')])(
    "%s asks for no other generation",
    (userData) => {
      assert.isFalse(isAnother(userData))
      assert.isTrue(isAnother(another))
    }
  )
})
