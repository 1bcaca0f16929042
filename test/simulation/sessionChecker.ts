/**
 * What a session was told, when the engine looked at it, and how each revoke was answered.
 */
import type { Committed, EpochPartition, Revoking, Signal } from "@concurrent-kafka/core/ConsumerSession"
import type { CommitChecker } from "./commitChecker.ts"
import type { Judge } from "./judge.ts"
import { readMap } from "./maps.ts"
import { type Attempt, type EpochTruth, laneOf, type Outstanding, type Owner } from "./owner.ts"
import { keyOf, type LogTruth, type Rec } from "./truth.ts"

const openingPatience = 3_000

export class SessionChecker {
  private readonly judge: Judge
  private readonly commits: CommitChecker

  constructor(judge: Judge, commits: CommitChecker) {
    this.judge = judge
    this.commits = commits
  }

  /** The engine looks at this signal now. */
  seen(owner: Owner, signal: Signal): void {
    switch (signal._tag) {
      case "Assigned": {
        const kept = new Set<EpochTruth>()
        for (const p of signal.all) {
          owner.committed.set(
            keyOf(p),
            p.committed === undefined ? undefined : { offset: p.committed.offset, map: readMap(p, p.committed) }
          )
          let epoch = owner.epochs.get(p.epoch)
          if (epoch === undefined) epoch = this.open(owner, p, p.committed, p.topicCommitted, false)
          else if (epoch.state === "suspended" || (epoch.state === "revoking" && !epoch.exact)) {
            epoch.state = epoch.begunAt === undefined ? "given" : "open"
            epoch.givenAt = this.judge.world.now
            epoch.frozenBefore = owner.realm.frozenFor
            if (epoch.keptEnd !== undefined) this.believe(epoch, epoch.keptEnd, undefined)
          }
          // its own request may have arrived although nobody heard of it
          if (epoch.begunAt === undefined && !epoch.reopened) {
            epoch.committed = p.committed?.offset
            epoch.storedMap = readMap(p, p.committed)
            epoch.found = owner.mapped ? epoch.storedMap : undefined
          }
          kept.add(epoch)
        }
        const given = new Map(signal.all.map((p) => [keyOf(p), p.epoch]))
        for (const epoch of owner.epochs.values()) {
          // sent before it was opened anew: the client has the epoch of now
          const stale = epoch.reopened && epoch.epoch > (given.get(epoch.key) ?? Number.POSITIVE_INFINITY)
          if (!kept.has(epoch) && !stale) this.judge.end(epoch)
        }
        return
      }
      case "Revoking": {
        const { now } = this.judge.world
        if (signal.hold === 0) this.judge.happened("hold 0")
        const epochs = new Set(signal.partitions.map((p) => p.epoch))
        const running = [...owner.running].filter((one) => one.epoch !== undefined && epochs.has(one.epoch.epoch))
        owner.revoking.add({
          signal,
          seenAt: now,
          frozenBefore: owner.realm.frozenFor,
          waitedFor:
            running.some((one) => now - one.startedAt <= owner.revokeDrain) ||
            signal.partitions.some((p) => (owner.epochs.get(p.epoch)?.sending.size ?? 0) > 0),
          running: running.length > 0,
          putOff: undefined,
          fresh: new Set(
            signal.partitions.flatMap((p) => {
              const epoch = owner.epochs.get(p.epoch)
              return epoch?.state === "open" ? [epoch] : []
            })
          )
        })
        for (const p of signal.partitions) {
          const epoch = owner.epochs.get(p.epoch)
          if (epoch === undefined || epoch.state === "ended" || epoch.state === "suspended") continue
          epoch.state = "revoking"
          epoch.exact = signal.exact
        }
        return
      }
      case "Lost":
        if (signal.partitions.some((p) => owner.epochs.get(p.epoch)?.state === "revoking"))
          this.judge.happened("lost while draining")
        for (const p of signal.partitions) this.judge.end(owner.epochs.get(p.epoch))
        return
      case "Gone":
        this.judge.end(owner.epochs.get(signal.epoch))
        return
      case "OutOfRange": {
        const epoch = owner.epochs.get(signal.epoch)
        if (epoch === undefined) return
        if (signal.position >= signal.start) epoch.mayEnd = "beyond the end"
        else if (epoch.position < signal.start) epoch.position = signal.start
        if (signal.position >= signal.start) return
        if (epoch.state === "open") this.believe(epoch, signal.end, undefined)
        else epoch.keptEnd = signal.end
        return
      }
      case "Chunk":
        return this.chunk(owner, signal)
      case "Connection":
    }
  }

