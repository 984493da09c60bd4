//go:build cgo

package database

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
)

// TestNeedsMemory checks that an error of DuckDB is recognized, and a statement's own text is not.
func TestNeedsMemory(t *testing.T) {
	const sql = "SELECT 1"
	for message, want := range map[string]bool{
		`{"exception_type":"Out of Memory","exception_message":"failed to allocate\nadvice","position":"7"}`:      true,
		`{"exception_type":"Invalid Input","exception_message":"Out of Memory error: a text","position":"7"}`:     false,
		`{"exception_type":"Out of Memory","exception_message":"failed to offload data block of size 256.0 KiB"}`: true,
		`{"exception_type":"IO","exception_message":"Could not write file \"a\": No space left on device"}`:       false,
		`{"exception_type":"Conversion","exception_message":"Could not convert 'Out of Memory error: ' to INT"}`:  false,
	} {
		if err := decodeError(sql, message); NeedsMemory(fmt.Errorf("each: %w", err)) != want {
			t.Errorf("%v: NeedsMemory is %v, want %v", err, !want, want)
		}
	}
}

// TestDiskFull checks that DuckDB's texts for a full disk and for a user's quota mean that the disk is full.
func TestDiskFull(t *testing.T) {
	for cause, want := range map[syscall.Errno]bool{syscall.ENOSPC: true, syscall.EDQUOT: true, syscall.EIO: false} {
		text := cause.Error() // in lower case, unlike DuckDB's, which comes from the C library
		err := decodeError("", `{"exception_type":"IO","exception_message":"Could not write file \"a\": `+strings.ToUpper(text[:1])+text[1:]+`"}`)
		if errors.Is(err, syscall.ENOSPC) != want {
			t.Errorf("%v: the disk is full: %v, want %v", err, !want, want)
		}
	}
}
