/** Plays one scenario and judges it. */
import { Cause, Effect, Exit } from "effect"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import type * as Kafka from "../kafka/kafka.ts"
import { makeArena } from "./arena.ts"
import { duplicates, violations } from "./checks.ts"
import { readFacts } from "./facts.ts"
import * as Ledger from "./ledger.ts"
import type { MemberOptions } from "./member.ts"
import type { Expectation, Scenario } from "./scenario.ts"

/** Of the scenario itself; none takes half of it. */
const limit = "150 seconds"

export interface Result {
  readonly name: string
  readonly ok: boolean
  readonly seconds: number
  /** records that the broker has acknowledged */
  readonly produced: number
  /** different records that were finished */
  readonly handled: number
  /** finished again */
  readonly twice: number
  /** how many may have been */
  readonly bound: number
  readonly interrupted: number
  /** generations of the group after the first */
  readonly rebalances: number
  readonly violations: ReadonlyArray<string>
  /** kept when it has failed */
  readonly ledger: string | undefined
}

const sentenceOf = (cause: Cause.Cause<unknown>): string =>
  cause.reasons
    .map((reason) =>
      reason._tag === "Interrupt" ? "interrupted" : String(reason._tag === "Fail" ? reason.error : reason.defect)
    )
    .join("; ")
    .replaceAll(/\s+/g, " ")

export interface Play {
  /** the client of the members */
  readonly client: MemberOptions["client"]
  /** of all that is left to chance by the scenario; what processes and brokers make of it is not */
  readonly seed: number
}

export const play = (scenario: Scenario, kafka: Kafka.Kafka, { client, seed }: Play): Effect.Effect<Result> =>
  Effect.acquireUseRelease(
    Effect.sync(() => {
      const folder = mkdtempSync(join(tmpdir(), `concurrent-kafka-chaos-${scenario.name}-`))
      return { folder, db: Ledger.openRun(join(folder, "run.sqlite")), kept: false }
    }),
    Effect.fnUntraced(function* (ledger) {
      const { db, folder } = ledger
      const began = performance.now()
      let topic = ""
      const files: Array<string> = []
      const exit: Exit.Exit<Expectation, unknown> = yield* Effect.gen(function* () {
        const arena = yield* makeArena({
          db,
          folder,
          kafka,
          client,
          seed,
          name: scenario.name,
          partitions: scenario.partitions
        })
        topic = arena.topic
        yield* Effect.addFinalizer(() => Effect.sync(() => files.push(...arena.members.map(({ file }) => file))))
        const expectation = yield* scenario.play(arena)
        yield* arena.settle
        yield* arena.dismiss
        return expectation
      }).pipe(
        Effect.scoped,
        Effect.timeoutOrElse({ duration: limit, orElse: () => Effect.fail(`not ended within ${limit}`) }),
        Effect.exit
      )
      const seconds = (performance.now() - began) / 1000
      if (Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause)) return yield* Effect.interrupt
      for (const file of files) Ledger.gather(db, file)
      const facts = readFacts(db)
      const { bound, twice } = duplicates(facts, scenario.orderly)
      const wrong = [
        ...(Exit.isFailure(exit) ? [sentenceOf(exit.cause)] : []),
        ...violations(facts, topic, scenario.orderly),
        ...(Exit.isSuccess(exit) ? exit.value(facts) : [])
      ]
      ledger.kept = wrong.length > 0
      if (ledger.kept) {
        for (let node = 0; node < kafka.nodes.length; node++) {
          const log = yield* Effect.orDie(kafka.log(node))
          writeFileSync(join(folder, `node-${node + 1}.log`), log)
        }
      }
      const result: Result = {
        name: scenario.name,
        ok: wrong.length === 0,
        seconds,
        produced: facts.produced.filter(({ acknowledged }) => acknowledged !== null).length,
        handled: Ledger.count(
          db,
          "SELECT count(*) AS n FROM (SELECT DISTINCT log, partition, offset FROM handlings WHERE outcome = 'finished')"
        ),
        twice,
        bound,
        interrupted: Ledger.count(db, "SELECT count(*) AS n FROM handlings WHERE outcome = 'interrupted'"),
        rebalances: Ledger.count(db, "SELECT max(generation) - min(generation) AS n FROM epochs"),
        violations: wrong,
        ledger: ledger.kept ? folder : undefined
      }
      return result
    }),
    ({ db, folder, kept }) =>
      Effect.sync(() => {
        db.close()
        if (!kept) rmSync(folder, { recursive: true, force: true })
      })
  )