  acknowledged(owner: Owner, signal: Revoking): void {
    for (const one of owner.revoking) {
      if (one.signal !== signal) continue
      owner.revoking.delete(one)
      this.inTime(owner, one)
      this.waits(owner, one)
    }
    for (const p of signal.partitions) {
      const epoch = owner.epochs.get(p.epoch)
      if (epoch === undefined || epoch.state !== "revoking") continue
      if (signal.hold > 0) this.commits.flushed(epoch, "given up")
      if (signal.exact) this.judge.end(epoch)
      // announced again while it is still being drained: that is answered at once, and the drain goes on
      else if (![...owner.revoking].some((one) => one.signal.partitions.some((q) => q.epoch === p.epoch))) {
        epoch.state = "suspended"
      }
    }
  }

  reopened(owner: Owner, old: EpochPartition, next: EpochPartition): void {
    const before = owner.epochs.get(old.epoch)
    if (before !== undefined && before.mayEnd === undefined && before.state !== "ended") {
      this.judge.violation("P22", `${keyOf(old)}#${old.epoch} is reopened and nobody asked for it`)
    }
    this.judge.end(before)
    const epoch = this.open(owner, next, undefined, false, true)
    epoch.soughtTo = owner.seeksTo
    epoch.sought = owner.seeksTo !== undefined || before?.mayEnd === "sought"
  }

  leaving(owner: Owner): void {
    for (const epoch of owner.epochs.values()) {
      if (epoch.state === "open" || epoch.state === "revoking") this.commits.flushed(epoch, "left")
      this.judge.end(epoch)
    }
    owner.left = true
  }

  private chunk(
    owner: Owner,
    chunk: {
      readonly epoch: number
      readonly nextOffset: bigint
      readonly end: bigint
      readonly records: ReadonlyArray<{ value: Uint8Array | null }>
    }
  ): void {
    const epoch = owner.epochs.get(chunk.epoch)
    if (epoch === undefined || epoch.state === "ended") return
    const log = this.judge.truth.logs.get(epoch.key)!
    const recs = chunk.records.map((record) => this.judge.recordOf(record))
    // read before the log was truncated, and on its way since
    const stale = recs.some((rec) => log.records[log.indexOf(rec.offset)] !== rec)
    // first: a map of before the truncation is believed as well, and carried on from here
    if (epoch.keptEnd !== undefined) this.believe(epoch, epoch.keptEnd, undefined)
    this.believe(epoch, chunk.end, recs[0]?.offset)
    if (log !== epoch.log && !stale) {
      this.judge.happened("truncation unnoticed")
      // it reads on in a log that was truncated, and nobody could tell
      const to = epoch.claims?.end ?? epoch.position
      log.excuse(to > epoch.position ? to : epoch.position, "read on over a truncation")
      epoch.log = log
    }
    owner.registered.most += recs.length
    if (epoch.state === "open" && owner.closing === undefined && epoch.mayEnd === undefined)
      owner.registered.least += recs.length
    const given = new Set(recs)
    for (let i = stale ? log.records.length : log.indexOf(epoch.position); i < log.records.length; i++) {
      const rec = log.records[i]!
      if (rec.offset >= chunk.nextOffset) break
      if (!given.has(rec) && this.judge.truth.owed(log, rec)) {
        this.judge.violation("delivery", `${epoch.key}@${rec.offset} is not in the chunk to ${chunk.nextOffset}`)
      }
    }
    for (const rec of recs) {
      epoch.indexOf.set(rec, epoch.delivered.push(rec) - 1)
      if (epoch.claims?.says(rec.offset) === true) {
        this.alreadyDone(owner, epoch, stale ? epoch.log : log, rec)
        continue
      }
      const lane = laneOf(owner, rec)
      if (lane !== undefined) {
        for (const one of owner.running)
          if (one.epoch?.key === epoch.key && one.epoch.state === "ended" && laneOf(owner, one.rec) === lane)
            this.judge.happened("lane waits for a zombie")
        const found = epoch.lanes.get(lane)
        if (found === undefined) epoch.lanes.set(lane, { recs: [rec], next: 0 })
        else found.recs.push(rec)
      }
      if (rec.filter !== "unwanted" || !owner.filters) continue
      owner.filtered.most++
      if (epoch.state !== "open" || owner.closing !== undefined || epoch.mayEnd !== undefined) continue
      owner.filtered.least++
      epoch.certain.set(rec, this.judge.world.now)
    }
    epoch.position = chunk.nextOffset
  }

