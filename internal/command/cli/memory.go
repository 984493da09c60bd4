package cli

import (
	"fmt"
	"strings"

	"github.com/go-partd/partd/internal/command/cliutil"
)

const (
	defaultMemory = 256 << 20
	minMemory     = 16 << 20
	maxForLog     = 8 << 30 // maximum memory for a log store
)

// limitMemory limits the heap, and returns options that give a store and its layers three quarters
// of the memory. The rest is for the input, for a record of maximum length, and for garbage, so
// that the collector does not run all the time.
func limitMemory(memory int64, rawURL string) map[string]string {
	cliutil.LimitHeap(memory)
	return map[string]string{"memory": fmt.Sprint(storeShare(memory, rawURL))}
}

// storeShare returns the value of the "memory" option for a store and for each of its layers.
func storeShare(memory int64, rawURL string) int64 {
	share := memory / 4 * 3
	prefix, _, _ := strings.Cut(rawURL, ":")
	if scheme, _ := cliutil.SplitURL(rawURL); scheme == "log" {
		share = min(share/int64(1+strings.Count(prefix, "buffer+")), maxForLog)
	}
	return share
}
