package tables

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/internal/canceled"
	"github.com/go-partd/partd/tables/filter"
	"github.com/go-partd/partd/tables/internal/datafile"
	"github.com/go-partd/partd/tables/internal/definition"
	"github.com/go-partd/partd/tables/internal/icecat"
	"github.com/go-partd/partd/tables/internal/rules"
	"github.com/go-partd/partd/tables/internal/series"
)

const (
	mostManifests    = 10_000    // that a commit of another engine may bring, all its snapshots together
	mostListBytes    = 64 << 20  // of a list of them, before compression
	mostForeignFiles = 1_000_000 // that they name
	mostForeignBytes = 1 << 30   // of them, before compression
	mostNewSnapshots = 10_000

	mostAhead = time.Minute // of our clock: commits that follow may be as much before a snapshot
)

// check is an error for metadata that would reach beyond the table, or change what is the
// catalog's own. It looks at what the updates made, however they were put.
func (p *icebergStep) check(ctx context.Context, was, now table.Metadata) error {
	refuse := func(format string, args ...any) error { return &ArgumentError{Err: fmt.Errorf(format, args...)} }
	location := now.Location()
	switch {
	case was != nil && (was.Location() != location || was.TableUUID() != now.TableUUID()):
		return refuse("a table keeps its location, %s, and its UUID", was.Location())
	case was == nil && p.ch.New == nil && location != p.s.cat.LocationOf(now.TableUUID()):
		return refuse("the catalog chooses the location: that of a table with this UUID is %s", p.s.cat.LocationOf(now.TableUUID()))
	}
	if last := time.Now().Add(mostAhead).UnixMilli(); now.LastUpdatedMillis() > last && (was == nil || now.LastUpdatedMillis() > was.LastUpdatedMillis()) {
		return refuse("the change is of the time %v, which is to come: the writer's clock is ahead", time.UnixMilli(now.LastUpdatedMillis()).UTC())
	}
	if was == nil {
		if err := p.unused(ctx, now); err != nil {
			return err
		}
	}
	if err := checkProperties(was, now); err != nil {
		return err
	}
	var files []string
	for s := range now.Statistics() {
		files = append(files, s.StatisticsPath)
	}
	for s := range now.PartitionStatistics() {
		files = append(files, s.StatisticsPath)
	}
	if was != nil {
		for s := range was.Statistics() {
			files = without(files, s.StatisticsPath)
		}
		for s := range was.PartitionStatistics() {
			files = without(files, s.StatisticsPath)
		}
	}
	for _, f := range files {
		if err := p.within(location, f); err != nil {
			return err
		}
	}
	return p.checkSnapshots(ctx, was, now)
}

func without(all []string, one string) []string {
	return slices.DeleteFunc(all, func(s string) bool { return s == one })
}

// unused is an error where a table has the UUID of a new one. The commit sees to its place.
func (p *icebergStep) unused(ctx context.Context, now table.Metadata) error {
	_, err := p.s.cat.ByUUID(ctx, now.TableUUID().String())
	if errors.Is(err, icecat.ErrNotFound) {
		return nil
	}
	if err == nil {
		err = fmt.Errorf("a table of this UUID %w", ErrExists)
	}
	return err
}

// checkProperties is an error where properties change that the catalog goes by, or that
// have files written elsewhere.
func checkProperties(was, now table.Metadata) error {
	before := iceberg.Properties{}
	if was != nil {
		before = was.Properties()
	}
	after := now.Properties()
	for _, props := range []iceberg.Properties{before, after} {
		for k := range props {
			had, did := before[k]
			has, does := after[k]
			if had == has && did == does {
				continue
			}
			own := strings.HasPrefix(k, "partd.") && !icecat.IsMetadata(k) && k != FoldOnLoadProperty
			place := strings.HasPrefix(k, "write.") && (strings.HasSuffix(k, "path") || strings.HasSuffix(k, "location") || strings.HasSuffix(k, "impl"))
			switch {
			case own:
				return &ArgumentError{Err: fmt.Errorf("the property %q is the catalog's own: partd-tables changes it", k)}
			case place && does && !strings.HasPrefix(has+"/", now.Location()+"/") || place && strings.Contains(has, ".."):
				return &ArgumentError{Err: fmt.Errorf("the property %q has files written elsewhere than below %s", k, now.Location())}
			}
		}
	}
	return nil
}

