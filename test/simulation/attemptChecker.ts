/**
 * Each attempt of a handler: when it starts, beside whom, in which order, how it ends, and what its outcome counts for.
 */
import type { Snapshot } from "@concurrent-kafka/core/Snapshot"
import type { Judge } from "./judge.ts"
import { type Attempt, type EpochTruth, laneOf, type Owner } from "./owner.ts"
import { keyOf, type Rec } from "./truth.ts"

const counted = ["handled", "skipped", "filtered", "deadLettered", "alreadyDone"] as const

export class AttemptChecker {
  private readonly judge: Judge

  /** called for each that did not ask for it */
  interrupted: (attempt: Attempt) => void = () => {}

  constructor(judge: Judge) {
    this.judge = judge
  }

  starts(owner: Owner, rec: Rec, epochNumber: number, number: number): Attempt {
    const epoch = owner.epochs.get(epochNumber)
    const where = `${keyOf(rec)}@${rec.offset}#${epochNumber}`
    rec.attempts++
    const attempt: Attempt = {
      owner,
      rec,
      epoch,
      startedAt: this.judge.world.now,
      frozenBefore: owner.realm.frozenFor,
      stubborn: false,
      acked: false,
      deferred: false,
      self: false,
      ended: false,
      look: () => undefined
    }
    if (owner.realm.state === "dead") return attempt
    for (const other of [...owner.running]) other.look()
    // who has had to wait for its turn has been in flight, with its permit, since before
    const mayHaveWaited = rec.attempts > 2
    if (owner.running.size >= owner.limit && !(mayHaveWaited && owner.running.size < owner.mostLimit))
      this.judge.violation("I5", `${where} starts beside ${owner.running.size} of ${owner.limit}`)
    if (epoch === undefined) this.judge.violation("I3", `${where} starts in an unknown epoch`)
    else {
      if (epoch.state !== "open") this.judge.violation("P5", `${where} starts in an epoch that is ${epoch.state}`)
      if (epoch.certain.has(rec)) this.judge.violation("I3", `${where} starts and is done already`)
      // nobody knew whether it was
      rec.doneIn.delete(epochNumber)
      epoch.directed.delete(rec)
      epoch.parkedUntil.delete(rec)
      if (rec.filter === "unwanted" && owner.filters) this.judge.violation("I10", `${where} starts and is not wanted`)
      if ((epoch.paused || owner.paused) && !mayHaveWaited) this.judge.violation("C32", `${where} starts and is paused`)
      this.near(owner, epoch, rec, where)
    }
    const lane = laneOf(owner, rec)
    for (const other of owner.running) {
      const same = other.rec.topic === rec.topic && other.rec.partition === rec.partition
      if (same && lane !== undefined && laneOf(owner, other.rec) === lane)
        this.judge.violation("I4", `${where} starts beside ${other.rec.offset}#${other.epoch?.epoch}`)
      if (other.rec === rec && other.epoch === epoch) this.judge.violation("I4", `${where} starts twice at once`)
    }
    if (epoch !== undefined) this.inTurn(owner, epoch, rec, number, where)
    owner.running.add(attempt)
    return attempt
  }

  /** A record that was started before starts again when that was decided, and in a lane nobody passes anybody. */
  private inTurn(owner: Owner, epoch: EpochTruth, rec: Rec, number: number, where: string): void {
    const before = epoch.started.get(rec) ?? 0
    epoch.started.set(rec, before + 1)
    if (number !== before + 1)
      this.judge.violation("R9", `${where} is told of attempt ${number}, and it is ${before + 1}`)
    if (before > 0) {
      const from = epoch.again.get(rec)
      epoch.again.delete(rec)
      if (from === undefined) this.judge.violation("R9", `${where} starts again, and nobody said so`)
      else if (this.judge.world.now < from)
        this.judge.violation("R9", `${where} starts again ${from - this.judge.world.now} ms early`)
      return
    }
    const lane = laneOf(owner, rec)
    const queue = lane === undefined ? undefined : epoch.lanes.get(lane)
    if (queue === undefined) return
    const last = queue.recs[queue.next - 1]
    if (last !== undefined && epoch.started.has(last) && !last.doneIn.has(epoch.epoch)) {
      this.judge.violation("I4", `${where} starts, and ${last.offset} of its lane is not done`)
    }
    // done before, by the map, or not for this group
    while (queue.next < queue.recs.length && queue.recs[queue.next] !== rec) {
      const passed = queue.recs[queue.next++]!
      if (!passed.done) return this.judge.violation("I4", `${where} starts before ${passed.offset} of its lane`)
    }
    if (queue.next++ >= queue.recs.length) this.judge.violation("I4", `${where} starts after others of its lane`)
  }

