import { assert, describe, it } from "@effect/vitest"
import * as Schema from "effect/Schema"
import { type Appointment, Timetable } from "../src/internal/timetable.ts"

/** A clock whose timers go off when the test says so, and which counts them. */
class Watch {
  now = 0
  /** timers that have been set and neither stopped nor gone off */
  timers: Array<{ readonly at: number; readonly then: () => void }> = []
  /** timers that were ever set */
  set = 0
  readonly table = new Timetable(
    () => this.now,
    (millis, then) => {
      assert.isAtLeast(millis, 0)
      const timer = { at: this.now + millis, then }
      this.set++
      this.timers.push(timer)
      return () => void (this.timers = this.timers.filter((other) => other !== timer))
    }
  )
  /** moves the time, timer by timer */
  pass(millis: number): void {
    const until = this.now + millis
    for (;;) {
      const [timer] = this.timers.filter(({ at }) => at <= until).sort((a, b) => a.at - b.at)
      if (timer === undefined) break
      this.timers = this.timers.filter((other) => other !== timer)
      this.now = Math.max(this.now, timer.at)
      timer.then()
    }
    this.now = until
  }
}

const between = (minimum: number, maximum: number) => Schema.Int.check(Schema.isBetween({ minimum, maximum }))

const Step = Schema.Union([
  Schema.Struct({ do: Schema.Literal("at"), in: between(-2, 50), cancels: between(0, 30) }),
  Schema.Struct({ do: Schema.Literal("cancel"), which: between(0, 30) }),
  Schema.Struct({ do: Schema.Literal("pass"), millis: between(0, 20) })
])

it.prop(
  "each appointment is kept once, at its time and not before, unless it was cancelled; there is never more than one timer",
  [Schema.Array(Step).check(Schema.isMaxLength(300))],
  ([steps]) => {
    const w = new Watch()
    interface Made {
      readonly appointment: Appointment
      readonly at: number
      keptAt: number | undefined
      cancelled: boolean
    }
    const made: Array<Made> = []
    const cancel = (which: number): void => {
      const one = made[which]
      if (one === undefined) return
      if (one.keptAt === undefined) one.cancelled = true
      w.table.cancel(one.appointment)
    }
    const waiting = (): ReadonlyArray<Made> => made.filter((one) => one.keptAt === undefined && !one.cancelled)
    for (const step of steps) {
      switch (step.do) {
        case "at": {
          const at = w.now + step.in
          const one: Made = {
            at,
            keptAt: undefined,
            cancelled: false,
            appointment: w.table.at(at, () => {
              assert.isUndefined(one.keptAt)
              assert.isFalse(one.cancelled)
              one.keptAt = w.now
              // some cancel others, due at the same time or later
              if (step.cancels < 10) cancel(step.cancels)
            })
          }
          made.push(one)
          break
        }
        case "cancel":
          cancel(step.which)
          break
        case "pass":
          w.pass(step.millis)
          for (const { at, cancelled, keptAt } of made) {
            if (keptAt === undefined) assert.isTrue(cancelled || at > w.now)
          }
          break
      }
      assert.isAtMost(w.timers.length, 1)
      assert.strictEqual(w.table.size, waiting().length)
      // the timer is set for the first one, or earlier: a cancelled one's is not set anew
      const first = Math.min(...waiting().map(({ at }) => at))
      if (first !== Number.POSITIVE_INFINITY) assert.isAtMost(w.timers[0]!.at, Math.max(first, w.now))
    }
    w.pass(200)
    assert.deepStrictEqual(waiting(), [])
    assert.deepStrictEqual(w.timers, [])
    for (const { at, keptAt } of made) if (keptAt !== undefined) assert.isAtLeast(keptAt, at)
  },
  { arbitrary: { runs: 300, size: 100 } }
)

describe("the timetable", () => {
  it("an earlier appointment sets the timer anew, a later one does not", () => {
    const w = new Watch()
    const kept: Array<string> = []
    w.table.at(100, () => kept.push("100"))
    w.table.at(200, () => kept.push("200"))
    assert.deepStrictEqual([w.set, w.timers.map(({ at }) => at)], [1, [100]])
    w.table.at(50, () => kept.push("50"))
    assert.deepStrictEqual([w.set, w.timers.map(({ at }) => at)], [2, [50]])
    w.pass(60)
    assert.deepStrictEqual(kept, ["50"])
    assert.deepStrictEqual(
      w.timers.map(({ at }) => at),
      [100]
    )
    w.pass(1_000)
    assert.deepStrictEqual(kept, ["50", "100", "200"])
    assert.deepStrictEqual(w.timers, [])
  })

  it("of two that are due together the first may cancel the second, and may make a new one", () => {
    const w = new Watch()
    const kept: Array<string> = []
    const appointments: Array<Appointment> = []
    for (const name of ["a", "b", "c"]) {
      appointments.push(
        w.table.at(10, () => {
          kept.push(name)
          for (const other of appointments) w.table.cancel(other)
          w.table.at(10, () => void kept.push(`after ${name}`))
        })
      )
    }
    w.pass(10)
    assert.strictEqual(kept.length, 2)
    assert.strictEqual(kept[1], `after ${kept[0]}`)
    assert.strictEqual(w.table.size, 0)
    // cancelled once more, when all is over: nothing
    for (const appointment of appointments) w.table.cancel(appointment)
    assert.strictEqual(w.table.size, 0)
  })

  it("a timer that goes off early is set again for the rest of the time", () => {
    const w = new Watch()
    let kept = 0
    w.table.at(100, () => kept++)
    const [timer] = w.timers
    w.timers = []
    w.now = 99
    timer!.then()
    assert.deepStrictEqual([kept, w.timers.map(({ at }) => at)], [0, [100]])
    w.pass(1)
    assert.strictEqual(kept, 1)
  })

  it("a hundred thousand appointments that are cancelled leave little behind, and set one timer", () => {
    const w = new Watch()
    for (let i = 0; i < 100_000; i++) w.table.cancel(w.table.at(1_000 + i, () => assert.fail("cancelled")))
    assert.strictEqual(w.table.size, 0)
    assert.isAtMost(w.table.kept, 1_024)
    assert.strictEqual(w.set, 1)
    const many = Array.from({ length: 10_000 }, (_, i) => w.table.at(1_000 + i, () => undefined))
    for (const appointment of many.slice(0, 9_000)) w.table.cancel(appointment)
    assert.strictEqual(w.table.size, 1_000)
    assert.isAtMost(w.table.kept, 2_100)
    w.pass(200_000)
    assert.strictEqual(w.table.kept, 0)
  })

  it("a cancelled appointment lets go of what it was to do: a record is not kept in memory until its time", () => {
    const w = new Watch()
    const appointment = w.table.at(3_600_000, () => assert.fail("cancelled"))
    const { then } = appointment
    w.table.cancel(appointment)
    assert.notStrictEqual(appointment.then, then)
  })
})
