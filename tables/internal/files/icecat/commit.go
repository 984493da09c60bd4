package icecat

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/apache/iceberg-go/table"
	"github.com/google/uuid"

	"github.com/go-partd/partd/internal/base/canceled"
)

// Change is a staged change to one table.
type Change struct {
	Namespace, Name string
	Base            *table.Table   // the table before the change; nil if the table must not exist
	DamagedLocation *string        // location of a damaged table's metadata; such a table has no Base
	New             table.Metadata // the new metadata; nil deletes the table
	// IOs are the FileIOs that wrote the change's files. The last one also writes the new metadata.
	IOs []*FileIO
	// Info is shown in listings. If it is nil, as for other engines' changes, listings use the metadata.
	Info   *Info
	PutIDs []PutID
	// Restored is the location of the table's earlier metadata if the change brings back its rows and the IDs of its
	// puts.
	Restored string
	// Inline stores the new metadata, which must be small, in the database until the next change. The metadata file is
	// then not synced.
	Inline bool

	Result *table.Table // the committed table

	inlineJSON []byte // the new metadata as JSON, if Inline is set
}

// Commit applies all changes and hooks in one transaction. If it returns an error, nothing has changed, unless the
// error wraps partd.ErrUnknownOutcome.
func (c *Catalog) Commit(ctx context.Context, hooks []TxHook, changes ...*Change) error {
	for _, change := range changes {
		if err := c.Stage(change); err != nil {
			return err
		}
	}
	if err := canceled.Err(ctx); err != nil {
		return err
	}
	// From here on, the commit cannot be canceled.
	err := c.inTx(context.WithoutCancel(ctx), func(t *transaction) {
		t.changes = changes
		for _, hook := range hooks {
			hook(t)
		}
		for _, change := range changes {
			change.apply(t)
		}
		t.err = wrapConflict(t.err)
	})
	if err != nil {
		return err
	}
	for _, change := range changes {
		if change.Base != nil { // Cache only a table's newest metadata.
			c.cache.drop(change.Base.MetadataLocation())
		}
		if change.Result != nil {
			// Use the catalog's own FileIO: the change's FileIO would keep its list of written files in memory.
			location, fileIO := change.Result.MetadataLocation(), change.IOs[len(change.IOs)-1]
			change.Result = c.Staged(change.Namespace, change.Name, change.New, location, c.reader)
			written := fileIO.Written()
			c.cache.Put(location, change.Result, costOf(written[len(written)-1].Size))
		}
	}
	return nil
}

// Stage writes a change's new metadata and syncs all of the change's files. Commit does the same for changes that have
// not been staged.
func (c *Catalog) Stage(change *Change) error {
	if change.Result != nil {
		return nil
	}
	if change.New != nil {
		version := 0
		if change.Base != nil {
			version = metadataVersion(change.Base.MetadataLocation()) + 1
		}
		provider, err := table.LoadLocationProvider(change.New.Location(), change.New.Properties())
		if err != nil {
			return err
		}
		// Do not use NewTableMetadataFileLocation: it names the file as the table's properties require, but this file
		// is never compressed.
		loc := provider.NewMetadataLocation(fmt.Sprintf("%05d-%s.metadata.json", version, uuid.New()))
		b, err := json.Marshal(change.New)
		if err != nil {
			return err
		}
		fileIO := change.IOs[len(change.IOs)-1]
		if change.Inline {
			change.inlineJSON, fileIO.noSync = b, true
		} else if dir, err := c.ownPath(change.New.Location()); err == nil { // the directory may not be synced yet
			fileIO.syncLater(dir)
			fileIO.syncLater(filepath.Dir(dir))
		}
		if err := fileIO.WriteFile(loc, b); err != nil {
			return err
		}
		change.Result = c.Staged(change.Namespace, change.Name, change.New, loc, fileIO)
	}
	for _, fileIO := range change.IOs {
		if err := fileIO.Sync(); err != nil {
			return err
		}
	}
	return nil
}

// metadataVersion returns the number at the start of a metadata file's name. It returns 0 if the name has no number, as
// in other engines' files.
func metadataVersion(location string) int {
	prefix, _, _ := strings.Cut(path.Base(location), "-")
	v, err := strconv.Atoi(prefix)
	if err != nil {
		return 0
	}
	return v
}

func (c *Change) apply(t *transaction) {
	oldLocation := c.DamagedLocation
	if c.Base != nil {
		oldLocation = new(c.Base.MetadataLocation())
	}
	var n int64
	switch {
	case oldLocation == nil:
		t.exec(insertNamespace, c.Namespace)
		n = t.exec(insertTable, c.Namespace, c.Name, c.Result.MetadataLocation())
	case c.New == nil:
		n = t.exec(deleteTable, c.Namespace, c.Name, *oldLocation)
	default:
		n = t.exec(updateTable, c.Result.MetadataLocation(), *oldLocation, c.Namespace, c.Name, *oldLocation)
	}
	if t.err == nil && n == 0 {
		t.err = ErrConflict
	}
	// Delete the record of an inline table's old metadata file. The file was never synced, so it may be missing, and a
	// missing file that has a record would be reported as damaged.
	if oldLocation != nil && t.exec(deleteInline, *oldLocation) > 0 {
		t.exec(`DELETE FROM partd_files WHERE path=?`, *oldLocation)
	}
	if c.New == nil {
		c.forget(t, *oldLocation)
		return
	}
	if c.Inline {
		t.exec(`INSERT INTO partd_light VALUES (?,?)`, c.Result.MetadataLocation(), c.inlineJSON)
	}
	c.record(t)
}

