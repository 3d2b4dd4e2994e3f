import { blackBoxSuite } from "./suite.ts";
import { gvisorTarget } from "./gvisor_target.ts";

blackBoxSuite(gvisorTarget);