  private alreadyDone(owner: Owner, epoch: EpochTruth, log: LogTruth, rec: Rec): void {
    if (!rec.done && this.judge.truth.owed(log, rec)) {
      this.judge.violation("I12", `${epoch.key}@${rec.offset} is passed over by a map, and is not done`)
    }
    rec.doneIn.add(epoch.epoch)
    owner.alreadyDone.most++
    if (epoch.state !== "open" || owner.closing !== undefined || epoch.mayEnd !== undefined) return
    owner.alreadyDone.least++
    epoch.certain.set(rec, this.judge.world.now)
  }

  /** The end of the log is known now. */
  private believe(epoch: EpochTruth, end: bigint, first: bigint | undefined): void {
    const { found } = epoch
    epoch.found = undefined
    epoch.keptEnd = undefined
    if (found === undefined || found.end > end || (first !== undefined && first < found.base)) return
    epoch.claims = found
  }

  /** A drain waits for what is worth it: for dead letters, and for handlers that have not run for long (P8, P9). */
  private waits(owner: Owner, one: Outstanding): void {
    if (!this.isDraining(owner, one)) return
    for (const epoch of one.fresh) {
      if (epoch.state !== "revoking" || epoch.mayEnd !== undefined) continue
      for (const [rec, of] of owner.letters) {
        if (of === epoch && epoch.sending.has(rec))
          this.judge.violation(
            "P8",
            `${epoch.key}#${epoch.epoch} is given up, the dead letter of ${rec.offset} is on its way`
          )
      }
      for (const attempt of owner.running) {
        if (attempt.epoch === epoch && this.isWaitedFor(attempt, one))
          this.judge.violation("P8", `${epoch.key}#${epoch.epoch} is given up, and ${attempt.rec.offset} still runs`)
      }
    }
  }

  /** An attempt was interrupted, whose epoch is to end. */
  interrupted(attempt: Attempt): void {
    const { epoch, owner, rec } = attempt
    if (epoch?.state !== "revoking" || epoch.mayEnd !== undefined) return
    for (const one of owner.revoking) {
      if (one.fresh.has(epoch) && this.isDraining(owner, one) && this.isWaitedFor(attempt, one))
        this.judge.violation(
          "P8",
          `${epoch.key}@${rec.offset}#${epoch.epoch} is interrupted, and there was time for it`
        )
    }
  }

  private isDraining(owner: Owner, { seenAt, signal }: Outstanding): boolean {
    const { flushReserve, interruptGrace, revokeDrain } = owner
    if (signal.hold <= 0 || owner.closing !== undefined) return false
    return this.judge.world.now - seenAt < Math.min(revokeDrain, signal.hold - interruptGrace - flushReserve) - 5
  }

  private isWaitedFor({ acked, owner, startedAt }: Attempt, { seenAt }: Outstanding): boolean {
    if (acked || (owner.timeout !== undefined && this.judge.world.now - startedAt >= owner.timeout)) return false
    return seenAt - startedAt <= owner.revokeDrain - 5
  }

