/**
 * All consumers of the process as a table in the terminal, as `top` has one for processes.
 *
 * It is made from the same snapshots as health and metrics, of the consumers in the `ConsumerRegistry`, so it is of the process that it
 * runs in. It says which consumers, topics, partitions and offsets there are, and nothing of what records carry.
 *
 * @since 0.1.0
 */
import { ConsumerRegistry } from "@concurrent-kafka/core/ConsumerRegistry"
import { InvalidOptions } from "@concurrent-kafka/core/InvalidOptions"
import type { Snapshot } from "@concurrent-kafka/core/Snapshot"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { linesOf } from "./internal/topFrame.ts"
import { Screen } from "./internal/screen.ts"

/**
 * The room that there is.
 *
 * @since 0.1.0
 * @category models
 */
export interface Size {
  /** Characters in a line. From 60 on everything that matters has its place. */
  readonly columns: number
  /** Lines; `undefined`: as many as it takes, with at most 20 partitions of each consumer. */
  readonly rows: number | undefined
}

/**
 * How parts of a line are told apart. Each gives back its text with something around it that takes no room.
 *
 * @since 0.1.0
 * @category models
 */
export interface Theme {
  readonly title: (text: string) => string
  readonly head: (text: string) => string
  readonly quiet: (text: string) => string
  readonly ok: (text: string) => string
  readonly degraded: (text: string) => string
  readonly down: (text: string) => string
}

/**
 * A consumer as it is now, and as it was some seconds before: rates are made of both.
 *
 * @since 0.1.0
 * @category models
 */
export interface Looks {
  readonly now: Snapshot
  readonly before: Snapshot | undefined
}

/**
 * @since 0.1.0
 * @category options
 */
export interface TopOptions {
  /** Between two looks. Default 1 second on a terminal, 2 seconds where the output is none. */
  readonly interval?: Duration.Input | undefined
  /** One block of lines as soon as rates are known, after one interval. Default `false`: until it is ended. */
  readonly once?: boolean | undefined
}

const asItIs = (text: string): string => text

/**
 * Text only.
 *
 * @since 0.1.0
 * @category themes
 */
export const plainTheme: Theme = {
  title: asItIs,
  head: asItIs,
  quiet: asItIs,
  ok: asItIs,
  degraded: asItIs,
  down: asItIs
}

const sgr =
  (on: number, off: number) =>
  (text: string): string =>
    `\u001b[${on}m${text}\u001b[${off}m`

/**
 * The eight colours that every terminal has.
 *
 * @since 0.1.0
 * @category themes
 */
export const colorTheme: Theme = {
  title: sgr(1, 22),
  head: sgr(4, 24),
  quiet: sgr(2, 22),
  ok: sgr(32, 39),
  degraded: sgr(33, 39),
  down: sgr(31, 39)
}

/**
 * The lines of one picture, none wider than the columns and not more of them than the rows. Partitions come in their order; where not all
 * have room, those with the greatest lag come first, and the last line says how many more there are.
 *
 * What comes from outside (names, messages) is shown without its control characters.
 *
 * **Cost**: some milliseconds for 1,000 partitions.
 *
 * @since 0.1.0
 * @category rendering
 */
export const render = (consumers: ReadonlyArray<Looks>, size: Size, theme: Theme = plainTheme): ReadonlyArray<string> =>
  linesOf(consumers, size, theme)

/** rates are of so long */
const rateMillis = 5_000

interface Kept {
  readonly snapshot: Snapshot
  /** which partitions, of which epochs */
  readonly assigned: string
}

const assignedIn = ({ partitions }: Snapshot): string =>
  partitions.map(({ epoch, partition, topic }) => `${topic}/${partition}/${epoch}`).join()

/** The consumers' snapshots, each with one of some seconds before, if possible with the same partitions, so that they have rates. */
class History {
  private readonly kept = new Map<string, Array<Kept>>()

