package cli

import (
	"runtime"

	"github.com/spf13/pflag"
)

const mostThreads = 256

// threadsFlag adds --threads.
func threadsFlag(flags *pflag.FlagSet) *int {
	return flags.Int("threads", runtime.GOMAXPROCS(0), "how many threads do the work, `N`")
}

func checkThreads(n int) error {
	if n < 1 || n > mostThreads {
		return usagef("--threads is a number from 1 to %d, not %d", mostThreads, n)
	}
	return nil
}
