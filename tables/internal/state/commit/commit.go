package commit

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables/internal/files/icecat"
	"github.com/go-partd/partd/tables/internal/rows/schema"
	"github.com/go-partd/partd/tables/internal/state/definition"
)

// Commit commits either all changes or none. Each must be to a different table. The hooks run in the catalog's
// transaction.
func (s *shared) Commit(ctx context.Context, hooks []icecat.TxHook, changes ...*Change) error {
	s.OnPrepared()
	slices.SortFunc(changes, func(a, b *Change) int {
		return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
	})
	for _, c := range changes {
		c.Commits.Lock()
		defer c.Commits.Unlock()
	}
	discarded := map[*Change]error{}
	for _, c := range changes {
		// Fold first: rows that are already in the tail were put before this change, so they must also be committed
		// before it.
		if c.steps[0].Mode&Deletes == 0 && c.modes&Folds == 0 && !c.Unfolded {
			_, _, err := c.folder.fold(ctx, afterAllPuts)
			if c.modes&Replaces != 0 && (errors.As(err, new(*schema.Error)) || errors.Is(err, icecat.ErrContent)) {
				// Rows in the tail cannot be folded, but the change replaces them anyway.
				discarded[c], err = err, nil
			}
			if err != nil {
				return err
			}
		}
	}
	err := s.commitWithRetry(ctx, hooks, changes...)
	if err != nil {
		return err
	}
	for c, err := range discarded {
		s.Logger.Warn("discarded unreadable rows in the tail, because a change replaced them", "table", c.Name, "err", err)
	}
	return nil
}

// Commit commits steps that change the entry's table. It returns the new table, or nil if nothing changed. The caller
// must hold e.Commits. If the steps need the tail's rows, the caller must already have folded them into the table.
func (e *committer) Commit(ctx context.Context, steps ...PreparedStep) (*table.Table, error) {
	e.tables.OnPrepared()
	return e.commitSteps(ctx, steps...)
}

func (e *committer) commitSteps(ctx context.Context, steps ...PreparedStep) (*table.Table, error) {
	c := &Change{committer: e}
	for _, p := range steps {
		c.Add(p.Mode, p.IO, p.Apply)
	}
	err := e.tables.commitWithRetry(ctx, nil, c)
	return c.Result, err
}

// maxAside is how many times CommitAside prepares a commit without the table's lock.
const maxAside = 3

