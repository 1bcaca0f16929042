/**
 * Where epochs begin, and what is committed: nothing that is not done is passed (I1), nothing goes back within an epoch and nothing of
 * an ended one is sent (I2), and what was done is there when a partition is given up (I8).
 */
import type { CommitEntry, CommitOutcome, EpochPartition } from "@concurrent-kafka/core/ConsumerSession"
import type { CommitRecord } from "@concurrent-kafka/testing/MemoryKafka"
import type { Judge } from "./judge.ts"
import type { EpochTruth, Owner } from "./owner.ts"
import { type MapTruth, readMap } from "./maps.ts"
import { keyOf, type LogTruth } from "./truth.ts"

export class CommitChecker {
  private readonly judge: Judge
  /** for each partition and offset that the group has committed: in which term */
  private readonly stores = new Map<string, Map<bigint, number>>()
  private readonly tools = new Map<string, bigint>()
  /** what lies beside the group's offsets */
  private readonly maps = new Map<string, MapTruth | undefined>()
  /** what was sent last, by client and partition */
  private readonly sends = new Map<string, Array<{ readonly epoch: EpochTruth; readonly offset: bigint }>>()

  constructor(judge: Judge) {
    this.judge = judge
  }

  began(owner: Owner, start: EpochPartition & { readonly offset: bigint }): void {
    const epoch = owner.epochs.get(start.epoch)
    const where = `${keyOf(start)}#${start.epoch} at ${start.offset}`
    if (epoch === undefined || epoch.state === "ended")
      return this.judge.violation("I2", `begin of an epoch that is over, ${where}`)
    if (epoch.begunAt !== undefined) return this.judge.violation("I2", `begun twice, ${where}`)
    epoch.begunAt = start.offset
    epoch.position = start.offset
    if (epoch.state === "given") epoch.state = "open"
    const log = this.judge.truth.logs.get(epoch.key)!
    epoch.log = log
    if (epoch.reopened) {
      if (epoch.soughtTo !== undefined && epoch.soughtTo !== start.offset) {
        this.judge.violation("P22", `a partition that was moved to ${epoch.soughtTo} begins elsewhere, ${where}`)
      }
      // one that the engine had given up on an answer of the broker, and the client holds on, goes on where the group is
      const told = owner.committed.get(epoch.key)
      const goesOn = told?.offset === start.offset
      // one that has not committed its start again knows of it by the assignment alone, and somebody else may have committed since;
      // one that has, and could not put its map beside it, knows it still, unless somebody has moved it there
      const knows = goesOn && !epoch.sought && owner.cutsMaps
      const lies = this.maps.get(epoch.key) ?? (knows ? told.map : undefined)
      const map = goesOn && epoch.stored === undefined ? told.map : lies
      if (goesOn) this.ofAnother(log, start.offset, map?.base === start.offset ? map.end : undefined)
      if (map?.base === start.offset) {
        epoch.storedMap = map
        if (owner.mapped) epoch.found = map
      }
      if (epoch.stored !== start.offset && !goesOn) {
        this.judge.violation("C2", `a reopened epoch begins where nothing was committed, ${where}`)
      }
      return
    }
    if (epoch.committed !== undefined) {
      if (epoch.committed !== start.offset)
        this.judge.violation("I3", `begins not at the committed ${epoch.committed}, ${where}`)
      return this.ofAnother(log, start.offset, epoch.found?.end)
    }
    if (epoch.stored !== start.offset)
      this.judge.violation("C2", `the start is not committed before it begins, ${where}`)
  }

  /** Where the group is was committed for a log before this one, or by somebody else: what lies below is passed over. */
  private ofAnother(log: LogTruth, offset: bigint, mapEnd: bigint | undefined): void {
    const key = keyOf(log)
    if (this.stores.get(key)?.get(offset) === log.term) return
    // what somebody else puts beside an offset is no map of ours, whatever its reader says
    const to = mapEnd === undefined || this.tools.get(key) === offset ? offset : mapEnd
    log.excuse(to, "committed for a log before this one, or by somebody else")
  }

