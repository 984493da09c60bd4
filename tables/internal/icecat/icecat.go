// Package icecat is an Iceberg catalog on SQLite or PostgreSQL, and the files of its
// tables: in a directory catalog.db, and data/<table>/{data,metadata}/, which may
// be in a bucket instead. Its tables are those of pyiceberg's SqlCatalog, and a
// few of its own that are kept by the same transactions. Several processes may use
// it at once: the database decides who comes first, and whoever staged a change on metadata that is no longer the
// newest gets [ErrConflict].
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

	"github.com/apache/arrow-go/v18/parquet/metadata"
	"github.com/apache/iceberg-go/table"
	"github.com/google/uuid"
	_ "modernc.org/sqlite" // the database's driver

	"github.com/go-partd/partd/internal/canceled"
	"github.com/go-partd/partd/internal/storeerror"
	"github.com/go-partd/partd/internal/vfs"
)

var (
	// ErrConflict says that a table changed after the change of it was staged.
	// Nothing was committed.
	ErrConflict = fmt.Errorf("the table was changed meanwhile: %w", table.ErrCommitFailed)

	// ErrNotFound says that there is no such table.
	ErrNotFound = fmt.Errorf("no such table (%w)", fs.ErrNotExist)

	// ErrReadOnly is the error of what would change a catalog that is open for reading only.
	ErrReadOnly = errors.New("the tables are open for reading only")
)

// Options of a catalog.
type Options struct {
	FS         vfs.FS // where the files are, the database apart; a Remote if there is a Root
	Root       string // where others find the files, as s3://bucket/prefix; "" is the directory
	Database   string // the URL of a PostgreSQL database; "" is catalog.db in the directory
	ReadOnly   bool   // nothing is changed, but for the copy of catalog.db
	CopyDir    string // where that is, in the place of the directory's
	CacheBytes int64  // for metadata
	NoSync     bool   // for tests only: nothing is synced

	// Committing is called before and after each transaction that changes the
	// database; tests lose power there.
	Committing func(done bool)
}

// Catalog is an open catalog. It is safe for concurrent use.
type Catalog struct {
	dir    string // where FS has the files
	root   string // Options.Root
	madeIn string // the directory that the locations in it begin with
	id     string // of the warehouse
	fs     vfs.FS
	noSync bool
	around func(done bool)

	postgres, readOnly bool

	writes *sql.DB // one connection
	reads  *sql.DB
	lookup *sql.Stmt // as answers, of SQLite only
	known  *answers
	cache  *Cache[*table.Table]
	ends   *Cache[*metadata.FileMetaData]
	reader *FileIO
}

// Open opens the catalog in a directory, and makes it where it is missing.
func Open(ctx context.Context, dir string, o Options) (_ *Catalog, err error) {
	dir, err = filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	c := &Catalog{
		dir: dir, root: o.Root, fs: o.FS, noSync: o.NoSync, around: o.Committing, readOnly: o.ReadOnly,
		cache: newCache[*table.Table](o.CacheBytes), ends: newCache[*metadata.FileMetaData](o.CacheBytes / 4),
	}
	if c.around == nil {
		c.around = func(bool) {}
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
		c.writes, c.reads, c.known, err = openSQLite(cmp.Or(o.CopyDir, dir), c.noSync)
	}
	if err != nil {
		return nil, err
	}
	c.writes.SetMaxOpenConns(1)
	c.reads.SetMaxOpenConns(4)
	c.reads.SetMaxIdleConns(4)
	if err := c.prepare(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("the catalog: %w", err), c.Close())
	}
	if o.Root != "" || o.ReadOnly {
		return c, nil
	}
	return c, c.fs.SyncDir(dir)
}

