import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import { TestClock } from "effect/testing"
import { DecodeError } from "../src/Codec.ts"
import { type Decision, type Failure, FailurePolicy, type ParkLimits } from "../src/FailurePolicy.ts"
import { InvalidOptions } from "../src/InvalidOptions.ts"
import { KafkaProducer, PublishError } from "../src/KafkaProducer.ts"
import { failure } from "./delivery.ts"

class Boom extends Schema.TaggedError<Boom>()("Boom", { transient: Schema.Boolean }) {}

const boom = (memory = new Map<object, unknown>(), transient = true) => failure(new Boom({ transient }), { memory })

/** A policy that sends dead letters needs a producer to be carried out, not to decide. */
const deciding = <E, R>(policy: FailurePolicy<E, R>, failed: Failure<E>) =>
  Effect.provideService(
    policy.decide(failed),
    KafkaProducer,
    KafkaProducer.fromProducer({ send: () => Effect.die("nothing is sent here") })
  )

/** Retry as milliseconds, everything else as it is. */
const shown = (decision: Decision): unknown =>
  decision._tag === "Retry" ? Duration.toMillis(Duration.fromInputUnsafe(decision.after)) : decision

/** What a policy says of one record, attempt after attempt. */
const answers = <E, R>(policy: FailurePolicy<E, R>, failed: Failure<E>, times: number) =>
  Effect.forEach(Array.from({ length: times }), () => Effect.map(deciding(policy, failed), shown))

const refused = (f: () => unknown): string => {
  try {
    f()
  } catch (error) {
    if (error instanceof InvalidOptions) return error.option
    throw error
  }
  return assert.fail("was accepted")
}

const twice = Schedule.exponential("100 millis").pipe(Schedule.upTo({ times: 2 }))
const deadLetter = { _tag: "DeadLetter", topic: "dead", then: { _tag: "Stop" } }
const limits = { atMost: 1_000, atMostFor: 3_600_000 }

describe("a policy of one word", () => {
  it.effect("always gives its answer", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* answers(FailurePolicy.skip, boom(), 2), [{ _tag: "Skip" }, { _tag: "Skip" }])
      assert.deepStrictEqual(yield* answers(FailurePolicy.stop, boom(), 1), [{ _tag: "Stop" }])
      assert.deepStrictEqual(yield* answers(FailurePolicy.deadLetter("dead"), boom(), 1), [deadLetter])
    })
  )

  it.effect("says of a dead letter that is refused for good whether to stop or to skip", () =>
    Effect.gen(function* () {
      const then = (refused?: "stop" | "skip") =>
        Effect.map(
          deciding(FailurePolicy.deadLetter("dead", { refused }), boom()),
          (d) => d._tag === "DeadLetter" && d.then?._tag
        )
      assert.deepStrictEqual([yield* then(), yield* then("stop"), yield* then("skip")], ["Stop", "Stop", "Skip"])
    })
  )
})

describe("a policy made by a function", () => {
  it.effect("is given the failure, and may answer with an effect that needs services", () =>
    Effect.gen(function* () {
      const Limit = Context.Service<number>("test/Limit")
      const policy = FailurePolicy.make(({ attempt, error }: Failure<Boom>) =>
        error._tag === "Some" && error.value.transient
          ? Effect.map(Limit, (limit) =>
              attempt < limit ? ({ _tag: "Retry", after: "3 seconds" } as const) : ({ _tag: "Stop" } as const)
            )
          : { _tag: "DeadLetter", topic: "dead", reason: "for good" }
      )
      const decide = (failed: Failure<Boom>) => Effect.provideService(answers(policy, failed, 1), Limit, 5)
      assert.deepStrictEqual(yield* decide({ ...boom(), attempt: 4 }), [3_000])
      assert.deepStrictEqual(yield* decide({ ...boom(), attempt: 5 }), [{ _tag: "Stop" }])
      assert.deepStrictEqual(yield* decide(boom(new Map(), false)), [
        { _tag: "DeadLetter", topic: "dead", reason: "for good" }
      ])
    })
  )
})

