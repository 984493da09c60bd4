package tables

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables/internal/files/datafile"
	"github.com/go-partd/partd/tables/internal/files/icecat"
	"github.com/go-partd/partd/tables/internal/state/commit"
	"github.com/go-partd/partd/tables/internal/state/definition"
	"github.com/go-partd/partd/tables/internal/state/rules"
)

// Txn collects changes to several tables for one commit. It must be used by only one goroutine at a time, and not after
// the function passed to Update has returned.
type Txn struct {
	s       *core
	ctx     context.Context // Update's context
	changes map[tableName]*txnChange
	order   []*txnChange
	hooks   []icecat.TxHook // run in the catalog's transaction
	ended   bool            // whether the function passed to Update has returned
}

// txnChange is a Txn's change to one table.
type txnChange struct {
	commit.Change
	cur     *table.Table // state after the steps so far; nil if the table does not exist
	hasPuts bool

	creates string // location of the new table if another engine's commit creates one; otherwise ""
}

// Update runs f, and then commits together all changes that f made through its Txn. If f or the commit fails, nothing
// changes. Readers see no changes before the commit.
func (s *Store) Update(ctx context.Context, f func(*Txn) error) (err error) {
	s = s.orUnopened()
	ctx, end := s.opts.begin(ctx, "update", "", "")
	defer func() { end(Outcome{Err: err}) }()
	defer wrapOnce(&err, &OpError{Op: "update", Dir: s.dir})
	unpin, err := s.commits.Pin()
	if err != nil {
		return err
	}
	defer unpin()
	err = s.update(ctx, f)
	if errors.Is(err, commit.ErrStale) { // do not call f again, because the readers that f puts cannot be read twice
		err = fmt.Errorf("%w: %w", ErrConflict, err)
	}
	return err
}

func (s *core) update(ctx context.Context, f func(*Txn) error) (err error) {
	t := &Txn{s: s, ctx: ctx, changes: map[tableName]*txnChange{}, hooks: icecat.KeyHooks(ctx)}
	defer func() {
		t.ended = true // also if f panics
		for _, c := range t.order {
			c.RemoveFiles(err)
			c.Release()
		}
	}()
	err = f(t)
	t.ended = true
	if err != nil {
		return err
	}
	var changes []*commit.Change
	for _, c := range t.order {
		if c.Len() > 0 {
			changes = append(changes, &c.Change)
		}
	}
	if len(changes)+len(t.hooks) == 0 {
		return nil
	}
	return s.commits.Commit(ctx, t.hooks, changes...)
}

func (c *txnChange) version() Version {
	if c.Result != nil {
		return versionOf(c.Result.Metadata())
	}
	return versionOf(c.cur.Metadata())
}

// change returns the Txn's change to a table. If there is none, it adds an empty change.
func (t *Txn) change(n tableName) (*txnChange, error) {
	if t.ended || t.s == nil {
		return nil, ErrTxnDone
	}
	if c := t.changes[n]; c != nil {
		return c, nil
	}
	e, err := t.s.commits.Acquire(t.ctx, n)
	if err != nil {
		return nil, err
	}
	c := &txnChange{Change: commit.Change{Entry: e}}
	t.changes[n] = c
	t.order = append(t.order, c)
	c.cur, err = e.Current(t.ctx)
	return c, err
}

func (t *Txn) entry(c *txnChange) entry { return entry{c.Entry, t.s} }

// Put is like Table.Put, but is part of the transaction. It reads r before it returns, and writes the rows to files.
func (t *Txn) Put(bucket, name string, r array.RecordReader, m PutMode, o *PutOptions) (err error) {
	defer wrapError(&err, "put", bucket, name)
	n, err := checkTable(bucket, name)
	if err != nil {
		return err
	}
	opts, err := o.check(m)
	if err != nil {
		return err
	}
	src, err := datafile.Gather(r, 0)
	if err != nil {
		return err
	}
	defer src.Release()
	_, err = t.put(n, src, src.Schema, m, opts)
	return err
}

func (t *Txn) put(n tableName, r datafile.Rows, schema *arrow.Schema, m PutMode, opts PutOptions) (*txnChange, error) {
	c, err := t.change(n)
	if err != nil {
		return nil, err
	}
	saved := *c
	if m == PutAppend && c.cur != nil {
		if err := t.prepareAppend(c, schema); err != nil {
			return nil, err
		}
	}
	step, err := t.entry(c).prepare(t.ctx, c.cur, r, schema, m, opts, c.hasPuts)
	if errors.Is(err, commit.ErrNothing) {
		*c = saved
		return c, nil
	}
	if err != nil {
		return nil, err
	}
	if opts.Over != nil {
		c.Add(step.tailMode(), nil, step.undoCompactions)
	}
	c.Add(step.tailMode(), step.IO, step.apply)
	c.cur, c.hasPuts = c.Staged(step.newMeta, step.IO), true
	return c, nil
}

// If an append of rows with the given schema requires other columns, prepareAppend changes the table's columns. If a
// rule compares all rows of the table, prepareAppend first moves the tail's rows into files, where rules read them.
func (t *Txn) prepareAppend(c *txnChange, schema *arrow.Schema) error {
	d, err := definition.FromMetadata(c.cur.Metadata())
	if err != nil {
		return err
	}
	ruleList, err := c.Rules(t.ctx, d)
	if err != nil {
		return err
	}
	if c.Len() == 0 && slices.ContainsFunc(ruleList, func(r rules.Rule) bool { return r.InTable && !r.Disabled }) {
		if _, err = c.Fold(t.ctx); err == nil {
			c.cur, err = c.Current(t.ctx)
		}
		if err == nil && c.cur == nil {
			err = commit.ErrStale
		}
		if err == nil {
			d, err = definition.FromMetadata(c.cur.Metadata())
		}
		if err != nil {
			return err
		}
	}
	_, changes, err := d.Caster(schema)
	if err != nil {
		return err
	}
	return t.evolve(c, changesOf(changes))
}

// Delete deletes a table with all its versions, even if the table is damaged.
func (t *Txn) Delete(bucket, name string) error {
	c, err := t.existing(bucket, name)
	if err != nil && !errors.Is(err, ErrDamaged) {
		return &OpError{Op: "delete", Bucket: bucket, Table: name, Err: err}
	}
	t.delete(c)
	return nil
}

func (t *Txn) delete(c *txnChange) {
	c.cur = nil
	c.Add(commit.Deletes, nil, func(_ context.Context, a *commit.Attempt, cur *table.Table) (table.Metadata, error) {
		if cur == nil && !a.Damaged {
			return nil, ErrNotFound
		}
		return nil, nil
	})
}

func (t *Txn) existing(bucket, name string) (*txnChange, error) {
	n, err := checkTable(bucket, name)
	if err != nil {
		return nil, err
	}
	c, err := t.change(n)
	if err == nil && c.cur == nil {
		err = missingTable(t.ctx, t.s.cat, n)
	}
	return c, err
}
