/**
 * Histories of generations: members come and go, miss a generation, and are of releases whose claims this one cannot read.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { assign, type Claim, encodeClaim, stickyName } from "../src/internal/assigner.ts"
import { type Assignment, decodeAssignment, encodeSubscription } from "../src/internal/groupData.ts"

const nobody: Claim = { generation: -1, owned: {} }

/** What a member of this release says of itself. */
const userData = (release: string, claim: Claim): Buffer => {
  const ours = encodeClaim(claim)
  switch (release) {
    case "ours":
      return ours
    case "newer":
      return Buffer.from(JSON.stringify({ ...JSON.parse(String(ours)), v: 2 }))
    case "older":
      return Buffer.from(JSON.stringify(claim.owned))
    case "cut":
      return ours.subarray(0, ours.length >> 1)
    default:
      return Buffer.from([0xff, 0, 0x7b])
  }
}

const Step = Schema.Struct({
  /** by member: in the group, in it without hearing what it got, or not in it */
  members: Schema.Array(Schema.Literals(["in", "in", "in", "deaf", "out"])),
  partitions: Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 12 }))
})
const Releases = Schema.Array(Schema.Literals(["ours", "ours", "newer", "older", "cut", "garbage"]))

const partitionsOf = (assignment: Assignment | undefined): ReadonlyArray<number> => assignment?.["t"] ?? []

/** Plays the leader's part with these members. */
const shares = (
  members: ReadonlyArray<{ readonly memberId: string; readonly data: Buffer }>,
  partitions: number
): ReadonlyMap<string, ReadonlyArray<number>> =>
  new Map(
    assign(
      stickyName,
      members.map(({ data, memberId }) => ({ memberId, memberMetadata: encodeSubscription(["t"], data) })),
      ["t"],
      () => partitions
    )!.map(({ memberAssignment, memberId }) => [memberId, partitionsOf(decodeAssignment(memberAssignment))])
  )

describe("concurrent-kafka-sticky over generations", () => {
  it.effect.prop(
    "who cannot be read owns nothing, the newest claim wins over that of who missed a generation, and the others keep what they have",
    [Schema.Array(Step), Releases],
    ([steps, releases]) =>
      Effect.sync(() => {
        const claims = new Map<string, Claim>()
        steps.slice(0, 8).forEach(({ members, partitions }, generation) => {
          const present = Array.from({ length: 4 }, (_, i) => `m${i}`).filter((_, i) => (members[i] ?? "in") !== "out")
          if (present.length === 0) return
          const releaseOf = (memberId: string) => releases[Number(memberId.slice(1))] ?? "ours"
          const claimOf = (memberId: string) => claims.get(memberId) ?? nobody
          const given = present.map((memberId) => ({
            memberId,
            data: userData(releaseOf(memberId), claimOf(memberId))
          }))
          const result = shares(given, partitions)

          const all = [...result.values()].flat().sort((a, b) => a - b)
          assert.deepStrictEqual(
            all,
            Array.from({ length: partitions }, (_, p) => p)
          )
          const sizes = [...result.values()].map((own) => own.length)
          assert.isAtMost(Math.max(...sizes) - Math.min(...sizes), 1)

          // whatever they say, it is as if they had said nothing
          const silent = given.map(({ data, memberId }) => ({
            memberId,
            data: releaseOf(memberId) === "ours" ? data : encodeClaim(nobody)
          }))
          assert.deepStrictEqual([...shares(silent, partitions)], [...result])

          // the newest claim counts, and nobody loses more of his than his share is smaller
          const winners = new Map<number, string>()
          for (const memberId of present.filter((one) => releaseOf(one) === "ours")) {
            for (const p of partitionsOf(claimOf(memberId).owned)) {
              const other = winners.get(p)
              const isNewer = other === undefined || claimOf(memberId).generation > claimOf(other).generation
              if (p < partitions && isNewer) winners.set(p, memberId)
            }
          }
          for (const memberId of present) {
            const won = [...winners].filter(([, winner]) => winner === memberId)
            const kept = won.filter(([p]) => result.get(memberId)!.includes(p))
            assert.isAtLeast(kept.length, Math.min(won.length, Math.floor(partitions / present.length)), memberId)
          }

          for (const memberId of present) {
            // who did not hear it still claims what it had, as of the generation it had it in
            if (members[Number(memberId.slice(1))] === "deaf") continue
            claims.set(memberId, { generation, owned: { t: result.get(memberId)! } })
          }
          for (const memberId of [...claims.keys()]) if (!present.includes(memberId)) claims.delete(memberId)
        })
      })
  )
})