describe("retry", () => {
  it.effect("gives the schedule's delays, and ends with it", () =>
    Effect.gen(function* () {
      const policy = FailurePolicy.retry(twice).pipe(FailurePolicy.orSkip)
      assert.deepStrictEqual(yield* answers(policy, boom(), 4), [100, 200, { _tag: "Skip" }, { _tag: "Skip" }])
    })
  )

  it.effect("a schedule that has ended stays ended", () =>
    Effect.gen(function* () {
      let asked = 0
      const once = Schedule.fromStep(
        Effect.succeed(() => {
          asked++
          // the second time it is at its end, the third it would go on
          return asked === 2
            ? Cause.done(undefined)
            : Effect.succeed([undefined, Duration.millis(5)] as [undefined, Duration.Duration])
        })
      )
      const policy = FailurePolicy.retry(once).pipe(FailurePolicy.orStop)
      assert.deepStrictEqual(yield* answers(policy, boom(), 4), [
        5,
        { _tag: "Stop" },
        { _tag: "Stop" },
        { _tag: "Stop" }
      ])
      assert.strictEqual(asked, 2)
    })
  )

  it.effect("two records have each their own tries, and two consumers may share one policy", () =>
    Effect.gen(function* () {
      const policy = FailurePolicy.retry(twice).pipe(FailurePolicy.orSkip)
      const [a, b] = [boom(), boom()]
      assert.deepStrictEqual(yield* answers(policy, a, 2), [100, 200])
      assert.deepStrictEqual(yield* answers(policy, b, 3), [100, 200, { _tag: "Skip" }])
      assert.deepStrictEqual(yield* answers(policy, a, 1), [{ _tag: "Skip" }])
      // the same record in another epoch
      assert.deepStrictEqual(yield* answers(policy, boom(), 1), [100])
    })
  )

  it.effect("two steps over one schedule count for themselves", () =>
    Effect.gen(function* () {
      const once = Schedule.recurs(1)
      const step = FailurePolicy.retry(once)
      const policy = step.pipe(
        FailurePolicy.orElse(FailurePolicy.retry(once).pipe(FailurePolicy.orElse(step.pipe(FailurePolicy.orStop))))
      )
      // the third is the first once more, which has ended
      assert.deepStrictEqual(yield* answers(policy, boom(), 3), [0, 0, { _tag: "Stop" }])
    })
  )

  it.effect("counts the time between attempts by the clock", () =>
    Effect.gen(function* () {
      const policy = FailurePolicy.retry(
        Schedule.spaced("1 second").pipe(Schedule.upTo({ duration: "10 seconds" }))
      ).pipe(FailurePolicy.orStop)
      const failed = boom()
      assert.deepStrictEqual(yield* answers(policy, failed, 1), [1_000])
      yield* TestClock.adjust("9 seconds")
      assert.deepStrictEqual(yield* answers(policy, failed, 1), [1_000])
      yield* TestClock.adjust("2 seconds")
      assert.deepStrictEqual(yield* answers(policy, failed, 1), [{ _tag: "Stop" }])
    })
  )

  it.effect("gives the schedule the failure", () =>
    Effect.gen(function* () {
      const whileTransient = Schedule.spaced("1 second").pipe(
        Schedule.setInputType<Failure<Boom>>(),
        Schedule.while(({ input }) => input.error._tag === "Some" && input.error.value.transient)
      )
      const policy = FailurePolicy.retry(whileTransient).pipe(FailurePolicy.orDeadLetter("dead"))
      const memory = new Map<object, unknown>()
      assert.deepStrictEqual(yield* answers(policy, boom(memory), 2), [1_000, 1_000])
      assert.deepStrictEqual(yield* answers(policy, boom(memory, false), 1), [deadLetter])
    })
  )

  it.effect("ends for a record where `while` says no, and stays ended", () =>
    Effect.gen(function* () {
      const asked: Array<boolean> = []
      const policy = FailurePolicy.retry(Schedule.spaced("1 second"), {
        while: ({ error }: Failure<Boom>) => {
          const goesOn = error._tag === "Some" && error.value.transient
          asked.push(goesOn)
          return goesOn
        }
      }).pipe(FailurePolicy.orDeadLetter("dead"))
      const memory = new Map<object, unknown>()
      assert.deepStrictEqual(yield* answers(policy, boom(memory), 2), [1_000, 1_000])
      assert.deepStrictEqual(yield* answers(policy, boom(memory, false), 1), [deadLetter])
      assert.deepStrictEqual(yield* answers(policy, boom(memory), 1), [deadLetter])
      assert.deepStrictEqual(asked, [true, true, false, true])
      // another record
      assert.deepStrictEqual(yield* answers(policy, boom(), 1), [1_000])
    })
  )

  it.effect("ends with `isRetryable` for what says of itself that no attempt helps", () =>
    Effect.gen(function* () {
      class Refused extends Schema.TaggedError<Refused>()("Refused", { isRetryable: Schema.Boolean }) {}
      const policy = FailurePolicy.retry(Schedule.spaced("1 second"), { while: FailurePolicy.isRetryable }).pipe(
        FailurePolicy.orStop
      )
      const decided = (failed: Failure<unknown>) => Effect.map(answers(policy, failed, 1), ([answer]) => answer)
      const decode = new DecodeError({ topic: "t", part: "value", message: "bytes" })
      const publish = (reason: "refused" | "retriable") => new PublishError({ reason, code: "CODE", detail: "" })
      for (const error of [new Refused({ isRetryable: false }), decode, publish("refused")]) {
        assert.deepStrictEqual(yield* decided(failure<unknown>(error)), { _tag: "Stop" })
      }
      // as Effect says of what it cannot classify, a full disk for one
      const unknown = { isRetryable: false, reason: { _tag: "UnknownError" } }
      for (const error of [
        new Refused({ isRetryable: true }),
        publish("retriable"),
        new Error("why"),
        "why",
        null,
        unknown
      ]) {
        assert.strictEqual(yield* decided(failure<unknown>(error)), 1_000)
      }
      const defect = failure<unknown>(undefined, { kind: "defect", error: Option.none(), cause: Cause.die("bug") })
      assert.strictEqual(yield* decided(defect), 1_000)
    })
  )

  it.effect("takes a delay without end for the schedule's end", () =>
    Effect.gen(function* () {
      for (const schedule of [
        Schedule.spaced(Duration.infinity),
        Schedule.exponential("10 millis", Number.POSITIVE_INFINITY)
      ]) {
        const policy = FailurePolicy.retry(schedule).pipe(FailurePolicy.orStop)
        const said = yield* answers(policy, boom(), 4)
        assert.deepStrictEqual(said.at(-1), { _tag: "Stop" })
        assert.isTrue(said.every((one) => typeof one === "object" || (typeof one === "number" && Number.isFinite(one))))
      }
    })
  )

  it.effect("dies where the schedule dies", () =>
    Effect.gen(function* () {
      const dying = Schedule.spaced("1 second").pipe(Schedule.tap(() => Effect.die("bug")))
      const exit = yield* Effect.exit(deciding(FailurePolicy.retry(dying).pipe(FailurePolicy.orSkip), boom()))
      assert.isTrue(Exit.isFailure(exit))
    })
  )
})

