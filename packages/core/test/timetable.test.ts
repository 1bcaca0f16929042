import { assert, describe, it } from "@effect/vitest"
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
