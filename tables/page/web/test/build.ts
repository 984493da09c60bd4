import { execFileSync } from "node:child_process";

// Builds the program once for all tests, with the page in ../dist.
export default function build() {
  execFileSync("go", ["build", "-o", "web/test-results-bin/partd-tables", "../cmd/partd-tables"], {
    cwd: "..",
    stdio: "inherit",
  });
}
