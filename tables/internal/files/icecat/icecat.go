// Package icecat implements an Iceberg catalog on SQLite or PostgreSQL and manages the files of its tables. In a
// directory, the catalog is catalog.db and data/<table>/{data,metadata}/. The files can also be in a bucket. The
// database has the tables of pyiceberg's SqlCatalog, and tables of our own that change in the same transactions.
// Several processes can use a catalog concurrently. If a table's metadata has changed since a change was staged, the
// commit fails with [ErrConflict].
package icecat

import (
	"cmp"
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/apache/iceberg-go/table"
	"github.com/google/uuid"
	_ "modernc.org/sqlite" // the database's driver

	"github.com/go-partd/partd/internal/base/storeerror"
	"github.com/go-partd/partd/internal/disk/vfs"
)

// Options configures Open.
type Options struct {
	FS         vfs.FS       // file system for all files except the database; a Remote if Root is set
	Root       string       // location of the files for other engines, such as s3://bucket/prefix; "" means the directory
	Database   string       // URL of a PostgreSQL database; "" means catalog.db in the directory
	ReadOnly   bool         // reject changes; the catalog then writes only copies of catalog.db, into CopyDir
	CopyDir    string       // directory with a copy of catalog.db to use instead of the original; "" means none
	CopyAgain  func() error // copies again if the copy looks damaged: another process may have written to the original in the meantime
	CacheBytes int64        // memory limit, in bytes, for parsed metadata
	Logger     *slog.Logger
	Rebuild    bool // replace the damaged files of an SQLite database

	// Committing is called before (done is false) and after (done is true) each transaction that changes the database.
	// Tests use it to simulate a power failure.
	Committing func(done bool)
}

// Catalog is an open catalog. Its embedded types manage the parts of the catalog; its own methods commit changes that
// affect several parts. It is safe for concurrent use.
type Catalog struct {
	id string
	*database
	*warehouse
	*records
	*loader
	*listings
	namespaces
	puts
	snapshots
	sweeper
}

// checkExists returns an error if there are table files, but no SQLite database.
func (c *Catalog) checkExists(ctx context.Context, o Options) error {
	path := filepath.Join(c.sealer.dir, "catalog.db")
	if i, err := os.Stat(path); o.Database != "" || o.Rebuild || err == nil && i.Size() > 0 { // an interrupted rebuild can leave an empty file
		return nil
	}
	hasFiles, err := c.hasFiles(ctx)
	if err != nil || !hasFiles {
		return err
	}
	return &Damaged{File: path, Err: fs.ErrNotExist, Remedy: remedyRebuild + "; if the catalog is elsewhere, give its directory, or PostgreSQL's URL"}
}

// hasFiles reports whether there are table files.
func (c *Catalog) hasFiles(ctx context.Context) (bool, error) {
	if r, ok := c.fs.(Remote); ok {
		return r.HasFiles(ctx)
	}
	data, err := c.fs.ReadDir(filepath.Join(c.warehouse.dir, "data"))
	if err != nil {
		return false, ignoreMissing(err)
	}
	defer data.Close() //nolint:errcheck // opened only for reading
	_, err = data.Next(1)
	return err == nil, nil
}

func newCatalog(d *database, w *warehouse, cacheBytes int64) *Catalog {
	r := &records{
		database: d, warehouse: w, maxPage: cacheBytes,
		footers: newCache[*Footer](cacheBytes / 4), small: newCache[bool](cacheBytes / 64),
		tallies: newCache[Tally](cacheBytes / 16), vetted: newCache[[]byte](cacheBytes / 16),
	}
	l := &loader{database: d, records: r, cache: newCache[*table.Table](cacheBytes), reader: r.NewIO()}
	ls := &listings{database: d, loader: l}
	return &Catalog{
		database: d, warehouse: w, records: r, loader: l, listings: ls, namespaces: namespaces{d}, puts: puts{d},
		snapshots: snapshots{d, ls}, sweeper: sweeper{database: d, warehouse: w, listings: ls, loader: l},
	}
}

