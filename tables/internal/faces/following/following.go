// Package following reads the changes of a table again and again, as versions are committed.
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

// Options selects the changes.
type Options struct {
	Since tables.At // nil means that all rows are changes
	UUID  string    // as in tables.ChangesOptions
	// Every is the time between two looks at the table. Reading changes moves the tail's rows into files, so this also
	// limits how often that happens.
	Every time.Duration

	Info    func(ctx context.Context) (tables.TableInfo, error)
	Changes func(ctx context.Context, since tables.At, uuid string) (*tables.Changes, error)
	Idle    func() error // called after a look that found no change
}

// Follow calls f with the changes since o.Since, and then with each later change, until the context ends or a function
// fails. The changes are those of one or more versions.
func Follow(ctx context.Context, o *Options, f func(*tables.Changes) error) error {
	p := &position{since: o.Since, uuid: o.UUID, version: -1}
	tick := time.NewTicker(o.Every)
	defer tick.Stop()
	for {
		err := p.look(ctx, o, f)
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
	updated time.Time      // differs if the table was created again with the same number of versions
}

// look calls f if there are changes.
func (p *position) look(ctx context.Context, o *Options, f func(*tables.Changes) error) error {
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

// WithVersion returns a reader of the changes with a last column _version, which is the version to which they lead. If
// the table has such a column, underscores are appended to the new column's name until it is unique.
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
