package operations

// This file defines the JSON with which clients, such as package flightclient, request and send rows over Flight.
// docs/dev/tables-wire.md describes it.

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"time"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/ipc"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/rows/arrowsafe"
)

// ProtocolVersion is the protocol version that clients send in the header ProtocolHeader. A server rejects later
// versions. A new field that released servers would ignore or misread needs a new version. Clients must send that
// version only with calls that use the field.
const (
	ProtocolVersion = 1
	ProtocolHeader  = "partd-protocol"
)

// Values of "partd" in a Flight ticket or in the command of a put. They say what the client requests.
const (
	ScanCall     = "scan"
	ChangesCall  = "changes"
	ResampleCall = "resample"
	PutCall      = "put"
)

// PutModes maps names to put modes.
var PutModes = map[string]tables.PutMode{"error": tables.PutError, "append": tables.PutAppend, "replace": tables.PutReplace}

// Table names a table and selects one of its versions.
type Table struct {
	Bucket string `json:"bucket,omitempty"`
	Name   string `json:"name"`
	State
}

// State selects a version of a table. The zero State is the current version.
type State struct {
	Version  *tables.Version `json:"version,omitempty"`
	Snapshot string          `json:"snapshot,omitempty"`
	Time     time.Time       `json:"time,omitzero"`
}

// StateOf converts a selected version to a State.
func StateOf(selected tables.At) State {
	return State{selected.Version(), selected.Snapshot(), selected.Time()}
}

// At is the inverse of StateOf.
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

// Scan is a ticket for reading a table.
type Scan struct {
	Partd string `json:"partd"` // must be ScanCall
	Table
	tables.ScanOptions
}

// Changes is a ticket for Table.Changes. The answer's schema metadata contains tables.VersionKey and tables.UUIDKey.
type Changes struct {
	Partd string `json:"partd"` // must be ChangesCall
	Table
	Since State    `json:"since,omitzero"` // the zero State means an empty table: all rows are changes
	Keys  []string `json:"keys,omitzero"`  // see tables.ChangesOptions.Keys
	UUID  string   `json:"uuid,omitempty"` // see tables.ChangesOptions.UUID
}

// StatementHandle is the handle in a Flight SQL ticket, or of a prepared statement.
type StatementHandle struct {
	SQL    string `json:"sql"`
	Bucket string `json:"bucket,omitempty"`
	State
	Since      State  `json:"since,omitzero"`       // see tables.QueryOptions.Before
	Parameters []byte `json:"parameters,omitempty"` // one row, as an Arrow stream
	ID         string `json:"id,omitempty"`         // lets the client cancel this execution; random, because anyone who knows it can cancel
	WriteID    string `json:"write_id,omitempty"`   // see tables.ExecOptions.ID
}

// Put is the command of a put. A put with Range or Upsert is a correction, which the server answers with a
// CorrectionAnswer. It answers other puts with a PutAnswer.
type Put struct {
	Partd      string           `json:"partd"` // must be PutCall
	Bucket     string           `json:"bucket,omitempty"`
	Name       string           `json:"name"`
	Mode       tables.PutMode   `json:"mode"`
	ID         string           `json:"id,omitempty"`
	Metadata   tables.Metadata  `json:"metadata,omitempty"`
	Settings   *tables.Settings `json:"settings,omitempty"`
	AllColumns bool             `json:"whole,omitempty"` // reject an append that lacks columns of the table

	Range  *Range `json:"range,omitempty"`  // replace the rows in a time range; allows no other options except Bucket and Name
	Upsert *Keys  `json:"upsert,omitempty"` // replace rows with equal keys; allows no other options except Bucket, Name and AllColumns
}

// PutAnswer is the answer to a put that is not a correction.
type PutAnswer struct {
	Version        tables.Version `json:"version"`
	MissingColumns []string       `json:"lacks,omitempty"` // table columns missing from an append
}

// CorrectionAnswer is the answer to a correction. A PutAnswer can also be decoded as a CorrectionAnswer.
type CorrectionAnswer struct {
	tables.RewriteResult
	MissingColumns []string `json:"lacks,omitempty"` // table columns missing from an append
}

// Check returns an error if the put has options that cannot be combined.
func (p *Put) Check() error {
	if (p.Range != nil || p.Upsert != nil) && (p.Mode == tables.PutReplace || p.ID != "" || p.Metadata != nil || p.Settings != nil || p.AllColumns && p.Range != nil) {
		return errors.New("range and upsert cannot be combined with mode, id, metadata or settings, nor range with whole: leave these out")
	}
	return nil
}

// PutCanceled is the app_metadata of the message with which a client cancels a put. The server then discards the rows.
const PutCanceled = "partd.gave-up"

// Range is a time range. If From or To is zero, the range is unbounded at that end.
type Range struct {
	From       time.Time `json:"from,omitzero"`
	To         time.Time `json:"to,omitzero"`
	TimeColumn string    `json:"time_column,omitempty"`
}

// Keys names the columns that identify a row.
type Keys struct {
	Keys     []string `json:"keys,omitempty"`      // if empty, the time and key columns in the table's settings
	NullKeys bool     `json:"null_keys,omitempty"` // whether nulls in these columns are equal, instead of an error
}

// IsCall reports whether b is a ticket or a put's command in which "partd" is call.
func IsCall(call string, b []byte) bool {
	var c struct {
		Partd string `json:"partd"`
	}
	return json.Unmarshal(b, &c) == nil && c.Partd == call
}

// Unmarshal decodes JSON. It rejects invalid UTF-8: package json would replace it, so that different names could become
// equal.
func Unmarshal(b []byte, v any) error {
	if !utf8.Valid(b) {
		return errors.New("the JSON text is not valid UTF-8")
	}
	return json.Unmarshal(b, v)
}

// EncodeParameters returns rows of parameters for a statement as an Arrow stream. It returns nil if rows is nil.
func EncodeParameters(rows arrow.RecordBatch) ([]byte, error) {
	if rows == nil {
		return nil, nil
	}
	var b bytes.Buffer
	w := ipc.NewWriter(&b, ipc.WithSchema(rows.Schema()))
	err := errors.Join(w.Write(rows), w.Close())
	return b.Bytes(), err
}

// DecodeParameters returns the only batch in an Arrow stream from a client, or nil if stream is nil. It returns an
// error if the stream has no batch or several, or if the batch needs more than limit bytes. The caller must release the
// batch.
func DecodeParameters(ctx context.Context, stream []byte, limit int64) (arrow.RecordBatch, error) {
	if stream == nil {
		return nil, nil
	}
	r, err := arrowsafe.NewReader(bytes.NewReader(stream), int64(len(stream)), limit)
	if err != nil {
		return nil, err
	}
	defer r.Release()
	if !r.Next() {
		return nil, cmp.Or(r.Err(), errors.New("there is no row: send one row with a value for each parameter, or no parameters"))
	}
	rows := r.RecordBatch()
	if _, err := (&arrowsafe.Checker{Limit: limit}).Check(ctx, rows); err != nil {
		return nil, err
	}
	rows.Retain()
	if r.Next() || r.Err() != nil {
		rows.Release()
		return nil, cmp.Or(r.Err(), errors.New("more than one batch: send all rows in one batch"))
	}
	return rows, nil
}
