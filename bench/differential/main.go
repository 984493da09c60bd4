// Command differential runs partd's commands on files with random inputs, in all
// formats and compressions, beside a model of its own: slices, maps, big numbers
// and the standard library, and nothing of partd. It ends at the first difference,
// and says which command shows it; the input is kept. It needs gzip, zstd, bzip2
// and lz4.
//
//	go run ./bench/differential --duration 1m --seed 7
//
// All of it is in this package's tests, where a short run is made with all others.
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
	duration := flag.Duration("duration", time.Minute, "how long to try")
	seed := flag.Uint64("seed", uint64(time.Now().UnixNano()), "of the first run; each that follows has the next")
	flag.Parse()
	cmd := exec.Command("go", "test", "-count=1", "-v", "-timeout=0", "-run=^TestDifferential$",
		"github.com/go-partd/partd/bench/differential", "-args", "-duration="+duration.String(), fmt.Sprint("-seed=", *seed))
	cmd.Env = append(os.Environ(), "PARTD_REQUIRE_ALL=1") // nothing is left out
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	program.End(cmd.Run())
}