// Open opens the catalog in a directory and creates a missing catalog.
func Open(ctx context.Context, dir string, o Options) (_ *Catalog, err error) {
	dir, err = filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	o.Logger = cmp.Or(o.Logger, slog.New(slog.DiscardHandler))
	c := newCatalog(
		&database{committing: o.Committing, readOnly: o.ReadOnly, sealer: sealer{dir: dir, log: o.Logger}},
		&warehouse{dir: dir, root: o.Root, fs: o.FS, readOnly: o.ReadOnly}, o.CacheBytes)
	if c.committing == nil {
		c.committing = func(bool) {}
	}
	remote, _ := c.fs.(Remote)
	if !o.ReadOnly {
		if err := c.checkExists(ctx, o); err != nil {
			return nil, err
		}
	}
	if o.Root != "" {
		c.dir = ""
		remote.Expect(c.recorded)
	} else if !o.ReadOnly {
		for _, d := range []string{dir, filepath.Join(dir, "data")} {
			if err := c.fs.MkdirAll(d, 0o777); err != nil {
				return nil, err
			}
		}
	}
	insp := inspection{}
	if o.Database != "" {
		c.isPostgres = true
		c.writePool, c.readPool, err = OpenPostgres(o.Database, o.ReadOnly)
	} else {
		insp, err = c.openFiles(o)
		if err == nil {
			c.writePool, c.readPool, c.answers, err = openSQLite(cmp.Or(o.CopyDir, dir))
		}
	}
	if err != nil && c.files != nil {
		err = errors.Join(err, c.files.close())
	}
	if err != nil {
		return nil, err
	}
	c.writePool.SetMaxOpenConns(1)
	c.readPool.SetMaxOpenConns(4)
	c.readPool.SetMaxIdleConns(4)
	err = c.prepare(ctx)
	if err == nil {
		err = c.startSealing(ctx, insp)
	}
	if err == nil && c.isRebuilding {
		err = c.rebuild(ctx)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open the catalog: %w", err), c.Close())
	}
	if o.Root != "" || o.ReadOnly {
		return c, nil
	}
	return c, c.fs.SyncDir(dir)
}

// prepare creates the database's tables if they do not exist. Several processes can call it concurrently.
func (c *Catalog) prepare(ctx context.Context) (err error) {
	defer func() { err = explain(ctx, err) }()
	db, isReader := c.writePool, c.database.readOnly && c.isPostgres
	if isReader {
		db = c.readPool // a transaction on the connection for writing would block other processes
	}
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() //nolint:errcheck // does nothing after a Commit
	missing := slices.Concat(schema, sqliteTriggers)
	if c.isPostgres {
		missing, err = postgresSchema(ctx, tx)
		if err != nil {
			return err
		}
	}
	if isReader && len(missing) > 0 {
		return fmt.Errorf("the catalog contains no tables: %w", fs.ErrNotExist)
	}
	t := &transaction{ctx: ctx, tx: tx}
	for _, q := range missing {
		t.exec(q)
	}
	location := cmp.Or(c.root, c.dir)
	lacksTables := c.isPostgres && len(missing) > 0 // another process may have created them since
	if lacksTables && len(t.queryStrings(`SELECT value FROM partd_info WHERE key='id'`)) == 0 && t.err == nil {
		var hasFiles bool
		hasFiles, t.err = c.hasFiles(ctx)
		if hasFiles {
			return fmt.Errorf("%s: %w: it has files of tables, but the catalog is new: give the database that belongs to them, or restore a backup of it", location, ErrContent)
		}
	}
	for key, value := range map[string]string{"format": "2", "made-in": location, "id": uuid.NewString()} {
		if isReader {
			break
		}
		t.exec(`INSERT INTO partd_info VALUES (?,?) ON CONFLICT DO NOTHING`, key, value)
	}
	var format string
	for key, value := range map[string]*string{"format": &format, "made-in": &c.originalDir, "id": &c.id} {
		*value = strings.Join(t.queryStrings(`SELECT value FROM partd_info WHERE key=?`, key), "")
	}
	if t.err != nil {
		return t.err
	}
	if (c.root != "" || c.isPostgres) && c.originalDir != location {
		return fmt.Errorf("the database belongs to the warehouse %s, not to %s: use a separate database, "+
			"or a separate schema with search_path, for each warehouse", c.originalDir, location)
	}
	if format != "2" {
		return fmt.Errorf("the catalog's format is %q, but this version supports only format 2: use a newer version", format)
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	if c.isPostgres {
		return nil
	}
	c.lookup, err = c.readPool.PrepareContext(ctx, selectLocation)
	if err != nil {
		return err
	}
	return c.answers.open()
}

// Close closes the database.
func (c *Catalog) Close() error {
	var err error
	if c.answers != nil {
		err = c.answers.close()
	}
	return errors.Join(err, c.closeDatabase()) // Closing the connections also closes lookup.
}

// ID returns the warehouse's ID, which never changes.
func (c *Catalog) ID() string { return c.id }

// Unopened returns a catalog for a store that was not opened. Its database operations fail with
// storeerror.ErrNotOpened.
var Unopened = sync.OnceValue(func() *Catalog {
	db := sql.OpenDB(unopened{})
	d := &database{writePool: db, readPool: db, isPostgres: true, committing: func(bool) {}, sealer: sealer{damage: storeerror.ErrNotOpened}}
	return newCatalog(d, &warehouse{fs: vfs.OS{}}, 0)
})

type unopened struct{}

func (unopened) Connect(context.Context) (driver.Conn, error) { return nil, storeerror.ErrNotOpened }

func (unopened) Open(string) (driver.Conn, error) { return nil, storeerror.ErrNotOpened }
func (unopened) Driver() driver.Driver            { return unopened{} }
