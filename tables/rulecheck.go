package tables

import (
	"context"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables/filter"
	"github.com/go-partd/partd/tables/internal/state/definition"
	"github.com/go-partd/partd/tables/internal/state/rules"
)

// ruleCheck returns a Check that applies the rules of the table and its bucket to new rows, or nil if there are no
// rules. newSchema is the schema of the new rows. If old is not nil, rules can also compare the new rows with the rows
// of old, except the rows that match the predicate deleted.
func (e tableWriter) ruleCheck(ctx context.Context, d *definition.Definition, newSchema *arrow.Schema, old *table.Table, deleted *deletePredicate) (*rules.Check, error) {
	ruleList, err := e.Rules(ctx, d)
	if err != nil {
		return nil, err
	}
	o := rules.Options{Memory: e.s.opts.Memory / 8}
	if old != nil {
		o.Table = func(ctx context.Context, columns []string, where *filter.Expr, each func(arrow.RecordBatch) error) error {
			return e.readExcept(ctx, old, deleted, nil, columns, where, each)
		}
	}
	return rules.NewCheck(ctx, ruleList, newSchema, d.Stored, d.Logical, o)
}

// readExcept calls each with the rows in a table's files, in the stored types. It leaves out the
// rows selected by the deleted predicate, and the files whose paths are in skip. The where expression is only a hint:
// rows that do not satisfy it may or may not be passed to each.
func (e tableWriter) readExcept(ctx context.Context, t *table.Table, deleted *deletePredicate, skip map[string]bool, columns []string, where *filter.Expr, each func(arrow.RecordBatch) error) error {
	r, err := e.reader(ctx, t)
	if err != nil {
		return err
	}
	r.def, r.skipFiles = r.def.AsStored(), skip
	// Do not filter if the columns changed after the last write: the files' bounds may then have other types.
	if s := t.CurrentSnapshot(); where != nil && s != nil && s.SchemaID != nil && *s.SchemaID == t.Schema().ID {
		r.filters = append(r.filters, where)
	}
	if deleted != nil && deleted.rows != nil {
		r.deleted, deleted = deleted.rows, nil
	}
	if deleted != nil {
		columns = slices.Concat(columns, deleted.columns)
	}
	columns = slices.Sorted(slices.Values(columns))
	if err := r.plan(slices.Compact(columns)); err != nil {
		return err
	}
	for b, err := range r.batches {
		if err == nil && deleted != nil {
			var kept arrow.RecordBatch
			kept, err = deleted.remaining(b)
			b.Release()
			b = kept
		}
		if err == nil {
			err = each(b)
			b.Release()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// reader returns a reader of a table's files, without rows in the tail.
func (e tableWriter) reader(ctx context.Context, t *table.Table) (*rowScan, error) {
	def, err := definition.FromMetadata(t.Metadata())
	v := &view{source: &tableReader{core: e.s, bucket: bucketOf(e.Namespace), name: e.Name}, t: t, def: def}
	return v.reader(ctx), err
}
