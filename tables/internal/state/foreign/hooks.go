// Package foreign checks and applies the changes of other engines to the Iceberg metadata of tables. It also has the
// functions through which package iceberg calls package tables, whose exported API has no types of iceberg-go.
package foreign

import (
	"context"
	"time"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables/internal/files/icecat"
)

// LoadOptions has the fields of iceberg.LoadOptions, so that a *iceberg.LoadOptions can be converted.
type LoadOptions struct {
	Fold  bool
	Every time.Duration
	Admit func(context.Context) (release func(), err error)
}

// Change has the fields of iceberg.Change, so that an iceberg.Change can be converted.
type Change struct {
	Bucket, Table string
	Requirements  table.Requirements
	Updates       table.Updates
	New           table.Metadata
	Registered    bool
}

// These functions implement the functions of package iceberg; package rest uses CatalogOf. The initialization of package
// tables sets them. Their parameter t is a *tables.Table, and s is a *tables.Store.
var (
	Load         func(ctx context.Context, t any, o *LoadOptions) (*table.Table, error)
	Stage        func(ctx context.Context, t any, meta table.Metadata) error
	Commit       func(ctx context.Context, s any, changes []Change) ([]*table.Table, error)
	NewMetadata  func(s any, columns *iceberg.Schema, spec *iceberg.PartitionSpec, order table.SortOrder, props iceberg.Properties) (table.Metadata, error)
	CatalogOf    func(s any) *icecat.Catalog
	ReadMetadata func(ctx context.Context, s any, location string, admit func(n int64) error) (table.Metadata, error)
)