  /** A revoke does not wait longer than for what is worth it (P8, P9). */
  private inTime(owner: Owner, { frozenBefore, running, seenAt, signal, waitedFor }: Outstanding): void {
    if (signal.hold <= 0 || waitedFor || owner.decidesLate || owner.closing !== undefined || !this.judge.isCalm(owner))
      return
    const took = owner.realm.awakeSince(seenAt, frozenBefore, this.judge.world.now)
    // finalizers and commits under way, and those of the flush
    const most = 150 + 4 * this.judge.commitTime + (signal.exact && running ? owner.interruptGrace : 0)
    if (took > most)
      this.judge.violation("P9", `${owner.name} held a revoke for ${took} ms and had nothing to wait for`)
  }

  private open(
    owner: Owner,
    p: EpochPartition,
    committed: Committed | undefined,
    topicCommitted: boolean,
    reopened: boolean
  ): EpochTruth {
    const key = keyOf(p)
    const epoch: EpochTruth = {
      topic: p.topic,
      partition: p.partition,
      epoch: p.epoch,
      owner,
      key,
      log: this.judge.truth.logs.get(key)!,
      state: "given",
      exact: false,
      committed: committed?.offset,
      topicCommitted,
      reopened,
      begunAt: undefined,
      givenAt: this.judge.world.now,
      frozenBefore: owner.realm.frozenFor,
      position: -1n,
      sent: undefined,
      putOffSince: undefined,
      putOffAt: Number.NEGATIVE_INFINITY,
      stored: undefined,
      storedMap: undefined,
      found: undefined,
      keptEnd: undefined,
      claims: undefined,
      delivered: [],
      indexOf: new Map(),
      checked: 0,
      certain: new Map(),
      prefix: 0,
      doneFrom: 0,
      surelyFrom: 0,
      paused: false,
      lanes: new Map(),
      started: new Map(),
      again: new Map(),
      directed: new Set(),
      parkLimit: 0,
      parkedUntil: new Map(),
      sending: new Set(),
      endedAt: 0,
      soughtTo: undefined,
      sought: false,
      mayEnd: undefined
    }
    owner.epochs.set(p.epoch, epoch)
    if (committed === undefined && !reopened) owner.opening.add(epoch)
    return epoch
  }

  /** A partition begins, whatever keeps others of its assignment from beginning (I11). */
  private opens(owner: Owner): void {
    for (const epoch of owner.opening) {
      if (epoch.begunAt !== undefined || epoch.state === "ended") owner.opening.delete(epoch)
      else if (epoch.state === "given" && epoch.log === this.judge.truth.logs.get(epoch.key)) {
        if (this.judge.leaderless.has(epoch.key)) {
          epoch.givenAt = this.judge.world.now
          epoch.frozenBefore = owner.realm.frozenFor
        }
        const waits = owner.realm.awakeSince(epoch.givenAt, epoch.frozenBefore, this.judge.world.now)
        if (waits <= openingPatience || epoch.log.gone) continue
        if (owner.closing !== undefined || epoch.mayEnd !== undefined || !this.judge.isCalm(owner)) continue
        owner.opening.delete(epoch)
        this.judge.violation("I11", `${epoch.key}#${epoch.epoch} does not begin for ${waits} ms, and nothing keeps it`)
      }
    }
  }

  /** A revoke is answered in every path, while the client holds it. */
  watch(owner: Owner): void {
    this.opens(owner)
    for (const { frozenBefore, putOff, seenAt, signal } of owner.revoking) {
      // who closes waits for a group that is between two generations; a client that cannot wait does not wait for that either
      const since = putOff ?? { at: seenAt, frozenBefore }
      const took = owner.realm.awakeSince(since.at, since.frozenBefore, this.judge.world.now)
      if (took > Math.max(signal.hold, owner.flushTime) + 50) {
        owner.revoking.clear()
        this.judge.violation(
          "answer",
          `${owner.name} did not answer a revoke of ${signal.partitions.length} for ${took} ms`
        )
        return
      }
    }
  }
}
