// Package records splits files into records and finds the field that is a
// record's key: CSV, TSV, JSON lines and plain text. It works on large blocks,
// copies no record, and looks only at what it needs.
//
// A record is a line, its line ending included; in CSV a quoted field may hold
// line endings too. Where the last line of a file has no newline, one is added.
package records

import (
	"fmt"
	"path/filepath"
	"strings"
)

// Format is what the records of a file look like.
type Format uint8

// The formats.
const (
	// CSV is RFC 4180: fields between commas, quoted where they hold commas,
	// quotes or line endings.
	CSV Format = iota + 1
	// TSV has fields between tabs and knows no quotes.
	TSV
	// JSONL is one JSON object per line.
	JSONL
	// Text has fields between runs of white space or between separators, and no
	// header.
	Text
)

// Names lists the names of the formats.
const Names = "csv, tsv, jsonl, text"

var formatNames = [...]string{CSV: "csv", TSV: "tsv", JSONL: "jsonl", Text: "text"}

func (f Format) String() string { return formatNames[f] }

// ParseFormat returns the format of a name, as String gives it.
func ParseFormat(name string) (Format, error) {
	for f, n := range formatNames {
		if n == name && name != "" {
			return Format(f), nil
		}
	}
	return 0, fmt.Errorf("unknown format %q: there are %s", name, Names)
}

// FormatOf tells the format from a file's name: .csv, .tsv or .tab, .jsonl or
// .ndjson, and text for all others.
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

// Layout is what has to be known of a file to split it.
type Layout struct {
	Format   Format
	NoHeader bool   // CSV and TSV: the first record is data, too
	Sep      string // Text: what separates fields, "" for runs of white space; CSV: one byte, "" for a comma
}

// HasHeader reports whether the first record of a file names the columns.
func (l Layout) HasHeader() bool {
	return (l.Format == CSV || l.Format == TSV) && !l.NoHeader
}

// Check reports whether the layout makes sense.
func (l Layout) Check() error {
	switch {
	case l.Sep == "" || l.Format == Text && !strings.ContainsAny(l.Sep, "\n"):
		return nil
	case l.Format == Text:
		return fmt.Errorf("the separator %q holds a newline, which ends a record", l.Sep)
	case l.Format != CSV:
		return fmt.Errorf("a separator is for text and csv, not for %s", l.Format)
	case len(l.Sep) != 1 || strings.ContainsAny(l.Sep, "\"\r\n"):
		return fmt.Errorf("the separator of csv must be one byte other than a quote or line ending, not %q", l.Sep)
	}
	return nil
}

// Separator returns what separates fields: one byte for CSV and TSV, nothing for text
// with fields between white space.
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
	Line int64 // from 1; 0 if it is the file as a whole
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