  committing(owner: Owner, entries: ReadonlyArray<CommitEntry>): void {
    for (const entry of entries) {
      const where = `${keyOf(entry)}#${entry.epoch} = ${entry.offset}`
      const epoch = owner.epochs.get(entry.epoch)
      if (owner.left) this.judge.violation("I2", `a commit after the group was left, ${where}`)
      if (epoch === undefined) {
        this.judge.violation("I2", `a commit of an unknown epoch, ${where}`)
        continue
      }
      if (epoch.state === "ended" || epoch.state === "suspended") {
        this.judge.violation("I2", `a commit of an epoch that is ${epoch.state}, ${where}`)
      }
      if (epoch.sent !== undefined && entry.offset < epoch.sent)
        this.judge.violation("I2", `back from ${epoch.sent}, ${where}`)
      epoch.sent = entry.offset
      if (epoch.begunAt === undefined) this.startSent(epoch, entry.offset)
      else if (entry.offset < epoch.begunAt)
        this.judge.violation("I2", `before its beginning ${epoch.begunAt}, ${where}`)
      else if (entry.offset > epoch.position)
        this.judge.violation("I1", `beyond what was delivered (${epoch.position}), ${where}`)
      while (epoch.checked < epoch.delivered.length && epoch.delivered[epoch.checked]!.offset < entry.offset) {
        const rec = epoch.delivered[epoch.checked]!
        if (!rec.doneIn.has(epoch.epoch) && !(rec.filter === "unwanted" && owner.filters)) {
          this.judge.violation("I1", `passes ${epoch.key}@${rec.offset}, which is not done in this epoch, ${where}`)
          break
        }
        epoch.checked++
      }
      const map = readMap(entry, entry)
      this.remembers(epoch, entry.offset, map, where)
      for (let i = epoch.checked; map !== undefined && i < epoch.delivered.length; i++) {
        const rec = epoch.delivered[i]!
        if (!map.says(rec.offset) || rec.doneIn.has(epoch.epoch) || (rec.filter === "unwanted" && owner.filters))
          continue
        this.judge.violation(
          "I1",
          `the map speaks of ${epoch.key}@${rec.offset}, which is not done in this epoch, ${where}`
        )
        break
      }
      const sends = this.sends.get(`${owner.clientId} ${epoch.key}`) ?? []
      if (sends.push({ epoch, offset: entry.offset }) > 2_000) sends.splice(0, 1_000)
      this.sends.set(`${owner.clientId} ${epoch.key}`, sends)
    }
  }

  /** C16: what is sent says all that was done behind its offset at that moment, also by a former owner, if it can be said at all. */
  private remembers(epoch: EpochTruth, offset: bigint, map: MapTruth | undefined, where: string): void {
    const { certain, checked, claims, delivered, log, owner, position } = epoch
    if (!owner.mapped || owner.cutsMaps || epoch.begunAt === undefined) return
    if (log !== this.judge.truth.logs.get(epoch.key)) return
    for (let i = checked; i < delivered.length; i++) {
      const rec = delivered[i]!
      const at = certain.get(rec)
      if (at === undefined || at >= this.judge.world.now || map?.says(rec.offset) === true) continue
      return this.judge.violation("C16", `the map does not know of ${rec.offset}, which was done before, ${where}`)
    }
    const from = position > offset ? position : offset
    for (const [first, to] of claims?.runs ?? []) {
      for (let at = first < from ? from : first; at < to; at++) {
        if (map?.says(at) === true) continue
        return this.judge.violation("C16", `the map forgets ${at}, which a former owner had done, ${where}`)
      }
    }
  }

  /** Where an epoch without a committed offset is to start. */
  private startSent(epoch: EpochTruth, offset: bigint): void {
    const ends = this.judge.logEnds(epoch.topic, epoch.partition)
    if (ends === undefined) return
    const log = this.judge.truth.logs.get(epoch.key)!
    // retention may cut into a transaction that is open: then the log begins behind what a reader can see
    if (offset > ends.end && offset > ends.start && log === epoch.log && !epoch.reopened)
      this.judge.violation("C2", `starts ${epoch.key} behind the end, at ${offset}`)
    if (offset > ends.start) {
      const meant = epoch.reopened || (epoch.owner.startsLatest && !epoch.topicCommitted)
      if (!meant && log === epoch.log) {
        this.judge.violation("C2", `starts ${epoch.key} at ${offset} instead of the log's beginning ${ends.start}`)
      }
      log.excuse(offset, "the start that was asked for")
    }
  }

