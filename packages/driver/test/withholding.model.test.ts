/**
 * Histories of cooperative generations: members come and go and miss generations, partitions are added, and each member works on what it
 * claims until it has heard that it is not its own any more.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { assign, type Claim, cooperativeName, cooperativeProtocols } from "../src/internal/assigner.ts"
import { readAssignment } from "../src/internal/groupData.ts"
import { isAnother } from "../src/internal/withholding.ts"

const topics = ["t", "u"]
const Count = Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 9 }))
const Presence = Schema.Literals(["in", "in", "in", "in", "deaf", "out"])
const Step = Schema.Struct({ members: Schema.Array(Presence), more: Schema.Literals([0, 0, 0, 2]) })
const Subscribed = Schema.Array(Schema.Literals(["both", "both", "both", "t"]))

/** A group, and what its members believe to own. */
class Group {
  readonly claims = new Map<string, Claim>()
  readonly counts: Record<string, number>
  readonly subscribed: ReadonlyArray<string>
  generation = 0

  constructor(counts: Record<string, number>, subscribed: ReadonlyArray<string>) {
    this.counts = counts
    this.subscribed = subscribed
  }

  topicsOf(memberId: string): ReadonlyArray<string> {
    return this.subscribed[Number(memberId.slice(1))] === "t" ? ["t"] : topics
  }

  workedOn(memberId: string): ReadonlyArray<string> {
    return Object.entries(this.claims.get(memberId)?.owned ?? {}).flatMap(([topic, partitions]) =>
      partitions.map((partition) => `${topic}/${partition}`)
    )
  }

  /** One generation: who is in it claims, the leader assigns, who is not deaf takes. Returns whether another has to follow. */
  round(present: ReadonlyArray<string>, deaf: ReadonlySet<string>): boolean {
    this.generation++
    for (const memberId of this.claims.keys()) if (!present.includes(memberId)) this.claims.delete(memberId)
    const nobody: Claim = { generation: -1, owned: {} }
    const members = present.map((memberId) => ({
      memberId,
      memberMetadata: cooperativeProtocols(this.topicsOf(memberId), this.claims.get(memberId) ?? nobody)[0]!.metadata
    }))
    const given = assign(cooperativeName, members, topics, (topic) => this.counts[topic]!)!
    let again = false
    for (const { memberAssignment, memberId } of given) {
      const { assignment, userData } = readAssignment(memberAssignment)
      again ||= isAnother(userData)
      for (const [topic, partitions] of Object.entries(assignment)) {
        assert.include(this.topicsOf(memberId), topic)
        for (const partition of partitions) {
          for (const other of present) {
            if (other !== memberId) assert.notInclude(this.workedOn(other), `${topic}/${partition}`)
          }
        }
      }
      // what it had and is not given it gives up, before it joins again
      if (!deaf.has(memberId)) this.claims.set(memberId, { generation: this.generation, owned: assignment })
    }
    const all = present.flatMap((memberId) => this.workedOn(memberId))
    assert.strictEqual(new Set(all).size, all.length)
    return again
  }
}

const names = (members: ReadonlyArray<string>, isWanted: (how: string) => boolean): ReadonlyArray<string> =>
  Array.from({ length: 5 }, (_, i) => `m${i}`).filter((_, i) => isWanted(members[i] ?? "in"))

describe("concurrent-kafka-cooperative over generations", () => {
  const play = (steps: ReadonlyArray<typeof Step.Type>, group: Group): ReadonlyArray<string> => {
    let present: ReadonlyArray<string> = ["m0"]
    for (const { members, more } of steps.slice(0, 8)) {
      const now = names(members, (how) => how !== "out")
      if (now.length === 0) continue
      present = now
      group.counts["t"]! += more
      group.round(present, new Set(names(members, (how) => how === "deaf")))
    }
    return present
  }

  it.effect.prop(
    "no partition is ever given to a member while another one claims it; everything is given out and balanced after two rounds",
    [Schema.Array(Step), Count, Count],
    ([steps, t, u]) =>
      Effect.sync(() => {
        const group = new Group({ t, u }, [])
        const present = play(steps, group)
        group.round(present, new Set())
        assert.isFalse(group.round(present, new Set()))
        const sizes = present.map((memberId) => group.workedOn(memberId).length)
        assert.strictEqual(
          sizes.reduce((sum, size) => sum + size, 0),
          group.counts["t"]! + u
        )
        assert.isAtMost(Math.max(...sizes) - Math.min(...sizes), 1)
        // and it stays so
        const before = present.map((memberId) => group.workedOn(memberId))
        assert.isFalse(group.round(present, new Set()))
        assert.deepStrictEqual(
          present.map((memberId) => group.workedOn(memberId)),
          before
        )
      })
  )

  it.effect.prop(
    "with members that read different topics, too, in a few more",
    [Schema.Array(Step), Count, Count, Subscribed],
    ([steps, t, u, subscribed]) =>
      Effect.sync(() => {
        const group = new Group({ t, u }, subscribed)
        const present = play(steps, group)
        let rounds = 1
        while (group.round(present, new Set())) rounds++
        assert.isAtMost(rounds, 4)
        const readers = present.some((memberId) => group.topicsOf(memberId).includes("u"))
        const all = present.flatMap((memberId) => group.workedOn(memberId))
        assert.strictEqual(all.length, group.counts["t"]! + (readers ? u : 0))
      })
  )
})
