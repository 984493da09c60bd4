package icecat

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"

	iceio "github.com/apache/iceberg-go/io"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/internal/base/canceled"
)

// loader loads tables from their metadata.
type loader struct {
	*database
	records *records
	lookup  *sql.Stmt            // prepared statement for Lookup; only for SQLite
	answers *answers             // results of Lookup; only for SQLite
	cache   *Cache[*table.Table] // tables by metadata location
	reader  *FileIO
}

// costOf estimates the memory of parsed metadata. Objects, strings and maps need several times the memory of their
// JSON.
func costOf(jsonLen int64) int64 { return 4*jsonLen + 1024 }

// Location returns the location of a table's metadata. It changes with each commit to the table.
func (l *loader) Location(ctx context.Context, namespace, name string) (string, error) {
	location, _, err := l.Lookup(ctx, namespace, name)
	return location, err
}

// Lookup returns a table's metadata location and the RulesProperty of its namespace.
func (l *loader) Lookup(ctx context.Context, namespace, name string) (location, rules string, err error) {
	if err := canceled.Err(ctx); err != nil {
		return "", "", err
	}
	if l.isPostgres { // the PostgreSQL client prepares statements itself
		result, err := scanAnswer(l.readPool.QueryRowContext(ctx, selectLocation, namespace, name))
		return result.location, result.rules, canceled.Explain(ctx, err)
	}
	n := TableName{namespace, name}
	result, cached, version, err := l.answers.get(n)
	if err != nil || cached {
		return result.location, result.rules, explain(ctx, err)
	}
	// Use a context that cannot be canceled: for a cancelable one, the driver would start a goroutine. The query takes
	// only microseconds.
	result, err = scanAnswer(l.lookup.QueryRowContext(context.WithoutCancel(ctx), namespace, name))
	if err != nil {
		return "", "", explain(ctx, err)
	}
	return result.location, result.rules, explain(ctx, l.answers.put(n, result, version))
}

func scanAnswer(row *sql.Row) (result answer, err error) {
	var property sql.NullString
	err = row.Scan(&result.location, &property)
	if errors.Is(err, sql.ErrNoRows) {
		err = ErrNotFound
	}
	result.rules = property.String
	return result, err
}

// Load returns a table's current state.
func (l *loader) Load(ctx context.Context, namespace, name string) (*table.Table, error) {
	for {
		location, err := l.Location(ctx, namespace, name)
		if err != nil {
			return nil, err
		}
		t, err := l.LoadAt(ctx, namespace, name, location)
		if errors.Is(err, ErrContent) {
			// The metadata may be missing only because another commit has just replaced it.
			if newest, err2 := l.Location(ctx, namespace, name); err2 != nil || newest != location {
				continue
			}
		}
		return t, err
	}
}

// LoadAt returns a table in the state that the metadata at a location describes.
func (l *loader) LoadAt(ctx context.Context, namespace, name, location string) (*table.Table, error) {
	if t, ok := l.cache.Get(location); ok {
		return t, nil
	}
	t, size, err := l.loadInline(ctx, namespace, name, location)
	if t == nil && err == nil {
		t, size, err = l.loadFile(ctx, namespace, name, location)
	}
	if err != nil {
		return nil, err
	}
	l.cache.Put(location, t, costOf(size))
	return t, nil
}

func (l *loader) loadFile(ctx context.Context, namespace, name, location string) (_ *table.Table, size int64, err error) {
	b, err := l.reader.ReadFile(location)
	if err != nil {
		return nil, 0, err
	}
	defer func() {
		if p := recover(); p != nil { // the library panics on some invalid metadata
			err = fmt.Errorf("%v", p)
		}
		if err != nil && ctx.Err() == nil {
			err = &Damaged{File: l.records.DisplayPath(location), Err: err, Remedy: RemedyUnrepairable}
		}
	}()
	openBytes := func(context.Context) (iceio.IO, error) { return memoryFile{l.reader, b}, nil }
	t, err := table.NewFromLocation(ctx, table.Identifier{namespace, name}, location, openBytes, nil)
	if err != nil {
		return nil, 0, err
	}
	return l.Staged(namespace, name, t.Metadata(), location, l.reader), int64(len(b)), nil
}

// memoryFile is a FileIO that returns content for every ReadFile.
type memoryFile struct {
	*FileIO
	content []byte
}

func (h memoryFile) ReadFile(string) ([]byte, error) { return h.content, nil }

// Staged returns a table that has the given metadata and writes its files through fileIO. Only Catalog.Commit can
// commit its changes.
func (*loader) Staged(namespace, name string, meta table.Metadata, location string, fileIO *FileIO) *table.Table {
	return table.New(table.Identifier{namespace, name}, meta, location, func(context.Context) (iceio.IO, error) { return fileIO, nil }, nil)
}

// RestoreMetadataFile recreates a lost metadata file from the copy in the database, if there is one.
func (l *loader) RestoreMetadataFile(ctx context.Context, location string) error {
	_, _, err := l.loadInline(ctx, "", "", location)
	return err
}

// loadInline returns a table whose metadata is in the database, or nil if it is not. If the metadata file is lost,
// loadInline writes it again, because other engines read it.
func (l *loader) loadInline(ctx context.Context, namespace, name, location string) (*table.Table, int64, error) {
	var recorded []byte
	err := l.readPool.QueryRowContext(ctx, `SELECT metadata FROM partd_light WHERE location=?`, location).Scan(&recorded)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, explain(ctx, err)
	}
	meta, err := table.ParseMetadataBytes(recorded)
	if err != nil {
		return nil, 0, &Damaged{File: "the table's metadata in the catalog", Err: err, Remedy: RemedyUnrepairable}
	}
	if stored, err := l.reader.ReadFile(location); !l.readOnly && (err != nil || !bytes.Equal(stored, recorded)) {
		fileIO := l.records.NewIO()
		_ = fileIO.Remove(location)                                          // the file may not exist
		_ = errors.Join(fileIO.WriteFile(location, recorded), fileIO.Sync()) // if this fails, the next load tries again
	}
	return l.Staged(namespace, name, meta, location, l.reader), int64(len(recorded)), nil
}

// MetadataSize returns the size of a table's metadata as JSON, in bytes. It does not read the metadata itself.
func (l *loader) MetadataSize(ctx context.Context, namespace, name string) (int64, error) {
	location, err := l.Location(ctx, namespace, name)
	if err != nil {
		return 0, err
	}
	written, isRecorded, err := l.records.FileAt(ctx, location)
	if err != nil || isRecorded {
		return written.Size, err
	}
	size, err := l.records.Size(location)
	return size, l.records.damaged(location, err)
}
