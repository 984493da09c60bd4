// Package wire has the calls in JSON by which package flightclient sends rows to a
// server over Flight, and gets them; docs/flightsql.md describes them. Calls without rows
// are in package operations.
package wire

import (
	"encoding/json"
	"errors"
	"time"
	"unicode/utf8"

	"github.com/go-partd/partd/tables"
)

// The calls: of a ticket, and of a put's command.
const (
	ScanCall     = "scan"
	ResampleCall = "resample"
	PutCall      = "put"
)

// PutModes are the modes of a put by their names.
var PutModes = map[string]tables.PutMode{"error": tables.PutError, "append": tables.PutAppend, "replace": tables.PutReplace}

// Table names a table, in one of its states.
type Table struct {
	Bucket string `json:"bucket,omitempty"`
	Name   string `json:"name"`
	State
}

// State is that of now, or an older one.
type State struct {
	Version  *tables.Version `json:"version,omitempty"`
	Snapshot string          `json:"snapshot,omitempty"`
	Time     time.Time       `json:"time,omitzero"`
}

// StateOf returns the state that was chosen.
func StateOf(at tables.At) State { return State{at.Version(), at.Snapshot(), at.Time()} }

// At is what StateOf was given.
func (s State) At() tables.At {
	switch {
	case s.Snapshot != "":
		return tables.AtSnapshot(s.Snapshot)
	case s.Version != nil:
		return tables.AtVersion(*s.Version)
	case !s.Time.IsZero():
		return tables.AtTime(s.Time)
	}
	return nil
}

// Scan is a ticket.
type Scan struct {
	Partd string `json:"partd"` // ScanCall
	Table
	Columns    []string  `json:"columns,omitempty"`
	Where      string    `json:"where,omitempty"`
	Limit      int64     `json:"limit,omitempty"`
	Last       int64     `json:"last,omitempty"`
	From       time.Time `json:"from,omitzero"`
	To         time.Time `json:"to,omitzero"`
	TimeColumn string    `json:"time_column,omitempty"`

	Part         int64 `json:"part,omitempty"`
	Dictionaries bool  `json:"dictionaries,omitempty"`
}

// Statement is the handle of a ticket of Flight SQL, and of a prepared statement.
type Statement struct {
	SQL    string `json:"sql"`
	Bucket string `json:"bucket,omitempty"`
	State
	Parameters []byte `json:"parameters,omitempty"` // one row, as an Arrow stream
	ID         string `json:"id,omitempty"`         // of one execution, by which it is cancelled
}

// Put is the command of a put, which tables.Rewritten answers.
type Put struct {
	Partd    string           `json:"partd"` // PutCall
	Bucket   string           `json:"bucket,omitempty"`
	Name     string           `json:"name"`
	Mode     tables.PutMode   `json:"mode"`
	ID       string           `json:"id,omitempty"`
	Metadata tables.Metadata  `json:"metadata,omitempty"`
	Settings *tables.Settings `json:"settings,omitempty"`
	Whole    bool             `json:"whole,omitempty"` // an append that lacks columns of the table is refused

	Range  *Range `json:"range,omitempty"`  // the rows replace those of a range of time: of the above, only the table counts
	Upsert *Keys  `json:"upsert,omitempty"` // the rows replace those with equal keys; likewise
}

// Done answers a put.
type Done struct {
	tables.Rewritten
	Lacks []string `json:"lacks,omitempty"` // the columns of the table that an append lacked
}

// Check refuses what a put would not do.
func (p *Put) Check() error {
	if (p.Range != nil || p.Upsert != nil) && (p.Mode == tables.PutReplace || p.ID != "" || p.Metadata != nil || p.Settings != nil || p.Whole && p.Range != nil) {
		return errors.New("rows that replace those of a range, or with equal keys, go with no mode, id, metadata, settings or whole: leave these out")
	}
	return nil
}

// GaveUp is the note of a client that ends a put's stream, of which nothing is to be kept.
const GaveUp = "partd.gave-up"

// Range is a range of time, of which either end may be missing.
type Range struct {
	From       time.Time `json:"from,omitzero"`
	To         time.Time `json:"to,omitzero"`
	TimeColumn string    `json:"time_column,omitempty"`
}

// Keys are the columns that tell rows apart; none are those of the table's settings.
type Keys struct {
	Keys []string `json:"keys,omitempty"`
}

// Is reports whether a ticket or command is a call of this package.
func Is(call string, b []byte) bool {
	var c struct {
		Partd string `json:"partd"`
	}
	return json.Unmarshal(b, &c) == nil && c.Partd == call
}

// Unmarshal reads JSON. Package json would make one name of all names that are not
// UTF-8.
func Unmarshal(b []byte, v any) error {
	if !utf8.Valid(b) {
		return errors.New("it is not UTF-8")
	}
	return json.Unmarshal(b, v)
}