  ends(attempt: Attempt, how: "success" | "failure" | "interrupted"): void {
    if (attempt.ended) return
    attempt.ended = true
    const { epoch, owner, rec } = attempt
    owner.running.delete(attempt)
    if (owner.realm.state === "dead") return
    if (attempt.stubborn && this.outlives(attempt)) this.judge.happened("zombie of a timeout")
    if (how === "success" && !attempt.deferred) this.done(attempt)
    if (how !== "interrupted" || attempt.self || epoch === undefined || owner.closing !== undefined) return
    const late = this.isLate(attempt)
    this.interrupted(attempt)
    const goes = epoch.state === "ended" || epoch.mayEnd !== undefined || (epoch.state === "revoking" && epoch.exact)
    if (!late && !goes) {
      this.judge.violation(
        "I11",
        `${keyOf(rec)}@${rec.offset}#${epoch.epoch} was interrupted, and its epoch is ${epoch.state}`
      )
    }
  }

  /** The handler has succeeded, and its Scope is closed. */
  done(attempt: Attempt): void {
    const { deferred, epoch, owner, rec } = attempt
    if (epoch === undefined || attempt.acked) return
    const undisturbed = epoch.state === "open" && owner.closing === undefined && epoch.mayEnd === undefined
    this.isDone(owner, epoch, rec, owner.handled, !deferred || (undisturbed && !this.isLate(attempt)))
  }

  /** `record.ack`, which nobody hears whose epoch is over or whose time was. */
  acknowledges(attempt: Attempt): void {
    const { epoch, owner, rec } = attempt
    if (epoch === undefined || attempt.acked) return
    attempt.acked = true
    const undisturbed = epoch.state === "open" && owner.closing === undefined && epoch.mayEnd === undefined
    this.isDone(owner, epoch, rec, owner.handled, undisturbed && !this.isLate(attempt))
  }

  /** The policy says skip. */
  skips(owner: Owner, rec: Rec, epochNumber: number): void {
    const epoch = owner.epochs.get(epochNumber)
    if (epoch !== undefined) this.isDone(owner, epoch, rec, owner.skipped, true)
  }

  /** It is to be tried again, not before this time. */
  retries(owner: Owner, rec: Rec, epochNumber: number, after: number): void {
    owner.epochs.get(epochNumber)?.again.set(rec, this.judge.world.now + after)
  }

  /** The handler has decided itself, in time. */
  directs(attempt: Attempt): void {
    const { epoch, owner, rec } = attempt
    if (owner.realm.state === "dead" || epoch === undefined || attempt.acked || this.isLate(attempt)) return
    epoch.directed.add(rec)
  }

  /** It may be parked for so long, and so many of its partition. */
  parks(owner: Owner, rec: Rec, epochNumber: number, atMost: number, atMostFor: number): void {
    const epoch = owner.epochs.get(epochNumber)
    if (epoch !== undefined && epoch.parkLimit < atMost) epoch.parkLimit = atMost
    epoch?.parkedUntil.set(rec, this.judge.world.now + atMostFor)
    this.judge.happened("parked")
  }

  /** Its dead letter is to be sent. */
  sends(owner: Owner, rec: Rec, epochNumber: number): void {
    owner.epochs.get(epochNumber)?.sending.add(rec)
  }

  /** Dead letters are on their way. */
  letters(owner: Owner, recs: ReadonlyArray<Rec>): void {
    for (const rec of recs) {
      for (const epoch of owner.epochs.values())
        if (epoch.state !== "ended" && epoch.sending.has(rec)) owner.letters.set(rec, epoch)
    }
  }

  /** The broker has the dead letter. It does not say in which epoch it was sent, and two members may have one in which it was to be. */
  sent(owners: ReadonlyArray<Owner>, rec: Rec): void {
    const found = owners.flatMap((owner) =>
      [...owner.epochs.values()].flatMap((epoch) =>
        epoch.sending.delete(rec) && epoch.state !== "ended" ? [{ owner, epoch }] : []
      )
    )
    for (const { epoch, owner } of found) {
      const undisturbed = epoch.state === "open" && owner.closing === undefined && epoch.mayEnd === undefined
      this.isDone(owner, epoch, rec, owner.deadLettered, undisturbed && found.length === 1)
    }
  }

  /** There is nothing to be done after its dead letter is refused. */
  isBuried(owner: Owner, at: { readonly topic: string; readonly partition: number; readonly offset: bigint }): boolean {
    for (const rec of owner.buried) {
      if (rec.topic === at.topic && rec.partition === at.partition && rec.offset === at.offset) return true
    }
    return false
  }

  /**
   * The engine says that it skips: the policy has put it off, or the handler has said so itself. It does not say in which epoch, and
   * while a partition moves from one member of a process to another both have one.
   */
  skippedLater(
    owners: ReadonlyArray<Owner>,
    at: { readonly topic: string; readonly partition: number; readonly offset: bigint }
  ): void {
    const found = owners.flatMap((owner) =>
      [...owner.epochs.values()].flatMap((epoch) => {
        if (epoch.topic !== at.topic || epoch.partition !== at.partition || epoch.state === "ended") return []
        const rec = epoch.delivered.find((one) => one.offset === at.offset)
        return rec === undefined ? [] : [{ owner, epoch, rec }]
      })
    )
    const isDirected = found.some(({ epoch, rec }) => epoch.directed.has(rec))
    for (const { epoch, owner, rec } of found) {
      if (epoch.certain.has(rec)) continue
      // a late one may have failed with its lateness
      if (owner.failsHard && owner.timeout === undefined && !isDirected) {
        this.judge.violation("C12", `${keyOf(rec)}@${rec.offset}#${epoch.epoch} is skipped, and nobody said so`)
      }
      if (found.length === 1) epoch.sending.delete(rec)
      this.isDone(owner, epoch, rec, owner.skipped, found.length === 1)
    }
  }

