package tables

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables/filter"
	"github.com/go-partd/partd/tables/internal/datafile"
	"github.com/go-partd/partd/tables/internal/definition"
	"github.com/go-partd/partd/tables/internal/icecat"
	"github.com/go-partd/partd/tables/internal/rules"
	"github.com/go-partd/partd/tables/internal/series"
)

const (
	maxManifests    = 10_000 // limit for a commit of another engine, over all its snapshots
	maxNewSnapshots = 10_000
	maxDefinitions  = 100 // schemas, partition specs and sort orders that a commit adds

	maxClockLead = time.Minute // how far a writer's clock may be ahead of ours; a snapshot that far ahead must not block later commits
)

// checkChange returns an error if the new metadata refers to files outside the table, or changes what only the
// catalog may change. It checks the resulting metadata, not the updates.
func (p *icebergStep) checkChange(ctx context.Context, was, now table.Metadata) error {
	refuse := func(format string, args ...any) error { return &ArgumentError{Err: fmt.Errorf(format, args...)} }
	location := now.Location()
	switch {
	case was != nil && (was.Location() != location || was.TableUUID() != now.TableUUID()):
		return refuse("a table keeps its location, %s, and its UUID", was.Location())
	case was == nil && p.ch.New == nil && location != p.s.cat.LocationOf(now.TableUUID()):
		return refuse("the catalog chooses the location: a table with this UUID must be at %s", p.s.cat.LocationOf(now.TableUUID()))
	}
	if last := time.Now().Add(maxClockLead).UnixMilli(); now.LastUpdatedMillis() > last && (was == nil || now.LastUpdatedMillis() > was.LastUpdatedMillis()) {
		return refuse("the change has the time %v, which is in the future: correct the writer's clock", time.UnixMilli(now.LastUpdatedMillis()).UTC())
	}
	if was == nil {
		if err := p.checkUUIDUnused(ctx, now); err != nil {
			return err
		}
	}
	if err := checkProperties(was, now, p.ch.Registered); err != nil {
		return err
	}
	if p.ch.Registered {
		if err := checkRegistered(now); err != nil {
			return refuse("the metadata to register: %w", err)
		}
	}
	if err := checkSize(was, now); err != nil {
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
			files = removeString(files, s.StatisticsPath)
		}
		for s := range was.PartitionStatistics() {
			files = removeString(files, s.StatisticsPath)
		}
	}
	for _, f := range files {
		if err := p.checkWithin(location, f); err != nil {
			return err
		}
	}
	return p.checkSnapshots(ctx, was, now)
}

func removeString(all []string, one string) []string {
	return slices.DeleteFunc(all, func(s string) bool { return s == one })
}

// checkUUIDUnused returns an error if another table has the UUID of the new table. The commit checks its
// location.
func (p *icebergStep) checkUUIDUnused(ctx context.Context, now table.Metadata) error {
	_, err := p.s.cat.ByUUID(ctx, now.TableUUID().String())
	if errors.Is(err, icecat.ErrNotFound) {
		return nil
	}
	if err == nil {
		err = fmt.Errorf("a table of this UUID %w", ErrExists)
	}
	return err
}

// checkProperties returns an error if the change sets properties that the catalog relies on, or that place
// files elsewhere. A registered table may have reserved properties.
func checkProperties(was, now table.Metadata, registered bool) error {
	before := iceberg.Properties{}
	if was != nil {
		before = was.Properties()
	}
	after := now.Properties()
	for _, props := range []iceberg.Properties{before, after} {
		for k := range props {
			oldValue, wasSet := before[k]
			newValue, isSet := after[k]
			if oldValue == newValue && wasSet == isSet {
				continue
			}
			isReserved := strings.HasPrefix(k, "partd.") && !icecat.IsMetadata(k) && k != FoldOnLoadProperty && !registered
			isLocation := strings.HasPrefix(k, "write.") && (strings.HasSuffix(k, "path") || strings.HasSuffix(k, "location") || strings.HasSuffix(k, "impl"))
			switch {
			case isReserved:
				return &ArgumentError{Err: fmt.Errorf("the property %q is reserved: only partd-tables may change it", k)}
			case isLocation && isSet && !strings.HasPrefix(newValue+"/", now.Location()+"/") || isLocation && strings.Contains(newValue, ".."):
				return &ArgumentError{Err: fmt.Errorf("the property %q would place files outside %s", k, now.Location())}
			}
		}
	}
	return nil
}

// checkRegistered returns an error if a table's reserved properties are damaged. Any engine may have
// written the metadata.
func checkRegistered(meta table.Metadata) error {
	for k, text := range meta.Properties() {
		if strings.HasPrefix(k, tailProperties) {
			// Rows of later appends would be in epochs that count as folded already.
			if n, err := strconv.ParseInt(text, 10, 64); err != nil || n > math.MaxInt64/2 {
				return fmt.Errorf("the property %q cannot be %.40q", k, text)
			}
		}
	}
	return icecat.CatchPanic(func() error {
		if _, err := definition.WithSettings(meta, nil); err != nil {
			return err
		}
		d, err := definition.FromMetadata(meta)
		if err == nil {
			_, err = d.Rules()
		}
		return err
	})
}

