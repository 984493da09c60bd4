// Package wire is what package flightclient and a server say to each other over
// Flight beside Flight SQL: calls in JSON, which docs/flightsql.md describes.
package wire

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/go-partd/partd/tables"
)

// The calls: of a ticket, of a put's command, and the types of actions.
const (
	ScanCall = "scan"
	PutCall  = "put"

	Buckets     = "partd.buckets"
	Tables      = "partd.tables"
	Describe    = "partd.describe"
	Versions    = "partd.versions"
	Settings    = "partd.settings"
	SetSettings = "partd.set_settings"
	Delete      = "partd.delete"
	Fold        = "partd.fold"
	Compact     = "partd.compact"
	Expire      = "partd.expire"
	Resample    = "partd.resample"
	Combine     = "partd.combine"
	Clean       = "partd.clean"
	DeleteRows  = "partd.delete_rows"
	Partition   = "partd.partition"

	Evolve    = "partd.evolve"
	Rules     = "partd.rules"
	EditRules = "partd.edit_rules"

	BucketMetadata  = "partd.bucket-metadata"
	ChangeMetadata  = "partd.change-metadata"
	TakeSnapshot    = "partd.snapshot"
	Snapshots       = "partd.snapshots"
	DeleteSnapshots = "partd.delete-snapshots"
	Restore         = "partd.restore"
	TakeLock        = "partd.lock"
	Unlock          = "partd.unlock"
)

// PutModes are the modes of a put by their names.
var PutModes = map[string]tables.PutMode{"error": tables.Error, "append": tables.Append, "replace": tables.Replace}

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
}

// StateOf returns the state that was chosen, which is no time.
func StateOf(at tables.At) (State, error) {
	s := State{at.Version(), at.Snapshot()}
	if at != nil && s == (State{}) {
		return s, fmt.Errorf("%w: a server takes a version or a snapshot, and no time", errors.ErrUnsupported)
	}
	return s, nil
}

// At is what StateOf was given.
func (s State) At() tables.At {
	switch {
	case s.Snapshot != "":
		return tables.AtSnapshot(s.Snapshot)
	case s.Version != nil:
		return tables.AtVersion(*s.Version)
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

// Put is the command of a put.
type Put struct {
	Partd    string           `json:"partd"` // PutCall
	Bucket   string           `json:"bucket,omitempty"`
	Name     string           `json:"name"`
	Mode     tables.PutMode   `json:"mode"`
	ID       string           `json:"id,omitempty"`
	Metadata tables.Metadata  `json:"metadata,omitempty"`
	Settings *tables.Settings `json:"settings,omitempty"`

	Range  *Range `json:"range,omitempty"`  // the rows replace those of a range of time: of the above, only the table counts
	Upsert *Keys  `json:"upsert,omitempty"` // the rows replace those with equal keys; likewise
}

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

// PutDone answers it.
type PutDone struct {
	Version tables.Version `json:"version"`
	Rewrite
}

// Rewrite is what became of rows that were there.
type Rewrite struct {
	Deleted int64 `json:"deleted,omitempty"`
	Written int64 `json:"written,omitempty"`
	Files   int   `json:"files,omitempty"`
}

// Rewritten returns the answer as package tables has it.
func (d PutDone) Rewritten() tables.Rewritten {
	return tables.Rewritten{Version: d.Version, Deleted: d.Deleted, Written: d.Written, Files: d.Files}
}

// Done returns the answer of a rewrite.
func Done(r tables.Rewritten) PutDone {
	return PutDone{r.Version, Rewrite{r.Deleted, r.Written, r.Files}}
}

// Deletion asks for rows to be deleted, and is answered with PutDone.
type Deletion struct {
	Bucket string `json:"bucket,omitempty"`
	Name   string `json:"name"`
	Where  string `json:"where"`
}

// Periods asks for a table's files to be cut by periods of time.
type Periods struct {
	Bucket string           `json:"bucket,omitempty"`
	Name   string           `json:"name"`
	By     tables.Partition `json:"by,omitempty"`
}

// Partitioned answers it.
type Partitioned struct {
	Partition   tables.Partition `json:"partition"`
	Why         string           `json:"why"`
	Version     tables.Version   `json:"version"`
	FilesBefore int              `json:"files_before"`
	FilesAfter  int              `json:"files_after"`
}

// TableSettings asks for the settings of a table to be set.
type TableSettings struct {
	Bucket   string          `json:"bucket,omitempty"`
	Name     string          `json:"name"`
	Settings tables.Settings `json:"settings"`
}

// List asks for the tables of a bucket.
type List struct {
	Bucket string        `json:"bucket,omitempty"`
	Filter tables.Filter `json:"filter"`
}

// Description answers Describe.
type Description struct {
	Info   tables.TableInfo `json:"info"`
	Schema []byte           `json:"schema"` // as in a FlightInfo
	Parts  int              `json:"parts"`  // for Scan.Part
}

// Names asks for tables to be deleted.
type Names struct {
	Bucket string   `json:"bucket,omitempty"`
	Names  []string `json:"names"`
}

// Evolution asks for changes of a table's columns, and of what it takes of them.
type Evolution struct {
	Bucket  string                `json:"bucket,omitempty"`
	Name    string                `json:"name"`
	Mode    *tables.Evolution     `json:"mode,omitempty"` // set first
	Changes []tables.ColumnChange `json:"changes,omitempty"`
}

// RuleEdit asks for a change of the rules of a table, or of a bucket without a name.
type RuleEdit struct {
	Bucket string `json:"bucket,omitempty"`
	Name   string `json:"name,omitempty"`
	tables.RuleEdit
}

// Metadata asks for metadata to be changed: of a bucket, if the name is "".
type Metadata struct {
	Bucket string `json:"bucket,omitempty"`
	Name   string `json:"name,omitempty"`
	tables.MetadataChange
}

// Snapshot names a bucket, and a snapshot to be made, to be deleted (with All, all
// of them) or to be restored, of which Tables are wanted.
type Snapshot struct {
	Bucket string   `json:"bucket,omitempty"`
	Name   string   `json:"name,omitempty"`
	All    bool     `json:"all,omitempty"`
	Tables []string `json:"tables,omitempty"`
}

// Lock asks for a lock for so many Seconds, or for the Lease of one that was given
// to be renewed or ended; and it answers.
type Lock struct {
	Bucket  string  `json:"bucket,omitempty"`
	Name    string  `json:"name,omitempty"`
	Seconds float64 `json:"seconds,omitempty"`
	Lease   string  `json:"lease,omitempty"`
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
