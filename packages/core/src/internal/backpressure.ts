/**
 * What is held, and who must not fetch because of it (I6).
 *
 * Held are buffered and in-flight records. At the limit fetching stops, at half of it it goes on. With several partitions:
 * - one may use half of the limit, so that a slow one does not stop the others;
 * - a quarter of the limit is kept back: when all together have filled the rest, a partition still fetches while it holds less than
 *   its part of that quarter. Two slow ones (each record waits for the one before it) would else stop the others for as long as it
 *   takes them to get rid of half of the limit, and two hung ones for good;
 * - one that cannot go on by itself (paused by the user, `maxUncommitted` behind a stuck record, its map full) fetches nothing, and what it
 *   holds does not count against the others.
 */
import type { EpochPartition } from "../ConsumerSession.ts"
import { Pause, type PartitionEpoch } from "./epoch.ts"
import type { RunState } from "./state.ts"

const stuckReasons = Pause.user | Pause.uncommitted | Pause.map
const keptBack = 0.25

export class Backpressure {
  /** of all partitions */
  records = 0
  bytes = 0
  /** of those that can go on */
  private countedRecords = 0
  private countedBytes = 0
  private full = false
  private readonly run: RunState

  constructor(run: RunState) {
    this.run = run
  }

  add(epoch: PartitionEpoch, records: number, bytes: number): void {
    epoch.heldRecords += records
    epoch.heldBytes += bytes
    this.records += records
    this.bytes += bytes
    if (epoch.counted) {
      this.countedRecords += records
      this.countedBytes += bytes
    }
  }

  remove(epoch: PartitionEpoch, bytes: number): void {
    epoch.heldRecords--
    epoch.heldBytes -= bytes
    this.records--
    this.bytes -= bytes
    if (epoch.counted) {
      this.countedRecords--
      this.countedBytes -= bytes
    }
    if (epoch.full || this.full) this.check(epoch)
  }

  pause(epoch: PartitionEpoch, reason: number): void {
    epoch.pauses |= reason
    if (reason === Pause.user) epoch.userPausedAt ??= this.run.now()
    this.apply(epoch)
  }

  resume(epoch: PartitionEpoch, reason: number): void {
    epoch.pauses &= ~reason
    if (reason === Pause.user) epoch.userPausedAt = undefined
    this.apply(epoch)
  }

  /** After something was added or removed. */
  check(epoch: PartitionEpoch): void {
    const { maxHeldBytes, maxHeldRecords } = this.run.settings
    const share = this.run.epochs.size > 1 ? 0.5 : 1
    const most = epoch.full ? share / 2 : share
    epoch.full = epoch.heldRecords >= maxHeldRecords * most || epoch.heldBytes >= maxHeldBytes * most
    this.apply(epoch)
  }

  /** Tells the client what of this partition, and of all when the limit of all is crossed, may be fetched. */
  apply(epoch: PartitionEpoch): void {
    const counted = (epoch.pauses & stuckReasons) === 0
    if (counted !== epoch.counted) {
      epoch.counted = counted
      this.countedRecords += counted ? epoch.heldRecords : -epoch.heldRecords
      this.countedBytes += counted ? epoch.heldBytes : -epoch.heldBytes
    }
    const { maxHeldBytes, maxHeldRecords } = this.run.settings
    const all = this.run.epochs.size > 1 ? 1 - keptBack : 1
    const most = this.full ? all / 2 : all
    const full = this.countedRecords >= maxHeldRecords * most || this.countedBytes >= maxHeldBytes * most
    if (full !== this.full) {
      this.full = full
      for (const each of this.run.epochs.values()) this.tell(each)
    }
    this.tell(epoch)
  }

  private hasLittle(epoch: PartitionEpoch): boolean {
    const { maxHeldBytes, maxHeldRecords } = this.run.settings
    const partitions = this.run.epochs.size
    const part = keptBack / partitions
    return partitions > 1 && epoch.heldRecords < maxHeldRecords * part && epoch.heldBytes < maxHeldBytes * part
  }

  private tell(epoch: PartitionEpoch): void {
    if (epoch.full || (this.full && !this.hasLittle(epoch))) epoch.pauses |= Pause.full
    else epoch.pauses &= ~Pause.full
    if (epoch.state === "opening" || epoch.state === "ended") return
    const stop = epoch.pauses !== 0
    if (stop === epoch.fetchPaused) return
    epoch.fetchPaused = stop
    const only: ReadonlyArray<EpochPartition> = [epoch]
    if (stop) this.run.session.pauseUnsafe(only)
    else this.run.session.resumeUnsafe(only)
  }
}
