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
	"time"

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
	// Inline stores the new metadata, which must be small, in the database until the next change. The metadata file is
	// then not synced.
	Inline bool

	Result *table.Table // the committed table

	inlineJSON []byte // the new metadata as JSON, if Inline is set
}

// Info is what listings show of a table besides its metadata.
type Info struct {
	Updated  time.Time
	Metadata map[string]any // as returned by ParseMetadata
	CopyOf   string         // for an unchanged copy, the original's metadata location; see Catalog.CopyOf
}

// PutID is a put's ID, with the time when the put was acknowledged.
type PutID struct {
	ID string
	At time.Time
}

// TxHook runs in a commit's transaction before the changes. If it fails, the commit fails.
type TxHook func(w *transaction)

// Commit applies all changes and hooks in one transaction. If it returns an error, nothing has changed, unless the error wraps
// partd.ErrUnknownOutcome.
func (c *Catalog) Commit(ctx context.Context, hooks []TxHook, changes ...*Change) error {
	for _, ch := range changes {
		if err := c.writeMetadata(ch); err != nil {
			return err
		}
	}
	if err := canceled.Err(ctx); err != nil {
		return err
	}
	// From here on, the commit cannot be canceled.
	err := c.inTx(context.WithoutCancel(ctx), func(w *transaction) {
		for _, hook := range hooks {
			hook(w)
		}
		for _, ch := range changes {
			ch.apply(w)
		}
		w.err = wrapConflict(w.err)
	})
	if err != nil {
		return err
	}
	for _, ch := range changes {
		if ch.Base != nil { // Cache only a table's newest metadata.
			c.cache.drop(ch.Base.MetadataLocation())
		}
		if ch.Result != nil {
			// Use the catalog's own FileIO, because the change's FileIO would keep its list of written files in memory.
			location, fileIO := ch.Result.MetadataLocation(), ch.IOs[len(ch.IOs)-1]
			ch.Result = c.Staged(ch.Namespace, ch.Name, ch.New, location, c.reader)
			written := fileIO.Written()
			c.cache.Put(location, ch.Result, costOf(written[len(written)-1].Size))
		}
	}
	return nil
}

// writeMetadata writes the new metadata of a change, and syncs all files of the change.
func (c *Catalog) writeMetadata(ch *Change) error {
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
		} else if dir, err := c.ownPath(ch.New.Location()); err == nil { // Sync the directory, because it may have been created without a sync.
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

// metadataVersion returns the number at the start of a metadata file's name, or 0 if the name has no number, as in files of other engines.
func metadataVersion(location string) int {
	prefix, _, _ := strings.Cut(path.Base(location), "-")
	v, err := strconv.Atoi(prefix)
	if err != nil {
		return 0
	}
	return v
}

func (ch *Change) apply(w *transaction) {
	oldLocation := ch.DamagedLocation
	if ch.Base != nil {
		oldLocation = new(ch.Base.MetadataLocation())
	}
	var n int64
	switch {
	case oldLocation == nil:
		w.exec(insertNamespace, ch.Namespace)
		n = w.exec(insertTable, ch.Namespace, ch.Name, ch.Result.MetadataLocation())
	case ch.New == nil:
		n = w.exec(deleteTable, ch.Namespace, ch.Name, *oldLocation)
	default:
		n = w.exec(updateTable, ch.Result.MetadataLocation(), *oldLocation, ch.Namespace, ch.Name, *oldLocation)
	}
	if w.err == nil && n == 0 {
		w.err = ErrConflict
	}
	// Delete the record of an inline table's old metadata file. The file was never synced, so it may be missing, and a
	// missing file with a record would be reported as damaged.
	if oldLocation != nil && w.exec(deleteInline, *oldLocation) > 0 {
		w.exec(`DELETE FROM partd_files WHERE path=?`, *oldLocation)
	}
	if ch.New == nil {
		ch.forget(w, *oldLocation)
		return
	}
	if ch.Inline {
		w.exec(`INSERT INTO partd_light VALUES (?,?)`, ch.Result.MetadataLocation(), ch.inlineJSON)
	}
	ch.record(w)
}

// forget removes a deleted table's records from the database, so that the next Sweep finds the table's files unused.
func (ch *Change) forget(w *transaction, oldLocation string) {
	w.reindex(TableName{ch.Namespace, ch.Name}, "null")
	uuid := "" // A damaged table's UUID is unknown; the IDs of its puts expire later.
	location, _, _ := strings.Cut(oldLocation, "/metadata/")
	if ch.Base != nil {
		uuid, location = ch.Base.Metadata().TableUUID().String(), ch.Base.Location()
	}
	w.exec(deleteInfo, uuid, ch.Namespace, ch.Name)
	w.exec(`DELETE FROM partd_puts WHERE uuid=?`, uuid)
	if dir, err := ch.IOs[0].cat.ownPath(location); err == nil { // Otherwise the table has no files in the warehouse.
		// The files were in use until now, so their grace period must start with the next Sweep.
		w.exec(`DELETE FROM partd_orphans WHERE path>=? AND path<?`, dir+"/", dir+"0")
	}
}

// record adds the change's records to the database, except the metadata location, which apply sets.
func (ch *Change) record(w *transaction) {
	uuid := ch.New.TableUUID().String()
	if ch.Info != nil {
		l := listed(ch.New)
		meta, err := json.Marshal(ch.Info.Metadata)
		if err != nil {
			w.err = cmp.Or(w.err, err)
		}
		w.reindex(TableName{ch.Namespace, ch.Name}, string(meta))
		w.exec(deleteInfo, uuid, ch.Namespace, ch.Name)
		w.exec(insertInfo, uuid, ch.Namespace, ch.Name, ch.Result.MetadataLocation(),
			l.Rows, l.Bytes, l.Files, l.Version, ch.Info.Updated.UnixMilli(), string(meta))
	}
	for _, fileIO := range ch.IOs {
		fileIO.record(w, uuid)
	}
	if ch.Info != nil && ch.Info.CopyOf != "" {
		w.exec(`INSERT INTO partd_copies VALUES (?,?)`, ch.Result.MetadataLocation(), ch.Info.CopyOf)
	}
	for _, p := range ch.PutIDs {
		w.exec(`INSERT INTO partd_puts VALUES (?,?,?) ON CONFLICT DO NOTHING`, uuid, p.ID, p.At.UnixMilli())
	}
}

// record adds records of the files that f wrote for a table. uuid is the table's UUID, or "" if the files do not belong
// to a table yet.
func (f *FileIO) record(w *transaction, uuid string) {
	for _, file := range f.Written() {
		hash := file.Hash.Bytes()
		w.exec(upsertFile, file.Path, uuid, file.Size, hash[:])
		path, err := f.cat.ownPath(file.Path)
		w.err = cmp.Or(w.err, err)
		// A Sweep may have recorded the file as an orphan before this commit.
		w.exec(`DELETE FROM partd_orphans WHERE path=?`, path)
	}
}
