import { outage } from "../../driver/test/suites/outage.ts"
import { rolling } from "../../driver/test/suites/rolling.ts"
import { topicIds } from "../../driver/test/suites/topicIds.ts"
import { client } from "./client.ts"

outage(client)
rolling(client)
topicIds(client)
