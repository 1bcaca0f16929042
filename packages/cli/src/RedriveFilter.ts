/**
 * Which dead letters are meant.
 *
 * @since 0.1.0
 */
import type { ConsumerRecord } from "@concurrent-kafka/core/ConsumerRecord"
import { DeadLetter } from "@concurrent-kafka/core/DeadLetter"
import { InvalidOptions } from "@concurrent-kafka/core/InvalidOptions"

/**
 * Everything that is given must hold. A record that is no dead letter, or whose headers are malformed, matches only where none of
 * `topic`, `partition`, `offsetFrom`, `offsetTo` and `error` is asked for.
 *
 * @since 0.1.0
 * @category options
 */
export interface RedriveFilter {
  /** The topic of the record that failed. */
  readonly topic?: string | undefined
  /** Its partition. */
  readonly partition?: number | undefined
  /** Its offset, this one and later ones. */
  readonly offsetFrom?: bigint | undefined
  /** Its offset, this one and earlier ones. */
  readonly offsetTo?: bigint | undefined
  /** Tag or name of the error. */
  readonly error?: string | undefined
  /**
   * Failed for the last time at this moment or later; of a record that is no dead letter its timestamp counts.
   *
   * **Units**: milliseconds since 1970.
   */
  readonly since?: number | undefined
  /** Failed for the last time before this moment. **Units**: milliseconds since 1970. */
  readonly until?: number | undefined
  /** Anything else. What it throws ends the redrive at that record. */
  readonly where?: ((record: ConsumerRecord, letter: DeadLetter | undefined) => boolean) | undefined
}

const refuse = (option: string, value: unknown, accepted: string): never => {
  throw new InvalidOptions({ option, value, accepted })
}

const validate = (filter: RedriveFilter): void => {
  const { error, offsetFrom, offsetTo, partition, since, topic, until } = filter
  // of a variable that is not set: it would pass over every record
  if (topic === "") refuse("filter.topic", topic, "the name of a topic")
  if (error === "") refuse("filter.error", error, "the tag or name of an error")
  if (partition !== undefined && !(Number.isSafeInteger(partition) && partition >= 0))
    refuse("filter.partition", partition, "an integer of at least 0")
  if (offsetFrom !== undefined && offsetFrom < 0n) refuse("filter.offsetFrom", offsetFrom, "at least 0")
  if (offsetTo !== undefined && offsetTo < (offsetFrom ?? 0n))
    refuse("filter.offsetTo", offsetTo, `at least ${offsetFrom ?? 0n}`)
  if (since !== undefined && !Number.isFinite(since)) refuse("filter.since", since, "milliseconds since 1970")
  if (until !== undefined && !(Number.isFinite(until) && until > (since ?? -Infinity)))
    refuse("filter.until", until, "milliseconds since 1970, later than filter.since")
}

/**
 * Reads filters.
 *
 * @since 0.1.0
 * @category filtering
 */
export const RedriveFilter: {
  /** Whether this record of a dead-letter topic is meant. **Errors**: throws `InvalidOptions` when the filter cannot match anything. */
  readonly toPredicate: (filter: RedriveFilter) => (record: ConsumerRecord) => boolean
} = {
  toPredicate(filter) {
    validate(filter)
    const { error, offsetFrom, offsetTo, partition, since, topic, until, where } = filter
    return (record) => {
      const letter = DeadLetter.read(record)
      if (topic !== undefined && letter?.topic !== topic) return false
      if (partition !== undefined && letter?.partition !== partition) return false
      if (offsetFrom !== undefined && !(letter !== undefined && letter.offset >= offsetFrom)) return false
      if (offsetTo !== undefined && !(letter !== undefined && letter.offset <= offsetTo)) return false
      if (error !== undefined && letter?.error !== error) return false
      const at = letter?.lastFailedAt ?? Number(record.timestamp)
      if (since !== undefined && at < since) return false
      if (until !== undefined && at >= until) return false
      return where === undefined || where(record, letter)
    }
  }
}
