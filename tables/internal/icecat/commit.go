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

// Change is a change of one table, staged on a state of it.
type Change struct {
	Namespace, Name string
	Base            *table.Table   // nil: there must be no such table
	Lost            *string        // where the metadata is, of a table that is damaged; Base is nil then
	New             table.Metadata // nil: the table is deleted
	// IOs are what the files of the change were written through. The new
	// metadata goes through the last.
	IOs []*FileIO
	// Info is what listings show. Nil, for changes that others make, leaves the
	// listing to what the metadata says.
	Info   *Info
	PutIDs []PutID // of the puts that the change holds
	// Inline leaves the syncing of the new metadata, which is small then, to the
	// database, which keeps it as well until the next change.
	Inline bool

	Result *table.Table // the table as committed

	inline []byte // the metadata, if Inline
}

// Info is what listings show of a table apart from what its metadata says.
type Info struct {
	Updated  time.Time
	Metadata map[string]any // as ParseMetadata returns it
	CopyOf   string         // what the change makes the table a copy of, as Catalog.CopyOf returns it
}

// PutID is the id of a put, and when the put was acknowledged.
type PutID struct {
	ID string
	At time.Time
}

// TxHook is what a commit does beside its changes, in their transaction: before
// they are made. Its error ends the commit.
type TxHook func(ctx context.Context, tx *sql.Tx) error

// Commit makes all the changes, and what hooks do in the same transaction, or, with an
// error, nothing, unless the error wraps partd.ErrUnknownOutcome.
func (c *Catalog) Commit(ctx context.Context, hooks []TxHook, changes ...*Change) error {
	for _, ch := range changes {
		if err := c.writeMetadata(ch); err != nil {
			return err
		}
	}
	if err := canceled.Err(ctx); err != nil {
		return err
	}
	// From here on it is done or not, whoever still waits for it.
	ctx = context.WithoutCancel(ctx)
	c.around(false)
	defer c.around(true)
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
		if ch.Base != nil { // only the newest metadata of a table is worth keeping
			c.cache.drop(ch.Base.MetadataLocation())
		}
		if ch.Result != nil {
			// Read through the catalog's own view: the one that wrote remembers its files.
			loc, io := ch.Result.MetadataLocation(), ch.IOs[len(ch.IOs)-1]
			ch.Result = c.Staged(ch.Namespace, ch.Name, ch.New, loc, c.reader)
			written := io.Written()
			c.cache.Put(loc, ch.Result, costOf(written[len(written)-1].Size))
		}
	}
	return nil
}

// writeMetadata writes the metadata of a change, and makes all its files last.
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
		} else if dir, err := c.own(ch.New.Location()); err == nil { // which may have been made without syncs
			io.touched(dir)
			io.touched(filepath.Dir(dir))
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

// metadataVersion is the number that a metadata file's name begins with, 0 for
// the names of others that have none.
func metadataVersion(loc string) int {
	number, _, _ := strings.Cut(path.Base(loc), "-")
	v, err := strconv.Atoi(number)
	if err != nil {
		return 0
	}
	return v
}

// apply makes the change in the database.
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
	if was != nil && w.do(deleteInline, *was) > 0 { // only the database was sure to keep it: its file may be lost
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

// forget removes what is known of a table that was deleted. Its files are
// orphans now.
func (ch *Change) forget(w *work, was string) {
	w.reindex(TableName{ch.Namespace, ch.Name}, "null")
	uuid := "" // of one that is damaged it is not known, and its puts are forgotten with time
	location, _, _ := strings.Cut(was, "/metadata/")
	if ch.Base != nil {
		uuid, location = ch.Base.Metadata().TableUUID().String(), ch.Base.Location()
	}
	w.do(deleteInfo, uuid, ch.Namespace, ch.Name)
	w.do(`DELETE FROM partd_puts WHERE uuid=?`, uuid)
	if dir, err := ch.IOs[0].cat.own(location); err == nil { // else none of its files are ours
		// They were of use until now, whatever a Sweep found before they were committed.
		w.do(`DELETE FROM partd_orphans WHERE path>=? AND path<?`, dir+"/", dir+"0")
	}
}

// record keeps what there is to know of the change beside the metadata.
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

// record keeps what was written, of a table or of none yet.
func (f *FileIO) record(w *work, uuid string) {
	for _, file := range f.Written() {
		hash := file.Hash.Bytes()
		w.do(upsertFile, file.Path, uuid, file.Size, hash[:])
		path, err := f.cat.own(file.Path)
		w.err = cmp.Or(w.err, err)
		// A Sweep may have found it of no use while it waited to be committed.
		w.do(`DELETE FROM partd_orphans WHERE path=?`, path)
	}
}
