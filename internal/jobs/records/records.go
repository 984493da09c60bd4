// Package records splits CSV, TSV, JSON lines and plain text into records and their fields, without
// copying the records.
//
// A record is a line with its line ending. In CSV, a quoted field can contain line endings. If
// the last line of a file has no newline, one is added.
package records

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// Format is a format of records.
type Format uint8

// The formats.
const (
	CSV   Format = iota + 1 // RFC 4180; the separator need not be a comma
	TSV                     // fields separated by tabs; quotes are data
	JSONL                   // one JSON object per line
	Text                    // fields separated by white space or by a given separator; no header
)

// FormatNames lists the names of the formats.
const FormatNames = "csv, tsv, jsonl, text"

var formatNames = [...]string{CSV: "csv", TSV: "tsv", JSONL: "jsonl", Text: "text"}

func (f Format) String() string { return formatNames[f] }

// ParseFormat returns the format with the given name.
func ParseFormat(name string) (Format, error) {
	if f := slices.Index(formatNames[CSV:], name); f >= 0 {
		return CSV + Format(f), nil
	}
	return 0, fmt.Errorf("unknown format %q: use one of %s", name, FormatNames)
}

// FormatOf returns the format for a file name's extension: .csv, .tsv or .tab, .jsonl or .ndjson.
// For other extensions it returns Text.
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
	NoHeader bool    // CSV and TSV: the first record is data
	Sep      string  // separator; "" means a comma for CSV and white space for text
	Ragged   Ragged  // CSV and TSV: what happens to records with more or fewer fields than the header
	Values   *Values // CSV and TSV: how fields represent missing values and numbers; nil reads them unchanged
	Encoding string  // encoding of input files; output is always UTF-8
	RowNames bool    // CSV and TSV: the header lacks a name for the first column, which becomes RowNamesColumn
}

// RowNamesColumn is the name of the first column if the header has none.
const RowNamesColumn = "row_names"

// HasHeader reports whether the first record in a file names the columns.
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

// Separator returns the field separator, which is one byte for CSV and TSV. It is empty for text
// if white space separates the fields.
func (l Layout) Separator() []byte {
	switch {
	case l.Format == TSV:
		return []byte{'\t'}
	case l.Sep != "" || l.Format == Text:
		return []byte(l.Sep)
	}
	return []byte{','}
}

// Error is an error with its position in a file.
type Error struct {
	File string
	Line int64 // line number from 1; 0 if the error concerns the whole file
	Err  error
}

func (e *Error) Error() string {
	if e.Line == 0 {
		return e.File + ": " + e.Err.Error()
	}
	return fmt.Sprintf("%s, line %d: %v", e.File, e.Line, e.Err)
}

// Unwrap returns the underlying error.
func (e *Error) Unwrap() error { return e.Err }
