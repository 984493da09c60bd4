package icecat

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/internal/canceled"
)

// Change is a staged change of one table.
type Change struct {
	Namespace, Name string
	Base            *table.Table   // the state that the change was staged on; nil: the table must not exist
	Lost            *string        // the metadata location of a damaged table, whose Base is nil
	New             table.Metadata // nil: delete the table
	// IOs wrote the files of the change. The last one also writes the new metadata.
	IOs []*FileIO
	// Info is what listings show. Other engines' changes have none; then listings use the metadata.
	Info   *Info
	PutIDs []PutID // of the puts in the change
	// Inline keeps the new metadata in the database until the next change, and does not sync its
	// file. It is for small metadata.
	Inline bool

	Result *table.Table // the committed table

	inline []byte // the metadata, if Inline is set
}

// Info is what listings show of a table in addition to its metadata.
type Info struct {
	Updated  time.Time
	Metadata map[string]any // as returned by ParseMetadata
	CopyOf   string         // the metadata location that the table is now a copy of; see Catalog.CopyOf
}

// PutID is the id of a put, with the time when it was acknowledged.
type PutID struct {
	ID string
	At time.Time
}

// TxHook runs in the transaction of a commit, before its changes. If it fails, so does the commit.
type TxHook func(ctx context.Context, tx *sql.Tx) error

// Commit applies all changes and hooks in one transaction. If it returns an error, nothing was
// changed, unless the error wraps partd.ErrUnknownOutcome.
func (c *Catalog) Commit(ctx context.Context, hooks []TxHook, changes ...*Change) error {
	for _, ch := range changes {
		if err := c.writeMetadata(ch); err != nil {
			return err
		}
	}
	if err := canceled.Err(ctx); err != nil {
		return err
	}
	// From here on, the commit completes even if ctx is canceled.
	ctx = context.WithoutCancel(ctx)
	c.committing(false)
	defer c.committing(true)
	tx, err := c.begin(ctx)
	if err != nil {
		return err
	}
	for _, do := range hooks {
		if err := do(ctx, tx); err != nil {
			return errors.Join(retriable(err), tx.Rollback())
		}
	}
	w := &work{ctx, tx, nil}
	for _, ch := range changes {
		if ch.apply(w); w.err != nil {
			return errors.Join(retriable(w.err), tx.Rollback())
		}
	}
	if err := commit(tx); err != nil {
		return err
	}
	for _, ch := range changes {
		if ch.Base != nil { // only a table's newest metadata is worth caching
			c.cache.drop(ch.Base.MetadataLocation())
		}
		if ch.Result != nil {
			// Use the catalog's own FileIO: the change's FileIO keeps a list of its files.
			loc, io := ch.Result.MetadataLocation(), ch.IOs[len(ch.IOs)-1]
			ch.Result = c.Staged(ch.Namespace, ch.Name, ch.New, loc, c.reader)
			written := io.Written()
			c.cache.Put(loc, ch.Result, costOf(written[len(written)-1].Size))
		}
	}
	return nil
}

// writeMetadata writes the metadata of a change, and syncs all its files.
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
		loc, err := provider.NewTableMetadataFileLocation(version)
		if err != nil {
			return err
		}
		b, err := json.Marshal(ch.New)
		if err != nil {
			return err
		}
		io := ch.IOs[len(ch.IOs)-1]
		if ch.Inline {
			ch.inline, io.noSync = b, true
		} else if dir, err := c.own(ch.New.Location()); err == nil { // the directory may have been created without a sync
			io.syncLater(dir)
			io.syncLater(filepath.Dir(dir))
		}
		if err := io.WriteFile(loc, b); err != nil {
			return err
		}
		ch.Result = c.Staged(ch.Namespace, ch.Name, ch.New, loc, io)
	}
	for _, io := range ch.IOs {
		if err := io.Sync(); err != nil {
			return err
		}
	}
	return nil
}

