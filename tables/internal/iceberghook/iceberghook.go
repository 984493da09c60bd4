// Package iceberghook lets package iceberg call package tables, whose exported API has no types of iceberg-go. Package
// tables sets the functions before they can be called. Their parameter t is a *tables.Table, and s is a *tables.Store.
package iceberghook

import (
	"context"
	"time"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"
)

// LoadOptions is iceberg.LoadOptions.
type LoadOptions struct {
	Fold  bool
	Every time.Duration
	Admit func(context.Context) (release func(), err error)
}

// Change is iceberg.Change.
type Change struct {
	Bucket, Table string
	Requirements  table.Requirements
	Updates       table.Updates
	New           table.Metadata
	Registered    bool
}

// These functions implement the functions of package iceberg.
var (
	Load         func(ctx context.Context, t any, o *LoadOptions) (*table.Table, error)
	Stage        func(ctx context.Context, t any, meta table.Metadata) error
	Commit       func(ctx context.Context, s any, changes []Change) ([]*table.Table, error)
	NewMetadata  func(s any, columns *iceberg.Schema, spec *iceberg.PartitionSpec, order table.SortOrder, props iceberg.Properties) (table.Metadata, error)
	ReadMetadata func(ctx context.Context, s any, location string, admit func(n int64) error) (table.Metadata, error)
)
