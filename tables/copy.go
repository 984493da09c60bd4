package tables

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/google/uuid"

	"github.com/go-partd/partd/tables/internal/commit"
	"github.com/go-partd/partd/tables/internal/content"
	"github.com/go-partd/partd/tables/internal/icecat"
	"github.com/go-partd/partd/tables/internal/rowsum"
)

// CopiedTable says what became of a table.
type CopiedTable struct {
	Bucket, Name string
	Unchanged    bool // it was there, as it was copied before
	Rows         int64
	Files        int    // data files that were sent; those that are there already are not
	Bytes        int64  // in them
	Checksum     string // of the rows in any order, from CopyTo: 32 hexadecimal digits
}

// CopyTo copies buckets, all if none is named, to another store: the newest version of each
// table with its columns, settings, rules and metadata, and the bucket's own rules and
// metadata. Older versions, snapshots and ids of puts stay behind. Data files are copied
// as they are, and each must have its checksum in the catalog.
//
// A bucket's tables appear in one commit. If CopyTo is stopped and called again, it goes
// on: what was copied is not sent again. Nor is what did not change since an earlier
// CopyTo. A table of the same name that did not come from this store, or was changed
// since, is an error that wraps ErrExists.
//
// Rows of both stores are read and compared then: their number, and the sum modulo
// 2^128 of each row's xxh3-128.
func (s *Store) CopyTo(ctx context.Context, to *Store, buckets ...string) ([]CopiedTable, error) {
	s = s.made()
	return s.copyTo(ctx, "copy", to, buckets, func(c *copying, buckets []*Bucket) error {
		c.only = true
		for _, b := range buckets {
			if err := c.bucket(ctx, b.Name()); err != nil {
				return err
			}
		}
		for i := range c.done {
			if err := c.prove(ctx, &c.done[i]); err != nil {
				return err
			}
		}
		return nil
	})
}

// workName begins the names of snapshots that are there while a copy is made.
const workName = "partd "

// copyTo calls do while there is a snapshot of the buckets.
func (s *Store) copyTo(ctx context.Context, op string, to *Store, chosen Buckets, do func(c *copying, buckets []*Bucket) error) ([]CopiedTable, error) {
	s, to = s.made(), to.made()
	c := &copying{from: s, to: to, snapshot: workName + op + " to " + to.cat.ID(), rules: rulesProperty}
	err := c.run(op, func() error {
		namespaces, err := s.chosen(ctx, chosen)
		if err != nil {
			return err
		}
		var buckets []*Bucket
		for _, ns := range namespaces {
			b := s.Bucket(bucketOf(ns))
			if err := s.cat.DropSnapshots(ctx, ns, &c.snapshot); err != nil { // of one that was stopped
				return err
			}
			buckets = append(buckets, b)
		}
		if len(buckets) == 0 {
			return &missing{"there are no buckets"}
		}
		if _, err = s.snapshot(ctx, buckets, c.snapshot); errors.Is(err, ErrDamaged) {
			c.damaged, err = append(c.damaged, err), nil
		}
		if err == nil {
			err = do(c, buckets)
		}
		for _, b := range buckets {
			err = errors.Join(err, s.cat.DropSnapshots(context.WithoutCancel(ctx), namespaceOf(b.Name()), &c.snapshot))
		}
		return err
	})
	return c.done, err
}

// copying makes buckets of a store what a snapshot of another one has.
type copying struct {
	from, to *Store
	snapshot string
	rules    string // the property that has the rules of a bucket
	only     bool   // other tables stay, and none is replaced but copies
	restore  bool   // what is there is of use only if it is in order
	done     []CopiedTable
	damaged  []error // of tables that were left out
}

// run calls f while no file of the stores goes.
func (c *copying) run(op string, f func() error) (err error) {
	defer func() {
		if err != nil {
			err = &OpError{Op: op, Dir: c.from.dir, Err: err}
		}
	}()
	if c.from.dir == c.to.dir {
		return errors.New("source and destination are the same store: name another one")
	}
	for _, s := range []*Store{c.from, c.to} {
		unpin, err := s.commits.Pin()
		if err != nil {
			return err
		}
		defer unpin()
	}
	err = f() // before the damaged tables are known
	return errors.Join(append(c.damaged, err)...)
}