// within is an error for a file that a client names and that is not below a location.
func (p *icebergStep) within(location, file string) error {
	return ofClient(p.s.cat.Within(location, file))
}

// ofClient makes of a file that is not there, or may not be, an error of whoever named it.
func ofClient(err error) error {
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrNotExist) {
		return &ArgumentError{Err: errors.New(err.Error())}
	}
	return err
}

// checkSnapshots reads what new snapshots refer to, as far as no older one does: all of it
// has to be the table's.
func (p *icebergStep) checkSnapshots(ctx context.Context, was, now table.Metadata) error {
	come := newSnapshots(was, now)
	if len(come) > mostNewSnapshots {
		return &ArgumentError{Err: fmt.Errorf("%d snapshots come at once, the limit is %d", len(come), mostNewSnapshots)}
	}
	if len(come) == 0 {
		return nil
	}
	io := p.s.cat.NewIO()
	known, budget := map[string]bool{}, &icecat.Budget{Entries: mostForeignFiles, Bytes: mostForeignBytes}
	if was != nil && was.CurrentSnapshot() != nil {
		manifests, err := was.CurrentSnapshot().Manifests(io)
		if err != nil {
			return err
		}
		for _, m := range manifests {
			known[m.FilePath()] = true
		}
	}
	for _, s := range come {
		if err := ctx.Err(); err != nil {
			return err
		}
		if was != nil && was.Version() > 1 && s.SequenceNumber <= was.LastSequenceNumber() {
			return fmt.Errorf("%w: the sequence number %d is none that follows %d", ErrRequirement, s.SequenceNumber, was.LastSequenceNumber())
		}
		if err := p.within(now.Location(), s.ManifestList); err != nil {
			return err
		}
		err := icecat.Safely(func() error { return p.checkManifests(ctx, &s, now, io, known, budget) })
		if err != nil {
			return err
		}
	}
	return nil
}

// checkManifests is checkSnapshots for one.
func (p *icebergStep) checkManifests(ctx context.Context, s *table.Snapshot, now table.Metadata, io *icecat.FileIO, known map[string]bool, budget *icecat.Budget) error {
	unreadable := func(what string, err error) error {
		if ctx.Err() != nil {
			return canceled.Err(ctx)
		}
		return &ArgumentError{Err: fmt.Errorf("%s of snapshot %d cannot be read: %w", what, s.SnapshotID, err)}
	}
	err := io.CheckAvro(ctx, s.ManifestList, &icecat.Budget{Entries: mostManifests, Bytes: mostListBytes})
	if err != nil {
		return unreadable("the list of manifests", err)
	}
	manifests, err := s.Manifests(io)
	if err != nil {
		return unreadable("the list of manifests", err)
	}
	for _, m := range manifests {
		if known[m.FilePath()] {
			continue
		}
		known[m.FilePath()] = true
		if len(known) > mostManifests {
			return &ArgumentError{Err: fmt.Errorf("more than %d manifests come at once", mostManifests)}
		}
		if err := p.within(now.Location(), m.FilePath()); err != nil {
			return err
		}
		if err := io.CheckAvro(ctx, m.FilePath(), budget); err != nil {
			return unreadable("a manifest", err)
		}
		for e, err := range m.Entries(io, false) {
			if err != nil {
				return unreadable("a manifest", err)
			}
			f := e.DataFile()
			err = p.s.cat.Within(now.Location(), f.FilePath())
			if e.Status() == iceberg.EntryStatusDELETED && errors.Is(err, fs.ErrNotExist) {
				err = nil
			}
			if of := f.ReferencedDataFile(); of != nil && err == nil {
				if err = p.s.cat.Within(now.Location(), *of); errors.Is(err, fs.ErrNotExist) { // it may have been replaced
					err = nil
				}
			}
			if err != nil {
				return ofClient(err)
			}
		}
	}
	return nil
}

