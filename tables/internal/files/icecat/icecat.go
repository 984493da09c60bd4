// Package icecat implements an Iceberg catalog on SQLite or PostgreSQL, and manages the files of its tables. In a directory, the catalog is
// catalog.db and data/<table>/{data,metadata}/. The files can also be in a bucket. The database has the tables of pyiceberg's SqlCatalog,
// and tables of our own that change in the same transactions. Several processes can use a catalog concurrently. If the metadata changed
// after a change was staged, the change's commit fails with [ErrConflict].
package icecat

import (
	"cmp"
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/apache/iceberg-go/table"
	"github.com/google/uuid"
	_ "modernc.org/sqlite" // the database's driver

	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/internal/base/storeerror"
	"github.com/go-partd/partd/internal/disk/vfs"
)

var (
	// ErrConflict means that another commit changed the table after the change was staged. Nothing was committed.
	ErrConflict = fmt.Errorf("another commit changed the table first: %w", table.ErrCommitFailed)

	// ErrNotFound means that the table does not exist.
	ErrNotFound = fmt.Errorf("table not found (%w)", fs.ErrNotExist)

	// ErrReadOnly is the error for a change to a catalog that is open only for reading.
	ErrReadOnly = errors.New("the tables are open only for reading")
)

// Options configures Open.
type Options struct {
	FS         vfs.FS // file system for all files except the database; a Remote if Root is set
	Root       string // location of the files for other engines, such as s3://bucket/prefix; "" means the directory
	Database   string // URL of a PostgreSQL database; "" means catalog.db in the directory
	ReadOnly   bool   // reject changes; the catalog then writes only copies of catalog.db, into CopyDir
	CopyDir    string // if not "", directory with a copy of catalog.db that is used instead of the original
	CacheBytes int64  // memory limit, in bytes, for parsed metadata

	// Committing is called before (done is false) and after (done is true) each transaction that changes the database. Tests
	// use it to simulate a power failure.
	Committing func(done bool)
}

// Catalog is an open catalog. It is safe for concurrent use.
type Catalog struct {
	dir         string // directory of the tables' files in fs
	root        string // Options.Root
	originalDir string // directory where the warehouse was created; recorded locations begin with it
	id          string
	fs          vfs.FS
	maxPage     int64
	committing  func(done bool)

	postgres, readOnly bool

	writes  *sql.DB // pool with a single connection
	reads   *sql.DB
	lookup  *sql.Stmt            // prepared statement for Lookup; only for SQLite
	answers *answers             // results of Lookup; only for SQLite
	cache   *Cache[*table.Table] // tables, by metadata location
	footers *Cache[*Footer]      // parsed Parquet footers
	small   *Cache[bool]         // see FileIO.Small
	tallies *Cache[Tally]        // tallies of the manifests that FileIO.vet has checked, by location
	// vetted contains the normalized content of each manifest that FileIO.vet has checked, by location and hash. It contains nil
	// for a manifest that was already normalized, and for a manifest list.
	vetted *Cache[[]byte]
	reader *FileIO
}

// Open opens the catalog in a directory, and creates it if it does not exist.
func Open(ctx context.Context, dir string, o Options) (_ *Catalog, err error) {
	dir, err = filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	c := &Catalog{
		dir: dir, root: o.Root, fs: o.FS, committing: o.Committing, readOnly: o.ReadOnly, maxPage: o.CacheBytes,
		cache: newCache[*table.Table](o.CacheBytes), footers: newCache[*Footer](o.CacheBytes / 4),
		small: newCache[bool](o.CacheBytes / 64), tallies: newCache[Tally](o.CacheBytes / 16), vetted: newCache[[]byte](o.CacheBytes / 16),
	}
	if c.committing == nil {
		c.committing = func(bool) {}
	}
	c.reader = c.NewIO()
	remote, _ := c.fs.(Remote)
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
	if o.Database != "" {
		c.postgres = true
		c.writes, c.reads, err = OpenPostgres(o.Database, o.ReadOnly)
	} else {
		c.writes, c.reads, c.answers, err = openSQLite(cmp.Or(o.CopyDir, dir))
	}
	if err != nil {
		return nil, err
	}
	c.writes.SetMaxOpenConns(1)
	c.reads.SetMaxOpenConns(4)
	c.reads.SetMaxIdleConns(4)
	if err := c.prepare(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("open the catalog: %w", err), c.Close())
	}
	if o.Root != "" || o.ReadOnly {
		return c, nil
	}
	return c, c.fs.SyncDir(dir)
}

