package foreign

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
	"github.com/go-partd/partd/tables/internal/files/datafile"
	"github.com/go-partd/partd/tables/internal/files/icecat"
	"github.com/go-partd/partd/tables/internal/rows/parallel"
	"github.com/go-partd/partd/tables/internal/rows/schema"
	"github.com/go-partd/partd/tables/internal/state/definition"
	"github.com/go-partd/partd/tables/internal/state/rules"
	"github.com/go-partd/partd/tables/internal/state/series"
	"github.com/go-partd/partd/tables/internal/state/tail"
)

const (
	// Limits for one commit by another engine.
	maxManifests    = 10_000 // manifests in all new snapshots together
	maxNewSnapshots = 10_000
	maxDefinitions  = 100 // new schemas, partition specs and sort orders

	// how far a writer's clock may be ahead of ours; a snapshot from the future would block later commits
	maxClockLead = time.Minute
)

// checkChange returns an error if another engine's change is not allowed, for example because it refers to files
// outside the table or alters reserved properties.
func (p *Step) checkChange(ctx context.Context, oldMeta, newMeta table.Metadata) error {
	invalid := func(format string, args ...any) error {
		return &definition.ArgumentError{Err: fmt.Errorf(format, args...)}
	}
	location := newMeta.Location()
	switch {
	case oldMeta != nil && (oldMeta.Location() != location || oldMeta.TableUUID() != newMeta.TableUUID()):
		return invalid("the change alters the table's location, %s, or its UUID, which never change", oldMeta.Location())
	case oldMeta == nil && p.Change.New == nil && location != p.Catalog.LocationOf(newMeta.TableUUID()):
		return invalid("the table's location is %s, but a table with this UUID must be at %s: use the location that the catalog assigned", location, p.Catalog.LocationOf(newMeta.TableUUID()))
	}
	if maxMillis := time.Now().Add(maxClockLead).UnixMilli(); newMeta.LastUpdatedMillis() > maxMillis && (oldMeta == nil || newMeta.LastUpdatedMillis() > oldMeta.LastUpdatedMillis()) {
		return invalid("the change's time, %v, is in the future: correct the writer's clock", time.UnixMilli(newMeta.LastUpdatedMillis()).UTC())
	}
	if oldMeta == nil {
		if err := p.checkUUIDUnused(ctx, newMeta); err != nil {
			return err
		}
	}
	if err := checkProperties(oldMeta, newMeta, p.Change.Registered); err != nil {
		return err
	}
	if p.Change.Registered {
		if err := checkRegistered(newMeta); err != nil {
			return invalid("cannot register the metadata: %w", err)
		}
	}
	if err := checkSize(oldMeta, newMeta); err != nil {
		return err
	}
	if err := checkDefaults(oldMeta, newMeta); err != nil {
		return invalid("%w", err)
	}
	oldFiles := statisticsFiles(oldMeta)
	for _, f := range statisticsFiles(newMeta) {
		if slices.Contains(oldFiles, f) {
			continue
		}
		if err := p.checkWithin(location, f); err != nil {
			return err
		}
	}
	return p.checkSnapshots(ctx, oldMeta, newMeta)
}

// checkDefaults returns an error if a new schema has default values that readers could not return exactly.
func checkDefaults(oldMeta, newMeta table.Metadata) error {
	for _, s := range newMeta.Schemas() {
		if oldMeta != nil && slices.ContainsFunc(oldMeta.Schemas(), func(o *iceberg.Schema) bool { return o.ID == s.ID && o.Equals(s) }) {
			continue
		}
		stored, err := schema.StoredSchema(s)
		if err != nil {
			continue // the schema has a type that cannot be read and has no default values
		}
		if _, err := schema.DefaultsOf(s, stored); err != nil {
			return err
		}
	}
	return nil
}

// statisticsFiles returns the paths of a table's statistics. meta can be nil.
func statisticsFiles(meta table.Metadata) (paths []string) {
	if meta == nil {
		return nil
	}
	for s := range meta.Statistics() {
		paths = append(paths, s.StatisticsPath)
	}
	for s := range meta.PartitionStatistics() {
		paths = append(paths, s.StatisticsPath)
	}
	return paths
}

