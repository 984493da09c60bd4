package pull

import (
	"context"
	"errors"
	"fmt"

	"github.com/go-partd/partd/internal/canceled"
)

// Forget gives up for good the newest version of a table, if no live node has it. Nodes
// with older versions report theirs to the registry within a lease; if there are none, the
// name is free. A node that returns with the forgotten version puts it back, and what was
// saved in the meantime is then kept under another name. If a live node has the version or
// a range of it, Forget changes nothing and returns an error.
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
			return errors.Join(canceled.Err(ctx), fmt.Errorf("version %d is at a node, %s: load or save it there, or restore a backup", r.Version, p.address))
		}
	}
	return n.reg.forget(ctx, name, e.revision)
}
