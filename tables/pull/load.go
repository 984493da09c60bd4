package pull

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/tables/internal/rows/batches"
)

// Load returns the rows of a table with times in [from, to), in time order. A zero time means no bound. Load first
// fetches the missing files of the newest version. The caller must release the reader before Close. The error wraps
// [ErrNotFound] if no node has the table, and [ErrSyncFailed] if files are missing and no node could supply them.
func (n *Node) Load(ctx context.Context, name string, from, to time.Time) (_ array.RecordReader, err error) {
	defer wrapError("load", name, &err)
	if err := n.checkOpened(); err != nil {
		return nil, err
	}
	if err := checkName(name); err != nil {
		return nil, err
	}
	v, times, err := n.fetchNewest(ctx, name, from, to)
	if err != nil {
		return nil, err
	}
	n.disk.pin(v.Manifest, 1)
	var rows []batches.Seq
	for _, f := range v.files {
		if times.overlaps(f) {
			rows = append(rows, n.rows(ctx, v.manifest, v.record, f, times))
		}
	}
	return batches.Reader(v.schema, batches.MapError(batches.Concat(rows...), func(err error) error {
		if err != nil {
			err = &Error{Op: "load", Name: name, Err: err}
		}
		return err
	}), func() { n.disk.pin(v.Manifest, -1) }), nil
}

// fetchNewest fetches the missing files that a Load of [from, to) needs. It returns the version to
// load, which Options.MaxStaleness may allow to be older than the newest, and the range as an interval.
func (n *Node) fetchNewest(ctx context.Context, name string, from, to time.Time) (v version, times interval, err error) {
	key := keyOf(name)
	h, err := n.disk.head(key)
	if err != nil {
		return v, times, err
	}
	if n.opts.Newest {
		err = n.sync(ctx, n.syncTimeout(h))
	}
	if err == nil && n.reg.fresh() && h.Version > 0 && n.reg.newestKnown(key) == h.record {
		v, times, err = n.fetchVersion(ctx, h.record, from, to)
	} else if err == nil {
		var newest record
		newest, _, err = n.findNewest(ctx, name)
		if err == nil {
			v, times, err = n.fetchVersion(ctx, newest, from, to)
		}
		if err == nil {
			err = n.adopt(ctx, newest)
		}
	}
	if errors.Is(err, ErrSyncFailed) && h.Version > 0 && time.Since(h.confirmedAt) <= n.opts.MaxStaleness {
		cause := err
		v, times, err = n.fetchVersion(ctx, h.record, from, to)
		if err == nil {
			n.log.Warn("pull: the newest version is not available, so the node uses an older one",
				"table", name, "version", h.Version, "as of", h.confirmedAt, "error", cause)
		}
	}
	return v, times, err
}

// fetchBase fetches all files of the newest version, to which a Save adds rows. It also returns the revision of the
// registry's record, from which commit detects a concurrent Save. If the table does not exist, only the revision is set.
func (n *Node) fetchBase(ctx context.Context, name string) (v version, revision uint64, err error) {
	newest, revision, err := n.findNewest(ctx, name)
	if errors.Is(err, ErrNotFound) {
		return v, revision, nil
	}
	if err != nil {
		return v, revision, err
	}
	v, _, err = n.fetchVersion(ctx, newest, time.Time{}, time.Time{})
	return v, revision, err
}

// syncTimeout returns how long to wait for the registry. The wait is shorter if Load may return the
// local version h when the registry does not respond.
func (n *Node) syncTimeout(h head) time.Duration {
	if h.Version > 0 && time.Since(h.confirmedAt) <= n.opts.MaxStaleness {
		return min(n.opts.SyncTimeout, n.opts.Lease)
	}
	return n.opts.SyncTimeout
}

// findNewest returns the newest version that the registry, this directory or any other node knows, and the revision of
// the registry's record. The revision is also valid with ErrNotFound.
func (n *Node) findNewest(ctx context.Context, name string) (record, uint64, error) {
	key := keyOf(name)
	h, err := n.disk.head(key)
	if err == nil {
		err = n.sync(ctx, n.syncTimeout(h))
	}
	if err != nil {
		return record{}, 0, err
	}
	// Call heldVersion before reading the record: otherwise a concurrent Save would make the record look lost.
	held := n.reg.heldVersion(key)
	e := n.reg.table(key)
	byVersion := func(a, b record) int { return cmp.Compare(a.Version, b.Version) }
	best := slices.MaxFunc([]record{e.record, h.record, n.reg.newestKnown(key)}, byVersion)
	heads, causes := n.askHeads(ctx, key, n.reg.peers(best))
	best = slices.MaxFunc(slices.AppendSeq([]record{best}, maps.Values(heads)), byVersion)
	switch {
	case ctx.Err() != nil:
		return record{}, 0, canceled.Err(ctx)
	case best.Version == 0 && len(causes) > 0:
		return record{}, 0, &SyncError{causes}
	case best.Version < held:
		return record{}, 0, registryError(fmt.Errorf("the registry lost the record of version %d, and no node that has this version responds: "+
			"start one of these nodes, or call Forget", held))
	case best.Version == 0:
		return record{}, e.revision, ErrNotFound
	}
	return best, e.revision, nil
}