// CommitAside is like Commit, but the caller must not hold e.Commits, and step must be Plain and keep the table's rows.
// CommitAside prepares the commit and syncs its files without the lock, so that other commits do not have to wait. If
// others commit in the meantime, it rebases its snapshot on theirs or prepares the commit again, the last time with the
// lock. It waits for SQL statements that change rows, because replacing files would make them start again.
func (e *committer) CommitAside(ctx context.Context, step PreparedStep) (t *table.Table, err error) {
	e.tables.OnPrepared()
	for range maxAside {
		t, err = e.commitAside(ctx, step)
		if !errors.Is(err, table.ErrCommitFailed) {
			return t, err
		}
	}
	unlock, err := e.lockChanges(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	return e.commitSteps(ctx, step)
}

func (e *committer) commitAside(ctx context.Context, step PreparedStep) (_ *table.Table, err error) {
	cat, c := e.tables.Catalog, &Change{committer: e}
	c.Add(Plain, step.IO, step.Apply)
	a := &Attempt{Change: c, IO: cat.NewIO(), Now: time.Now()}
	defer func() { a.IO.RemoveFailed(err) }()
	if err := a.prepare(ctx); err != nil || a.record == nil {
		return nil, err
	}
	if err := definition.CheckFoldable(a.record.Base, a.record.New); err != nil {
		return nil, err
	}
	if err := cat.Stage(a.record); err != nil {
		return nil, err
	}
	unlock, err := e.lockChanges(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	// Don't use LastSequenceNumber: even if the step adds no snapshot, reserve may raise it to a version that a put
	// returned.
	if s := a.record.New.CurrentSnapshot(); s == nil || !e.isPromised(s.SequenceNumber) {
		err := cat.Commit(ctx, nil, a.record)
		if err == nil {
			return a.record.Result, nil
		}
		if !errors.Is(err, table.ErrCommitFailed) {
			return nil, err
		}
	}
	if step.IO == nil { // the step writes no files, so it is fast
		return e.commitSteps(ctx, step)
	}
	own, err := a.record.New.CurrentSnapshot().Manifests(a.IO)
	if err != nil {
		return nil, err
	}
	a.IO.RemoveAllAfter(len(a.IO.Written()) - 2) // the manifest list and the metadata
	rebased := &Change{committer: e}
	rebased.Add(Plain, step.IO, func(_ context.Context, _ *Attempt, cur *table.Table) (table.Metadata, error) {
		if cur == nil {
			return nil, ErrStale
		}
		return cur.Metadata(), nil
	})
	rebased.Add(Plain, a.IO, func(_ context.Context, b *Attempt, cur *table.Table) (table.Metadata, error) {
		return b.rebase(a.record, own, cur)
	})
	err = e.tables.commitWithRetry(ctx, nil, rebased)
	if errors.Is(err, errNotRebased) {
		err = icecat.ErrConflict
	}
	return rebased.Result, err
}

var errNotRebased = errors.New("later commits did more than add manifests")

// rebase returns cur's metadata with the snapshot that r adds to an earlier state of the table. own has that snapshot's
// manifests. Later commits must only have added manifests.
func (a *Attempt) rebase(r *icecat.Change, own []iceberg.ManifestFile, cur *table.Table) (table.Metadata, error) {
	basis, err := BasisOf(r.Base, OnlyAdditions, nil)
	if err == nil {
		err = basis.CheckFresh(cur)
	}
	if err != nil {
		return nil, err
	}
	meta, prepared := cur.Metadata(), r.New.CurrentSnapshot()
	before, err1 := r.Base.CurrentSnapshot().Manifests(a.IO)
	after, err2 := cur.CurrentSnapshot().Manifests(a.IO)
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	inBase := map[string]bool{}
	for _, m := range before {
		inBase[m.FilePath()] = true
	}
	added := slices.DeleteFunc(slices.Clone(after), func(m iceberg.ManifestFile) bool { return inBase[m.FilePath()] })
	if meta.Version() != 2 || len(after)-len(added) != len(before) {
		return nil, errNotRebased
	}
	own = slices.Clone(own)
	for i, m := range own {
		if m.SnapshotID() == prepared.SnapshotID { // -1 stands for the new snapshot's number
			own[i] = iceberg.NewManifestFile(m.Version(), m.FilePath(), m.Length(), m.PartitionSpecID(), m.SnapshotID()).Content(m.ManifestContent()).
				SequenceNum(-1, m.MinSequenceNum()).AddedFiles(m.AddedDataFiles()).ExistingFiles(m.ExistingDataFiles()).DeletedFiles(m.DeletedDataFiles()).
				AddedRows(m.AddedRows()).ExistingRows(m.ExistingRows()).DeletedRows(m.DeletedRows()).Partitions(m.Partitions()).KeyMetadata(m.KeyMetadata()).Build()
		}
	}
	summary := table.Summary{Operation: prepared.Summary.Operation, Properties: maps.Clone(prepared.Summary.Properties)}
	for key := range summary.Properties {
		if strings.HasPrefix(key, "total-") {
			total, _ := number(prepared, key)
			old, _ := number(r.Base.CurrentSnapshot(), key)
			now, _ := number(cur.CurrentSnapshot(), key)
			summary.Properties[key] = strconv.FormatInt(total-old+now, 10)
		}
	}
	return a.AddSnapshot(meta, prepared.SnapshotID, &summary, append(own, added...))
}
