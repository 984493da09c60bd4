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
	"github.com/go-partd/partd/tables/internal/commit"
	"github.com/go-partd/partd/tables/internal/definition"
	"github.com/go-partd/partd/tables/internal/icecat"
	"github.com/go-partd/partd/tables/internal/rules"
)

type (
	// Rule is a condition on the rows that are put into a table. A put that violates one
	// is refused whole.
	Rule = rules.Rule
	// RuleError says which rules a put violates. Nothing of it was put.
	RuleError = rules.Error
	// Violation is what violates a rule.
	Violation = rules.Violation
	// BadRow is a row that violates a rule.
	BadRow = rules.BadRow
	// RuleEdit is a change of the rules of a table or a bucket.
	RuleEdit = rules.Edit
)

// rulesProperty is the property of tables and of namespaces with their rules.
const rulesProperty = icecat.RulesProperty

// Rules returns the rules of a table, or those of the bucket itself for "", which hold
// for all its tables, those to come too.
func (b *Bucket) Rules(ctx context.Context, name string) (all []Rule, err error) {
	defer failed(&err, "read the rules of", b.Name(), name)
	if name == "" {
		text, err := b.store().cat.Property(ctx, namespaceOf(b.Name()), rulesProperty)
		if err != nil {
			return nil, err
		}
		return rules.Parse(text)
	}
	n, err := b.check(name)
	if err != nil {
		return nil, err
	}
	t, err := b.store().cat.Load(ctx, n.Namespace, n.Name)
	if err != nil {
		return nil, notFound(err)
	}
	return rules.Parse(t.Properties()[rulesProperty])
}

// EditRules changes the rules of a table, or those of the bucket itself for "". Puts
// that began before may still go by those there were.
func (b *Bucket) EditRules(ctx context.Context, name string, e RuleEdit) (err error) {
	defer func() {
		if err != nil && !errors.As(err, new(*OpError)) {
			err = &OpError{Op: "change the rules of", Bucket: b.Name(), Table: name, Err: err}
		}
	}()
	if name != "" {
		return b.store().Update(ctx, func(t *Txn) error { return t.EditRules(b.Name(), name, e) })
	}
	if err := checkName("bucket", b.Name()); err != nil {
		return err
	}
	return b.store().cat.EditProperty(ctx, namespaceOf(b.Name()), rulesProperty, func(was string) (string, error) { return editRules(was, &e, Settings{}, nil) })
}

// editRules returns rules as they are kept after an edit.
func editRules(was string, e *RuleEdit, s Settings, columns *arrow.Schema) (string, error) {
	all, err := rules.Parse(was)
	if err != nil {
		return "", err
	}
	text, err := e.Apply(all, s.Time, s.Keys, columns)
	var missing rules.Missing
	if errors.As(err, &missing) {
		return "", fmt.Errorf("rule %q: %w", string(missing), ErrNotFound)
	}
	if err != nil {
		return "", &ArgumentError{Err: err}
	}
	return text, nil
}

// EditRules changes the rules of a table; see Bucket.EditRules.
func (t *Txn) EditRules(bucket, name string, e RuleEdit) error {
	c, err := t.existing(bucket, name)
	if err != nil {
		return &OpError{Op: "change the rules of", Bucket: bucket, Table: name, Err: err}
	}
	c.Add(commit.Plain, nil, func(_ context.Context, _ *commit.Attempt, cur *table.Table) (_ table.Metadata, err error) {
		defer failed(&err, "change the rules of", bucket, name)
		if cur == nil {
			return nil, ErrNotFound
		}
		def, err := definition.Of(cur.Metadata())
		if err != nil {
			return nil, err
		}
		was := cur.Properties()[rulesProperty]
		text, err := editRules(was, &e, def.Settings, def.Logical)
		if err == nil && text == was {
			err = commit.ErrNothing
		}
		if err != nil {
			return nil, err
		}
		var change table.Update = table.NewSetPropertiesUpdate(iceberg.Properties{rulesProperty: text})
		if text == "" {
			change = table.NewRemovePropertiesUpdate([]string{rulesProperty})
		}
		return table.UpdateTableMetadata(cur.Metadata(), []table.Update{change}, "")
	})
	return nil
}

// check returns the check of rows that are put into a table, by its rules and those of its
// bucket; nil without rules. Old is the table with whose rows the new ones will be, but for
// those of it that are deleted; nil is none.
func (e entry) check(ctx context.Context, d *definition.Definition, put *arrow.Schema, old *table.Table, gone *deletePredicate) (*rules.Check, error) {
	all, err := e.Rules(ctx, d)
	if err != nil {
		return nil, err
	}
	o := rules.Options{Memory: e.s.opts.Memory / 8}
	if old != nil {
		o.Table = func(ctx context.Context, columns []string, where *filter.Expr, each func(arrow.RecordBatch) error) error {
			return e.rowsBut(ctx, old, gone, nil, columns, where, each)
		}
	}
	return rules.NewCheck(ctx, all, put, d.Stored, d.Logical, o)
}

// rowsBut reads rows of a table's files, in the types that are stored, but for those that
// are deleted, and for files by their paths.
func (e entry) rowsBut(ctx context.Context, t *table.Table, gone *deletePredicate, but map[string]bool, columns []string, where *filter.Expr, each func(arrow.RecordBatch) error) error {
	r, err := e.reader(ctx, t)
	if err != nil {
		return err
	}
	r.def, r.but = r.def.AsStored(), but
	// Bounds of files that wait for a change of the columns may be those of another type.
	if s := t.CurrentSnapshot(); where != nil && s != nil && s.SchemaID != nil && *s.SchemaID == t.Schema().ID {
		r.filters = append(r.filters, where)
	}
	if gone != nil {
		columns = slices.Concat(columns, gone.columns)
	}
	columns = slices.Sorted(slices.Values(columns))
	if err := r.plan(slices.Compact(columns)); err != nil {
		return err
	}
	for b, err := range r.batches {
		if err == nil && gone != nil {
			var rest arrow.RecordBatch
			rest, err = gone.rest(b)
			b.Release()
			b = rest
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

// reader reads the rows of a table's files, as they came.
func (e entry) reader(ctx context.Context, t *table.Table) (*reader, error) {
	def, err := definition.Of(t.Metadata())
	v := &view{of: &Table{b: e.s.Bucket(bucketOf(e.Namespace)), name: e.TableName}, t: t, def: def}
	return v.reader(ctx), err
}
