package cli

import (
	"fmt"
	"runtime/debug"
	"strings"

	"github.com/spf13/pflag"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/stores"
)

const (
	defaultMemory = 256 << 20
	minMemory     = 16 << 20
	mostForLog    = 8 << 30 // a log store takes no more
)

// size is a flag for a number of bytes.
type size int64

func memoryFlag(flags *pflag.FlagSet) *size {
	s := size(defaultMemory)
	flags.Var(&s, "memory", "`SIZE` of the memory to use, 16MiB or more")
	return &s
}

func (s *size) String() string {
	return strings.ReplaceAll(stores.FormatSize(int64(*s)), " ", "") // as it can be typed
}

// Type is what pflag calls the kind of value.
func (s *size) Type() string { return "size" }

// Set reads a size such as 256MiB.
func (s *size) Set(text string) error {
	n, err := stores.ParseSize(text)
	if err != nil {
		return err
	}
	if n < minMemory {
		return fmt.Errorf("%s is too little: at least %s", text, stores.FormatSize(minMemory))
	}
	*s = size(n)
	return nil
}

// block is how much is read at once.
func (s size) block() int { return int(min(max(s/256, 256<<10), 1<<20)) }

// threads is how many threads there is memory for: what they read at once takes a
// quarter of it.
func (s size) threads() int { return int(s)/4/s.block() - 2 }

// engines is what the engines of a command may use: what the input, the output
// and the program itself leave.
func (s size) engines(threads int) int64 {
	reading := int64(2+threads) * int64(s.block())
	return max(int64(s-s/8)-reading, int64(s/2))
}

// maxRecord is the longest record, or value, that fits the memory: a quarter.
func (s size) maxRecord() int { return int(min(s/4, partd.MaxValueLen)) }

// keepTo limits the heap, and returns the options of a store and its layers. Together they get three quarters
// of it: the rest is for the input, for a record as long as they may be, and for
// what is freed but not collected yet, without which the collector would run all
// the time.
func (s size) keepTo(rawURL string) map[string]string {
	s.limitHeap()
	return map[string]string{"memory": fmt.Sprint(s.share(rawURL))}
}

// limitHeap makes the garbage collector keep the process near its memory.
func (s size) limitHeap() {
	const program = 8 << 20 // what the runtime takes anyway
	if limit := int64(s + s/16 + program); limit < debug.SetMemoryLimit(-1) {
		debug.SetMemoryLimit(limit)
	}
}

// share is what a store, and each of its layers that has an option memory, gets.
func (s size) share(rawURL string) int64 {
	share := int64(s) / 4 * 3
	prefix, _, _ := strings.Cut(rawURL, ":")
	if scheme, _ := splitURL(rawURL); scheme == "log" {
		share = min(share/int64(1+strings.Count(prefix, "buffer+")), mostForLog)
	}
	return share
}
