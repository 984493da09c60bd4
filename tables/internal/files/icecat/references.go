package icecat

import (
	"context"
	"strings"

	"github.com/apache/iceberg-go/table"
)

// References returns all files to which tables and snapshots refer.
func (sw *sweeper) References(ctx context.Context) (map[string]struct{}, error) {
	refs, err := sw.references(ctx, nil)
	return refs.paths, err
}

// references returns all files to which tables and snapshots refer. expires reports whether a table's versions expire;
// nil means that this does not matter.
func (sw *sweeper) references(ctx context.Context, expires func(*table.Table) bool) (references, error) {
	refs := references{sw.warehouse, sw.loader.reader, map[string]struct{}{}, map[string]bool{}, map[string]bool{}}
	// Read the snapshots before and after the tables, because snapshots can be taken in between, or restored and
	// deleted.
	if err := sw.addPinned(ctx, refs); err != nil {
		return references{}, err
	}
	if err := sw.listings.eachTable(ctx, func(_ TableName, t *table.Table) error {
		refs.expires[sw.TableDir(t.Location())] = expires != nil && expires(t)
		return refs.addAll(t)
	}); err != nil {
		return references{}, err
	}
	return refs, sw.addPinned(ctx, refs)
}

type references struct {
	warehouse *warehouse
	reader    *FileIO
	paths     map[string]struct{}
	keepAll   map[string]bool // directories of tables with gc.enabled=false, whose files must all be kept
	expires   map[string]bool // whether a table's versions expire, by the path of its directory
}

// TableDir returns the path of the directory of a table at the given location, or "" if it is outside the warehouse.
func (w *warehouse) TableDir(location string) string {
	path, err := w.local(location)
	if err != nil {
		return ""
	}
	return w.tableDir(path + "/")
}

// tableDir returns the path of the table directory that contains a file.
func (w *warehouse) tableDir(path string) string {
	root := w.dir + "/data/"
	name, _, ok := strings.Cut(strings.TrimPrefix(path, root), "/")
	if !ok {
		return ""
	}
	return root + name
}

func (r references) add(location string) bool {
	path, err := r.warehouse.local(location)
	if err != nil {
		return false // not a file in the warehouse
	}
	_, exists := r.paths[path]
	r.paths[path] = struct{}{}
	return !exists
}

func (r references) addNewest(t *table.Table) error {
	r.add(t.MetadataLocation())
	if s := t.CurrentSnapshot(); s != nil {
		return r.addVersion(s)
	}
	return nil
}

func (r references) has(location string) bool {
	path, err := r.warehouse.local(location)
	_, exists := r.paths[path]
	return err == nil && exists
}

func (r references) addAll(t *table.Table) error {
	r.add(t.MetadataLocation())
	meta := t.Metadata()
	if !meta.Properties().GetBool(table.GCEnabledKey, table.GCEnabledDefault) {
		r.keepAll[r.warehouse.TableDir(t.Location())] = true
	}
	for s := range meta.Statistics() {
		r.add(s.StatisticsPath)
	}
	for s := range meta.PartitionStatistics() {
		r.add(s.StatisticsPath)
	}
	for _, s := range meta.Snapshots() {
		if err := r.addVersion(&s); err != nil {
			return err
		}
	}
	return nil
}

func (r references) addVersion(s *table.Snapshot) error {
	r.add(s.ManifestList)
	manifests, err := s.Manifests(r.reader)
	if err != nil {
		return err
	}
	for _, m := range manifests {
		if !r.add(m.FilePath()) {
			continue
		}
		for entry, err := range m.Entries(r.reader, true) {
			if err != nil {
				return err
			}
			r.add(entry.DataFile().FilePath())
		}
	}
	return nil
}