  add(snapshots: ReadonlyArray<Snapshot>): ReadonlyArray<Looks> {
    const names = new Set(snapshots.map(({ name }) => name))
    for (const name of this.kept.keys()) if (!names.has(name)) this.kept.delete(name)
    return snapshots.map((now) => {
      const known = this.kept.get(now.name) ?? []
      const newest = known.at(-1)?.snapshot.at
      // a clock that was set back: by what is from the future there are no rates, and it would all be kept until then
      const earlier = newest !== undefined && now.at < newest ? [] : known
      while (earlier.length > 1 && now.at - earlier[1]!.snapshot.at >= rateMillis) earlier.shift()
      const assigned = assignedIn(now)
      const before = earlier.find((one) => one.assigned === assigned) ?? earlier[0]
      earlier.push({ snapshot: now, assigned })
      this.kept.set(now.name, earlier)
      return { now, before: before?.snapshot }
    })
  }
}

const intervalOf = (
  interval: Duration.Input | undefined,
  byDefault: Duration.Input
): Effect.Effect<Duration.Duration, InvalidOptions> =>
  Option.match(
    Option.filter(
      Duration.fromInput(interval ?? byDefault),
      (is) => Duration.isFinite(is) && Duration.toMillis(is) > 0
    ),
    {
      onNone: () =>
        Effect.fail(new InvalidOptions({ option: "interval", value: interval, accepted: "a Duration above 0" })),
      onSome: Effect.succeed
    }
  )

/**
 * Shows the consumers of the process on its standard output until somebody presses `q`, or this is interrupted.
 *
 * - On a terminal it draws in place, in the whole window, and follows its size. When it ends, however, the window is as it was before,
 *   with the last picture below. Ctrl-C ends it too, and does to the program what it would have done without it (SIGINT). Lines that are
 *   logged to the same terminal meanwhile are drawn over: send them elsewhere.
 * - Where the output is no terminal, or `TERM` is `dumb`, it prints a block of plain lines every two seconds.
 * - With `NO_COLOR` in the environment there are no colours.
 *
 * **Errors**: an option that cannot be used.
 *
 * **Cost**: what `snapshot` of each consumer costs, for each look.
 *
 * @since 0.1.0
 * @category rendering
 */
export const watch = (options: TopOptions = {}): Effect.Effect<void, InvalidOptions> =>
  Effect.gen(function* () {
    const registry = yield* ConsumerRegistry
    const screen = yield* Screen
    const inPlace = screen.inPlace && options.once !== true
    const interval = yield* intervalOf(options.interval, inPlace ? "1 second" : "2 seconds")
    const theme = screen.colors ? colorTheme : plainTheme
    const history = new History()
    const look = Effect.map(
      Effect.flatMap(registry.consumers, (all) => Effect.forEach(all, ({ snapshot }) => snapshot)),
      (snapshots) => history.add(snapshots)
    )
    if (!inPlace) {
      const print = Effect.tap(look, (looks) =>
        Effect.sync(() => screen.print(render(looks, { columns: screen.size().columns, rows: undefined }, theme)))
      )
      yield* Effect.scoped(
        Effect.gen(function* () {
          const gone = yield* screen.gone
          yield* look
          if (options.once === true) return yield* Effect.andThen(Effect.sleep(interval), Effect.asVoid(print))
          return yield* Effect.raceFirst(Effect.forever(Effect.andThen(Effect.sleep(interval), print)), gone)
        })
      )
      return
    }
    yield* Effect.scoped(
      Effect.gen(function* () {
        const picture = yield* screen.open
        let shown: ReadonlyArray<Looks> = []
        const draw = Effect.sync(() => picture.draw(render(shown, screen.size(), theme)))
        const looking = Effect.andThen(
          Effect.tap(look, (looks) => Effect.sync(() => void (shown = looks))),
          draw
        )
        yield* Effect.raceFirst(
          Effect.raceFirst(
            Effect.forever(Effect.andThen(looking, Effect.sleep(interval))),
            Effect.forever(Effect.andThen(picture.resized, draw))
          ),
          picture.ended
        )
      })
    )
  })
