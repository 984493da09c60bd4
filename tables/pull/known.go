package pull

import (
	"context"
	"encoding/json"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
)

// table returns the record of a table, with version 0 if the registry has none.
func (r *registry) table(key string) tableEntry {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.copy.tables[key]
}

// confirm remembers that rec is the newest version according to the registry and all live nodes.
func (r *registry) confirm(rec record) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.raiseKnown(keyOf(rec.Name), rec)
}

// newestKnown returns the newest version of a table that this process knows, even if the registry has
// lost the record. The version is 0 until this process has asked all nodes for the table.
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

// heldVersion returns the newest version of a table that any node has, even a node that is down.
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

// forget removes a table from the registry if its record still has the given revision.
func (r *registry) forget(ctx context.Context, name string, revision uint64) error {
	if err := r.set(ctx, record{Name: name}, revision); err != nil {
		return err
	}
	key := keyOf(name)
	r.mu.Lock()
	holders := slices.Collect(maps.Keys(r.copy.holders[key]))
	r.mu.Unlock()
	for _, id := range holders {
		if err := r.nats.delete(ctx, "h."+key+"."+id); err != nil {
			return err
		}
	}
	return nil
}

// peers returns up to maxAsked live nodes except this one. Nodes with rec's version come first, in random order.
func (r *registry) peers(rec record) []peer {
	r.mu.Lock()
	defer r.mu.Unlock()
	var holders, others []peer
	key, holding := keyOf(rec.Name), rec.holderValue()
	for id, n := range r.copy.nodes {
		switch {
		case id == r.disk.id || n.Address == "" || r.copy.latest.Sub(n.seenAt) > r.opts.Lease:
		case r.copy.holders[key][id] == holding:
			holders = append(holders, peer{id, n.Address})
		default:
			others = append(others, peer{id, n.Address})
		}
	}
	rand.Shuffle(len(holders), func(i, j int) { holders[i], holders[j] = holders[j], holders[i] })
	all := append(holders, others...)
	return all[:min(len(all), maxAsked)]
}

// set replaces a table's record if the current record has the given revision, where 0 stands for no
// record. Otherwise, the error is ErrConflict.
func (r *registry) set(ctx context.Context, rec record, revision uint64) error {
	b, err := json.Marshal(rec)
	if err != nil {
		return err
	}
	return r.nats.update(ctx, "t."+keyOf(rec.Name), b, revision)
}

// reportHeld records in the registry that this directory has a version, unless that is already recorded.
func (r *registry) reportHeld(ctx context.Context, rec record) error {
	key := keyOf(rec.Name)
	r.mu.Lock()
	reported := r.copy.holders[key][r.disk.id] == rec.holderValue()
	r.mu.Unlock()
	if reported {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, r.opts.Lease)
	defer cancel()
	return r.nats.put(ctx, "h."+key+"."+r.disk.id, []byte(rec.holderValue()))
}
