package operations

import (
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/transform"
)

// List asks for the tables of a bucket.
type List struct {
	Bucket string        `json:"bucket,omitempty"`
	Filter tables.Filter `json:"filter"`
}

// Description is what is known of a table.
type Description struct {
	Info   tables.TableInfo `json:"info"`
	Schema []byte           `json:"schema"` // as in a FlightInfo
	Parts  int              `json:"parts"`  // see wire.Scan.Part
}

// Bucket names a bucket.
type Bucket struct {
	Bucket string `json:"bucket,omitempty"`
}

// Names are those of tables of a bucket.
type Names struct {
	Bucket string   `json:"bucket,omitempty"`
	Names  []string `json:"names"`
}

// TableSettings replace those of a table.
type TableSettings struct {
	Bucket   string          `json:"bucket,omitempty"`
	Name     string          `json:"name"`
	Settings tables.Settings `json:"settings"`
}

// Evolution changes a table's columns, and what puts may change of them.
type Evolution struct {
	Bucket  string                `json:"bucket,omitempty"`
	Name    string                `json:"name"`
	Mode    *tables.Evolution     `json:"mode,omitempty"` // set first
	Changes []tables.ColumnChange `json:"changes,omitempty"`
}

// RuleEdit changes the rules of a table or, without a name, of a bucket.
type RuleEdit struct {
	Bucket string `json:"bucket,omitempty"`
	Name   string `json:"name,omitempty"`
	tables.RuleEdit
}

// Resampling is a ticket for the rows that [Resample] would put.
type Resampling struct {
	Partd string `json:"partd"` // wire.ResampleCall
	transform.ResampleOptions
}

// Deletion says which rows of a table to delete.
type Deletion struct {
	Bucket string `json:"bucket,omitempty"`
	Name   string `json:"name"`
	Where  string `json:"where"`
}

// Periods says by which periods of time to cut a table's files.
type Periods struct {
	Bucket string           `json:"bucket,omitempty"`
	Name   string           `json:"name"`
	By     tables.Partition `json:"by,omitempty"`
}

// Metadata changes that of a table or, without a name, of a bucket.
type Metadata struct {
	Bucket string `json:"bucket,omitempty"`
	Name   string `json:"name,omitempty"`
	tables.MetadataChange
}

// Snapshot names a snapshot of a bucket, or with All every one, and the tables of it to
// restore.
type Snapshot struct {
	Bucket string   `json:"bucket,omitempty"`
	Name   string   `json:"name,omitempty"`
	All    bool     `json:"all,omitempty"`
	Tables []string `json:"tables,omitempty"`
}

// Lock asks for a lock for so many seconds, or names the lease of one to renew or end it;
// and it is the answer.
type Lock struct {
	Bucket  string  `json:"bucket,omitempty"`
	Name    string  `json:"name,omitempty"`
	Seconds float64 `json:"seconds,omitempty"`
	Lease   string  `json:"lease,omitempty"`
}
