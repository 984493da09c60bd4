package tables

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables/filter"
	"github.com/go-partd/partd/tables/internal/definition"
	"github.com/go-partd/partd/tables/internal/icecat"
	"github.com/go-partd/partd/tables/internal/rules"
)

// Rule is a condition on the rows that are put into a table. A put that violates one
// is refused whole.
type Rule = rules.Rule

// RuleKinds are the kinds of rules.
var RuleKinds = rules.Kinds

// RuleError says which rules a put violates. Nothing of it was put.
type RuleError = rules.Error

// Violation is what violates a rule.
type Violation = rules.Violation

// BadRow is a row that violates a rule.
type BadRow = rules.BadRow

// RuleEdit is a change of the rules of a table or a bucket.
type RuleEdit = rules.Edit

// rulesProperty is the property of tables and of namespaces with their rules.
const rulesProperty = icecat.RulesProperty

func rulesOf(text string) (all []Rule, err error) {
	if text != "" {
		err = json.Unmarshal([]byte(text), &all)
	}
	if err != nil {
		return nil, fmt.Errorf("property %s: %w", rulesProperty, err)
	}
	return all, nil
}

// Rules returns the rules of a table, or those of the bucket itself for "", which hold
// for all its tables, those to come too.
func (b *Bucket) Rules(ctx context.Context, name string) (all []Rule, err error) {
	var text string
	if name == "" {
		text, err = b.s.cat.Property(ctx, namespaceOf(b.name), rulesProperty)
	} else {
		var t *table.Table
		var n tableName
		if n, err = b.check(name); err == nil {
			if t, err = b.s.cat.Load(ctx, n.Namespace, n.Name); err == nil {
				text = t.Properties()[rulesProperty]
			}
		}
	}
	if err == nil {
		all, err = rulesOf(text)
	}
	if err != nil {
		return nil, &OpError{Op: "read the rules of", Bucket: b.name, Table: name, Err: notFound(err)}
	}
	return all, nil
}

// EditRules changes the rules of a table, or those of the bucket itself for "". Puts
// that began before may still go by those there were.
func (b *Bucket) EditRules(ctx context.Context, name string, e RuleEdit) (err error) {
	defer func() {
		var op *OpError
		if err != nil && !errors.As(err, &op) {
			err = &OpError{Op: "change the rules of", Bucket: b.name, Table: name, Err: err}
		}
	}()
	if name != "" {
		return b.s.Update(ctx, func(t *Txn) error { return t.EditRules(b.name, name, e) })
	}
	if err := checkName("bucket", b.name); err != nil {
		return err
	}
	return b.s.cat.EditProperty(ctx, namespaceOf(b.name), rulesProperty, func(was string) (string, error) { return editRules(was, &e, Settings{}, nil) })
}

// editRules returns rules as they are kept after an edit.
func editRules(was string, e *RuleEdit, s Settings, columns *arrow.Schema) (string, error) {
	all, err := rulesOf(was)
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
	c.add(&rulesStep{bucket, name, e})
	return nil
}

// rulesStep changes a table's rules.
type rulesStep struct {
	bucket, name string
	edit         RuleEdit
}

func (r *rulesStep) apply(_ context.Context, _ *attempt, cur *table.Table) (_ table.Metadata, err error) {
	defer func() {
		if err != nil && !errors.Is(err, errNothing) {
			err = &OpError{Op: "change the rules of", Bucket: r.bucket, Table: r.name, Err: err}
		}
	}()
	if cur == nil {
		return nil, ErrNotFound
	}
	def, err := definition.Of(cur.Metadata())
	if err != nil {
		return nil, err
	}
	was := cur.Properties()[rulesProperty]
	text, err := editRules(was, &r.edit, def.Settings, def.Logical)
	switch {
	case err != nil:
		return nil, err
	case text == was:
		return nil, errNothing
	case text == "":
		return table.UpdateTableMetadata(cur.Metadata(), []table.Update{table.NewRemovePropertiesUpdate([]string{rulesProperty})}, "")
	}
	return table.UpdateTableMetadata(cur.Metadata(), []table.Update{table.NewSetPropertiesUpdate(iceberg.Properties{rulesProperty: text})}, "")
}

// rules returns those of a table, given as they are kept, and of its bucket.
func (e *entry) rules(ctx context.Context, own string) ([]Rule, error) {
	bucket, err := e.s.cat.Property(ctx, e.Namespace, rulesProperty)
	if err != nil {
		return nil, err
	}
	return joinedRules(own, bucket)
}

func joinedRules(texts ...string) (all []Rule, err error) {
	for _, text := range texts {
		some, err := rulesOf(text)
		if err != nil {
			return nil, err
		}
		all = append(all, some...)
	}
	return all, nil
}

// checker returns the check of rows that are put into a table, by its rules, given as
// they are kept, and those of its bucket; nil without rules. Old is the table with whose
// rows the new ones will be, but for those of it that go; nil is none.
func (e *entry) checker(ctx context.Context, old *table.Table, gone *going, put, kept, returned *arrow.Schema, own string) (*rules.Check, error) {
	all, err := e.rules(ctx, own)
	if err != nil {
		return nil, err
	}
	o := rules.Options{Memory: e.s.opts.Memory / 8}
	if old != nil {
		o.Table = func(ctx context.Context, columns []string, where *filter.Expr, each func(arrow.RecordBatch) error) error {
			return e.rowsBut(ctx, old, gone, columns, where, each)
		}
	}
	return rules.NewCheck(ctx, all, put, kept, returned, o)
}

// rowsBut reads rows of a table's files, in the types that are kept, but for those that go.
func (e *entry) rowsBut(ctx context.Context, t *table.Table, gone *going, columns []string, where *filter.Expr, each func(arrow.RecordBatch) error) error {
	v := &view{t: t, schema: t.Schema()}
	var err error
	if v.def, err = definition.Of(t.Metadata()); err != nil {
		return err
	}
	v.returned = v.def.Stored
	r := &reader{s: e.s, table: &Table{b: e.s.Bucket(bucketOf(e.Namespace)), name: e.tableName}, ctx: ctx, left: -1}
	if where != nil {
		r.filters = append(r.filters, where)
	}
	if gone != nil {
		columns = slices.Concat(columns, gone.columns)
	}
	columns = slices.Sorted(slices.Values(columns))
	if err := r.choose(v, slices.Compact(columns)); err != nil {
		return err
	}
	if err := r.plan(ctx, v); err != nil {
		return err
	}
	var failed error
	r.batches(func(b arrow.RecordBatch, err error) bool {
		if failed = err; err == nil && gone != nil {
			rest, err := gone.rest(b)
			b.Release()
			b, failed = rest, err
		}
		if failed == nil {
			failed = each(b)
			b.Release()
		}
		return failed == nil
	})
	return failed
}
