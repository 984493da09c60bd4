package tables

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-partd/partd/tables/internal/files/icecat"
	"github.com/go-partd/partd/tables/internal/rows/parallel"
	"github.com/go-partd/partd/tables/internal/state/commit"
	"github.com/go-partd/partd/tables/internal/state/definition"
)

var errNoBucket = errors.New("option Tables requires exactly one bucket in option Buckets")

// IDAge is the minimum time for which a put's ID is remembered.
const IDAge = 30 * 24 * time.Hour

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

// Fold moves rows from the tail (the log of recent appends) into files and frees their space in the tail.
func (s *Store) Fold(ctx context.Context, o *MaintainOptions) (MaintainResult, error) {
	s = s.orUnopened()
	r, err := s.keeper.maintain(ctx, "fold", o, foldTable)
	if err == nil && s.tail != nil && !s.opts.ReadOnly {
		s.tail.Reclaim(ctx) // also frees the space of rows that earlier folds have moved
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

// maintainWorkers is the maximum number of tables that are maintained concurrently. Folds mostly wait for syncs.
const maintainWorkers = 4

// maxFailed is the number of failed tables after which maintain stops, because the store itself may be at fault.
const maxFailed = 100

// maintain calls f for each table that o selects and returns the sum of the results. If f fails for a table, maintain
// continues with the others and reports the failures at the end. The error wraps ErrDamaged if all failures do.
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
		var r MaintainResult
		err = parallel.Catch(func() (err error) { r, err = f(ctx, e); return err }) // a panic must not stop the work on other tables
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
	err = cmp.Or(err, errors.Join(failed...))
	if err != nil && damaged != nil {
		return sum, fmt.Errorf("%w\n%v", err, errors.Join(damaged...)) //nolint:errorlint // must not wrap ErrDamaged, because other tables failed too
	}
	return sum, cmp.Or(err, errors.Join(damaged...))
}

// selectTables returns the tables that o selects. To fold whole buckets, it returns only the tables in memory, because
// these include all tables with rows in the tail.
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

// Backlog returns the backlog of all tables, except those whose rows in the tail cannot be read. If the catalog does
// not respond within five seconds, Backlog also omits tables that have not been read since Open.
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

// Maintenance returns the state of the table's maintenance.
func (t *Table) Maintenance(ctx context.Context) (state MaintenanceState, err error) {
	defer wrapError(&err, "describe the maintenance of", t.Bucket().Name(), t.Name())
	n, err := t.checkUnpinned()
	if err != nil {
		return state, err
	}
	s := t.store()
	cur, err := s.cat.Load(ctx, n.Namespace, n.Name)
	if err != nil {
		return state, notFound(ctx, s.cat, n, err)
	}
	state.MetadataBytes, err = s.cat.MetadataSize(ctx, n.Namespace, n.Name)
	if err != nil {
		return state, notFound(ctx, s.cat, n, err)
	}
	settings, err := definition.SettingsOf(cur.Metadata())
	if err != nil {
		return state, err
	}
	state.Versions = len(cur.Metadata().Snapshots())
	state.Files, state.SmallFiles, err = countFiles(ctx, cur)
	if err != nil {
		return state, err
	}
	m := s.keeper
	m.mu.Lock()
	defer m.mu.Unlock()
	state.UnusedBytes = m.unusedBytes[s.cat.TableDir(cur.Location())]
	if m.passErr != nil {
		state.Reason = s.withoutDir(m.passErr.Error())
	}
	if c := m.tables[n]; c != nil {
		state.Last, state.Reason = c.lastChange, c.reason
		if c.failures > 0 {
			state.Next = c.nextAttempt
		}
	}
	if retry, err := s.commits.FoldFailure(n); err != nil {
		state.Next, state.Reason = retry, "cannot fold recent rows: "+s.withoutDir(err.Error())
	}
	if settings.Maintenance == MaintenanceOff {
		state.Reason = "the table's setting maintenance is off"
	}
	return state, nil
}

// MaintenanceSummary returns the state of the Store's maintenance.
func (s *Store) MaintenanceSummary() (sum MaintenanceSummary) {
	m := s.orUnopened().keeper
	m.mu.Lock()
	defer m.mu.Unlock()
	sum.Last, sum.FailedFolds = m.passEnd, m.commits.FailedFolds()
	for _, c := range m.tables {
		if c.failures > 0 {
			sum.Failing++
		}
	}
	for _, n := range m.unusedBytes {
		sum.UnusedBytes += n
	}
	return sum
}
