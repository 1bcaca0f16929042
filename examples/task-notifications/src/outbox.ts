/**
 * Events that are to be sent, as rows of the same database as the changes that they tell of.
 *
 * A change and its events are one transaction: both are there after a crash, or neither. The relay sends the rows to Kafka and marks them
 * afterwards; killed in between it sends them again, and whoever reads them drops what has an event id that is known already. So no event
 * is lost, and none counts twice.
 *
 * Order: ids are given inside the lock of the writing transaction, so they are in the order of the commits. The relay sends a row only
 * with or after all older ones, and a user is a key, so a partition. What is sent again is an older row a second time, never a
 * younger one before an older one that was not there yet.
 */
import type { EncodeError } from "@concurrent-kafka/core/Codec"
import { KafkaClient } from "@concurrent-kafka/core/KafkaClient"
import { KafkaProducer, PublishError } from "@concurrent-kafka/core/KafkaProducer"
import { Topic } from "@concurrent-kafka/core/Topic"
import { Context, DateTime, Effect, Layer, Predicate, Queue, Schedule } from "effect"
import { SqlClient, type SqlError } from "effect/sql"

interface Row {
  readonly id: number
  readonly topic: string
  readonly key: Uint8Array | null
  readonly value: Uint8Array
}

/** So many rows are read and sent at once. */
const batch = 500
/** How often the relay looks by itself: for what the other process has written. Its own process wakes it at once. */
const lookEvery = "100 millis"
/** While the broker is away, or refuses everything. */
const patience = Schedule.min([Schedule.exponential("100 millis"), Schedule.spaced("5 seconds")])

/**
 * Kafka's names of what is wrong with one record, whoever sends it and whatever is around it. Everything else that is refused (a password
 * that has run out, a right that is missing, a topic that nobody has made) is wrong with all of them, until somebody mends it.
 */
const ofOneRecord: ReadonlySet<string> = new Set([
  "INVALID_RECORD",
  "INVALID_TIMESTAMP",
  "MESSAGE_TOO_LARGE",
  "RECORD_LIST_TOO_LARGE"
])

/** What is not there after a send that has failed, and what stands behind it in its partition: that goes again, behind it. */
const notThere = (rows: ReadonlyArray<Row>, { unconfirmed }: PublishError): ReadonlySet<Row> => {
  const failed = new Set(unconfirmed ?? rows.keys())
  const held = new Set<string>()
  return new Set(
    rows.filter(({ key, topic }, i) => {
      const place = `${topic} ${key === null ? "" : Buffer.from(key).toString("hex")}`
      if (failed.has(i)) held.add(place)
      return held.has(place)
    })
  )
}

export class Outbox extends Context.Service<
  Outbox,
  {
    /** Writes an event down; call it inside the transaction of the change. */
    readonly add: <V extends { readonly event_id: string; readonly user_id: string }>(
      topic: Topic<string, V>,
      event: V
    ) => Effect.Effect<void, SqlError.SqlError | EncodeError>
    /** How many events wait for Kafka, and how many it has refused as they are. */
    readonly counts: Effect.Effect<{ readonly waiting: number; readonly refused: number }, SqlError.SqlError>
    /** Ends when somebody has added something, in this process. */
    readonly added: Effect.Effect<void>
  }
>()("task-notifications/Outbox") {
  static readonly layer = Layer.effect(
    Outbox,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      // one place: who has been woken reads everything that is there
      const bell = yield* Queue.sliding<void>(1)
      return Outbox.of({
        add: Effect.fnUntraced(function* (topic, event) {
          // encoded here: an event that its own schema refuses fails the change, and not the relay
          const { key, value } = yield* Topic.encode(topic, event, { key: event.user_id })
          const created_at = DateTime.formatIso(yield* DateTime.now)
          yield* sql`INSERT INTO outbox ${sql.insert({ event_id: event.event_id, topic: topic.name, key, value, created_at })}`
          yield* sql.afterCommit(Effect.asVoid(Queue.offer(bell, undefined)))
        }),
        counts: Effect.map(
          sql<{ waiting: number; refused: number }>`SELECT
            COUNT(*) FILTER (WHERE sent_at IS NULL AND refused IS NULL) AS waiting, COUNT(refused) AS refused FROM outbox`,
          ([row]) => row ?? { waiting: 0, refused: 0 }
        ),
        added: Queue.take(bell)
      })
    })
  )
}

/** Sends what is in the outbox for as long as its scope is open. One process does it: `worker`. A second one would send everything again. */
export const layerRelay = Layer.effectDiscard(
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    const outbox = yield* Outbox
    const { enabled } = yield* KafkaClient
    const { send } = yield* KafkaProducer
    // they stay where they are, and are sent when it is switched on again
    if (!enabled) return yield* Effect.logWarning("Kafka is switched off: events wait in the outbox")

    const mark = Effect.fnUntraced(function* (rows: ReadonlyArray<Row>) {
      if (rows.length === 0) return
      const sent_at = DateTime.formatIso(yield* DateTime.now)
      yield* sql`UPDATE outbox SET sent_at = ${sent_at} WHERE ${sql.in(
        "id",
        rows.map(({ id }) => id)
      )}`
    })

    /** Too large, say: it would hold up all others for ever. It stays in its row until somebody lets it go again. */
    const refuse = ({ id, topic }: Row, { message }: PublishError) =>
      Effect.andThen(
        Effect.logError(
          `event ${id} of the outbox was refused by ${topic}, and the others go on without it: ${message}`
        ),
        sql`UPDATE outbox SET refused = ${message} WHERE id = ${id}`
      )

    const deliver = (rows: ReadonlyArray<Row>): Effect.Effect<void, PublishError | SqlError.SqlError> =>
      Effect.matchEffect(send(rows), {
        onSuccess: () => mark(rows),
        onFailure: Effect.fnUntraced(function* (error) {
          const left = notThere(rows, error)
          // the broker has the others: with each attempt they would be there once more
          yield* mark(rows.filter((row) => !left.has(row)))
          if (error.reason !== "refused" || !ofOneRecord.has(error.code)) return yield* error
          // it is one of them: they go one by one, in their order, and the first that is not sent for another reason stops it
          if (rows.length > 1) yield* Effect.forEach(left, (row) => deliver([row]), { discard: true })
          else yield* Effect.forEach(left, (row) => refuse(row, error), { discard: true })
        })
      })

    const relay = Effect.gen(function* () {
      const rows = yield* sql<Row>`SELECT id, topic, key, value FROM outbox
        WHERE sent_at IS NULL AND refused IS NULL ORDER BY id LIMIT ${batch}`
      if (rows.length === 0) yield* Effect.raceFirst(outbox.added, Effect.sleep(lookEvery))
      else yield* deliver(rows)
    })

    yield* relay.pipe(
      // a defect would end the fiber, and nothing would be sent or said any more
      Effect.catchDefect((defect) => Effect.fail(defect)),
      Effect.tapError((error) =>
        Predicate.isTagged(error, "SqlError") || (error instanceof PublishError && error.reason !== "refused")
          ? Effect.logWarning("the outbox is not sent now, and will be", error)
          : Effect.logError("the outbox is not sent before somebody mends this; it is tried again all the while", error)
      ),
      Effect.retry(patience),
      Effect.forever,
      Effect.forkScoped
    )
  })
)
