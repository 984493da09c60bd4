package pull

import (
	"context"
	"errors"
	"fmt"
)

// Forget gives up the newest version of a table, which no node that is alive has, for
// good: nodes that have older ones tell the registry of them within a lease, and where
// there are none the name is free. A node that returns with the version puts it in its
// place again; what was saved meanwhile is then kept under another name. Where a node that
// is alive has the version, or a range of it, nothing is forgotten.
func (n *Node) Forget(ctx context.Context, name string) (err error) {
	defer failed("forget", name, &err)
	if err := n.sync(ctx, n.opts.SyncTimeout); err != nil {
		return err
	}
	key := keyOf(name)
	e := n.reg.table(key)
	newest := max(e.Version, n.reg.held(key), n.reg.newest(key).Version)
	if newest == 0 {
		return ErrNotFound
	}
	heads, causes := n.askHeads(ctx, key, n.reg.peers(e.record))
	if len(causes) > 0 { // they may have it
		return &SyncError{causes}
	}
	h, err := n.disk.head(key)
	if err != nil {
		return err
	}
	heads[peer{address: "this one"}] = h.record
	for p, r := range heads {
		if r.Version >= newest {
			return errors.Join(ctx.Err(), fmt.Errorf("version %d is at a node, %s: load or save it there, or restore a backup", r.Version, p.address))
		}
	}
	return n.reg.forget(ctx, name, e.revision)
}
