package cli

import (
	"fmt"
	"runtime/debug"
	"strings"

	"github.com/spf13/pflag"

	"github.com/go-partd/partd/internal/cliutil"
	"github.com/go-partd/partd/internal/cliutil/sizeflag"
)

const (
	defaultMemory = 256 << 20
	minMemory     = 16 << 20
	maxForLog     = 8 << 30 // a log store takes no more
)

func memoryFlag(flags *pflag.FlagSet) *sizeflag.Size {
	s := &sizeflag.Size{Bytes: defaultMemory, Min: minMemory}
	flags.Var(s, "memory", "`SIZE` of the memory to use, 16MiB or more")
	return s
}

// keepTo limits the heap, and returns the options of a store and its layers.
// Together they get three quarters of the memory: the rest is for the input, for a
// record as long as they may be, and for what is freed but not collected yet,
// without which the collector would run all the time.
func keepTo(memory int64, rawURL string) map[string]string {
	limitHeap(memory)
	return map[string]string{"memory": fmt.Sprint(share(memory, rawURL))}
}

// limitHeap makes the garbage collector keep the process near its memory.
func limitHeap(memory int64) {
	const program = 8 << 20 // what the runtime takes anyway
	if limit := memory + memory/16 + program; limit < debug.SetMemoryLimit(-1) {
		debug.SetMemoryLimit(limit)
	}
}

// share is what a store, and each of its layers that has an option memory, gets.
func share(memory int64, rawURL string) int64 {
	share := memory / 4 * 3
	prefix, _, _ := strings.Cut(rawURL, ":")
	if scheme, _ := cliutil.SplitURL(rawURL); scheme == "log" {
		share = min(share/int64(1+strings.Count(prefix, "buffer+")), maxForLog)
	}
	return share
}
