import { commits } from "../../driver/test/suites/commits.ts"
import { consumerProtocol } from "../../driver/test/suites/consumerProtocol.ts"
import { group } from "../../driver/test/suites/group.ts"
import { positions } from "../../driver/test/suites/positions.ts"
import { client } from "./client.ts"

consumerProtocol(client)
group(client, "consumer")
commits(client, "consumer")
positions(client, "consumer")
