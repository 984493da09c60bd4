package foreign

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"
	"github.com/google/uuid"

	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/tables/internal/files/datafile"
	"github.com/go-partd/partd/tables/internal/files/icecat"
	"github.com/go-partd/partd/tables/internal/rows/parallel"
	"github.com/go-partd/partd/tables/internal/state/definition"
)

// checkSnapshots returns an error if a new snapshot's manifests are invalid or refer to files outside the table.
func (p *Step) checkSnapshots(ctx context.Context, oldMeta, newMeta table.Metadata) error {
	added := newSnapshots(oldMeta, newMeta)
	if len(added) > maxNewSnapshots {
		return &definition.ArgumentError{Err: fmt.Errorf("the commit adds %d snapshots: the limit is %d", len(added), maxNewSnapshots)}
	}
	var gained []table.Snapshot // the snapshots that the current branch gains, including those of other branches
	isCurrent, wasCurrent := map[int64]bool{}, currentSnapshots(oldMeta)
	for s := newMeta.CurrentSnapshot(); oldMeta != nil && s != nil && !wasCurrent[s.SnapshotID] && !isCurrent[s.SnapshotID]; {
		isCurrent[s.SnapshotID] = true
		gained = append(gained, *s)
		if s.ParentSnapshotID == nil {
			break
		}
		s = newMeta.SnapshotByID(*s.ParentSnapshotID)
	}
	// The current branch comes first: its manifests undergo more checks, but a manifest in several snapshots is checked
	// only once.
	added = append(gained, slices.DeleteFunc(added, func(s table.Snapshot) bool { return isCurrent[s.SnapshotID] })...)
	if len(added) == 0 {
		return nil
	}
	isReplaced, err := definition.ReplacedColumns(newMeta)
	if err != nil {
		return err
	}
	c := &manifestCheck{catalog: p.Catalog, fileIO: p.Catalog.NewCheckIO(), staged: p.Staged(newMeta, p.Catalog.NewIO()), newMeta: newMeta, isReplaced: isReplaced, wasCurrent: wasCurrent, added: map[string]bool{}, checked: map[string]iceberg.ManifestFile{}, budget: icecat.ManifestBudget()}
	if oldMeta != nil && oldMeta.CurrentSnapshot() != nil {
		manifests, err := oldMeta.CurrentSnapshot().Manifests(c.fileIO)
		if err != nil {
			return err
		}
		for _, m := range manifests {
			c.checked[m.FilePath()] = m
		}
		c.old = manifests
	}
	for _, s := range added {
		if err := ctx.Err(); err != nil {
			return err
		}
		if oldMeta != nil && oldMeta.Version() > 1 && oldMeta.SnapshotByID(s.SnapshotID) == nil && s.SequenceNumber <= oldMeta.LastSequenceNumber() {
			return fmt.Errorf("%w: the new snapshot's sequence number, %d, is not above the table's, %d", ErrRequirement, s.SequenceNumber, oldMeta.LastSequenceNumber())
		}
		if err := p.checkWithin(newMeta.Location(), s.ManifestList); err != nil {
			return err
		}
		c.isCurrent = isCurrent[s.SnapshotID]
		if err := c.checkList(ctx, &s); err != nil {
			return err
		}
	}
	if err := c.checkFields(ctx); err != nil {
		return err
	}
	if !c.hasDeletes {
		return nil
	}
	if _, err := datafile.Tasks(ctx, c.staged); err != nil && ctx.Err() == nil {
		return &definition.ArgumentError{Err: fmt.Errorf("the table could not be read after the change: %w", err)}
	}
	return canceled.Err(ctx)
}

type manifestCheck struct {
	catalog *icecat.Catalog
	fileIO  *icecat.FileIO
	staged  *table.Table // with newMeta
	newMeta table.Metadata

	isReplaced func(id int) bool // whether a replacement removed the field
	wasCurrent map[int64]bool    // the snapshots that have been in the current branch
	hasDeletes bool              // whether a new manifest has delete files
	isCurrent  bool              // whether the snapshot that is being checked is in the current branch
	added      map[string]bool   // new data files with rows in the current branch

	// manifests, by path, that have already been checked, or that were in the table before the commit
	checked map[string]iceberg.ManifestFile
	budget  *icecat.Budget // remaining budget for reading manifests

	old      []iceberg.ManifestFile // manifests in the table before the commit
	oldFiles map[string]bool        // the files in old; nil until isOld needs them
}