describe("park", () => {
  it.effect("always says what comes after it: the decision of the policy that closes it", () =>
    Effect.gen(function* () {
      const parked = (then: unknown, limits: unknown) => [{ _tag: "Park", limits, then }]
      const at = { atMost: 10, atMostFor: 60_000 }
      const step = FailurePolicy.park({ atMost: 10, atMostFor: "1 minute" })
      assert.deepStrictEqual(yield* answers(step.pipe(FailurePolicy.orSkip), boom(), 1), parked({ _tag: "Skip" }, at))
      assert.deepStrictEqual(yield* answers(step.pipe(FailurePolicy.orStop), boom(), 1), parked({ _tag: "Stop" }, at))
      assert.deepStrictEqual(
        yield* answers(step.pipe(FailurePolicy.orDeadLetter("dead", { refused: "skip" })), boom(), 1),
        parked({ _tag: "DeadLetter", topic: "dead", then: { _tag: "Skip" } }, at)
      )
      assert.deepStrictEqual(
        yield* answers(FailurePolicy.park().pipe(FailurePolicy.orStop), boom(), 1),
        parked({ _tag: "Stop" }, limits)
      )
    })
  )

  it.effect("comes after the tries, and before what closes both", () =>
    Effect.gen(function* () {
      const policy = FailurePolicy.retry(twice).pipe(
        FailurePolicy.orPark({ atMost: 5 }),
        FailurePolicy.orDeadLetter("dead")
      )
      assert.deepStrictEqual(yield* answers(policy, boom(), 3), [
        100,
        200,
        { _tag: "Park", limits: { ...limits, atMost: 5 }, then: deadLetter }
      ])
    })
  )

  it.effect("is never followed by another Park", () =>
    Effect.gen(function* () {
      const inner = FailurePolicy.park({ atMost: 1 }).pipe(FailurePolicy.orSkip)
      const outer = FailurePolicy.park({ atMost: 2 }).pipe(FailurePolicy.orElse(inner))
      assert.deepStrictEqual(yield* answers(outer, boom(), 1), [
        { _tag: "Park", limits: { ...limits, atMost: 2 }, then: { _tag: "Skip" } }
      ])
      const two = FailurePolicy.park({ atMost: 2 }).pipe(FailurePolicy.orPark({ atMost: 1 }), FailurePolicy.orStop)
      assert.deepStrictEqual(yield* answers(two, boom(), 1), [
        { _tag: "Park", limits: { ...limits, atMost: 2 }, then: { _tag: "Stop" } }
      ])
    })
  )

  it.effect("may be followed by tries of another step, which the record has not used up", () =>
    Effect.gen(function* () {
      const policy = FailurePolicy.retry(Schedule.recurs(1)).pipe(
        FailurePolicy.orPark(),
        FailurePolicy.orElse(FailurePolicy.retry(Schedule.spaced("7 seconds")).pipe(FailurePolicy.orStop))
      )
      assert.deepStrictEqual(yield* answers(policy, boom(), 2), [
        0,
        { _tag: "Park", limits, then: { _tag: "Retry", after: Duration.seconds(7) } }
      ])
    })
  )

  it("is known of every policy that has it in it", () => {
    const { make, orElse, orPark, orSkip, orStop, park, retry, skip, stop } = FailurePolicy
    const step = retry(Schedule.recurs(1))
    const parking = park().pipe(orSkip)
    for (const policy of [
      parking,
      step.pipe(orPark(), orStop),
      step.pipe(orElse(parking)),
      park().pipe(orElse(skip)),
      step.pipe(orPark(), FailurePolicy.orDeadLetter("dead"))
    ]) {
      assert.isTrue(policy.parks)
    }
    for (const policy of [
      skip,
      stop,
      step.pipe(orStop),
      make(() => ({ _tag: "Skip" })),
      FailurePolicy.deadLetter("dead")
    ]) {
      assert.isFalse(policy.parks)
    }
  })
})