func (p *Step) checkUUIDUnused(ctx context.Context, newMeta table.Metadata) error {
	_, err := p.Catalog.ByUUID(ctx, newMeta.TableUUID().String())
	if errors.Is(err, icecat.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	return fmt.Errorf("a table with this UUID %w", icecat.ErrExists)
}

// checkProperties returns an error if the change sets properties that place files outside the table. Unless the change
// registers a table (isRegistration), checkProperties also returns an error if the change sets or removes properties
// that are reserved for partd.
func checkProperties(oldMeta, newMeta table.Metadata, isRegistration bool) error {
	oldProps := iceberg.Properties{}
	if oldMeta != nil {
		oldProps = oldMeta.Properties()
	}
	newProps := newMeta.Properties()
	for _, props := range []iceberg.Properties{oldProps, newProps} {
		for k := range props {
			oldValue, wasSet := oldProps[k]
			newValue, isSet := newProps[k]
			if oldValue == newValue && wasSet == isSet {
				continue
			}
			isReserved := strings.HasPrefix(k, "partd.") && !icecat.IsMetadata(k) && k != FoldOnLoadProperty && !isRegistration
			isLocation := strings.HasPrefix(k, "write.") && (strings.HasSuffix(k, "path") || strings.HasSuffix(k, "location") || strings.HasSuffix(k, "impl"))
			switch {
			case isSet && redirectsReaders(k):
				return &definition.ArgumentError{Err: fmt.Errorf("the property %q could make engines that read the table load code, or send credentials elsewhere: set it in the engine's own configuration", k)}
			case isReserved:
				return &definition.ArgumentError{Err: fmt.Errorf("the property %q is reserved: only partd-tables may change it", k)}
			case isLocation && isSet && !strings.HasPrefix(newValue+"/", newMeta.Location()+"/") || isLocation && strings.Contains(newValue, ".."):
				return &definition.ArgumentError{Err: fmt.Errorf("the property %q would place files outside %s", k, newMeta.Location())}
			}
		}
	}
	return nil
}

// redirectsReaders reports whether an engine may take a table property for its own configuration. For example,
// pyiceberg loads the class in py-io-impl and sends keys to s3.endpoint.
func redirectsReaders(property string) bool {
	name := strings.ToLower(property)
	prefix, _, hasPrefix := strings.Cut(name, ".")
	settings := []string{"credential", "oauth2-server-uri", "token", "uri", "warehouse"}
	groups := []string{
		"adls", "auth", "client", "cos", "dlf", "ecs", "fs", "gcs", "glue", "gs", "hadoop", "hdfs", "header", "hf", "hive",
		"http-client", "io", "jdbc", "lock", "obs", "oss", "rest", "s3", "s3fs", "s3tables", "ssl",
	}
	return strings.HasSuffix(name, "-impl") || strings.HasSuffix(name, ".impl") && !strings.HasPrefix(name, "write.") ||
		slices.Contains(settings, name) || hasPrefix && slices.Contains(groups, prefix)
}

// checkRegistered returns an error if reserved properties are invalid, because a client can register any metadata.
func checkRegistered(meta table.Metadata) error {
	for k, text := range meta.Properties() {
		if strings.HasPrefix(k, tail.PropertyPrefix) {
			// The number says how far the tail has been folded; if it were too large, rows from later appends would be
			// ignored.
			if n, err := strconv.ParseInt(text, 10, 64); err != nil || n > math.MaxInt64/2 {
				return fmt.Errorf("the property %q has the invalid value %.40q", k, text)
			}
		}
	}
	if _, err := definition.Replacements(meta); err != nil {
		return err
	}
	return parallel.Catch(func() error {
		if _, err := definition.WithSettings(meta, nil); err != nil {
			return err
		}
		d, err := definition.FromMetadata(meta)
		if err != nil {
			return err
		}
		_, err = d.Rules()
		return err
	})
}

// checkDefinitions limits how many definitions a commit adds, because iceberg-go takes time quadratic in their number.
func checkDefinitions(ch *Change) error {
	n := 0
	for _, u := range ch.Updates {
		switch u.Action() {
		case table.UpdateAddSchema, table.UpdateAddSpec, table.UpdateAddSortOrder:
			n++
		}
	}
	if n > maxDefinitions {
		return &definition.ArgumentError{Err: fmt.Errorf("the commit adds %d schemas, partition specs and sort orders: the limit is %d", n, maxDefinitions)}
	}
	return nil
}

// checkSize returns an error if the metadata exceeds a size limit, unless the change makes the metadata smaller.
func checkSize(oldMeta, newMeta table.Metadata) error {
	b, err := json.Marshal(newMeta)
	if err != nil {
		return err
	}
	// The ArgumentError below puts this error after a noun, so its text begins with a verb.
	_, exceeds := icecat.DecodedCost(b)
	if len(b) > maxTableMetadata {
		exceeds = fmt.Errorf("has %d bytes; the limit is %d", len(b), maxTableMetadata)
	}
	if exceeds == nil {
		return nil
	}
	if oldMeta != nil {
		if before, err := json.Marshal(oldMeta); err != nil || len(b) <= len(before) {
			return err
		}
	}
	return &definition.ArgumentError{Err: fmt.Errorf("the table's metadata after the change %w: expire snapshots, or remove properties or schemas", exceeds)}
}

// checkWithin returns an error unless file, a path from a client, is in the directory location.
func (p *Step) checkWithin(location, file string) error {
	return asClientError(p.Catalog.CheckWithin(location, file))
}

// asClientError converts an error for a missing or forbidden file to an ArgumentError, because the client named the
// file.
func asClientError(err error) error {
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrNotExist) {
		return &definition.ArgumentError{Err: errors.New(err.Error())}
	}
	return err
}

