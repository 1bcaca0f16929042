/**
 * The promises that no client may leave untried, and the tests that try them, by how their names begin. Where a client is tried at
 * all, on a real Kafka, each of them runs: `scripts/clients.ts` sees to it after a run, `required.test.ts` before.
 */

export interface Required {
  readonly promise: string
  readonly tests: ReadonlyArray<readonly [suite: string, name: string]>
}

export const required: ReadonlyArray<Required> = [
  {
    promise: "A1: no commit but ours, also where an offset is out of range",
    tests: [
      ["contract", "never commits by itself"],
      ["contract", "a committed offset below the start: goes on at the start in the same epoch"],
      ["contract", "an epoch that is begun beyond the end says so"],
      ["positions", "the log is cut above the position"]
    ]
  },
  {
    promise: "A2: retained means owned without a break",
    tests: [
      ["contract", "a missed generation retains nothing"],
      ["group", "a missed generation gives new epochs"],
      ["group", "a committed offset, or map beside it, that is not ours any more"]
    ]
  },
  {
    promise: "A3: a commit that is refused whole is told as such, and halves of it are taken",
    tests: [["commits", "what is more than a broker can store at once"]]
  },
  {
    promise: "A4: a start under latest is committed at once",
    tests: [["engine", "what one has read from the latest and not finished"]]
  },
  {
    promise: "chunks are in order and complete",
    tests: [
      ["contract", "brings every record of every partition once, in offset order"],
      ["fetching", "every record comes once, in order"]
    ]
  },
  {
    promise: "markers and compaction leave neither gaps nor lag",
    tests: [
      ["contract", "read_committed: a range of aborted records alone"],
      ["fetching", "transactions: aborted ones are left out"],
      ["fetching", "a compacted tail is passed in one step"]
    ]
  },
  {
    promise: "read_committed leaves out what was aborted",
    tests: [["contract", "read_committed: passes aborted records and markers"]]
  },
  {
    promise: "every codec is read, as Java writes it",
    tests: [["fetching", "what the broker itself has compressed is read"]]
  },
  {
    promise: "pause, resume, seek",
    tests: [
      ["contract", "a paused partition brings at most one more chunk"],
      ["contract", "reopen gives a new epoch"],
      ["positions", "a resume, a begin and a reopen take effect at once"]
    ]
  },
  {
    promise: "every outcome of a commit",
    tests: [
      ["contract", "answers each entry in the order of the entries"],
      ["commits", "what a coordinator answers to a commit is its outcome"],
      ["commits", "commits between JoinGroup and Assigned are deferred"],
      ["commits", "a commit that is answered with %d is retriable"],
      ["group", "an eviction while nothing is held"],
      ["topics", "deleted: when a commit of one partition is refused for it"],
      ["staticMembers", "D36: an instance id that is used twice: the first one ends"],
      ["outage", "a commit without an answer"]
    ]
  },
  {
    promise: "metadata both ways",
    tests: [["contract", "stores offset and metadata, and the next session is told both"]]
  },
  {
    promise: "cooperative rebalances revoke what moves, and nothing else",
    tests: [
      ["cooperative", "only what moves is revoked, exactly"],
      ["cooperative", "a missed generation retains nothing"],
      ["cooperative", "a group changes from eager to cooperative members"]
    ]
  },
  {
    promise: "a revoke is awaited",
    tests: [
      ["contract", "a revoke is awaited: commits are taken in the hold"],
      ["group", "a hold outlives the session timeout"]
    ]
  },
  {
    promise: "what is lost is told, and comes back in new epochs",
    tests: [
      ["contract", "who is thrown out has lost everything"],
      ["contract", "who is thrown out in a hold"],
      ["contract", "what is retained keeps its epoch"]
    ]
  },
  {
    promise: "a zombie is fenced",
    tests: [["group", "an event loop that stands still for longer than the session"]]
  },
  {
    promise: "leaders and coordinators move",
    tests: [
      ["rolling", "a rolling restart of three brokers"],
      ["rolling", "SIGKILL of one of three brokers"]
    ]
  },
  {
    promise: "a broker is down for 30 s",
    tests: [["outage", "SIGKILL and a restart 30 seconds later"]]
  },
  {
    promise: "a topic that comes late",
    tests: [["contract", "join waits for a topic that is not there"]]
  },
  {
    promise: "a topic that is deleted and created again",
    tests: [
      ["contract", "a topic that is deleted and created again is another one"],
      ["topics", "deleted and created again with more records than before"]
    ]
  },
  {
    promise: "partitions that are added",
    tests: [
      ["contract", "partitions that are added are assigned"],
      ["topics", "partitions that are added are noticed within metadataMaxAge"]
    ]
  },
  {
    promise: "a thousand partitions with maps",
    tests: [["contract", "a thousand partitions with offset maps"]]
  },
  {
    promise: "close leaves nothing running",
    tests: [
      ["contract", "closing the scope leaves the group"],
      ["leaving", "ends by itself, without a socket, a timer or a warning left"]
    ]
  },
  {
    promise: "C23: two clients in one group",
    tests: [["mixed", "partitions are split, handed over to "]]
  },
  {
    promise: "SASL and TLS",
    tests: [
      ["security", "SASL %s"],
      ["security", "TLS with a certificate authority of one's own"]
    ]
  }
]