  /** The policy is asked. */
  asks(owner: Owner, rec: Rec, epochNumber: number, attempt: number): void {
    const epoch = owner.epochs.get(epochNumber)
    const where = `${keyOf(rec)}@${rec.offset}#${epochNumber}`
    if (owner.realm.state === "dead" || epoch === undefined) return
    const started = epoch.started.get(rec) ?? 0
    // whose order or filter cannot be told fails before it begins
    const failsEarly = rec.unorderable || (rec.filter === "throws" && owner.filters)
    if (attempt > started && !failsEarly) {
      // it was not begun: three sessions were lost while it ran
      this.judge.happened("refused")
      epoch.again.delete(rec)
      if (attempt !== started + 1)
        this.judge.violation("R9", `${where} has failed at attempt ${attempt}, and ${started} were begun`)
      else if (rec.attempts < 3) this.judge.violation("D38", `${where} is refused, and was begun ${rec.attempts} times`)
      epoch.started.set(rec, attempt)
    }
    if (epoch.state === "ended") this.judge.violation("P28", `the policy is asked about ${where}, whose epoch is over`)
    if (epoch.directed.has(rec))
      this.judge.violation("R6", `the policy is asked about ${where}, and its handler has decided`)
    if (epoch.certain.has(rec)) this.judge.violation("R21", `the policy is asked about ${where}, which is done`)
  }

  private isDone(
    owner: Owner,
    epoch: EpochTruth,
    rec: Rec,
    counter: { least: number; most: number },
    certain: boolean
  ): void {
    if (owner.realm.state === "dead" || epoch.state === "ended") return
    rec.done = true
    rec.doneIn.add(epoch.epoch)
    counter.most++
    if (!certain) return
    counter.least++
    epoch.parkedUntil.delete(rec)
    epoch.certain.set(rec, this.judge.world.now)
  }

  private outlives({ owner, startedAt }: Attempt): boolean {
    return owner.timeout !== undefined && this.judge.world.now - startedAt > owner.timeout + owner.interruptGrace
  }

  private isLate({ owner, startedAt }: Attempt): boolean {
    return owner.timeout !== undefined && this.judge.world.now - startedAt >= owner.timeout
  }

  /** How far in front of the oldest record that is not done it starts. */
  private near(owner: Owner, epoch: EpochTruth, rec: Rec, where: string): void {
    const { delivered, doneFrom } = epoch
    let oldest = doneFrom
    while (oldest < delivered.length) {
      const one = delivered[oldest]!
      if (!one.doneIn.has(epoch.epoch) && !(one.filter === "unwanted" && owner.filters)) break
      oldest++
    }
    epoch.doneFrom = oldest
    const distance = epoch.indexOf.get(rec)! - oldest
    if (distance >= owner.maxUncommitted) {
      this.judge.violation(
        "maxUncommitted",
        `${where} starts ${distance} records in front of the oldest that is not done`
      )
    }
  }

  /** Who can be interrupted does not run on after his time, or that of his epoch. */
  watch(owner: Owner): void {
    for (const attempt of owner.running) {
      // an attempt that is acknowledged has no time limit any more
      if (attempt.stubborn || attempt.acked) continue
      const { epoch, frozenBefore, rec, startedAt } = attempt
      const where = `${keyOf(rec)}@${rec.offset}#${epoch?.epoch}`
      // who has let the event loop stand still hears of it when it goes on
      const ran = owner.realm.awakeSince(startedAt, frozenBefore, this.judge.world.now)
      if (epoch?.state === "ended") {
        attempt.stubborn = true
        this.judge.violation("P15", `${where} runs on after its epoch`)
      } else if (owner.timeout !== undefined && ran > owner.timeout + 5) {
        attempt.stubborn = true
        this.judge.violation("R8", `${where} runs for ${ran} ms, and its limit is ${owner.timeout}`)
      }
    }
  }

  /** I10: everything that is done is counted under one outcome. */
  counted(owner: Owner, { held, outcomes, released }: Snapshot): void {
    for (const outcome of counted) {
      const { least, most } = owner[outcome]
      const told = outcomes[outcome]
      if (told < least || told > most) {
        this.judge.violation("I10", `${owner.name} tells of ${told} ${outcome}; there were ${least} to ${most}`)
      }
    }
    // what was given to it is done, or given up, or still there
    const { least, most } = owner.registered
    const all = counted.reduce((sum, outcome) => sum + outcomes[outcome], released + held.records)
    if (all < least || all > most)
      this.judge.violation("I10", `${owner.name} tells what became of ${all} records; it was given ${least} to ${most}`)
  }
}
