package tables

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables/filter"
	"github.com/go-partd/partd/tables/internal/files/icecat"
	"github.com/go-partd/partd/tables/internal/rows/batches"
	"github.com/go-partd/partd/tables/internal/state/commit"
	"github.com/go-partd/partd/tables/internal/state/definition"
	"github.com/go-partd/partd/tables/internal/state/rules"
)

// Rules returns the table's rules, without the rules of its bucket.
func (t *Table) Rules(ctx context.Context) ([]Rule, error) {
	return withView(ctx, t.reader(), "read the rules of", func(v *view) ([]Rule, error) { return parseRules(v.t.Properties()[icecat.RulesProperty]) })
}

// Rules returns the bucket's own rules, which apply to all its tables, including future ones.
func (b *Bucket) Rules(ctx context.Context) (list []Rule, err error) {
	defer wrapError(&err, "read the rules of", b.Name(), "")
	text, err := b.store().cat.Property(ctx, namespaceOf(b.Name()), icecat.RulesProperty)
	if err != nil {
		return nil, err
	}
	return parseRules(text)
}

func parseRules(text string) (list []Rule, err error) {
	stored, err := rules.Parse(text)
	for _, r := range stored {
		list = append(list, Rule(r))
	}
	return list, err
}

// EditRules changes the table's rules. Puts that began earlier may still use the old rules.
func (t *Table) EditRules(ctx context.Context, e RuleEdit) error {
	return t.update(ctx, "change the rules of", func(txn *Txn) error { return txn.EditRules(t.Bucket().Name(), t.Name(), e) })
}

// EditRules changes the bucket's own rules. Puts that began earlier may still use the old rules.
func (b *Bucket) EditRules(ctx context.Context, e RuleEdit) (err error) {
	defer wrapError(&err, "change the rules of", b.Name(), "")
	if err := checkName("bucket", b.Name()); err != nil {
		return err
	}
	return b.store().cat.EditProperty(ctx, namespaceOf(b.Name()), icecat.RulesProperty, func(oldText string) (string, error) { return editRules(oldText, &e, definition.Settings{}, nil) })
}

// editRules applies an edit to rules. oldText and the result are in the format of icecat.RulesProperty.
func editRules(oldText string, e *RuleEdit, s definition.Settings, columns *arrow.Schema) (string, error) {
	ruleList, err := rules.Parse(oldText)
	if err != nil {
		return "", err
	}
	edit := rules.Edit{Sets: e.Sets, Time: e.Time, Remove: e.Remove, Disable: e.Disable, Enable: e.Enable}
	for _, r := range e.Add {
		edit.Add = append(edit.Add, rules.Rule(r))
	}
	text, err := edit.Apply(ruleList, s.Time, s.Keys, columns)
	if missing, ok := errors.AsType[rules.MissingError](err); ok {
		return "", fmt.Errorf("rule %q %w", string(missing), ErrNotFound)
	}
	if err != nil {
		return "", &ArgumentError{Err: err}
	}
	return text, nil
}

// EditRules is like Table.EditRules, but is part of the transaction.
func (t *Txn) EditRules(bucket, name string, e RuleEdit) error {
	c, err := t.existing(bucket, name)
	if err != nil {
		return &OpError{Op: "change the rules of", Bucket: bucket, Table: name, Err: err}
	}
	c.Add(commit.Plain, nil, func(_ context.Context, _ *commit.Attempt, cur *table.Table) (_ table.Metadata, err error) {
		defer wrapError(&err, "change the rules of", bucket, name)
		if cur == nil {
			return nil, ErrNotFound
		}
		def, err := definition.FromMetadata(cur.Metadata())
		if err != nil {
			return nil, err
		}
		oldText := cur.Properties()[icecat.RulesProperty]
		text, err := editRules(oldText, &e, def.Settings, def.Logical)
		if err == nil && text == oldText {
			err = commit.ErrNothing
		}
		if err != nil {
			return nil, err
		}
		var change table.Update = table.NewSetPropertiesUpdate(iceberg.Properties{icecat.RulesProperty: text})
		if text == "" {
			change = table.NewRemovePropertiesUpdate([]string{icecat.RulesProperty})
		}
		return table.UpdateTableMetadata(cur.Metadata(), []table.Update{change}, "")
	})
	return nil
}

// ruleCheck returns a Check that applies the table's and the bucket's rules to new rows, or nil if there are no rules.
// newSchema is the schema of the new rows. If old is not nil, rules can also compare the new rows with old's rows,
// except the rows that deleted selects.
func (e tableWriter) ruleCheck(ctx context.Context, d *definition.Definition, newSchema *arrow.Schema, old *table.Table, deleted *deletePredicate) (*rules.Check, error) {
	ruleList, err := e.Rules(ctx, d)
	if err != nil {
		return nil, err
	}
	o := rules.Options{Memory: e.s.opts.Memory / 8}
	if old != nil {
		o.Table = func(ctx context.Context, columns []string, where *filter.Expr, visit func(arrow.RecordBatch) error) error {
			return e.readExcept(ctx, old, deleted, nil, columns, where, visit)
		}
	}
	return rules.NewCheck(ctx, ruleList, newSchema, d.Stored, d.Logical, o)
}

// readExcept reads the rows in a table's files in their stored types and calls visit with each batch. It omits the
// rows that deleted selects, and the files whose paths are in skip. The expression where is only a hint: the batches
// can contain rows that do not satisfy it.
func (e tableWriter) readExcept(ctx context.Context, t *table.Table, deleted *deletePredicate, skip map[string]bool, columns []string, where *filter.Expr, visit func(arrow.RecordBatch) error) error {
	r, err := e.reader(ctx, t)
	if err != nil {
		return err
	}
	r.def, r.skipFiles = r.def.AsStored(), skip
	// Do not filter if the columns changed after the last write, because the files' bounds may then have other types.
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
	return batches.ForEach(r.batches, func(b arrow.RecordBatch) error {
		if deleted == nil {
			return visit(b)
		}
		kept, err := deleted.remaining(b)
		if err != nil {
			return err
		}
		defer kept.Release()
		return visit(kept)
	})
}

// reader returns a reader of a table's files. It does not read the tail.
func (e tableWriter) reader(ctx context.Context, t *table.Table) (*rowScan, error) {
	def, err := definition.FromMetadata(t.Metadata())
	v := &view{source: &tableReader{core: e.s, bucket: bucketOf(e.Namespace), name: e.Name}, t: t, def: def}
	return v.reader(ctx), err
}