func (c *manifestCheck) checkList(ctx context.Context, s *table.Snapshot) error {
	invalid := func(subject string, err error) error {
		if ctx.Err() != nil {
			return canceled.Err(ctx)
		}
		return &definition.ArgumentError{Err: fmt.Errorf("%s of snapshot %d: %w", subject, s.SnapshotID, err)}
	}
	var manifests []iceberg.ManifestFile
	err := checkAvroName(s.ManifestList)
	if err == nil {
		err = c.fileIO.CheckAvro(ctx, s.ManifestList, icecat.ListKind, icecat.ListBudget())
	}
	if err == nil {
		err = parallel.Catch(func() error { manifests, err = s.Manifests(c.fileIO); return err })
	}
	if err != nil {
		return invalid("the manifest list", err)
	}
	for _, m := range manifests {
		if known, ok := c.checked[m.FilePath()]; ok && icecat.SameManifest(known, m) {
			continue
		}
		c.checked[m.FilePath()] = m
		if len(c.checked) > maxManifests {
			return &definition.ArgumentError{Err: fmt.Errorf("the commit adds more than %d manifests", maxManifests)}
		}
		if err := asClientError(c.catalog.CheckWithin(c.newMeta.Location(), m.FilePath())); err != nil {
			return err
		}
		if err := parallel.Catch(func() error { return c.checkManifest(ctx, s, m) }); err != nil {
			return invalid("manifest "+m.FilePath(), err)
		}
	}
	return nil
}

// checkAvroName returns an error unless a file's name ends in .avro. Later reads vet only the contents of files with
// this extension.
func checkAvroName(location string) error {
	if !strings.HasSuffix(location, ".avro") {
		return fmt.Errorf("the file name %q does not end in .avro", location)
	}
	return nil
}

// checkManifest checks a manifest's entries and compares their totals with the counts in the manifest list.
func (c *manifestCheck) checkManifest(ctx context.Context, s *table.Snapshot, m iceberg.ManifestFile) error {
	if err := checkAvroName(m.FilePath()); err != nil {
		return err
	}
	spec := c.newMeta.PartitionSpecByID(int(m.PartitionSpecID()))
	if spec == nil {
		return fmt.Errorf("the table has no partition spec %d", m.PartitionSpecID())
	}
	if m.SequenceNum() > s.SequenceNumber || m.MinSequenceNum() > s.SequenceNumber {
		return fmt.Errorf("its sequence numbers, %d and %d, are above the snapshot's, %d", m.SequenceNum(), m.MinSequenceNum(), s.SequenceNumber)
	}
	if err := c.fileIO.CheckAvro(ctx, m.FilePath(), icecat.ManifestKind, c.budget); err != nil {
		return err
	}
	types := partitionTypes(c.newMeta, spec)
	var tally icecat.Tally
	for e, err := range m.Entries(c.fileIO, false) {
		if err != nil {
			return err
		}
		tally.Add(e)
		if err := c.checkEntry(ctx, s, m, e, types); err != nil {
			return err
		}
	}
	return tally.Check(m)
}

// checkWithinTable returns an error unless a file is below the table's location or was in the table before the commit.
// If a table was restored after its deletion, it has files at its former location.
func (c *manifestCheck) checkWithinTable(file string) error {
	err := c.catalog.CheckWithin(c.newMeta.Location(), file)
	if !errors.Is(err, fs.ErrPermission) {
		return err
	}
	if isOld, oldErr := c.isOld(file); isOld || oldErr != nil {
		return oldErr
	}
	return err
}

// isOld reports whether a file was in the table before the commit.
func (c *manifestCheck) isOld(file string) (bool, error) {
	if c.oldFiles == nil {
		c.oldFiles = map[string]bool{}
		for _, m := range c.old {
			for e, err := range m.Entries(c.fileIO, true) {
				if err != nil {
					return false, err
				}
				c.oldFiles[e.DataFile().FilePath()] = true
			}
		}
	}
	return c.oldFiles[file], nil
}

