package tables

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"
)

// Snapshot records the bucket's current state under a name: all its tables, with their versions and metadata. It copies
// no data. It returns the snapshot's name, which is the current time if name is "". The snapshot remains readable until
// it is deleted, even if tables are changed, compacted, expired or deleted.
//
// Snapshot first moves the tail's rows into files. The snapshot contains each put completely or not at all, and
// includes every put that this Store has acknowledged or other Stores have committed. If the error wraps [ErrDamaged],
// the snapshot exists but lacks the rows of damaged tables that are only in the tail.
func (b *Bucket) Snapshot(ctx context.Context, name string) (_ string, err error) {
	defer wrapError(&err, "create a snapshot", b.Name(), "")
	if err := errors.Join(checkName("bucket", b.Name()), checkName("snapshot", name)); err != nil {
		return "", err
	}
	return b.store().keeper.snapshot(ctx, []string{namespaceOf(b.Name())}, name)
}

// snapshot creates one snapshot of several buckets; see Bucket.Snapshot.
func (k *keeper) snapshot(ctx context.Context, namespaces []string, name string) (string, error) {
	for _, ns := range namespaces {
		exists, err := k.cat.HasNamespace(ctx, ns)
		if err != nil {
			return "", err
		}
		if !exists {
			return "", ErrNotFound
		}
		// Appends must be blocked during the last fold, so that if the snapshot contains a put, it contains all earlier
		// puts. Fold once before blocking appends, so that the last fold has few rows to move.
		if err := k.foldTails(ctx, ns); err != nil && !errors.Is(err, ErrDamaged) {
			return "", err
		}
	}
	k.commits.Appending.Lock()
	defer k.commits.Appending.Unlock()
	var damaged error
	for _, ns := range namespaces {
		err := k.foldTails(ctx, ns)
		if err != nil && !errors.Is(err, ErrDamaged) {
			return "", err
		}
		damaged = errors.Join(damaged, err)
	}
	for {
		now := time.Now()
		label := cmp.Or(name, now.UTC().Format("2006-01-02T15:04:05.000000Z"))
		created, err := k.cat.TakeSnapshot(ctx, namespaces, label, now)
		switch {
		case err != nil:
			return "", err
		case created && damaged != nil:
			return label, fmt.Errorf("snapshot %q was created, but lacks those rows of damaged tables that are only in the tail: %w", label, damaged)
		case created:
			return label, nil
		case name != "":
			return "", ErrExists
		}
		time.Sleep(time.Microsecond) // a snapshot named after the current microsecond exists: try the next microsecond
	}
}

// foldTails moves the bucket's rows from the tail into files. It skips damaged tables and returns their errors last.
func (k *keeper) foldTails(ctx context.Context, ns string) error {
	// Other engines may have renamed tables with rows in the tail: find these rows under the new table names.
	renamed, err := k.cat.Unlisted(ctx, ns)
	if err != nil {
		return err
	}
	for _, name := range renamed {
		err := k.commits.Refresh(ctx, tableName{Namespace: ns, Name: name})
		if err != nil && !errors.Is(err, ErrDamaged) {
			return err
		}
	}
	_, err = k.forEach(ctx, "fold", k.commits.WithTail(ctx, ns), foldTable)
	return err
}

// Snapshots returns the bucket's snapshots, oldest first.
func (b *Bucket) Snapshots(ctx context.Context) (snapshots []SnapshotInfo, err error) {
	return b.store().snapshots(ctx, b.Name())
}

func (s *core) snapshots(ctx context.Context, bucket string) (snapshots []SnapshotInfo, err error) {
	defer wrapError(&err, "list snapshots", bucket, "")
	infos, err := s.cat.Snapshots(ctx, namespaceOf(bucket))
	for _, s := range infos {
		snapshots = append(snapshots, SnapshotInfo{bucket, s.Name, s.Created, s.Tables, s.Metadata})
	}
	return snapshots, err
}

// DeleteSnapshot deletes a snapshot if it exists. Expire later removes the files that only the snapshot needed.
func (b *Bucket) DeleteSnapshot(ctx context.Context, name string) error {
	return b.store().deleteSnapshots(ctx, b.Name(), &name)
}

// DeleteSnapshots deletes all snapshots of the bucket.
func (b *Bucket) DeleteSnapshots(ctx context.Context) error {
	return b.store().deleteSnapshots(ctx, b.Name(), nil)
}

func (s *core) deleteSnapshots(ctx context.Context, bucket string, name *string) (err error) {
	defer wrapError(&err, "delete snapshots", bucket, "")
	return s.cat.DropSnapshots(ctx, namespaceOf(bucket), name)
}
