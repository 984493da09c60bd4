package tables

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables/internal/commit"
	"github.com/go-partd/partd/tables/internal/datafile"
	"github.com/go-partd/partd/tables/internal/definition"
	"github.com/go-partd/partd/tables/internal/icecat"
)

// Txn is a commit of several tables in the making. It is for one goroutine, and ends with
// the function that Update gave it to.
type Txn struct {
	s       *Store
	ctx     context.Context // of Update, which the Txn ends with
	changes map[tableName]*txnChange
	order   []*txnChange
	hooks   []icecat.TxHook // of the catalog
	ended   bool            // Update has what it commits
}

// txnChange is what a Txn does to one table.
type txnChange struct {
	commit.Change
	cur  *table.Table // after the steps so far; nil: there is none
	puts bool

	creates string // where another engine makes the table
}

// Update runs f, and commits what f did to the Txn as one: all of it, or nothing
// if f fails or the commit does. Other readers see nothing of it before.
func (s *Store) Update(ctx context.Context, f func(*Txn) error) (err error) {
	s = s.made()
	ctx, end := s.begin(ctx, "update", "", "")
	defer func() { end(Outcome{Err: err}) }()
	defer func() {
		if err != nil && !errors.As(err, new(*OpError)) {
			err = &OpError{Op: "update", Dir: s.dir, Err: err}
		}
	}()
	unpin, err := s.commits.Pin()
	if err != nil {
		return err
	}
	defer unpin()
	err = s.update(ctx, f)
	if errors.Is(err, commit.ErrStale) { // readers that f puts cannot be read twice
		err = fmt.Errorf("%w: %w", ErrConflict, err)
	}
	return err
}

func (s *Store) update(ctx context.Context, f func(*Txn) error) (err error) {
	t := &Txn{s: s, ctx: ctx, changes: map[tableName]*txnChange{}}
	defer func() {
		t.ended = true // also where f panics
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

// version is the table's after the change.
func (c *txnChange) version() Version {
	if c.Result != nil {
		return versionOf(c.Result.Metadata())
	}
	return versionOf(c.cur.Metadata())
}

// of returns what the Txn does to a table.
func (t *Txn) of(n tableName) (*txnChange, error) {
	if t.ended || t.s == nil {
		return nil, ErrTxnDone
	}
	if c := t.changes[n]; c != nil {
		return c, nil
	}
	e, err := t.s.commits.Acquire(n)
	if err != nil {
		return nil, err
	}
	c := &txnChange{Change: commit.Change{Entry: e}}
	t.changes[n] = c
	t.order = append(t.order, c)
	c.cur, err = e.Current(t.ctx)
	return c, err
}

// entry is that of a change.
func (t *Txn) entry(c *txnChange) entry { return entry{c.Entry, t.s} }

// Put writes rows; see Bucket.Put. They are read at once, and do not go to the tail.
func (t *Txn) Put(bucket, name string, r array.RecordReader, m PutMode, o *PutOptions) (err error) {
	defer failed(&err, "put", bucket, name)
	n, err := t.s.Bucket(bucket).check(name)
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
	c, err := t.of(n)
	if err != nil {
		return nil, err
	}
	was := *c
	if m == PutAppend && c.cur != nil {
		if err := t.ready(c, schema); err != nil {
			return nil, err
		}
	}
	step, err := t.entry(c).prepare(t.ctx, c.cur, r, schema, m, opts, c.puts)
	if errors.Is(err, commit.ErrNothing) {
		*c = was
		return c, nil
	}
	if err != nil {
		return nil, err
	}
	c.Add(step.how(), step.IO, step.apply)
	c.cur, c.puts = c.Staged(step.after, step.IO), true
	return c, nil
}

// ready sees to it that rules for the whole table find all its rows in files, and changes
// the columns of the table as rows of a schema need it.
func (t *Txn) ready(c *txnChange, schema *arrow.Schema) error {
	d, err := definition.Of(c.cur.Metadata())
	if err != nil {
		return err
	}
	rules, err := c.Rules(t.ctx, d)
	if err != nil {
		return err
	}
	if c.Len() == 0 && slices.ContainsFunc(rules, func(r Rule) bool { return r.InTable && !r.Disabled }) {
		if _, err = c.Fold(t.ctx); err == nil {
			c.cur, err = c.Current(t.ctx)
		}
		if err == nil && c.cur == nil {
			err = commit.ErrStale
		}
		if err == nil {
			d, err = definition.Of(c.cur.Metadata())
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

// Delete deletes a table with all its versions, also one that is damaged.
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
		if cur == nil && !a.Lost {
			return nil, ErrNotFound
		}
		return nil, nil
	})
}

func (t *Txn) existing(bucket, name string) (*txnChange, error) {
	n, err := t.s.Bucket(bucket).check(name)
	if err != nil {
		return nil, err
	}
	c, err := t.of(n)
	if err == nil && c.cur == nil {
		err = ErrNotFound
	}
	return c, err
}
