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
	DamagedLocation *string        // metadata location of a damaged table, which has no Base
	New             table.Metadata // the new metadata; nil deletes the table
	// IOs are the FileIOs that wrote the change's files. The last one also writes the new metadata.
	IOs []*FileIO
	// Info is shown in listings. Changes by other engines have no Info; listings then use the metadata.
	Info   *Info
	PutIDs []PutID
	// Restored is the location of the table's earlier metadata whose rows the change brings back, along with the IDs of
	// its puts.
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
	for _, ch := range changes {
		if err := c.Stage(ch); err != nil {
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
		for _, ch := range changes {
			ch.apply(t)
		}
		t.err = wrapConflict(t.err)
	})
	if err != nil {
		return err
	}
	for _, ch := range changes {
		if ch.Base != nil { // Cache only a table's newest metadata.
			c.cache.drop(ch.Base.MetadataLocation())
		}
		if ch.Result != nil {
			// Use the catalog's own FileIO: the change's FileIO would keep its list of written files in memory.
			location, fileIO := ch.Result.MetadataLocation(), ch.IOs[len(ch.IOs)-1]
			ch.Result = c.Staged(ch.Namespace, ch.Name, ch.New, location, c.reader)
			written := fileIO.Written()
			c.cache.Put(location, ch.Result, costOf(written[len(written)-1].Size))
		}
	}
	return nil
}

// Stage writes a change's new metadata, and syncs all of the change's files. Commit does the same for changes that have
// not been staged.
func (c *Catalog) Stage(ch *Change) error {
	if ch.Result != nil {
		return nil
	}
	if ch.New != nil {
		version := 0
		if ch.Base != nil {
			version = metadataVersion(ch.Base.MetadataLocation()) + 1
		}
		provider, err := table.LoadLocationProvider(ch.New.Location(), ch.New.Properties())
		if err != nil {
			return err
		}
		// Not NewTableMetadataFileLocation, because the file is never compressed, whatever the table's properties say.
		loc := provider.NewMetadataLocation(fmt.Sprintf("%05d-%s.metadata.json", version, uuid.New()))
		b, err := json.Marshal(ch.New)
		if err != nil {
			return err
		}
		fileIO := ch.IOs[len(ch.IOs)-1]
		if ch.Inline {
			ch.inlineJSON, fileIO.noSync = b, true
		} else if dir, err := c.ownPath(ch.New.Location()); err == nil { // it may have been created without a sync
			fileIO.syncLater(dir)
			fileIO.syncLater(filepath.Dir(dir))
		}
		if err := fileIO.WriteFile(loc, b); err != nil {
			return err
		}
		ch.Result = c.Staged(ch.Namespace, ch.Name, ch.New, loc, fileIO)
	}
	for _, fileIO := range ch.IOs {
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

func (ch *Change) apply(t *transaction) {
	oldLocation := ch.DamagedLocation
	if ch.Base != nil {
		oldLocation = new(ch.Base.MetadataLocation())
	}
	var n int64
	switch {
	case oldLocation == nil:
		t.exec(insertNamespace, ch.Namespace)
		n = t.exec(insertTable, ch.Namespace, ch.Name, ch.Result.MetadataLocation())
	case ch.New == nil:
		n = t.exec(deleteTable, ch.Namespace, ch.Name, *oldLocation)
	default:
		n = t.exec(updateTable, ch.Result.MetadataLocation(), *oldLocation, ch.Namespace, ch.Name, *oldLocation)
	}
	if t.err == nil && n == 0 {
		t.err = ErrConflict
	}
	// Delete the record of an inline table's old metadata file. The file was never synced, so it may be missing, and a
	// missing file that has a record would be reported as damaged.
	if oldLocation != nil && t.exec(deleteInline, *oldLocation) > 0 {
		t.exec(`DELETE FROM partd_files WHERE path=?`, *oldLocation)
	}
	if ch.New == nil {
		ch.forget(t, *oldLocation)
		return
	}
	if ch.Inline {
		t.exec(`INSERT INTO partd_light VALUES (?,?)`, ch.Result.MetadataLocation(), ch.inlineJSON)
	}
	ch.record(t)
}

// forget removes a deleted table's records from the database, so that the next Sweep finds the table's files unused.
func (ch *Change) forget(t *transaction, oldLocation string) {
	t.reindex(TableName{ch.Namespace, ch.Name}, "null")
	uuid := "" // a damaged table's UUID is unknown; the IDs of its puts expire later
	location, _, _ := strings.Cut(oldLocation, "/metadata/")
	if ch.Base != nil {
		uuid, location = ch.Base.Metadata().TableUUID().String(), ch.Base.Location()
	}
	t.exec(deleteInfo, uuid, ch.Namespace, ch.Name)
	// A restore from a snapshot needs the IDs.
	t.exec(`DELETE FROM partd_ids WHERE uuid=? AND NOT EXISTS (SELECT 1 FROM partd_snapshots)`, uuid)
	if dir, err := ch.IOs[0].records.ownPath(location); err == nil { // otherwise, the table has no files here
		// The files were in use until now, so their grace period must start with the next Sweep. "0" follows "/" in
		// ASCII, so the range contains all paths that begin with dir+"/".
		t.exec(`DELETE FROM partd_orphans WHERE path>=? AND path<?`, dir+"/", dir+"0")
	}
}

// record adds the change's records to the database. apply sets the metadata location.
func (ch *Change) record(t *transaction) {
	uuid := ch.New.TableUUID().String()
	if ch.Info != nil {
		l := listed(ch.New)
		if l.AtMost {
			l.Rows = -1 - l.Rows // see insertInfo
		}
		meta, err := json.Marshal(ch.Info.Metadata)
		if err != nil {
			t.err = cmp.Or(t.err, err)
		}
		t.reindex(TableName{ch.Namespace, ch.Name}, string(meta))
		t.exec(deleteInfo, uuid, ch.Namespace, ch.Name)
		t.exec(insertInfo, uuid, ch.Namespace, ch.Name, ch.Result.MetadataLocation(),
			l.Rows, l.Bytes, l.Files, l.Version, ch.Info.Updated.UnixMilli(), string(meta))
	}
	for _, fileIO := range ch.IOs {
		fileIO.record(t, uuid)
	}
	if ch.Info != nil && ch.Info.CopyOf != "" {
		t.exec(`INSERT INTO partd_copies VALUES (?,?)`, ch.Result.MetadataLocation(), ch.Info.CopyOf)
	}
	version := metadataVersion(ch.Result.MetadataLocation())
	if ch.Restored != "" {
		t.exec(discardPuts, uuid, metadataVersion(ch.Restored), version)
		t.exec(revivePuts, uuid, metadataVersion(ch.Restored), version)
	}
	for _, p := range ch.PutIDs {
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
		if len(t.strings(find, to.Namespace, to.Name)) > 0 {
			t.err = ErrExists
		}
		meta := t.strings(`SELECT metadata FROM partd_tables WHERE namespace=? AND name=?`, from.Namespace, from.Name)
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
		if len(t.strings(q, location+"/", location+"0", namespace)) > 0 {
			t.err = fmt.Errorf("a table at location %s %w", location, ErrExists)
		}
	}
}