// forget removes a deleted table's records from the database, so that the next Sweep finds the table's files unused.
func (c *Change) forget(t *transaction, oldLocation string) {
	t.reindex(TableName{c.Namespace, c.Name}, "null")
	uuid := "" // a damaged table's UUID is unknown; the IDs of its puts expire later
	location, _, _ := strings.Cut(oldLocation, "/metadata/")
	if c.Base != nil {
		uuid, location = c.Base.Metadata().TableUUID().String(), c.Base.Location()
	}
	t.exec(deleteInfo, uuid, c.Namespace, c.Name)
	// A restore from a snapshot needs the IDs.
	t.exec(`DELETE FROM partd_ids WHERE uuid=? AND NOT EXISTS (SELECT 1 FROM partd_snapshots)`, uuid)
	if dir, err := c.IOs[0].records.ownPath(location); err == nil { // otherwise, the table has no files here
		// The files were in use until now, so their grace period must start with the next Sweep. "0" follows "/" in
		// ASCII, so the range contains all paths that begin with dir+"/".
		t.exec(`DELETE FROM partd_orphans WHERE path>=? AND path<?`, dir+"/", dir+"0")
	}
}

// record adds the change's records to the database. apply sets the metadata location.
func (c *Change) record(t *transaction) {
	uuid := c.New.TableUUID().String()
	if c.Info != nil {
		l := listedFrom(c.New)
		if l.AtMost {
			l.Rows = -1 - l.Rows // see insertInfo
		}
		meta, err := json.Marshal(c.Info.Metadata)
		if err != nil {
			t.err = cmp.Or(t.err, err)
		}
		t.reindex(TableName{c.Namespace, c.Name}, string(meta))
		t.exec(deleteInfo, uuid, c.Namespace, c.Name)
		t.exec(insertInfo, uuid, c.Namespace, c.Name, c.Result.MetadataLocation(),
			l.Rows, l.Bytes, l.Files, l.Version, c.Info.Updated.UnixMilli(), string(meta))
	}
	for _, fileIO := range c.IOs {
		fileIO.record(t, uuid)
	}
	if c.Info != nil && c.Info.CopyOf != "" {
		t.exec(`INSERT INTO partd_copies VALUES (?,?)`, c.Result.MetadataLocation(), c.Info.CopyOf)
	}
	version := metadataVersion(c.Result.MetadataLocation())
	if c.Restored != "" {
		t.exec(discardPuts, uuid, metadataVersion(c.Restored), version)
		t.exec(revivePuts, uuid, metadataVersion(c.Restored), version)
	}
	for _, p := range c.PutIDs {
		t.exec(`INSERT INTO partd_ids VALUES (?,?,?,?,0) ON CONFLICT DO NOTHING`, uuid, p.ID, p.At.UnixMilli(), version)
	}
}

// Rename renames a table. The new name must be unused.
func (c *Catalog) Rename(ctx context.Context, from, to TableName) error {
	const (
		find                = `SELECT 1 FROM iceberg_tables WHERE catalog_name='` + Name + `' AND table_namespace=? AND table_name=?`
		rename              = `UPDATE iceberg_tables SET table_namespace=?, table_name=? WHERE catalog_name='` + Name + `' AND table_namespace=? AND table_name=?`
		renameInPartdTables = `UPDATE partd_tables SET namespace=?, name=? WHERE namespace=? AND name=?`
	)
	return c.inTx(ctx, func(t *transaction) {
		if len(t.queryStrings(find, to.Namespace, to.Name)) > 0 {
			t.err = ErrExists
		}
		meta := t.queryStrings(`SELECT metadata FROM partd_tables WHERE namespace=? AND name=?`, from.Namespace, from.Name)
		t.reindex(from, "null")
		if n := t.exec(rename, to.Namespace, to.Name, from.Namespace, from.Name); t.err == nil && n == 0 {
			t.err = ErrNotFound
		}
		t.exec(insertNamespace, to.Namespace)
		t.exec(deleteInfo, "", to.Namespace, to.Name)
		if len(meta) > 0 {
			t.reindex(to, meta[0])
		}
		t.exec(renameInPartdTables, to.Namespace, to.Name, from.Namespace, from.Name)
		t.recordKey()
	})
}

// CheckVacant returns a hook that fails if a location contains metadata of a current table, or of a table in another
// namespace's snapshot. The hook is needed because another commit may have created a table there in the meantime.
func CheckVacant(location, namespace string) TxHook {
	const q = `SELECT metadata_location FROM iceberg_tables WHERE metadata_location>=?1 AND metadata_location<?2
		UNION SELECT metadata_location FROM partd_snapshot_tables WHERE metadata_location>=?1 AND metadata_location<?2 AND namespace<>?3 LIMIT 1`
	return func(t *transaction) {
		// "0" follows "/" in ASCII.
		if len(t.queryStrings(q, location+"/", location+"0", namespace)) > 0 {
			t.err = fmt.Errorf("a table at location %s %w", location, ErrExists)
		}
	}
}
