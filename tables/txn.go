package tables

import (
	"context"
	"errors"
	"fmt"

	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables/internal/files/icecat"
	"github.com/go-partd/partd/tables/internal/state/commit"
)

// Txn collects changes to several tables for one commit. Only one goroutine at a time may use it. It must not be used
// after the function passed to Update has returned.
type Txn struct {
	s       *core
	ctx     context.Context // Update's context
	changes map[tableName]*txnChange
	order   []*txnChange
	hooks   []icecat.TxHook // run in the catalog's transaction
	ended   bool            // whether the function passed to Update has returned
	sum     *Outcome        // rows and bytes that Put has read
}

// txnChange is a Txn's change to one table.
type txnChange struct {
	commit.Change
	entry   *commit.Entry
	cur     *table.Table // the table's state after the steps so far; nil if the table does not exist
	hasPuts bool

	isLoaded bool // whether cur was loaded; if not, the next use of the table loads it

	newLocation string // location of the new table, if another engine's commit creates one; otherwise ""
}

// Update runs f and then makes all changes that f added to its Txn, in one commit. If f or the commit fails, nothing
// changes. Readers see no changes before the commit.
func (s *Store) Update(ctx context.Context, f func(*Txn) error) (err error) {
	s = s.orUnopened()
	ctx, end := s.opts.begin(ctx, "update", "", "")
	var sum Outcome
	defer func() {
		sum.Err = err
		end(sum)
	}()
	defer wrapOnce(&err, &OpError{Op: "update", Dir: s.dir})
	unpin, err := s.commits.Pin()
	if err != nil {
		return err
	}
	defer unpin()
	err = s.update(ctx, func(txn *Txn) error { txn.sum = &sum; return f(txn) })
	if errors.Is(err, commit.ErrStale) { // do not call f again: the readers from which it puts rows cannot be read again
		err = fmt.Errorf("%w: %w", ErrConflict, err)
	}
	return err
}

func (s *core) update(ctx context.Context, f func(*Txn) error) (err error) {
	t := &Txn{s: s, ctx: ctx, changes: map[tableName]*txnChange{}, hooks: icecat.KeyHooks(ctx)}
	defer func() {
		t.ended = true // even if f panics
		for _, c := range t.order {
			c.RemoveFiles(err)
			c.entry.Release()
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

// change returns the Txn's change to a table. If there is none, it adds an empty one. If the table cannot be loaded,
// change returns both the change and an error.
func (t *Txn) change(n tableName) (*txnChange, error) {
	if t.ended || t.s == nil {
		return nil, ErrTxnDone
	}
	c := t.changes[n]
	if c == nil {
		e, err := t.s.commits.Acquire(t.ctx, n)
		if err != nil {
			return nil, err
		}
		c = &txnChange{Change: e.NewChange(), entry: e}
		t.changes[n] = c
		t.order = append(t.order, c)
	}
	if c.isLoaded || c.Len() > 0 { // a step may replace or delete a table that cannot be loaded
		return c, nil
	}
	var err error
	c.cur, err = c.entry.Current(t.ctx)
	c.isLoaded = err == nil
	return c, err
}

func (t *Txn) writer(c *txnChange) tableWriter { return tableWriter{c.entry, t.s} }

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

// update calls Store.Update, again if the table was changed concurrently. If t is pinned or its name is invalid, update
// returns an OpError for the operation op without calling Store.Update.
func (t *Table) update(ctx context.Context, op string, f func(*Txn) error) error {
	if _, err := t.checkUnpinned(); err != nil {
		return t.error(op, err)
	}
	var err error
	for range commit.MaxAttempts {
		err = t.store().Update(ctx, f)
		if !errors.Is(err, commit.ErrStale) {
			break
		}
	}
	return err
}

// Delete deletes the table with all its versions, even if it is damaged. To delete several tables in one commit, use
// [Bucket.Delete].
func (t *Table) Delete(ctx context.Context) error {
	return t.update(ctx, "delete", func(txn *Txn) error { return txn.Delete(t.Bucket().Name(), t.Name()) })
}

// ChangeMetadata changes the metadata of a table or, if name is "", of a bucket, as a part of the transaction.
func (t *Txn) ChangeMetadata(bucket, name string, c MetadataChange) (err error) {
	defer wrapError(&err, "set metadata", bucket, name)
	c.Set, err = c.Set.normalize()
	if err != nil {
		return err
	}
	if name == "" {
		if t.ended {
			return ErrTxnDone
		}
		if err := checkName("bucket", bucket); err != nil {
			return err
		}
		t.hooks = append(t.hooks, icecat.ChangeNamespaceMetadata(namespaceOf(bucket), c.apply))
		return nil
	}
	change, err := t.existing(bucket, name)
	if err != nil {
		return err
	}
	change.Add(commit.Plain, nil, func(_ context.Context, a *commit.Attempt, cur *table.Table) (_ table.Metadata, err error) {
		if cur == nil {
			return nil, ErrNotFound
		}
		a.Info.Updated = a.Now
		a.Info.Metadata, err = c.apply(a.Info.Metadata)
		return cur.Metadata(), err
	})
	return nil
}

// ChangeMetadata changes the table's metadata in one commit.
func (t *Table) ChangeMetadata(ctx context.Context, c MetadataChange) error {
	return t.update(ctx, "set metadata", func(txn *Txn) error { return txn.ChangeMetadata(t.Bucket().Name(), t.Name(), c) })
}
