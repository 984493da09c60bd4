// Command differential runs partd's commands on random files, in all formats and compressions, and
// compares their output with that of a simple model. The model shares no code with partd. Command
// differential stops at the first difference, prints the partd command that shows it, and keeps
// that command's input. It needs gzip, zstd, bzip2 and lz4.
//
//	go run ./bench/differential --duration 1m --seed 7
//
// The code is in this package's tests, which include a short run.
package main

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"time"

	"github.com/go-partd/partd/bench/internal/program"
)

func main() {
	duration := flag.Duration("duration", time.Minute, "how long to run")
	seed := flag.Uint64("seed", uint64(time.Now().UnixNano()), "seed of the first run; each later run uses the next one")
	program.ParseFlags()
	cmd := exec.Command("go", "test", "-count=1", "-v", "-timeout=0", "-run=^TestDifferential$",
		"github.com/go-partd/partd/bench/differential", "-args", "-duration="+duration.String(), fmt.Sprint("-seed=", *seed))
	cmd.Env = append(os.Environ(), "PARTD_REQUIRE_ALL=1") // fail if a program is missing
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	program.ExitOnError(cmd.Run())
}
