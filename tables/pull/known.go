package pull

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/go-partd/partd/internal/base/canceled"
)

// table returns the record of a table, with version 0 if the registry has none.
func (r *registry) table(key string) tableEntry {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.copy.tables[key]
}

// raiseKnown remembers rec unless a newer version is known. mu must be held.
func (r *registry) raiseKnown(key string, rec record) {
	if rec.Version >= r.known[key].Version {
		r.known[key] = rec
	}
}

// confirm remembers rec, the newest version according to the registry and all nodes.
func (r *registry) confirm(rec record) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.raiseKnown(keyOf(rec.Name), rec)
}

// newestKnown returns the newest version that this process knows, even if the registry has lost
// the record. The version is 0 until this process has asked all nodes for the table.
func (r *registry) newestKnown(key string) record {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.known[key]
}

func (r *registry) records() (all []record) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.copy.tables {
		if e.Version > 0 {
			all = append(all, e.record)
		}
	}
	slices.SortFunc(all, func(a, b record) int { return strings.Compare(a.Name, b.Name) })
	return all
}

func (r *registry) countHolders(rec record) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, holding := range r.copy.holders[keyOf(rec.Name)] {
		if holding == rec.holderValue() {
			n++
		}
	}
	return n
}

// heldVersion returns the newest version of a table that any node has, even a node that is
// down.
func (r *registry) heldVersion(key string) (newest int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, holding := range r.copy.holders[key] {
		text, _, _ := strings.Cut(holding, " ")
		if version, err := strconv.ParseInt(text, 10, 64); err == nil { // skip invalid values
			newest = max(newest, version)
		}
	}
	return newest
}

func (r *registry) heldKeys() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Collect(maps.Keys(r.copy.holders))
}

// TableInfo describes a table in a listing.
type TableInfo struct {
	Name        string
	Version     int64
	Rows, Bytes int64
	Here        int64 // version in this directory, even if some of its files are missing; 0 means none
	Holders     int   // number of directories with the newest version, even if some of its files are missing
}

// List returns the tables in the registry, sorted by name.
func (n *Node) List(ctx context.Context) (all []TableInfo, err error) {
	defer wrapError("list", n.disk.dir, &err)
	if !n.reg.fresh() {
		if err := n.sync(ctx, n.opts.SyncTimeout); err != nil {
			return nil, err
		}
	}
	for _, r := range n.reg.records() {
		t := TableInfo{Name: r.Name, Version: r.Version, Rows: r.Rows, Bytes: r.Bytes, Holders: n.reg.countHolders(r)}
		if h, err := n.disk.head(keyOf(r.Name)); err == nil {
			t.Here = h.Version
		}
		all = append(all, t)
	}
	return all, nil
}

// Forget gives up the newest version of a table if no live node has that version. Nodes with
// older versions then report theirs to the registry within a lease. If no node has an older
// version, the name becomes free. If a node returns with the forgotten version, that version is
// the newest again, and data saved since then is kept under another name. If a live node has
// the version, even only some of its files, Forget returns an error.
func (n *Node) Forget(ctx context.Context, name string) (err error) {
	defer wrapError("forget", name, &err)
	if err := n.sync(ctx, n.opts.SyncTimeout); err != nil {
		return err
	}
	key := keyOf(name)
	e := n.reg.table(key)
	newest := max(e.Version, n.reg.heldVersion(key), n.reg.newestKnown(key).Version)
	if newest == 0 {
		return ErrNotFound
	}
	heads, causes := n.askHeads(ctx, key, n.reg.peers(e.record))
	if len(causes) > 0 { // these nodes may have the newest version
		return &SyncError{causes}
	}
	h, err := n.disk.head(key)
	if err != nil {
		return err
	}
	heads[peer{address: "this node"}] = h.record
	for p, r := range heads {
		if r.Version >= newest {
			return errors.Join(canceled.Err(ctx), fmt.Errorf("node %q has version %d: load or save the table there, or restore a backup", p.address, r.Version))
		}
	}
	return n.reg.forget(ctx, name, e.revision)
}
