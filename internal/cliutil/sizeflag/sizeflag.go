// Package sizeflag has the flags for numbers of bytes.
package sizeflag

import (
	"fmt"
	"strings"

	"github.com/go-partd/partd/stores"
)

// Size is a flag for a number of bytes, 0 for none.
type Size struct {
	Bytes int64
	Min   int64 // less is refused
}

func (s *Size) String() string {
	if s.Bytes == 0 {
		return ""
	}
	return Format(s.Bytes)
}

// Format writes a number of bytes as it can be typed.
func Format(n int64) string { return strings.ReplaceAll(stores.FormatSize(n), " ", "") }

// Type is what pflag calls the kind of value.
func (s *Size) Type() string { return "size" }

// Set reads a size such as 256MiB.
func (s *Size) Set(text string) error {
	n, err := stores.ParseSize(text)
	if err != nil {
		return err
	}
	if n < s.Min {
		return fmt.Errorf("%s is too little: at least %s", text, stores.FormatSize(s.Min))
	}
	s.Bytes = n
	return nil
}