// wholeTable reports whether a rule of the table is about all its rows, which have to be
// in files then.
func (p *icebergStep) wholeTable(ctx context.Context, meta table.Metadata) bool {
	d, err := definition.Of(meta)
	if err != nil {
		return false // the commit says why
	}
	all, err := p.Rules(ctx, d)
	return err == nil && slices.ContainsFunc(all, func(r Rule) bool { return r.InTable && !r.Disabled })
}

// checkRows checks the rows of files that come by the table's rules and its order.
func (p *icebergStep) checkRows(ctx context.Context, was, now table.Metadata) error {
	var d *definition.Definition
	err := icecat.Safely(func() (err error) { d, err = definition.Of(now); return err })
	if err != nil {
		return &ArgumentError{Err: fmt.Errorf("columns that tables do not have: %w", err)}
	}
	if now.CurrentSnapshot() == nil || len(newSnapshots(was, now)) == 0 {
		return nil
	}
	all, err := p.Rules(ctx, d)
	if err != nil || len(all) == 0 && d.Order == nil {
		return err
	}
	before, err := p.filesOf(ctx, was)
	if err != nil {
		return err
	}
	come, err := p.filesOf(ctx, now)
	if err != nil {
		return err
	}
	had := paths(before)
	come = slices.DeleteFunc(come, func(f iceberg.DataFile) bool { return had[f.FilePath()] })
	if len(come) == 0 {
		return nil
	}
	staged, comes := p.Staged(now, p.s.cat.NewIO()), paths(come)
	if err := p.checkBatches(ctx, d, all, staged, had, comes); err != nil {
		return err
	}
	is, err := p.Series(staged)
	if err != nil || is == nil || is.Rule != RefuseDuplicate {
		return err
	}
	files, err := is.Files(ctx)
	if err != nil {
		return err
	}
	has := slices.DeleteFunc(files, func(f *series.File) bool { return comes[f.Data().FilePath()] })
	return is.Refuse(ctx, has, come)
}

// checkBatches reads the rows of files that come. A rule about all rows finds the others
// in the files that stay.
func (p *icebergStep) checkBatches(ctx context.Context, d *definition.Definition, all []Rule, staged *table.Table, before, come map[string]bool) error {
	o := rules.Options{Memory: p.s.opts.Memory / 8, Table: func(ctx context.Context, columns []string, where *filter.Expr, each func(arrow.RecordBatch) error) error {
		return p.rowsBut(ctx, staged, nil, come, columns, where, each)
	}}
	check, err := rules.NewCheck(ctx, all, d.Logical, d.Stored, d.Logical, o)
	if err != nil {
		return err
	}
	defer check.Close()
	err = p.rowsBut(ctx, staged, nil, before, nil, nil, func(b arrow.RecordBatch) error {
		return cmp.Or(check.Add(b), series.Check(d.Order, b))
	})
	return cmp.Or(err, check.End(ctx))
}

// filesOf returns the data files of a state.
func (p *icebergStep) filesOf(ctx context.Context, meta table.Metadata) ([]iceberg.DataFile, error) {
	if meta == nil || meta.CurrentSnapshot() == nil {
		return nil, nil
	}
	return datafile.Files(ctx, p.Staged(meta, p.s.cat.NewIO()))
}

func paths(files []iceberg.DataFile) map[string]bool {
	all := map[string]bool{}
	for _, f := range files {
		all[f.FilePath()] = true
	}
	return all
}
