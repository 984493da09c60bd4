package tables

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/go-partd/partd/tables/internal/icecat"
)

var errNoBucket = errors.New("tables without their bucket: name it, and no other one")

// IDAge is how long the id of a put is remembered at least.
const IDAge = 30 * 24 * time.Hour

// MaintainOptions says what Fold, Compact and Expire are about. The zero value,
// and nil, are all tables.
type MaintainOptions struct {
	Buckets Buckets  `json:"Bucket"`
	Tables  []string // of the one of Buckets; nil: all tables

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

// Buckets are the buckets that something is about; nil, and none, are all. "" is the
// default bucket.
type Buckets []string

func (b Buckets) has(name string) bool { return len(b) == 0 || slices.Contains(b, name) }

// MarshalJSON writes null for all, one bucket as a text, and several as a list.
func (b Buckets) MarshalJSON() ([]byte, error) {
	switch len(b) {
	case 0:
		return []byte("null"), nil
	case 1:
		return json.Marshal(b[0])
	}
	return json.Marshal([]string(b))
}

// UnmarshalJSON reads what MarshalJSON writes.
func (b *Buckets) UnmarshalJSON(text []byte) error {
	if bytes.HasPrefix(text, []byte(`"`)) {
		*b = Buckets{""}
		return json.Unmarshal(text, &(*b)[0])
	}
	return json.Unmarshal(text, (*[]string)(b))
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

// Fold moves rows from the tail into files, of those tables that have any there, and
// gives back the room that they took.
func (s *Store) Fold(ctx context.Context, o *MaintainOptions) (MaintainResult, error) {
	s = s.made()
	r, err := s.maintain(ctx, "fold", o, fold)
	if err == nil && s.tail != nil && !s.opts.ReadOnly {
		s.tail.Reclaim(ctx) // of rows that were folded before, too
	}
	return r, err
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
	o = cmp.Or(o, new(MaintainOptions))
	unpin, err := s.commits.Pin()
	if err != nil {
		return MaintainResult{}, &OpError{Op: op, Dir: s.dir, Err: err}
	}
	unpin() // it only had to tell whether the store is open
	tables, err := s.selected(ctx, op, o)
	if err == nil && s.opts.ReadOnly && op != "fold" { // which has nothing to do
		err = ErrReadOnly
	}
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
			ctx, end := gctx, ignore
			if op != "fold" { // of which commit tells
				ctx, end = s.begin(gctx, op, bucketOf(n.Namespace), n.Name)
			}
			results[i], err = f(ctx, e)
			end(Outcome{Err: err})
			if err != nil {
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
		if len(o.Buckets) != 1 {
			return nil, errNoBucket
		}
		ns := namespaceOf(o.Buckets[0])
		for _, name := range o.Tables {
			if _, err := s.cat.Location(ctx, ns, name); err != nil {
				return nil, fmt.Errorf("table %q: %w", name, notFound(err))
			}
			all = append(all, tableName{Namespace: ns, Name: name})
		}
		return all, nil
	}
	if op == "fold" {
		return slices.DeleteFunc(s.commits.InMemory(), func(n tableName) bool { return !o.Buckets.has(bucketOf(n.Namespace)) }), nil
	}
	namespaces, err := s.cat.Namespaces(ctx)
	if err != nil {
		return nil, err
	}
	for _, ns := range namespaces {
		if !o.Buckets.has(bucketOf(ns)) {
			continue
		}
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
