package tables

import (
	"context"
	"errors"

	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd"

	"github.com/go-partd/partd/tables/internal/definition"
)

// Partitioned says by which periods a table's files are cut.
type Partitioned struct {
	Partition   Partition // where it is chosen from the data: what was chosen
	Why         string    // it was
	Version     Version
	FilesBefore int // that were replaced
	FilesAfter  int // by so many
}

// Partition sets by which periods of time a table's files are cut, and cuts those
// that there are, in one commit. Files that lie within a period already stay, unless
// they are small or overlap. "" leaves the setting as it is. The periods of
// [PartitionAuto] follow the data: each put, fold and compaction chooses them anew.
func (b *Bucket) Partition(ctx context.Context, name string, by Partition) (Partitioned, error) {
	done, err := b.partition(ctx, name, by)
	if err != nil {
		return Partitioned{}, &OpError{Op: "partition", Bucket: b.name, Table: name, Err: err}
	}
	return done, nil
}

func (b *Bucket) partition(ctx context.Context, name string, by Partition) (done Partitioned, err error) {
	n, err := b.check(name)
	if err != nil {
		return done, err
	}
	e, err := b.s.acquire(n)
	if err != nil {
		return done, err
	}
	defer e.release()
	p, err := b.s.pin()
	if err != nil {
		return done, err
	}
	defer b.s.unpin(p)
	for range mostRewrites {
		if done, err = e.partition(ctx, by); !errors.Is(err, errRestage) {
			return done, err
		}
	}
	return done, ErrConflict
}

func (e *entry) partition(ctx context.Context, by Partition) (done Partitioned, err error) {
	e.commit.Lock()
	defer e.commit.Unlock()
	if _, err := e.foldLocked(ctx); err != nil {
		return done, err
	}
	t, err := e.current(ctx)
	if err != nil {
		return done, err
	}
	if t == nil {
		return done, ErrNotFound
	}
	settings, err := settingsOf(t.Metadata().Properties())
	if err != nil {
		return done, err
	}
	c := &change{e: e}
	if by != "" && by != settings.Partition {
		settings.Partition = by
		c.add(&partitionStep{by})
	}
	if err := settings.CheckPartition(); err != nil {
		return done, &ArgumentError{Err: err}
	}
	done = Partitioned{Partition: PartitionNone, Why: "the files are not cut by time", Version: versionOf(t.Metadata())}
	if settings.Cuts() {
		done.Partition, done.Why = (&cut{by: settings.Partition}).chosen()
	}
	if settings.Cuts() && t.CurrentSnapshot() != nil {
		meta, err := definition.WithSettings(t.Metadata(), &settings)
		if err != nil {
			return done, err
		}
		step := e.newCompactStep(t)
		defer func() {
			if err != nil && !errors.Is(err, partd.ErrUnknownOutcome) {
				step.io.RemoveWritten()
			}
		}()
		t = e.s.cat.Staged(e.Namespace, e.Name, meta, t.MetadataLocation(), step.io)
		if err := e.mergeInOrder(ctx, t, step); err != nil {
			return done, err
		}
		done.Partition, done.Why = step.cut.chosen()
		if done.FilesBefore, done.FilesAfter = step.files(); done.FilesBefore > 0 {
			c.add(step)
		}
	}
	if len(c.steps) == 0 {
		return done, nil
	}
	if e.s.hooks.staged != nil {
		e.s.hooks.staged()
	}
	if err := e.s.attempts(ctx, []*change{c}); err != nil {
		return done, err
	}
	done.Version = versionOf(c.result.Metadata())
	return done, nil
}

// partitionStep sets by which periods a table's files are cut.
type partitionStep struct{ by Partition }

func (p *partitionStep) stage(_ context.Context, _ *staging, cur *table.Table) (table.Metadata, error) {
	if cur == nil {
		return nil, errRestage
	}
	s, err := settingsOf(cur.Metadata().Properties())
	if err != nil {
		return nil, err
	}
	s.Partition = p.by
	return definition.WithSettings(cur.Metadata(), &s)
}