describe("the topics of dead letters", () => {
  it("are known of every policy but a function's", () => {
    const { deadLetter, make, orDeadLetter, orElse, orStop, park, retry, skip } = FailurePolicy
    const step = retry(Schedule.recurs(1))
    for (const policy of [
      deadLetter("dead"),
      step.pipe(orDeadLetter("dead")),
      park().pipe(orDeadLetter("dead", { refused: "skip" })),
      step.pipe(orElse(step.pipe(orDeadLetter("dead"))))
    ]) {
      assert.deepStrictEqual(policy.deadLetterTopics, ["dead"])
    }
    for (const policy of [skip, step.pipe(orStop), make(() => ({ _tag: "DeadLetter", topic: "dead" }))]) {
      assert.deepStrictEqual(policy.deadLetterTopics, [])
    }
  })
})

describe("orElse", () => {
  it.effect("asks the other policy where a step has no answer, with the same failure", () =>
    Effect.gen(function* () {
      const seen: Array<Failure<Boom>> = []
      const policy = FailurePolicy.retry(Schedule.recurs(1)).pipe(
        FailurePolicy.orElse(
          FailurePolicy.make((failed: Failure<Boom>) => {
            seen.push(failed)
            return { _tag: "Skip" }
          })
        )
      )
      const failed = boom()
      assert.deepStrictEqual(yield* answers(policy, failed, 2), [0, { _tag: "Skip" }])
      assert.lengthOf(seen, 1)
      assert.strictEqual(seen[0], failed)
    })
  )

  it.effect("is total: whatever the schedule and the way it is closed, each attempt has a decision", () => {
    const all = [0, 1, 5].flatMap((times) =>
      [true, false].flatMap((parks) =>
        (["skip", "stop", "deadLetter", "orElse"] as const).map((end) => ({ times, parks, end }))
      )
    )
    return Effect.forEach(all, ({ end, parks, times }) => {
      const first = FailurePolicy.retry(Schedule.recurs(times))
      const step = parks ? first.pipe(FailurePolicy.orPark()) : first
      const policy =
        end === "skip"
          ? step.pipe(FailurePolicy.orSkip)
          : end === "stop"
            ? step.pipe(FailurePolicy.orStop)
            : end === "deadLetter"
              ? step.pipe(FailurePolicy.orDeadLetter("dead"))
              : step.pipe(FailurePolicy.orElse(FailurePolicy.make(() => ({ _tag: "Skip" }))))
      const last = end === "deadLetter" ? deadLetter : { _tag: end === "stop" ? "Stop" : "Skip" }
      return Effect.map(answers(policy, boom(), times + 2), (said) => {
        const ending = parks ? { _tag: "Park", limits, then: last } : last
        assert.deepStrictEqual(said, [...Array.from({ length: times }, () => 0), ending, ending])
      })
    })
  })
})

