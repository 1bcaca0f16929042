/** The timetable against a sorted list, and a clock that does not go with the timers: it stands, jumps, and goes back. */
import { it } from "@effect/vitest"
import * as Schema from "effect/Schema"
import { type Appointment, Timetable } from "../src/internal/timetable.ts"
import { between, holds, same } from "./model.ts"

const Step = Schema.Union([
  /** so many at one time; some cancel another one, or make a new one, when they are kept */
  Schema.Struct({
    do: Schema.Literal("at"),
    in: between(-3, 40),
    count: between(1, 4),
    then: Schema.Literals(["nothing", "cancel", "again"]),
    which: between(0, 40)
  }),
  Schema.Struct({ do: Schema.Literal("cancel"), which: between(0, 40) }),
  Schema.Struct({ do: Schema.Literal("pass"), millis: between(0, 25) }),
  /** the clock alone */
  Schema.Struct({ do: Schema.Literal("clock"), by: between(-30, 30) }),
  /** a timer goes off before its time */
  Schema.Struct({ do: Schema.Literal("early") })
])

interface Made {
  readonly at: number
  appointment: Appointment | undefined
  state: "waiting" | "kept" | "cancelled"
}

it.prop(
  "each is kept once, not before its time by the clock, those that are due together in the order of their times, by one timer",
  [Schema.Array(Step)],
  ([steps]) => {
    let elapsed = 0
    let skew = 0
    const now = (): number => elapsed + skew
    let timers: Array<{ readonly at: number; readonly then: () => void }> = []
    const table = new Timetable(now, (millis, then) => {
      holds(millis >= 0, "a timer for the past")
      const timer = { at: elapsed + millis, then }
      timers.push(timer)
      return () => void (timers = timers.filter((other) => other !== timer))
    })
    const made: Array<Made> = []
    const waiting = (): ReadonlyArray<Made> => made.filter(({ state }) => state === "waiting")
    /** what is kept in one go */
    let inOneGo: Array<number> = []
    const make = (at: number, then: "nothing" | "cancel" | "again", which: number): void => {
      const one: Made = { at, appointment: undefined, state: "waiting" }
      made.push(one)
      one.appointment = table.at(at, () => {
        same(one.state, "waiting", "kept twice, or cancelled")
        one.state = "kept"
        holds(at <= now(), `${at} is kept at ${now()}`)
        holds(
          inOneGo.every((before) => before <= at),
          `${at} after ${String(inOneGo)}`
        )
        inOneGo.push(at)
        if (then === "cancel") cancel(which)
        else if (then === "again") make(now() + (which % 7), "nothing", 0)
      })
    }
    const cancel = (which: number): void => {
      const one = made[which]
      if (one?.appointment === undefined) return
      if (one.state === "waiting") one.state = "cancelled"
      table.cancel(one.appointment)
    }
    const goOff = (timer: (typeof timers)[number]): void => {
      timers = timers.filter((other) => other !== timer)
      inOneGo = []
      const due = waiting().filter(({ at }) => at <= now())
      timer.then()
      // all that were due, however many: what one of them has cancelled aside
      for (const one of due) holds(one.state !== "waiting", `${one.at} is not kept at ${now()}`)
    }
    const pass = (millis: number): void => {
      const until = elapsed + millis
      for (;;) {
        const [timer] = timers.filter(({ at }) => at <= until)
        if (timer === undefined) break
        elapsed = Math.max(elapsed, timer.at)
        goOff(timer)
      }
      elapsed = until
    }
    for (const step of steps) {
      switch (step.do) {
        case "at":
          for (let i = 0; i < step.count; i++) make(now() + step.in, step.then, step.which)
          break
        case "cancel":
          cancel(step.which)
          break
        case "pass":
          pass(step.millis)
          break
        case "clock":
          skew += step.by
          break
        case "early":
          for (const timer of timers.slice(0, 1)) goOff(timer)
          break
      }
      holds(timers.length <= 1, "more than one timer")
      const left = waiting()
      same(table.size, left.length, "size")
      holds(table.kept >= left.length, "forgotten")
      if (left.length > 0) same(timers.length, 1, "timers, while one waits")
      // by a clock that goes on with the timers it comes in time
      const first = Math.min(...left.map(({ at }) => at))
      if (skew === 0 && !steps.some((one) => one.do === "clock") && left.length > 0)
        holds(timers[0]!.at <= Math.max(first, elapsed), "the timer comes too late")
    }
    // however far the clock went back, it comes round
    pass(2_000)
    for (let i = 0; i < 50 && waiting().length > 0; i++) pass(100)
    same(waiting().length, 0, "left")
    same(timers.length, 0, "timers left")
    same(table.size, 0, "size in the end")
  },
  { arbitrary: { runs: 300, size: 60 } }
)