func openSQLite(dir string, noSync bool) (writes, reads *sql.DB, known *answers, err error) {
	if err := os.MkdirAll(dir, 0o777); err != nil { // SQLite is on the real file system always
		return nil, nil, nil, err
	}
	synchronous := "FULL"
	if noSync {
		synchronous = "OFF"
	}
	file := url.URL{Scheme: "file", Path: filepath.Join(dir, "catalog.db")}
	dsn := file.String() + "?_pragma=busy_timeout(60000)&_pragma=journal_mode(WAL)&_pragma=synchronous(" + synchronous + ")"
	// Of 10,000 tables a snapshot changes 900 pages: they stay in memory until the commit,
	// and each such change does not have to wait for a checkpoint.
	if writes, err = sql.Open("sqlite", dsn+"&_txlock=immediate&_pragma=cache_size(-16384)&_pragma=wal_autocheckpoint(4000)"); err != nil {
		return nil, nil, nil, err
	}
	if reads, err = sql.Open("sqlite", dsn); err != nil {
		return nil, nil, nil, errors.Join(err, writes.Close())
	}
	return writes, reads, &answers{driver: reads.Driver(), dsn: dsn}, nil
}

// prepare makes the database's tables. Two processes may do so at once.
func (c *Catalog) prepare(ctx context.Context) (err error) {
	defer func() { err = canceled.Explain(ctx, err) }()
	db, borrowed := c.writes, c.readOnly && c.postgres
	if borrowed {
		db = c.reads // who writes keeps others out
	}
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() //nolint:errcheck // after a Commit it says that there is nothing to do
	missing := append(slices.Clone(schema), sqliteTriggers...)
	if c.postgres {
		if missing, err = postgresSchema(ctx, tx); err != nil {
			return err
		}
	}
	if borrowed && len(missing) > 0 {
		return fmt.Errorf("there are no tables: %w", fs.ErrNotExist)
	}
	w := &work{ctx, tx, nil}
	for _, q := range missing {
		w.do(q)
	}
	in := cmp.Or(c.root, c.dir)
	for key, value := range map[string]string{"format": "2", "made-in": in, "id": uuid.NewString()} {
		if borrowed {
			break
		}
		w.do(`INSERT INTO partd_info VALUES (?,?) ON CONFLICT DO NOTHING`, key, value)
	}
	var format string
	for key, to := range map[string]*string{"format": &format, "made-in": &c.madeIn, "id": &c.id} {
		*to = strings.Join(w.strings(`SELECT value FROM partd_info WHERE key=?`, key), "")
	}
	if w.err != nil {
		return w.err
	}
	if (c.root != "" || c.postgres) && c.madeIn != in {
		return fmt.Errorf("it is that of the tables in %s, not of those in %s: give each warehouse a database of its own, or a schema by search_path", c.madeIn, in)
	}
	if format != "2" {
		return fmt.Errorf("it has format %q, this version knows 2: use a newer one", format)
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
	return c.known.open()
}

// Close closes the database.
func (c *Catalog) Close() error {
	var err error
	if c.known != nil {
		err = c.known.close()
	}
	return errors.Join(err, c.reads.Close(), c.writes.Close()) // the statement goes with its connections
}

// ID is the warehouse's own, made with it.
func (c *Catalog) ID() string { return c.id }

// NewIO returns a view of the files that remembers what is written through it.
func (c *Catalog) NewIO() *FileIO {
	f := &FileIO{cat: c, noSync: c.noSync, dirs: map[string]bool{}}
	f.syncs.SetLimit(mostSyncs)
	return f
}

// mostSyncs is how many files and directories of a commit are synced side by side.
const mostSyncs = 8

// Unopened returns the catalog of a store that was not opened: what is asked of its
// database is an error that says so.
var Unopened = sync.OnceValue(func() *Catalog {
	none := sql.OpenDB(unopened{})
	c := &Catalog{fs: vfs.OS{}, writes: none, reads: none, postgres: true, around: func(bool) {}}
	c.reader = c.NewIO()
	return c
})

type unopened struct{}

func (unopened) Connect(context.Context) (driver.Conn, error) { return nil, storeerror.ErrNotOpened }

func (unopened) Open(string) (driver.Conn, error) { return nil, storeerror.ErrNotOpened }
func (unopened) Driver() driver.Driver            { return unopened{} }

// OpenPostgres returns a database of PostgreSQL for whoever writes, and for whoever reads.
// One for reading only changes nothing. Package tables/postgres sets it: who does not import that has no client for it.
var OpenPostgres = func(url string, readOnly bool) (writes, reads *sql.DB, err error) {
	return nil, nil, errors.New(`this program has no client for PostgreSQL: add import _ "github.com/go-partd/partd/tables/postgres" to it`)
}