  outcomes(owner: Owner, outcomes: ReadonlyArray<CommitOutcome>): void {
    for (const outcome of outcomes) {
      const epoch = owner.epochs.get(outcome.epoch)
      const putOff = outcome.outcome === "deferred"
      if (epoch !== undefined) this.putOff(epoch, putOff)
      const isRound = putOff && owner.cooperative && outcome.code === "REBALANCE_IN_PROGRESS"
      // also without any fault: the group moves on while a commit is on its way
      if (outcome.outcome !== "committed" && !isRound) owner.refusedAt = this.judge.world.now
      if (outcome.outcome === "stale" || outcome.outcome === "rejected") owner.lastEnd = this.judge.world.now
      if (outcome.outcome === "rejected" && outcome.code === "OFFSET_METADATA_TOO_LARGE") owner.cutsMaps = true
      // of a request with nothing else to leave out the map goes before the offset does
      const alone = outcomes.length === 1
      if (alone && outcome.outcome === "rejected" && outcome.code === "REQUEST_TOO_LARGE") owner.cutsMaps = true
      if (epoch === undefined) continue
      if (outcome.outcome === "stale" && outcome.code !== "EPOCH") epoch.mayEnd = outcome.code
      if (outcome.outcome === "rejected" && outcome.code === "UNKNOWN_TOPIC_OR_PARTITION") epoch.mayEnd = outcome.code
      if (outcome.outcome === "stale" && outcome.code === "FENCED_INSTANCE_ID") owner.closing = outcome.code
      if (
        outcome.outcome === "rejected" &&
        (outcome.code === "NOT_AUTHORIZED" || outcome.code === "INVALID_GROUP_ID")
      ) {
        owner.closing = outcome.code
      }
    }
  }

  private putOff(epoch: EpochTruth, putOff: boolean): void {
    const { now } = this.judge.world
    const { owner } = epoch
    epoch.putOffSince = putOff ? (epoch.putOffSince ?? now) : undefined
    if (!putOff) return
    epoch.putOffAt = now
    const frozenBefore = owner.realm.frozenFor
    if (owner.closing !== undefined) {
      for (const one of owner.revoking)
        if (one.signal.partitions.some((p) => p.epoch === epoch.epoch)) one.putOff = { at: now, frozenBefore }
    }
    if (epoch.begunAt !== undefined) return
    // its start
    epoch.givenAt = now
    epoch.frozenBefore = frozenBefore
  }

  /** The broker has stored it. */
  stored(commit: CommitRecord): void {
    for (const entry of commit.entries) {
      if (entry.code !== undefined) continue
      const key = keyOf(entry)
      const log = this.judge.truth.logs.get(key)
      const sent = this.sends.get(`${commit.clientId} ${key}`) ?? []
      const send = sent.findLast((one) => one.offset === entry.offset)
      if (log === undefined) continue
      if (send === undefined) {
        this.judge.violation(
          "C1",
          `the broker has ${key} = ${entry.offset} of ${commit.clientId}, which the engine did not send`
        )
        continue
      }
      const { epoch } = send
      const map = readMap(entry, entry)
      // two members of one process may have sent the same, and the broker does not say whose it has taken
      for (const of of new Set(sent.filter((one) => one.offset === entry.offset).map((one) => one.epoch))) {
        if (of !== epoch && of.owner === epoch.owner) continue
        of.stored = entry.offset
        of.storedMap = map
      }
      this.maps.set(key, map)
      this.tools.delete(key)
      let stores = this.stores.get(key)
      if (stores === undefined) this.stores.set(key, (stores = new Map()))
      // one that goes on where the group is commits that again before it begins, with the map that lies there
      const goesOn = epoch.begunAt === undefined && epoch.reopened && epoch.soughtTo === undefined
      const again = goesOn ? stores.get(entry.offset) : undefined
      const term = again ?? epoch.log.term
      stores.set(entry.offset, term)
      if (term !== log.term) {
        log.excuse(map?.end ?? entry.offset, "committed for a log before this one")
        continue
      }
      for (let i = log.indexOf(entry.offset); map !== undefined && i < log.records.length; i++) {
        const rec = log.records[i]!
        if (!rec.done && map.says(rec.offset) && this.judge.truth.owed(log, rec)) {
          this.judge.violation(
            "I1",
            `the map beside ${key} = ${entry.offset} speaks of ${rec.offset}, which is not done`
          )
        }
      }
      const missing = this.judge.truth.missingBelow(log, entry.offset)
      if (missing !== undefined)
        this.judge.violation("I1", `${key} = ${entry.offset} is stored and ${missing.offset} is not done`)
    }
  }

  /** Somebody else has set the group's offset. */
  setByTool(log: LogTruth, offset: bigint): void {
    this.stores.get(keyOf(log))?.delete(offset)
    this.maps.delete(keyOf(log))
    this.tools.set(keyOf(log), offset)
  }