// metadataVersion returns the number at the beginning of a metadata file's name, or 0 if the name,
// by another engine, has none.
func metadataVersion(loc string) int {
	number, _, _ := strings.Cut(path.Base(loc), "-")
	v, err := strconv.Atoi(number)
	if err != nil {
		return 0
	}
	return v
}

// apply applies the change to the database.
func (ch *Change) apply(w *work) {
	was := ch.Lost
	if ch.Base != nil {
		was = new(ch.Base.MetadataLocation())
	}
	var n int64
	switch {
	case was == nil:
		w.do(insertNamespace, ch.Namespace)
		n = w.do(insertTable, ch.Namespace, ch.Name, ch.Result.MetadataLocation())
	case ch.New == nil:
		n = w.do(deleteTable, ch.Namespace, ch.Name, *was)
	default:
		n = w.do(updateTable, ch.Result.MetadataLocation(), *was, ch.Namespace, ch.Name, *was)
	}
	if w.err == nil && n == 0 {
		w.err = ErrConflict
	}
	if was != nil && w.do(deleteInline, *was) > 0 { // the file was not synced, and may be lost
		w.do(`DELETE FROM partd_files WHERE path=?`, *was)
	}
	if ch.New == nil {
		ch.forget(w, *was)
		return
	}
	if ch.Inline {
		w.do(`INSERT INTO partd_light VALUES (?,?)`, ch.Result.MetadataLocation(), ch.inline)
	}
	ch.record(w)
}

// forget removes what the database has of a deleted table. The table's files become orphans.
func (ch *Change) forget(w *work, was string) {
	w.reindex(TableName{ch.Namespace, ch.Name}, "null")
	uuid := "" // unknown for a damaged table; its puts expire later
	location, _, _ := strings.Cut(was, "/metadata/")
	if ch.Base != nil {
		uuid, location = ch.Base.Metadata().TableUUID().String(), ch.Base.Location()
	}
	w.do(deleteInfo, uuid, ch.Namespace, ch.Name)
	w.do(`DELETE FROM partd_puts WHERE uuid=?`, uuid)
	if dir, err := ch.IOs[0].cat.own(location); err == nil { // otherwise, none of its files belong to the warehouse
		// The files were in use until now, even if a Sweep found them unused before they were
		// committed.
		w.do(`DELETE FROM partd_orphans WHERE path>=? AND path<?`, dir+"/", dir+"0")
	}
}

// record stores what the database keeps of the change besides the metadata.
func (ch *Change) record(w *work) {
	uuid := ch.New.TableUUID().String()
	if ch.Info != nil {
		l := listed(ch.New)
		meta, err := json.Marshal(ch.Info.Metadata)
		if err != nil {
			w.err = cmp.Or(w.err, err)
		}
		w.reindex(TableName{ch.Namespace, ch.Name}, string(meta))
		w.do(deleteInfo, uuid, ch.Namespace, ch.Name)
		w.do(insertInfo, uuid, ch.Namespace, ch.Name, ch.Result.MetadataLocation(),
			l.Rows, l.Bytes, l.Files, l.Version, ch.Info.Updated.UnixMilli(), string(meta))
	}
	for _, io := range ch.IOs {
		io.record(w, uuid)
	}
	if ch.Info != nil && ch.Info.CopyOf != "" {
		w.do(`INSERT INTO partd_copies VALUES (?,?)`, ch.Result.MetadataLocation(), ch.Info.CopyOf)
	}
	for _, p := range ch.PutIDs {
		w.do(`INSERT INTO partd_puts VALUES (?,?,?) ON CONFLICT DO NOTHING`, uuid, p.ID, p.At.UnixMilli())
	}
}

// record stores the written files for a table, or for no table yet if uuid is "".
func (f *FileIO) record(w *work, uuid string) {
	for _, file := range f.Written() {
		hash := file.Hash.Bytes()
		w.do(upsertFile, file.Path, uuid, file.Size, hash[:])
		path, err := f.cat.own(file.Path)
		w.err = cmp.Or(w.err, err)
		// A Sweep may have noted it as unused before this commit.
		w.do(`DELETE FROM partd_orphans WHERE path=?`, path)
	}
}
