package tables

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-partd/partd/tables/internal/files/icecat"
	"github.com/go-partd/partd/tables/internal/rows/parallel"
	"github.com/go-partd/partd/tables/internal/state/commit"
)

var errNoBucket = errors.New("option Tables is set without a bucket: set option Buckets to exactly one bucket")

// IDAge is the minimum time for which the ID of a put is remembered.
const IDAge = 30 * 24 * time.Hour

// MaintainOptions configures Fold, Compact, Expire and Maintain. Nil or the zero value selects all tables.
type MaintainOptions struct {
	Buckets Buckets  `json:"Bucket"`
	Tables  []string // table names, which require exactly one bucket in Buckets; nil selects all tables

	// OlderThan is the minimum age of the versions that Expire removes; 0 means any age. For Maintain, OlderThan and Keep
	// apply to tables whose settings do not say what to keep; if both are 0, Maintain expires no version of these tables.
	OlderThan time.Duration
	// Keep is how many of the newest versions Expire keeps regardless of their age. 0 means 1.
	Keep int
	// Requested makes Maintain care only for tables with the setting MaintenanceOn, and remove no unused files.
	Requested bool `json:",omitempty"`
	// Grace is how long a file must have been unused before Expire removes it, because another process may still read
	// or commit the file. 0 means 24 hours. A negative value means no grace period; then no other process may use the
	// directory.
	Grace time.Duration
}

// Buckets selects buckets by name. If empty, it selects all buckets. The name "" is the default bucket.
type Buckets []string

func (b Buckets) has(name string) bool { return len(b) == 0 || slices.Contains(b, name) }

// MarshalJSON returns null for all buckets, a string for one bucket, or a list for several.
func (b Buckets) MarshalJSON() ([]byte, error) {
	switch len(b) {
	case 0:
		return []byte("null"), nil
	case 1:
		return json.Marshal(b[0])
	}
	return json.Marshal([]string(b))
}

// UnmarshalJSON accepts the results of MarshalJSON.
func (b *Buckets) UnmarshalJSON(text []byte) error {
	if bytes.HasPrefix(text, []byte(`"`)) {
		*b = Buckets{""}
		return json.Unmarshal(text, &(*b)[0])
	}
	return json.Unmarshal(text, (*[]string)(b))
}

// namespaces returns the namespaces of the selected buckets, which must exist.
func (b Buckets) namespaces(ctx context.Context, cat *icecat.Catalog) (namespaces []string, _ error) {
	if len(b) == 0 {
		return cat.Namespaces(ctx)
	}
	for _, name := range b {
		ns := namespaceOf(name)
		exists, err := cat.HasNamespace(ctx, ns)
		if err == nil && !exists {
			err = &OpError{Op: "look for", Bucket: name, Err: &notFoundError{"the bucket does not exist"}}
		}
		if err != nil {
			return nil, err
		}
		namespaces = append(namespaces, ns)
	}
	return namespaces, nil
}

// MaintainResult counts what Fold, Compact, Expire or Maintain did.
type MaintainResult struct {
	Tables       int   // tables changed
	Rows         int64 // rows that Fold moved from the tail
	FilesBefore  int   // files replaced by Compact or Maintain
	FilesAfter   int   // files that were written to replace them
	Versions     int   // versions expired
	FilesRemoved int   // unused files removed
	BytesRemoved int64 // total size of these files
	FilesWaiting int   // unused files that are still in their grace period
}

func (r *MaintainResult) add(o MaintainResult) {
	r.Tables += o.Tables
	r.Rows += o.Rows
	r.FilesBefore += o.FilesBefore
	r.FilesAfter += o.FilesAfter
	r.Versions += o.Versions
}

// Fold moves rows from the tail (the log of recent appends) into files, and frees their space in the tail.
func (s *Store) Fold(ctx context.Context, o *MaintainOptions) (MaintainResult, error) {
	s = s.orUnopened()
	r, err := s.keeper.maintain(ctx, "fold", o, foldTable)
	if err == nil && s.tail != nil && !s.opts.ReadOnly {
		s.tail.Reclaim(ctx) // also frees the space of rows that earlier folds moved
	}
	return r, err
}

func foldTable(ctx context.Context, e tableWriter) (r MaintainResult, err error) {
	r.Rows, err = e.Fold(ctx)
	if r.Rows > 0 {
		r.Tables = 1
	}
	return r, err
}

// maintainWorkers is the maximum number of tables that are maintained concurrently. A fold mostly waits for syncs.
const maintainWorkers = 4

// maxFailed is the number of tables that can fail before maintain ends early, because the store itself may be the
// cause.
const maxFailed = 100