  /**
   * All is done, and then somebody else has set the offset: a tool, or a member that still reads the topic of this name that was there
   * before. Nobody can know of it before the next rebalance.
   */
  isForeign(log: LogTruth, committed: bigint | undefined): boolean {
    if (committed === undefined) return false
    const key = keyOf(log)
    if (this.tools.get(key) !== committed && this.stores.get(key)?.get(committed) === log.term) return false
    return this.judge.truth.missing().every((rec) => keyOf(rec) !== key)
  }

  /** A partition that this process reads beyond the end of its log: its next fetch tells. */
  beyondTheEnd(owner: Owner): string | undefined {
    for (const epoch of owner.epochs.values()) {
      const log = this.judge.truth.logs.get(epoch.key)
      if (epoch.state !== "open" || log === undefined || log.gone || log === epoch.log) continue
      const ends = this.judge.logEnds(epoch.topic, epoch.partition)
      if (ends !== undefined && epoch.position > ends.end) return epoch.key
    }
    return undefined
  }

  /** A log was truncated, and has grown again to where its reader is before he looked: nobody can tell. */
  unnoticed(owner: Owner): void {
    for (const epoch of owner.epochs.values()) {
      const log = this.judge.truth.logs.get(epoch.key)
      if (epoch.state === "ended" || log === undefined || log.gone || log === epoch.log) continue
      const ends = this.judge.logEnds(epoch.topic, epoch.partition)
      if (ends !== undefined && epoch.position <= ends.end) log.excuse(epoch.position, "truncated under its reader")
    }
  }

  /** Nobody has read a log since it was truncated, and it has grown again to where the group is: nobody can tell. */
  grownAgain(log: LogTruth, committed: bigint | undefined): void {
    if (committed !== undefined) this.ofAnother(log, committed, this.maps.get(keyOf(log))?.end)
  }

  /**
   * What was done in time must be in Kafka when a partition is given up in order. What is done while the flush is under way
   * may come too late for it.
   */
  flushed(epoch: EpochTruth, how: string): void {
    if (!this.judge.isCalm(epoch.owner) || epoch.begunAt === undefined || epoch.mayEnd !== undefined) return
    if (epoch.log !== this.judge.truth.logs.get(epoch.key)) return
    const until = this.judge.world.now - 3 * this.judge.commitTime - 5
    // between two generations nothing can be committed, and it was given back too late for an answer
    if (epoch.owner.closing !== undefined && epoch.givenAt > until) return
    if (this.putsOff(epoch) && this.waited(epoch.owner)) return
    const { delivered } = epoch
    while (epoch.prefix < delivered.length) {
      const rec = delivered[epoch.prefix]!
      const at = epoch.certain.get(rec)
      if (at === undefined || at > until) break
      epoch.prefix++
    }
    this.mapped(epoch, until, how)
    if (epoch.prefix === 0) return
    const last = delivered[epoch.prefix - 1]!
    if ((epoch.stored ?? epoch.begunAt) <= last.offset) {
      this.judge.violation(
        "I8",
        `${epoch.key}#${epoch.epoch} is ${how} at ${epoch.stored}, and ${last.offset} was done before`
      )
    }
  }

  /** The broker has put the commit off until now: a flush asks it again each 50 ms. */
  private putsOff({ putOffAt, putOffSince }: EpochTruth): boolean {
    return putOffSince !== undefined && this.judge.world.now - putOffAt <= 100 + 3 * this.judge.commitTime
  }

  /** Who ends while his group has not joined yet waits for it as long as he may. */
  private waited({ life, realm, shutdownTimeout }: Owner): boolean {
    if (life.endedFrom === undefined) return true
    const { at, frozenBefore } = life.endedFrom
    return realm.awakeSince(at, frozenBefore, this.judge.world.now) >= shutdownTimeout - 5
  }

  /** So must be what was done behind a gap, and what a former owner had done there. */
  private mapped(epoch: EpochTruth, until: number, how: string): void {
    // a map that the broker refuses is cut, and stays so
    if (!epoch.owner.mapped || epoch.owner.cutsMaps) return
    const { certain, claims, position, storedMap } = epoch
    const stored = epoch.stored ?? epoch.begunAt!
    const lost = (offset: bigint): boolean => offset >= stored && storedMap?.says(offset) !== true
    const where = `${epoch.key}#${epoch.epoch} is ${how} at ${stored}`
    for (const [rec, at] of certain) {
      if (at <= until && lost(rec.offset))
        this.judge.violation("I8", `${where}, and its map does not know of ${rec.offset}`)
    }
    for (const [from, to] of claims?.runs ?? []) {
      for (let offset = from < position ? position : from; offset < to; offset++) {
        if (lost(offset)) this.judge.violation("I8", `${where}, and its map forgets ${offset}`)
      }
    }
  }
}
