/** The Java Parallel Consumer, as processes: `ParallelMember.java`, run from its source. */
import { Effect } from "effect"
import { join } from "node:path"
import * as Members from "../integration/members.ts"
import { exec } from "../kafka/exec.ts"
import { jars, java, KafkaUnavailable } from "../kafka/java.ts"

const jvm = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Dorg.slf4j.simpleLogger.defaultLogLevel=error"]

/** What a member is started with. Fails where there can be none. */
export const prepare = Effect.gen(function* () {
  const command = yield* java
  yield* exec(command, ["--describe-module", "jdk.compiler"]).pipe(
    Effect.mapError(
      () =>
        new KafkaUnavailable({
          missing: true,
          reason: `Java is there, but without its compiler (jdk.compiler), which runs a member of the Parallel Consumer from its source`
        })
    )
  )
  const classes = yield* jars(join(import.meta.dirname, "pom.xml"), "parallel-consumer-libs-0.5.3.3")
  return { command, args: [...jvm, "-cp", classes, join(import.meta.dirname, "ParallelMember.java")] }
})

export type Java = Effect.Success<typeof prepare>

export interface MemberOptions {
  readonly brokers: ReadonlyArray<string>
  readonly topic: string
  readonly groupId: string
  readonly ordering: "KEY" | "UNORDERED"
  readonly concurrency: number
  readonly turn: number
}

export const start = ({ args, command }: Java, within: string, options: MemberOptions) => {
  const { brokers, concurrency, groupId, ordering, topic, turn } = options
  return Members.launch(within, (file) => [
    command,
    [...args, "member", brokers.join(), groupId, topic, file, ordering, String(concurrency), String(turn)]
  ])
}

export interface Commit {
  readonly partition: number
  readonly offset: bigint
  readonly metadata: string
}

/** Commits for a group without members. */
export const commit = (
  { args, command }: Java,
  options: Pick<MemberOptions, "brokers" | "groupId" | "topic">,
  commits: ReadonlyArray<Commit>
) =>
  exec(command, [
    ...args,
    "commit",
    options.brokers.join(),
    options.groupId,
    options.topic,
    ...commits.flatMap(({ metadata, offset, partition }) => [String(partition), String(offset), metadata])
  ])
