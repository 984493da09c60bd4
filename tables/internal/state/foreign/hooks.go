// Package foreign checks and applies other engines' changes to the Iceberg metadata of tables. It also gives package
// iceberg access to package tables, whose exported API has no types from iceberg-go.
package foreign

import (
	"context"
	"time"

	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables/internal/files/icecat"
)

// LoadOptions has the same fields as iceberg.LoadOptions, so that a *iceberg.LoadOptions can be converted.
type LoadOptions struct {
	Fold  bool
	Every time.Duration
	Admit func(context.Context) (release func(), err error)
}

// Change has the same fields as iceberg.Change, so that an iceberg.Change can be converted.
type Change struct {
	Bucket, Table string
	Requirements  table.Requirements
	Updates       table.Updates
	New           table.Metadata
	Registered    bool
}

// Access contains the unexported methods of package tables that packages iceberg and rest call. S is tables.Store, and
// T is tables.Table, which this package cannot import. An embedded type would not work for an S or T that is nil or
// zero.
type Access[S, T any] struct {
	Load    func(*T, context.Context, *LoadOptions) (*table.Table, error)
	Stage   func(*T, context.Context, table.Metadata) error
	Commit  func(*S, context.Context, []Change) ([]*table.Table, error)
	Catalog func(*S) *icecat.Catalog
}

var granted any // the *Access of package tables

// Grant makes an Access available. Package tables calls it during its initialization.
func Grant[S, T any](a *Access[S, T]) { granted = a }

// Granted returns the Access of package tables, which the caller must import.
func Granted[S, T any]() *Access[S, T] { return granted.(*Access[S, T]) }
