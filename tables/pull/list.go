package pull

import (
	"context"
)

// TableInfo describes a table in a listing.
type TableInfo struct {
	Name        string
	Version     int64
	Rows, Bytes int64
	Here        int64 // the version that this directory has, or a range of it; 0: none
	Holders     int   // directories that have the newest version, or a range of it
}

// List returns the tables that the registry knows, by name.
func (n *Node) List(ctx context.Context) (all []TableInfo, err error) {
	defer failed("list", n.disk.dir, &err)
	if !n.reg.fresh() {
		if err := n.sync(ctx, n.opts.SyncTimeout); err != nil {
			return nil, err
		}
	}
	for _, r := range n.reg.records() {
		t := TableInfo{Name: r.Name, Version: r.Version, Rows: r.Rows, Bytes: r.Bytes, Holders: n.reg.holders(r)}
		if h, err := n.disk.head(keyOf(r.Name)); err == nil {
			t.Here = h.Version
		}
		all = append(all, t)
	}
	return all, nil
}