// checkEntry checks a manifest entry. The file of a deleted entry may be missing.
func (c *manifestCheck) checkEntry(ctx context.Context, s *table.Snapshot, m iceberg.ManifestFile, e iceberg.ManifestEntry, types map[int]iceberg.Type) error {
	f := e.DataFile()
	deleted := e.Status() == iceberg.EntryStatusDELETED
	err := c.checkWithinTable(f.FilePath())
	if deleted && errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if referenced := f.ReferencedDataFile(); referenced != nil && err == nil {
		err = c.checkWithinTable(*referenced)
		if errors.Is(err, fs.ErrNotExist) { // the data file may since have been replaced
			err = nil
		}
	}
	if err != nil || deleted {
		return err
	}
	invalid := func(format string, args ...any) error {
		return fmt.Errorf("file %s: %w", f.FilePath(), fmt.Errorf(format, args...))
	}
	isDelete := f.ContentType() == iceberg.EntryContentPosDeletes || f.ContentType() == iceberg.EntryContentEqDeletes
	switch {
	case isDelete != (m.ManifestContent() == iceberg.ManifestContentDeletes) || !isDelete && f.ContentType() != iceberg.EntryContentData:
		return invalid("its content, %s, is not allowed in a manifest of %s", f.ContentType(), m.ManifestContent())
	case f.Count() < 0 || f.FileSizeBytes() < 0:
		return invalid("its row count, %d, or its size, %d bytes, is negative", f.Count(), f.FileSizeBytes())
	case e.SequenceNum() < 0 || e.SequenceNum() > s.SequenceNumber:
		return invalid("its sequence number, %d, is negative or above the snapshot's, %d", e.SequenceNum(), s.SequenceNumber)
	case f.FileFormat() != iceberg.ParquetFile && !table.IsDeletionVector(f):
		return invalid("its format is %s: only Parquet, and Puffin for deletion vectors, are supported", f.FileFormat())
	case f.ContentType() == iceberg.EntryContentEqDeletes && len(f.EqualityFieldIDs()) == 0:
		return invalid("its equality deletes name no column")
	}
	for _, id := range f.EqualityFieldIDs() {
		if _, err := columnType(c.newMeta, id); err != nil {
			return invalid("its equality deletes: %w", err)
		}
		if c.isCurrent && e.Status() == iceberg.EntryStatusADDED && c.isReplaced(id) { // a null would delete all rows
			return invalid("its equality deletes compare the field with ID %d, which the table lost when it was replaced: load the table again, and delete the rows again", id)
		}
	}
	values := f.Partition()
	for id, t := range types {
		if v, ok := values[id]; !ok {
			return invalid("it has no value for the partition field with ID %d", id)
		} else if !isOfType(v, t) {
			return invalid("its value for the partition field with ID %d is of type %T, not %s", id, v, t)
		}
	}
	if isDelete {
		c.hasDeletes = true
		return datafile.CheckDeletes(ctx, c.staged, f)
	}
	if !c.isCurrent || f.Count() == 0 {
		return nil
	}
	isOld := e.Status() == iceberg.EntryStatusEXISTING && c.wasCurrent[e.SnapshotID()]
	if e.Status() == iceberg.EntryStatusEXISTING && !isOld { // perhaps an expired snapshot of another branch added it
		isOld, err = c.isOld(f.FilePath())
	}
	if !isOld {
		c.added[f.FilePath()] = true
	}
	return err
}

// columnType returns a column's type in the newest schema that contains the column.
func columnType(meta table.Metadata, id int) (iceberg.Type, error) {
	for _, s := range append([]*iceberg.Schema{meta.CurrentSchema()}, meta.Schemas()...) {
		if t, ok := s.FindTypeByID(id); ok {
			return t, nil
		}
	}
	return nil, fmt.Errorf("the table never had a column with ID %d", id)
}

// partitionTypes maps the field IDs of a partition spec to their value types. It omits fields whose type is unknown.
func partitionTypes(meta table.Metadata, spec *iceberg.PartitionSpec) map[int]iceberg.Type {
	types := map[int]iceberg.Type{}
	for _, f := range spec.Fields() {
		switch f.Transform.(type) {
		case iceberg.VoidTransform, iceberg.UnknownTransform:
			continue
		}
		if t, err := columnType(meta, f.SourceID()); err == nil {
			types[f.FieldID] = f.Transform.ResultType(t)
		}
	}
	return types
}

// isOfType reports whether a value in a manifest is valid for a type. Narrower numbers are valid because the column may
// have been widened. Numbers are valid for dates and times because some manifests lack the logical type.
func isOfType(v any, t iceberg.Type) bool {
	var validTypes []iceberg.Type
	switch v.(type) {
	case nil:
		return true
	case bool:
		validTypes = []iceberg.Type{iceberg.PrimitiveTypes.Bool}
	case int32, iceberg.Date:
		validTypes = []iceberg.Type{iceberg.PrimitiveTypes.Int32, iceberg.PrimitiveTypes.Int64, iceberg.PrimitiveTypes.Date}
	case int64, iceberg.Time, iceberg.Timestamp, iceberg.TimestampNano:
		p := iceberg.PrimitiveTypes
		validTypes = []iceberg.Type{p.Int64, p.Time, p.Timestamp, p.TimestampTz, p.TimestampNs, p.TimestampTzNs}
	case float32:
		validTypes = []iceberg.Type{iceberg.PrimitiveTypes.Float32, iceberg.PrimitiveTypes.Float64}
	case float64:
		validTypes = []iceberg.Type{iceberg.PrimitiveTypes.Float64}
	case string:
		validTypes = []iceberg.Type{iceberg.PrimitiveTypes.String}
	case uuid.UUID:
		validTypes = []iceberg.Type{iceberg.PrimitiveTypes.UUID}
	}
	switch t.(type) {
	case iceberg.DecimalType:
		_, ok := v.(iceberg.DecimalLiteral)
		return ok
	case iceberg.FixedType, iceberg.BinaryType:
		_, ok := v.([]byte)
		return ok
	}
	return slices.ContainsFunc(validTypes, t.Equals)
}
