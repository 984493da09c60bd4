package icecat

import (
	"bytes"
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/apache/iceberg-go/table"
	"github.com/google/uuid"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/canceled"
)

// ErrContent says that a file does not hold what was written.
var ErrContent = errors.New("the file is damaged")

// FilesLike returns where files of the same content are, or were.
func (c *Catalog) FilesLike(ctx context.Context, w WrittenFile) ([]string, error) {
	hash := w.Hash.Bytes()
	return c.strings(ctx, `SELECT path FROM partd_files WHERE xxh3=? AND size=? LIMIT 16`, hash[:], w.Size)
}

// NoteFiles keeps what was written through f before a commit needs it.
func (c *Catalog) NoteFiles(ctx context.Context, f *FileIO) error {
	return c.inTx(ctx, func(w *work) { f.record(w, "") })
}

// Wanted keeps a file from being removed by a Sweep of another process for the time of
// grace from now on. It reports false where one removes it already.
func (c *Catalog) Wanted(ctx context.Context, location string) (still bool, err error) {
	path, err := c.local(location)
	if err != nil {
		return false, err
	}
	err = c.inTx(ctx, func(w *work) {
		w.do(`DELETE FROM partd_orphans WHERE path=?`, path)
		still = len(w.strings(`SELECT path FROM partd_files WHERE path=?`, location)) > 0
	})
	return still, err
}

// CopyOf returns the metadata's location in another warehouse that the table with the
// metadata at loc is an unchanged copy of, "" if it is none.
func (c *Catalog) CopyOf(ctx context.Context, loc string) (string, error) {
	return c.one(ctx, `SELECT source FROM partd_copies WHERE location=?`, loc)
}

// State is a location of metadata.
type State struct {
	Name     string // the table's
	Location string
	Pinned   bool // by snapshots alone: of its versions the newest one counts
}

// States returns the locations of metadata that a namespace has and that its snapshots
// pin, each once; of a table, the one that it has comes first.
func (c *Catalog) States(ctx context.Context, namespace string) (all []State, err error) {
	found, err := c.strings(ctx, selectStates, namespace)
	for _, s := range found {
		loc, name, _ := strings.Cut(s, stateEnd)
		kind, name := name[0], name[1:]
		all = append(all, State{name, loc, kind == '0'})
	}
	return all, err
}

// Heal writes metadata again that the database has as well, if its file is lost.
func (c *Catalog) Heal(ctx context.Context, loc string) error {
	_, _, err := c.loadInline(ctx, "", "", loc)
	return err
}

// Fill writes a file that has to be w, and syncs it. With an error, it leaves none.
// Nothing else goes through f meanwhile.
func (f *FileIO) Fill(w WrittenFile, r io.Reader) error {
	file, err := f.Create(w.Path)
	if err != nil {
		return err
	}
	_, err = io.Copy(file, io.LimitReader(r, w.Size+1))
	if err = errors.Join(err, file.Close(), f.Sync()); err == nil {
		written := f.Written()
		got := written[len(written)-1]
		err = w.Check(got.Size, got.Hash)
	}
	if err != nil {
		_ = f.Remove(w.Path)
	}
	return err
}

// Place puts a file that has to be w in place of what is there, which stays where r
// has another content. Nothing else goes through f.
func (f *FileIO) Place(w WrittenFile, r io.Reader) error {
	path, err := f.cat.own(w.Path)
	if err != nil {
		return err
	}
	beside := w
	beside.Path += ".part-" + uuid.NewString() // an orphan, if we stop here
	if err := f.Fill(beside, r); err != nil {
		return err
	}
	if _, ok := f.cat.fs.(Remote); ok {
		return f.placeAgain(w, beside)
	}
	from, err := f.cat.own(beside.Path)
	if err == nil {
		err = f.cat.fs.Rename(from, path)
	}
	if err != nil {
		_ = f.Remove(beside.Path)
		return err
	}
	return f.cat.fs.SyncDir(filepath.Dir(path))
}

// placeAgain writes a file in place of another one where none can be renamed: until it is
// written, there is none.
func (f *FileIO) placeAgain(w, beside WrittenFile) error {
	good, err := f.Open(beside.Path)
	if err != nil {
		return err
	}
	if err = f.Remove(w.Path); err == nil {
		err = f.Fill(w, good)
	}
	return errors.Join(err, good.Close(), f.Remove(beside.Path))
}

// Damaged is the error for a table that cannot be read because of one of its files. It
// concerns that table alone. It does not wrap fs.ErrNotExist where the file is missing:
// the table is there.
type Damaged struct {
	File   string // its path; or what else of the table is damaged
	Err    error  // what is wrong with it
	Remedy string // what to do; "" is to repair the file
}

// Unusable is the remedy for what cannot be repaired.
const Unusable = "delete the table, or restore it from a backup"

func (d *Damaged) Error() string {
	remedy := cmp.Or(d.Remedy, "repair it with verify --repair-from, or restore the table from a backup")
	if errors.Is(d.Err, ErrContent) {
		return fmt.Sprintf("%s: %v; %s", d.File, d.Err, remedy)
	}
	return fmt.Sprintf("%s: %v: %v; %s", d.File, ErrContent, d.Err, remedy)
}

// Is reports that the error wraps ErrContent.
func (d *Damaged) Is(target error) bool { return target == ErrContent }

// Unwrap returns the cause, unless it is that a file is missing.
func (d *Damaged) Unwrap() error {
	if errors.Is(d.Err, fs.ErrNotExist) {
		return nil
	}
	return d.Err
}

// Safely returns what f says, or panics with: the libraries do where files lie.
func Safely(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("it cannot be read: %v", p)
		}
	}()
	return f()
}

// damaged makes a Damaged of an error that is the fault of a file, and no other. What else
// can go wrong with a bucket may be right again a moment later.
func (c *Catalog) damaged(location string, err error) error {
	if errors.As(err, new(*Damaged)) {
		return err
	}
	fault := errors.As(err, new(*partd.CorruptError)) // of a bucket
	for _, is := range []error{fs.ErrNotExist, fs.ErrPermission, syscall.EIO, syscall.EISDIR, ErrContent} {
		fault = fault || errors.Is(err, is)
	}
	if fault {
		return &Damaged{File: c.Shown(location), Err: err}
	}
	return err
}

// loadInline returns a table as the database has its metadata, nil if it does not.
// The file, which may be lost, is written again for others to read.
func (c *Catalog) loadInline(ctx context.Context, namespace, name, loc string) (*table.Table, int64, error) {
	var want []byte
	err := c.reads.QueryRowContext(ctx, `SELECT metadata FROM partd_light WHERE location=?`, loc).Scan(&want)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, canceled.Explain(ctx, err)
	}
	meta, err := table.ParseMetadataBytes(want)
	if err != nil {
		return nil, 0, &Damaged{File: "its metadata in the catalog", Err: err, Remedy: Unusable}
	}
	if has, err := c.reader.ReadFile(loc); !c.readOnly && (err != nil || !bytes.Equal(has, want)) {
		io := c.NewIO()
		_ = io.Remove(loc)
		_ = errors.Join(io.WriteFile(loc, want), io.Sync()) // whoever loads it next tries again
	}
	return c.Staged(namespace, name, meta, loc, c.reader), int64(len(want)), nil
}