// maintain calls f for each table that o selects, and returns the sum of the results. It skips tables for which f
// fails, and reports them at the end. The error wraps ErrDamaged if all failures do.
func (k *keeper) maintain(ctx context.Context, op string, o *MaintainOptions, f func(context.Context, tableWriter) (MaintainResult, error)) (_ MaintainResult, err error) {
	defer wrapOnce(&err, &OpError{Op: op, Dir: k.dir})
	o = cmp.Or(o, new(MaintainOptions))
	if err := k.checkOpen(); err != nil {
		return MaintainResult{}, err
	}
	tables, err := o.selectTables(ctx, op, k.commits)
	if err == nil && k.opts.ReadOnly && op != "fold" { // fold is allowed: it does nothing in a read-only store
		err = ErrReadOnly
	}
	if err != nil {
		return MaintainResult{}, err
	}
	return k.forEach(ctx, op, tables, f)
}

// forEach is like maintain, but calls f for the given tables.
func (k *keeper) forEach(ctx context.Context, op string, tables []tableName, f func(context.Context, tableWriter) (MaintainResult, error)) (sum MaintainResult, err error) {
	defer wrapOnce(&err, &OpError{Op: op, Dir: k.dir})
	var mu sync.Mutex // guards sum, damaged and failed
	var damaged, failed []error
	err = parallel.Each(ctx, slices.Values(tables), maintainWorkers, func(ctx context.Context, n tableName) error {
		e, release, err := k.acquire(ctx, n)
		if err != nil {
			return err
		}
		defer release()
		end := ignoreOutcome
		if op != "fold" { // package commit reports each fold to the Observer
			ctx, end = k.opts.begin(ctx, op, bucketOf(n.Namespace), n.Name)
		}
		r, err := f(ctx, e)
		end(Outcome{Err: err})
		if err != nil {
			err = &OpError{Op: op, Bucket: bucketOf(n.Namespace), Table: n.Name, Err: err}
		}
		mu.Lock()
		defer mu.Unlock()
		sum.add(r)
		switch {
		case errors.Is(err, ErrDamaged):
			damaged, err = append(damaged, err), nil
		case err != nil && ctx.Err() == nil && !errors.Is(err, ErrClosed) && len(failed) < maxFailed:
			failed, err = append(failed, err), nil
		}
		return err
	})
	for _, list := range [][]error{damaged, failed} {
		slices.SortFunc(list, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	}
	if err = cmp.Or(err, errors.Join(failed...)); err != nil && damaged != nil {
		return sum, fmt.Errorf("%w\n%v", err, errors.Join(damaged...)) //nolint:errorlint // not only damaged tables failed
	}
	return sum, cmp.Or(err, errors.Join(damaged...))
}

// selectTables returns the tables that o selects. To fold whole buckets, it returns only the tables in memory, because
// all tables with rows in the tail are in memory.
func (o *MaintainOptions) selectTables(ctx context.Context, op string, tables *commit.Tables) (names []tableName, err error) {
	if o.Tables != nil {
		if len(o.Buckets) != 1 {
			return nil, errNoBucket
		}
		ns := namespaceOf(o.Buckets[0])
		for _, name := range o.Tables {
			if _, err := tables.Catalog.Location(ctx, ns, name); err != nil {
				return nil, &OpError{Op: op, Bucket: o.Buckets[0], Table: name, Err: notFound(ctx, tables.Catalog, tableName{Namespace: ns, Name: name}, err)}
			}
			names = append(names, tableName{Namespace: ns, Name: name})
		}
		return names, nil
	}
	if op == "fold" {
		return slices.DeleteFunc(tables.InMemory(), func(n tableName) bool { return !o.Buckets.has(bucketOf(n.Namespace)) }), nil
	}
	namespaces, err := tables.Catalog.Namespaces(ctx)
	if err != nil {
		return nil, err
	}
	for _, ns := range namespaces {
		if !o.Buckets.has(bucketOf(ns)) {
			continue
		}
		err := tables.Catalog.List(ctx, ns, func(l icecat.Listed) bool {
			names = append(names, tableName{Namespace: l.Namespace, Name: l.Name})
			return true
		})
		if err != nil {
			return nil, err
		}
	}
	return names, nil
}

// Backlog describes the rows in the tail (the log of recent appends) that are not yet folded into files.
type Backlog struct {
	Rows, Bytes int64
	Oldest      time.Time // when the oldest of the rows was put; zero if there are no rows
}

// Backlog returns the backlog of all tables. It leaves out tables whose rows in the tail cannot be read, also those that
// nobody has read since Open if the catalog does not respond within five seconds.
func (s *Store) Backlog() (b Backlog) {
	s = s.orUnopened()
	if s.tail != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		s.commits.ReadTails(ctx)
		b.Rows, b.Bytes, b.Oldest = s.tail.Size()
	}
	return b
}