describe("a bad argument", () => {
  it("is refused when the policy is made, by the option's name", () => {
    for (const topic of ["", "a b", ".", "x".repeat(250)]) {
      assert.strictEqual(
        refused(() => FailurePolicy.deadLetter(topic)),
        "deadLetter.topic"
      )
      assert.strictEqual(
        refused(() => FailurePolicy.orDeadLetter(topic)),
        "deadLetter.topic"
      )
    }
    const options: object = { refused: "retry" }
    assert.strictEqual(
      refused(() => FailurePolicy.orDeadLetter("dead", options)),
      "deadLetter.refused"
    )
    const parks: ReadonlyArray<readonly [option: string, limits: ParkLimits]> = [
      ["park.atMost", { atMost: 0 }],
      ["park.atMost", { atMost: 1.5 }],
      ["park.atMost", { atMost: Number.POSITIVE_INFINITY }],
      ["park.atMostFor", { atMostFor: Duration.infinity }],
      ["park.atMostFor", { atMostFor: 0 }],
      ["park.atMostFor", { atMostFor: "-1 seconds" }]
    ]
    for (const [option, limits] of parks) {
      assert.strictEqual(
        refused(() => FailurePolicy.park(limits)),
        option
      )
      assert.strictEqual(
        refused(() => FailurePolicy.orPark(limits)),
        option
      )
    }
  })
})
