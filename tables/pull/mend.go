package pull

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/go-partd/partd/tables/internal/content"
)

// open opens a file of a version, which is fetched where it is not here, or damaged.
func (n *Node) open(ctx context.Context, r record, f content.Named) (*os.File, error) {
	file, err := n.disk.Open(ctx, f)
	if err != nil {
		if err = n.mend(ctx, r, f, err); err == nil {
			file, err = n.disk.Open(ctx, f)
		}
	}
	return file, err
}

// mend fetches a file again that could not be opened for a reason: from other nodes.
func (n *Node) mend(ctx context.Context, r record, f content.Named, why error) error {
	return n.replace(ctx, r.Name, f, why, func() error { return n.fetch(ctx, f, n.reg.peers(r)) })
}

// replace fetches a file that could not be opened for a reason.
func (n *Node) replace(ctx context.Context, table string, f content.Named, why error, fetch func() error) error {
	damaged := errors.Is(why, content.ErrDamaged)
	if !damaged && !errors.Is(why, fs.ErrNotExist) {
		return why
	}
	if damaged {
		n.log.Warn("pull: a file is damaged, and is fetched again", "table", table, "file", f.Hash)
		// A file that is whole takes its place, or none.
		if err := n.disk.remove(ctx, f.Hash); err != nil {
			return err
		}
	}
	err := fetch()
	if err != nil && damaged {
		err = fmt.Errorf("%s: %w: %w", f.Hash, why, err)
	}
	return err
}

// audit holds each head against what the registry says, and tells it what it lost.
func (n *Node) audit(ctx context.Context) {
	err := n.disk.heads(func(key string, h head) error {
		e := n.reg.table(key)
		switch {
		case e.Version < h.Version:
			n.log.Warn("pull: the registry lost a record, and is told again", "table", h.Name, "version", h.Version, "lost to", e.Version)
			if err := n.reg.set(ctx, h.record, e.revision); err != nil && !errors.Is(err, ErrConflict) {
				return err
			}
		case h.branched(e.record):
			return n.keepBranch(ctx, h)
		case e.record == h.record:
			now := time.Now()
			_ = os.Chtimes(n.disk.headPath(key), now, now) // else it counts as older than it is
		}
		return n.reg.hold(ctx, h.record)
	})
	if err == nil {
		err = n.disk.sweep(ctx, n.reg.records())
	}
	if err != nil && ctx.Err() == nil {
		n.log.Warn("pull: the check of the directory failed", "error", err)
	}
}

// keepBranch gives a version of another history than the registry's a name of its own,
// which the next audit tells.
func (n *Node) keepBranch(ctx context.Context, h head) error {
	m, err := n.manifest(ctx, h.record)
	if err != nil {
		return err
	}
	r := h.record
	r.Name = fmt.Sprintf("%s (version %d of %s)", strings.ToValidUTF8(h.Name[:min(len(h.Name), 200)], ""), h.Version, h.short())
	m.Name = r.Name
	f, err := n.disk.Create(ctx, m.encode)
	if err != nil {
		return err
	}
	r.Manifest, r.Size = f.Hash, f.Size
	if err := n.disk.setHead(r); err != nil {
		return err
	}
	n.log.Error("pull: the table has another history elsewhere; the version of this directory is kept under another name", "table", h.Name, "name", r.Name)
	return n.disk.locked(func() error {
		if now, err := n.disk.head(keyOf(h.Name)); err != nil || now.record != h.record {
			return err
		}
		return os.Remove(n.disk.headPath(keyOf(h.Name)))
	})
}
