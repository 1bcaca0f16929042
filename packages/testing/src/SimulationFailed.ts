/**
 * How a simulation fails.
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"

/**
 * A history at whose end the world is not as it has to be. `message` shows the shortest history found that fails, and how to see it
 * again; it shows keys and values.
 *
 * - `check`: the user's check failed, with `cause`.
 * - `unfinished`: everything had healed, and something was not handled or not committed.
 * - `simulator`: the history could not be played to its end, `cause` says why.
 *
 * @since 0.1.0
 * @category errors
 */
export class SimulationFailed extends Schema.TaggedError<SimulationFailed>()("SimulationFailed", {
  reason: Schema.Literals(["check", "unfinished", "simulator"]),
  seed: Schema.Number,
  /** What the check failed or died with. */
  cause: Schema.Unknown,
  /** Histories before it that went well. */
  passed: Schema.Number,
  /** Troubles and records of the shortest history, and of the one it was made from. */
  troubles: Schema.Number,
  troublesBefore: Schema.Number,
  records: Schema.Number,
  recordsBefore: Schema.Number,
  /** One line for each event of the shortest history. */
  timeline: Schema.Array(Schema.String),
  message: Schema.String
}) {}