// NeedsWholeTable reports whether a rule compares new rows with all other rows of the table. Such a rule reads
// files, so the table's tail must be folded first.
func (p *Step) NeedsWholeTable(ctx context.Context, meta table.Metadata) bool {
	d, err := definition.FromMetadata(meta)
	if err != nil {
		return false // the commit reports the error
	}
	all, err := p.Rules(ctx, d)
	return err == nil && slices.ContainsFunc(all, func(r rules.Rule) bool { return r.InTable && !r.Disabled })
}

// checkRows checks the rows of new files, including files from another branch, against the table's rules and order.
func (p *Step) checkRows(ctx context.Context, oldMeta, newMeta table.Metadata) error {
	var d *definition.Definition
	err := parallel.Catch(func() (err error) { d, err = definition.FromMetadata(newMeta); return err })
	if err != nil {
		return &definition.ArgumentError{Err: fmt.Errorf("the columns are not supported: %w", err)}
	}
	s := newMeta.CurrentSnapshot()
	if s == nil || len(newSnapshots(oldMeta, newMeta)) == 0 && currentSnapshots(oldMeta)[s.SnapshotID] {
		return nil
	}
	ruleList, err := p.Rules(ctx, d)
	if err != nil || len(ruleList) == 0 && d.Order == nil {
		return err
	}
	oldFiles, err := p.filesOf(ctx, oldMeta)
	if err != nil {
		return err
	}
	added, err := p.filesOf(ctx, newMeta)
	if err != nil {
		return err
	}
	oldPaths := datafile.Paths(oldFiles)
	added = slices.DeleteFunc(added, func(f iceberg.DataFile) bool { return oldPaths[f.FilePath()] })
	if len(added) == 0 {
		return nil
	}
	staged, addedPaths := p.Staged(newMeta, p.Catalog.NewIO()), datafile.Paths(added)
	if err := p.checkBatches(ctx, d, ruleList, staged, oldPaths, addedPaths); err != nil {
		return err
	}
	sortedRows, err := p.Series(staged)
	if err != nil || sortedRows == nil || sortedRows.Rule != definition.RefuseDuplicate {
		return err
	}
	files, err := sortedRows.Files(ctx)
	if err != nil {
		return err
	}
	unchanged := slices.DeleteFunc(files, func(f *series.File) bool { return addedPaths[f.Data().FilePath()] })
	return sortedRows.RejectDuplicates(ctx, unchanged, added)
}

// checkBatches checks the rows in staged's new files. Rules about the whole table also read staged's other files.
func (p *Step) checkBatches(ctx context.Context, d *definition.Definition, ruleList []rules.Rule, staged *table.Table, oldPaths, addedPaths map[string]bool) error {
	o := rules.Options{Memory: p.Memory, Table: func(ctx context.Context, columns []string, where *filter.Expr, each func(arrow.RecordBatch) error) error {
		return p.ReadRows(ctx, staged, addedPaths, columns, where, each)
	}}
	check, err := rules.NewCheck(ctx, ruleList, d.Logical, d.Stored, d.Logical, o)
	if err != nil {
		return err
	}
	defer check.Close()
	err = p.ReadRows(ctx, staged, oldPaths, nil, nil, func(b arrow.RecordBatch) error {
		return cmp.Or(check.Add(b), series.Check(d.Order, b))
	})
	return cmp.Or(err, check.Finish(ctx))
}

func (p *Step) filesOf(ctx context.Context, meta table.Metadata) ([]iceberg.DataFile, error) {
	if meta == nil || meta.CurrentSnapshot() == nil {
		return nil, nil
	}
	return datafile.Files(ctx, p.Staged(meta, p.Catalog.NewIO()))
}
