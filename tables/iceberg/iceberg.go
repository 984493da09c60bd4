// Package iceberg reads and changes the Iceberg metadata of tables, with the types of github.com/apache/iceberg-go. It
// is for programs that offer the tables to other engines, as package rest does.
package iceberg

import (
	"context"
	"errors"
	"time"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/state/definition"
	"github.com/go-partd/partd/tables/internal/state/foreign"
)

var access = foreign.Granted[tables.Store, tables.Table]()

// LoadOptions configures Load. Nil or the zero value means no fold.
type LoadOptions struct {
	// Fold makes Load first move recent rows from the table's tail, a log, into files (a fold), because other engines
	// read only files. Load never folds a table of a read-only Store, or one whose property [tables.FoldOnLoadProperty]
	// is "false".
	Fold bool

	// Every limits how often Load folds a table: if its newest snapshot is younger than Every, Load does not fold.
	Every time.Duration

	// Admit, if not nil, is called before a fold, and can delay or reject the fold. When Load returns, it calls
	// release.
	Admit func(context.Context) (release func(), err error)
}

// Load returns the table in the form that other Iceberg engines read. If t is pinned, the error wraps
// [tables.ErrPinned].
func Load(ctx context.Context, t *tables.Table, o *LoadOptions) (*table.Table, error) {
	return access.Load(t, ctx, (*foreign.LoadOptions)(o))
}

// Change is a change to a table that another engine requests.
type Change struct {
	Bucket, Table string
	Requirements  table.Requirements
	Updates       table.Updates
	New           table.Metadata // if not nil, metadata of a table to create instead of Updates; the table must not exist
	Registered    bool           // New is the metadata of a dropped table; it may contain properties reserved for partd
}

// Commit applies all changes in one commit, or none of them. It returns the changed tables. No two changes may be for
// the same table. If a requirement is not met, the error wraps [tables.ErrRequirement]. If a table rejects its change,
// the error wraps a RuleError, DuplicateError or ArgumentError of package tables.
func Commit(ctx context.Context, s *tables.Store, changes ...Change) ([]*table.Table, error) {
	converted := make([]foreign.Change, len(changes))
	for i, c := range changes {
		converted[i] = foreign.Change(c)
	}
	return access.Commit(s, ctx, converted)
}

// NewMetadata returns metadata with new column IDs for a new table of s. It does not create the table. If an argument
// is invalid, the error wraps a [tables.ArgumentError].
func NewMetadata(s *tables.Store, columns *iceberg.Schema, spec *iceberg.PartitionSpec, order table.SortOrder, props iceberg.Properties) (table.Metadata, error) {
	meta, err := foreign.NewMetadata(access.Catalog(s), columns, spec, order, props)
	return meta, argumentError(err)
}

// Stage creates the directory of a table that another engine will create with a later Commit. meta must be the result
// of NewMetadata. If the table exists, the error wraps [tables.ErrExists]. If t is pinned, it wraps [tables.ErrPinned].
func Stage(ctx context.Context, t *tables.Table, meta table.Metadata) error {
	return access.Stage(t, ctx, meta)
}

// ReadMetadata reads the metadata of a dropped table from its location in the warehouse of s. Before reading, and again
// before decoding, it calls admit with the memory that the next step needs, in bytes. If admit returns an error,
// ReadMetadata returns this error. If the metadata is missing or invalid, the error wraps a [tables.ArgumentError].
func ReadMetadata(ctx context.Context, s *tables.Store, location string, admit func(n int64) error) (table.Metadata, error) {
	meta, err := foreign.Read(ctx, access.Catalog(s), location, admit)
	return meta, argumentError(err)
}

func argumentError(err error) error {
	if e, ok := errors.AsType[*definition.ArgumentError](err); ok {
		return (*tables.ArgumentError)(e)
	}
	return err
}