// bucket copies the files of a bucket's tables, and then commits all of it.
func (c *copying) bucket(ctx context.Context, name string) error {
	ns := namespaceOf(name)
	if err := c.to.Bucket(name).foldTails(ctx); err != nil && !errors.Is(err, ErrDamaged) {
		return err
	}
	var all []icecat.Listed
	err := c.from.cat.ListAt(ctx, ns, c.snapshot, func(l icecat.Listed) bool {
		all = append(all, l)
		return true
	})
	if err != nil {
		return noSnapshot(err)
	}
	steps, kept := map[string]*restoreStep{}, map[string]bool{}
	for _, l := range all {
		kept[l.Name] = true
		step, err := c.plan(ctx, l)
		if err != nil {
			err = &OpError{Op: "copy", Bucket: name, Table: l.Name, Err: err}
			if !errors.Is(err, ErrDamaged) {
				return err
			}
			c.damaged = append(c.damaged, err) // what the other store has of it stays
			continue
		}
		done := CopiedTable{Bucket: name, Name: l.Name, Unchanged: step == nil, Rows: l.Rows}
		if step != nil {
			steps[l.Name] = step
			done.Files, done.Bytes = step.copied.Sent, step.copied.Bytes
		}
		c.done = append(c.done, done)
	}
	err = c.to.update(ctx, func(t *Txn) error {
		for name, step := range steps {
			of, err := t.of(tableName{Namespace: ns, Name: name})
			if err != nil && !errors.Is(err, ErrDamaged) {
				return err
			}
			of.Add(commit.Restores|commit.Replaces, nil, step.apply)
		}
		for info, err := range c.to.Bucket(name).Tables(ctx, nil) {
			if err == nil && !c.only && !kept[info.Name] {
				err = t.Delete(name, info.Name)
			}
			if err != nil {
				return err
			}
		}
		return c.from.Bucket(name).restoreMetadata(t, c.snapshot)
	})
	if err != nil {
		return err
	}
	return copyProperty(ctx, c.from, c.rules, c.to, rulesProperty, ns)
}

// copyProperty copies a property of a namespace.
func copyProperty(ctx context.Context, from *Store, key string, to *Store, as, ns string) error {
	text, err := from.cat.Property(ctx, ns, key)
	if err != nil {
		return err
	}
	return to.cat.EditProperty(ctx, ns, as, func(string) (string, error) { return text, nil })
}

// plan copies the files of a table, and returns the step that makes the table; nil if it
// is there.
func (c *copying) plan(ctx context.Context, l icecat.Listed) (*restoreStep, error) {
	base, err := c.to.cat.Location(ctx, l.Namespace, l.Name)
	if err != nil && !errors.Is(err, icecat.ErrNotFound) {
		return nil, err
	}
	if base != "" {
		here, err := c.to.cat.CopyOf(ctx, base)
		if err != nil {
			return nil, err
		}
		there, err := c.from.cat.CopyOf(ctx, l.Location)
		same := here == c.from.key(l.Location) || there == c.to.key(base)
		if same && err == nil && c.restore {
			same, err = c.to.whole(ctx, l.Namespace, l.Name, base)
		}
		if err != nil || same {
			return nil, err
		}
		if c.only && !strings.HasPrefix(here, c.from.key("")) {
			return nil, fmt.Errorf("the table %w, and it is no copy of this one, or was changed since: delete it first, or copy to another store", ErrExists)
		}
	}
	was, err := c.from.cat.LoadAt(ctx, l.Namespace, l.Name, l.Location)
	if err != nil {
		return nil, err
	}
	step := &restoreStep{
		was: was, meta: l.Metadata, uuid: uuid.NewString(), location: c.to.cat.NewLocation(),
		copied: content.NewCopy(c.from.cat, c.to.cat, c.restore), copyOf: c.from.key(l.Location),
	}
	if c.only {
		step.base = &base
	}
	if s := was.CurrentSnapshot(); s != nil {
		err = step.copied.Files(ctx, s, step.location+"/data")
	}
	return step, err
}

// key names metadata among those of all stores.
func (s *Store) key(location string) string { return s.cat.ID() + " " + location }

// prove compares the rows of a table with those that were copied.
func (c *copying) prove(ctx context.Context, d *CopiedTable) error {
	want, err := c.from.Bucket(d.Bucket).sum(ctx, d.Name, AtSnapshot(c.snapshot))
	if err != nil {
		return err
	}
	got, err := c.to.Bucket(d.Bucket).sum(ctx, d.Name, nil)
	if err == nil && !got.Equals(want) {
		err = &OpError{Op: "prove the copy of", Bucket: d.Bucket, Table: d.Name, Err: fmt.Errorf(
			"%d rows with checksum %s were copied, and %d with %s are read: delete the copy, and copy again", want.Rows, want, got.Rows, got)}
	}
	d.Rows, d.Checksum = want.Rows, want.String()
	return err
}

// sum reads a table's rows.
func (b *Bucket) sum(ctx context.Context, name string, at At) (*rowsum.Sum, error) {
	t, err := b.Table(ctx, name, at)
	if err != nil {
		return nil, err
	}
	return rowsum.Of(t.Scan(ctx, nil))
}
