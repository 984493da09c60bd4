package tables

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/go-partd/partd/tables/internal/icecat"
)

// IDAge is how long the id of a put is remembered at least.
const IDAge = 30 * 24 * time.Hour

// MaintainOptions says what Fold, Compact and Expire are about. The zero value,
// and nil, are all tables.
type MaintainOptions struct {
	Bucket *string  // nil: all buckets
	Tables []string // nil: all tables

	// OlderThan is the age from which versions expire; 0: any. The newest
	// version never does.
	OlderThan time.Duration
	// Keep is how many of the newest versions are kept whatever their age. 0
	// means 1.
	Keep int
	// Grace is how long a file must have been of no use before it is removed,
	// since others may read or be about to commit it. 0 means 24 hours, below 0
	// none: then no other process may use the directory.
	Grace time.Duration
}

// MaintainResult says what was done.
type MaintainResult struct {
	Tables       int   // that were changed
	Rows         int64 // moved from the tail by Fold
	FilesBefore  int   // that Compact replaced
	FilesAfter   int   // by so many
	Versions     int   // expired
	FilesRemoved int   // by Expire
	BytesRemoved int64 // by Expire
	FilesWaiting int   // found to be of no use, and removed by an Expire after the time of grace
}

func (r *MaintainResult) add(o MaintainResult) {
	r.Tables += o.Tables
	r.Rows += o.Rows
	r.FilesBefore += o.FilesBefore
	r.FilesAfter += o.FilesAfter
	r.Versions += o.Versions
}

// Fold moves rows from the tail into files, of those tables that have any there.
func (s *Store) Fold(ctx context.Context, o *MaintainOptions) (MaintainResult, error) {
	return s.maintain(ctx, "fold", o, fold)
}

func fold(ctx context.Context, e entry) (r MaintainResult, err error) {
	if r.Rows, err = e.Fold(ctx); r.Rows > 0 {
		r.Tables = 1
	}
	return r, err
}

// foldWorkers is how many tables are folded side by side: most of the time goes
// into syncs.
const foldWorkers = 4

// maintain does something to each of the tables that o is about. One that fails
// ends it, but for those that are damaged, of which it tells at the end.
func (s *Store) maintain(ctx context.Context, op string, o *MaintainOptions, f func(context.Context, entry) (MaintainResult, error)) (MaintainResult, error) {
	if o == nil {
		o = &MaintainOptions{}
	}
	tables, err := s.selected(ctx, op, o)
	if err != nil {
		return MaintainResult{}, &OpError{Op: op, Dir: s.dir, Err: err}
	}
	return s.each(ctx, op, tables, f)
}

// each does something to tables, a few side by side.
func (s *Store) each(ctx context.Context, op string, tables []tableName, f func(context.Context, entry) (MaintainResult, error)) (MaintainResult, error) {
	results, damaged := make([]MaintainResult, len(tables)), make([]error, len(tables))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(foldWorkers)
	for i, n := range tables {
		g.Go(func() error {
			e, done, err := s.use(n)
			if err != nil {
				return &OpError{Op: op, Dir: s.dir, Err: err}
			}
			defer done()
			if results[i], err = f(gctx, e); err != nil {
				err = &OpError{Op: op, Bucket: bucketOf(n.Namespace), Table: n.Name, Err: err}
			}
			if errors.Is(err, ErrDamaged) {
				damaged[i], err = err, nil
			}
			return err
		})
	}
	err := cmp.Or(g.Wait(), errors.Join(damaged...))
	var sum MaintainResult
	for _, r := range results {
		sum.add(r)
	}
	return sum, err
}

// selected returns the tables that o is about, of which a fold wants those alone
// that are in memory.
func (s *Store) selected(ctx context.Context, op string, o *MaintainOptions) (all []tableName, err error) {
	if o.Tables != nil {
		if o.Bucket == nil {
			return nil, errors.New("tables without a bucket: name it")
		}
		for _, name := range o.Tables {
			if _, err := s.cat.Location(ctx, namespaceOf(*o.Bucket), name); err != nil {
				return nil, fmt.Errorf("table %q: %w", name, notFound(err))
			}
			all = append(all, tableName{Namespace: namespaceOf(*o.Bucket), Name: name})
		}
		return all, nil
	}
	if op == "fold" {
		return slices.DeleteFunc(s.commits.InMemory(), func(n tableName) bool { return o.Bucket != nil && n.Namespace != namespaceOf(*o.Bucket) }), nil
	}
	namespaces, err := s.cat.Namespaces(ctx)
	if err != nil {
		return nil, err
	}
	if o.Bucket != nil {
		namespaces = slices.DeleteFunc(namespaces, func(ns string) bool { return ns != namespaceOf(*o.Bucket) })
	}
	for _, ns := range namespaces {
		err := s.cat.List(ctx, ns, func(l icecat.Listed) bool {
			all = append(all, tableName{Namespace: l.Namespace, Name: l.Name})
			return true
		})
		if err != nil {
			return nil, err
		}
	}
	return all, nil
}