// checkDefinitions returns an error if a commit adds too many schemas, partition specs and sort orders:
// Iceberg's library compares each with all others of the table.
func (ch *IcebergChange) checkDefinitions() error {
	n := 0
	for _, u := range ch.Updates {
		switch u.Action() {
		case table.UpdateAddSchema, table.UpdateAddSpec, table.UpdateAddSortOrder:
			n++
		}
	}
	if n > maxDefinitions {
		return &ArgumentError{Err: fmt.Errorf("the commit adds %d schemas, partition specs and sort orders, the limit is %d", n, maxDefinitions)}
	}
	return nil
}

// checkSize returns an error if the metadata exceeds a limit of JSON, unless the change makes it smaller.
func checkSize(was, now table.Metadata) error {
	b, err := json.Marshal(now)
	if err != nil {
		return err
	}
	_, exceeds := icecat.DecodedCost(b)
	if len(b) > maxTableMetadata {
		exceeds = fmt.Errorf("has %d bytes, the limit is %d", len(b), maxTableMetadata)
	}
	if exceeds == nil {
		return nil
	}
	if was != nil {
		if before, err := json.Marshal(was); err != nil || len(b) <= len(before) {
			return err
		}
	}
	return &ArgumentError{Err: fmt.Errorf("the table's metadata after the change %w: expire snapshots, or remove properties or schemas", exceeds)}
}

// checkWithin returns an error unless a file that a client names is below location.
func (p *icebergStep) checkWithin(location, file string) error {
	return asClientError(p.s.cat.CheckWithin(location, file))
}

// asClientError converts an error for a missing or forbidden file to an ArgumentError.
func asClientError(err error) error {
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrNotExist) {
		return &ArgumentError{Err: errors.New(err.Error())}
	}
	return err
}

// needsWholeTable reports whether a rule of the table compares all its rows, so that they must all be in files.
func (p *icebergStep) needsWholeTable(ctx context.Context, meta table.Metadata) bool {
	d, err := definition.FromMetadata(meta)
	if err != nil {
		return false // the commit reports the error
	}
	all, err := p.Rules(ctx, d)
	return err == nil && slices.ContainsFunc(all, func(r Rule) bool { return r.InTable && !r.Disabled })
}

// checkRows checks the rows of new files against the table's rules and its order.
func (p *icebergStep) checkRows(ctx context.Context, was, now table.Metadata) error {
	var d *definition.Definition
	err := icecat.CatchPanic(func() (err error) { d, err = definition.FromMetadata(now); return err })
	if err != nil {
		return &ArgumentError{Err: fmt.Errorf("unsupported columns: %w", err)}
	}
	if now.CurrentSnapshot() == nil || len(newSnapshots(was, now)) == 0 {
		return nil
	}
	ruleList, err := p.Rules(ctx, d)
	if err != nil || len(ruleList) == 0 && d.Order == nil {
		return err
	}
	before, err := p.filesOf(ctx, was)
	if err != nil {
		return err
	}
	added, err := p.filesOf(ctx, now)
	if err != nil {
		return err
	}
	oldPaths := paths(before)
	added = slices.DeleteFunc(added, func(f iceberg.DataFile) bool { return oldPaths[f.FilePath()] })
	if len(added) == 0 {
		return nil
	}
	staged, addedPaths := p.Staged(now, p.s.cat.NewIO()), paths(added)
	if err := p.checkBatches(ctx, d, ruleList, staged, oldPaths, addedPaths); err != nil {
		return err
	}
	order, err := p.Series(staged)
	if err != nil || order == nil || order.Rule != RefuseDuplicate {
		return err
	}
	files, err := order.Files(ctx)
	if err != nil {
		return err
	}
	others := slices.DeleteFunc(files, func(f *series.File) bool { return addedPaths[f.Data().FilePath()] })
	return order.Refuse(ctx, others, added)
}

// checkBatches checks the rows of new files. Rules for the whole table read the other rows from the remaining
// files.
func (p *icebergStep) checkBatches(ctx context.Context, d *definition.Definition, ruleList []Rule, staged *table.Table, oldPaths, addedPaths map[string]bool) error {
	o := rules.Options{Memory: p.s.opts.Memory / 8, Table: func(ctx context.Context, columns []string, where *filter.Expr, each func(arrow.RecordBatch) error) error {
		return p.readExcept(ctx, staged, nil, addedPaths, columns, where, each)
	}}
	check, err := rules.NewCheck(ctx, ruleList, d.Logical, d.Stored, d.Logical, o)
	if err != nil {
		return err
	}
	defer check.Close()
	err = p.readExcept(ctx, staged, nil, oldPaths, nil, nil, func(b arrow.RecordBatch) error {
		return cmp.Or(check.Add(b), series.Check(d.Order, b))
	})
	return cmp.Or(err, check.Finish(ctx))
}

// filesOf returns the data files of a table's state.
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