// openSQLite opens the database in a directory. It returns a pool with one connection for writing, and a pool for reading.
func openSQLite(dir string) (writes, reads *sql.DB, lookupCache *answers, err error) {
	if err := os.MkdirAll(dir, 0o777); err != nil { // Use package os, because SQLite always uses the real file system.
		return nil, nil, nil, err
	}
	file := url.URL{Scheme: "file", Path: filepath.Join(dir, "catalog.db")}
	dsn := file.String() + "?_pragma=busy_timeout(60000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)"
	// A snapshot of 10,000 tables changes 900 pages. These settings keep the pages in memory until the commit, which
	// then need not wait for checkpoints.
	if writes, err = sql.Open("sqlite", dsn+"&_txlock=immediate&_pragma=cache_size(-16384)&_pragma=wal_autocheckpoint(4000)"); err != nil {
		return nil, nil, nil, err
	}
	if reads, err = sql.Open("sqlite", dsn); err != nil {
		return nil, nil, nil, errors.Join(err, writes.Close())
	}
	return writes, reads, &answers{driver: reads.Driver(), dsn: dsn}, nil
}

// prepare creates the database's tables if they do not exist. Several processes can call it concurrently.
func (c *Catalog) prepare(ctx context.Context) (err error) {
	defer func() { err = canceled.Explain(ctx, err) }()
	db, isReader := c.writes, c.readOnly && c.postgres
	if isReader {
		db = c.reads // A transaction on the connection for writing would block other processes.
	}
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() //nolint:errcheck // does nothing after a Commit
	missing := append(slices.Clone(schema), sqliteTriggers...)
	if c.postgres {
		if missing, err = postgresSchema(ctx, tx); err != nil {
			return err
		}
	}
	if isReader && len(missing) > 0 {
		return fmt.Errorf("the catalog contains no tables: %w", fs.ErrNotExist)
	}
	w := &transaction{ctx, tx, nil}
	for _, q := range missing {
		w.exec(q)
	}
	location := cmp.Or(c.root, c.dir)
	for key, value := range map[string]string{"format": "2", "made-in": location, "id": uuid.NewString()} {
		if isReader {
			break
		}
		w.exec(`INSERT INTO partd_info VALUES (?,?) ON CONFLICT DO NOTHING`, key, value)
	}
	var format string
	for key, value := range map[string]*string{"format": &format, "made-in": &c.originalDir, "id": &c.id} {
		*value = strings.Join(w.strings(`SELECT value FROM partd_info WHERE key=?`, key), "")
	}
	if w.err != nil {
		return w.err
	}
	if (c.root != "" || c.postgres) && c.originalDir != location {
		return fmt.Errorf("the database belongs to the warehouse %s, not to %s: use a separate database, or a separate schema with search_path, for each warehouse", c.originalDir, location)
	}
	if format != "2" {
		return fmt.Errorf("the catalog's format is %q, but this version supports only format 2: use a newer version", format)
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	if c.postgres {
		return nil
	}
	if c.lookup, err = c.reads.PrepareContext(ctx, selectLocation); err != nil {
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
	return errors.Join(err, c.reads.Close(), c.writes.Close()) // Closing the connections also closes lookup.
}

// ID returns the warehouse's ID, which never changes.
func (c *Catalog) ID() string { return c.id }

// NewIO returns a FileIO for one reader or writer.
func (c *Catalog) NewIO() *FileIO {
	f := &FileIO{cat: c, dirs: map[string]bool{}}
	f.syncs.SetLimit(maxSyncs)
	return f
}

// NewCheckIO returns a FileIO that does not check manifests and manifest lists, because its caller checks them.
func (c *Catalog) NewCheckIO() *FileIO {
	f := c.NewIO()
	f.skipVet = true
	return f
}

// maxSyncs limits the number of concurrent syncs in a commit.
const maxSyncs = 8

// Unopened returns a catalog for a store that was not opened. Its database operations fail with storeerror.ErrNotOpened.
var Unopened = sync.OnceValue(func() *Catalog {
	db := sql.OpenDB(unopened{})
	c := &Catalog{fs: vfs.OS{}, writes: db, reads: db, postgres: true, committing: func(bool) {}}
	c.reader = c.NewIO()
	return c
})

type unopened struct{}

func (unopened) Connect(context.Context) (driver.Conn, error) { return nil, storeerror.ErrNotOpened }

func (unopened) Open(string) (driver.Conn, error) { return nil, storeerror.ErrNotOpened }
func (unopened) Driver() driver.Driver            { return unopened{} }

// OpenPostgres opens a PostgreSQL database, with one connection pool for writing and one for reading. If readOnly is
// true, both reject changes. Package tables/postgres sets this variable, so programs that do not import that package do
// not link the client.
var OpenPostgres = func(url string, readOnly bool) (writes, reads *sql.DB, err error) {
	return nil, nil, errors.New(`this program contains no PostgreSQL client: add import _ "github.com/go-partd/partd/tables/postgres"`)
}
