import { commits } from "../../driver/test/suites/commits.ts"
import { compaction } from "../../driver/test/suites/compaction.ts"
import { group } from "../../driver/test/suites/group.ts"
import { positions } from "../../driver/test/suites/positions.ts"
import { client } from "./client.ts"

group(client, "consumer")
commits(client, "consumer")
positions(client, "consumer")
compaction(client, "consumer")
