// Package following reads the changes of a table repeatedly, as versions are committed.
package following

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/rows/batches"
	"github.com/go-partd/partd/tables/internal/rows/schema"
)

// DefaultEvery is the default of Options.Every.
const DefaultEvery = 10 * time.Second

// Options says which changes Follow reads, and how.
type Options struct {
	Since tables.At // state after which changes are read; nil means that all rows are changes
	UUID  string    // as in tables.ChangesOptions
	// Every is the time between two polls for changes. Reading changes moves rows from the table's tail (rows that are
	// not in files yet) into files, so Every also limits how often that happens.
	Every time.Duration

	Info    func(ctx context.Context) (tables.TableInfo, error)
	Changes func(ctx context.Context, since tables.At, uuid string) (*tables.Changes, error)
	Idle    func() error // called after a poll that found no changes
}

// Follow calls f with the changes since o.Since and then, until the context ends or a function fails, with later
// changes. Each call gets the changes of one or more versions.
func Follow(ctx context.Context, o *Options, f func(*tables.Changes) error) error {
	p := &position{since: o.Since, uuid: o.UUID, version: -1}
	tick := time.NewTicker(o.Every)
	defer tick.Stop()
	for {
		err := p.poll(ctx, o, f)
		if err == nil {
			err = canceled.Wait(ctx, tick.C)
		}
		if err != nil {
			return err
		}
	}
}

// position is the state of a table up to which the changes were read.
type position struct {
	since   tables.At
	uuid    string
	version tables.Version // -1 before the first changes
	updated time.Time      // reveals that the table was created again and has the same version number
}

// poll calls f with the changes since p and advances p. If there are none, it calls o.Idle.
func (p *position) poll(ctx context.Context, o *Options, f func(*tables.Changes) error) error {
	info, err := o.Info(ctx)
	switch {
	case err != nil:
		return err
	case info.Version == p.version && info.Updated.Equal(p.updated):
		return o.Idle()
	}
	c, err := o.Changes(ctx, p.since, p.uuid)
	if err != nil {
		return err
	}
	defer c.Release()
	if c.Version == p.version {
		p.updated = info.Updated
		return o.Idle()
	}
	if err := f(c); err != nil {
		return err
	}
	*p = position{tables.AtVersion(c.Version), c.UUID, c.Version, info.Updated}
	return nil
}

// WithVersion returns a reader that adds a last column, _version, to the changes: the version to which they lead. If
// the table already has a column with this name, underscores are appended to the new name until it is unique.
func WithVersion(c *tables.Changes) array.RecordReader {
	name := "_version"
	for slices.ContainsFunc(schema.Names(c.Schema()), func(other string) bool { return strings.EqualFold(other, name) }) {
		name += "_"
	}
	fields := append(c.Schema().Fields(), arrow.Field{Name: name, Type: arrow.PrimitiveTypes.Int64})
	columns := arrow.NewSchema(fields, nil)
	c.Retain()
	return batches.Reader(columns, batches.Each(c, func(b arrow.RecordBatch) (arrow.RecordBatch, error) {
		versions := array.NewInt64Builder(memory.DefaultAllocator)
		defer versions.Release()
		versions.Reserve(int(b.NumRows()))
		for range b.NumRows() {
			versions.UnsafeAppend(int64(c.Version))
		}
		column := versions.NewArray()
		defer column.Release()
		return array.NewRecordBatch(columns, append(b.Columns()[:b.NumCols():b.NumCols()], column), b.NumRows()), nil
	}), c.Release)
}
