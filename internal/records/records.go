// Package records splits files into records and finds fields of these records, such as a key.
// The formats are CSV, TSV, JSON lines and plain text. It works on large blocks, does not copy
// records, and examines only what it needs.
//
// A record is a line including its line ending; in CSV, a quoted field may contain line
// endings. A missing newline at the end of a file is added.
package records

import (
	"fmt"
	"path/filepath"
	"strings"
)

// Format is a format of records.
type Format uint8

// The formats.
const (
	// CSV is RFC 4180: fields are separated by commas, and quoted if they contain commas,
	// quotes or line endings.
	CSV Format = iota + 1
	// TSV has fields separated by tabs, without quotes.
	TSV
	// JSONL is one JSON object per line.
	JSONL
	// Text has fields separated by white space or by a separator, and no header.
	Text
)

// FormatNames lists the names of the formats.
const FormatNames = "csv, tsv, jsonl, text"

var formatNames = [...]string{CSV: "csv", TSV: "tsv", JSONL: "jsonl", Text: "text"}

func (f Format) String() string { return formatNames[f] }

// ParseFormat returns the format with a name.
func ParseFormat(name string) (Format, error) {
	for f, n := range formatNames {
		if n == name && name != "" {
			return Format(f), nil
		}
	}
	return 0, fmt.Errorf("unknown format %q: use one of %s", name, FormatNames)
}

// FormatOf returns the format that the extension of a file's name stands for: .csv, .tsv or
// .tab, .jsonl or .ndjson, or text for all others.
func FormatOf(name string) Format {
	switch strings.ToLower(filepath.Ext(name)) {
	case ".csv":
		return CSV
	case ".tsv", ".tab":
		return TSV
	case ".jsonl", ".ndjson":
		return JSONL
	}
	return Text
}

// Layout describes how to split a file.
type Layout struct {
	Format   Format
	NoHeader bool   // CSV and TSV: the first record is data
	Sep      string // the separator; CSV: one byte, "" for a comma; text: "" for white space
}

// HasHeader reports whether the first record of a file names the columns.
func (l Layout) HasHeader() bool {
	return (l.Format == CSV || l.Format == TSV) && !l.NoHeader
}

// Check returns an error if the layout is invalid.
func (l Layout) Check() error {
	switch {
	case l.Sep == "" || l.Format == Text && !strings.ContainsAny(l.Sep, "\n"):
		return nil
	case l.Format == Text:
		return fmt.Errorf("the separator %q contains a newline, which ends a record", l.Sep)
	case l.Format != CSV:
		return fmt.Errorf("a separator can be set for text and csv, not for %s", l.Format)
	case len(l.Sep) != 1 || strings.ContainsAny(l.Sep, "\"\r\n"):
		return fmt.Errorf("the separator of csv must be one byte other than a quote or line ending, not %q", l.Sep)
	}
	return nil
}

// Separator returns the separator of fields: one byte for CSV and TSV, and nil for text with
// fields separated by white space.
func (l Layout) Separator() []byte {
	switch {
	case l.Format == TSV:
		return []byte{'\t'}
	case l.Sep != "" || l.Format == Text:
		return []byte(l.Sep)
	}
	return []byte{','}
}

// Error is an error in a file.
type Error struct {
	File string
	Line int64 // from 1; 0 if the error is about the whole file
	Err  error
}

func (e *Error) Error() string {
	if e.Line == 0 {
		return e.File + ": " + e.Err.Error()
	}
	return fmt.Sprintf("%s, line %d: %v", e.File, e.Line, e.Err)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }
