package cli

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"

	"github.com/spf13/pflag"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/stores"
)

const (
	defaultStore  = "file:partd-out"
	defaultMemory = 256 << 20
	minMemory     = 16 << 20
)

// storeFlag adds --store.
func storeFlag(flags *pflag.FlagSet) *string {
	return flags.String("store", defaultStore, "`URL` of the store")
}

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

// maxRecord is the longest record, or value, that fits the memory: a quarter.
func (s size) maxRecord() int { return int(min(s/4, partd.MaxValueLen)) }

// keepTo makes the garbage collector keep the process near its memory, and
// returns the options of the store's layers. They get three quarters of it: the
// rest is for the input, for a record as long as they may be, and for what is
// freed but not collected yet, without which the collector would run all the
// time.
func (s size) keepTo() map[string]string {
	const program = 8 << 20 // what the runtime takes anyway
	if limit := int64(s + s/16 + program); limit < debug.SetMemoryLimit(-1) {
		debug.SetMemoryLimit(limit)
	}
	return map[string]string{"memory": fmt.Sprint(int64(s) / 4 * 3)}
}

// storeExists tells whether a store exists. A URL that makes no sense is wrong
// usage.
func storeExists(url string) (bool, error) {
	exists, err := stores.Exists(url)
	if errors.As(err, new(*stores.URLError)) {
		return false, usageError{err}
	}
	return exists, err
}

// openExisting opens a store that must exist.
func openExisting(ctx context.Context, url string) (partd.Partd, error) {
	exists, err := storeExists(url)
	if err != nil {
		return nil, err
	}
	if !exists {
		return nil, fmt.Errorf("there is no store %s: \"partd shuffle\" or \"partd append\" makes one", url)
	}
	return stores.Open(ctx, url)
}

// closeStore closes a store at the end of a command, and reports the first
// error: that of the command, else that of closing.
func closeStore(ctx context.Context, store partd.Partd, err *error) {
	// Data acknowledged but not flushed yet is worth waiting for, also after an
	// interrupt.
	if cerr := partd.Close(context.WithoutCancel(ctx), store); cerr != nil && !errors.Is(cerr, errors.ErrUnsupported) {
		*err = errors.Join(*err, cerr)
	}
}
