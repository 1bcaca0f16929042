import { commits } from "../../driver/test/suites/commits.ts"
import { group } from "../../driver/test/suites/group.ts"
import { joining } from "../../driver/test/suites/joining.ts"
import { strangers } from "../../driver/test/suites/strangers.ts"
import { client } from "./client.ts"

group(client)
joining(client)
strangers(client)
commits(client)
