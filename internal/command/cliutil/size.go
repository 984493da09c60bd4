package cliutil

import (
	"fmt"
	"runtime/debug"
	"strings"

	"github.com/go-partd/partd/stores"
)

// Size is the value of a flag for a size in bytes; 0 means unset.
type Size struct {
	Bytes int64
	Min   int64 // minimum, which Set checks
}

func (s *Size) String() string {
	if s.Bytes == 0 {
		return ""
	}
	return FormatSize(s.Bytes)
}

// FormatSize formats a size in the form that Set accepts.
func FormatSize(n int64) string { return strings.ReplaceAll(stores.FormatSize(n), " ", "") }

// Type returns the name of the value's type, for pflag.
func (s *Size) Type() string { return "size" }

// Set parses a size such as 256MiB.
func (s *Size) Set(text string) error {
	n, err := stores.ParseSize(text)
	if err != nil {
		return err
	}
	if n < s.Min {
		return fmt.Errorf("%s is too small: use at least %s", text, stores.FormatSize(s.Min))
	}
	s.Bytes = n
	return nil
}

// LimitHeap makes the garbage collector keep the process's memory near the given number of bytes.
func LimitHeap(memory int64) {
	const baseMemory = 8 << 20 // memory that the program needs without data
	if limit := memory + memory/16 + baseMemory; limit < debug.SetMemoryLimit(-1) {
		debug.SetMemoryLimit(limit)
	}
}
