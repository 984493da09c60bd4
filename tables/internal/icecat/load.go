package icecat

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"sync"

	iceio "github.com/apache/iceberg-go/io"
	"github.com/apache/iceberg-go/table"
	"modernc.org/sqlite"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/canceled"
)

// Cache caches the contents of immutable files, such as tables by metadata location, within a
// budget of bytes. It evicts arbitrary entries. It is safe for concurrent use.
type Cache[T any] struct {
	budget int64

	mu   sync.Mutex
	used int64
	by   map[string]cached[T]
}

type cached[T any] struct {
	value T
	cost  int64
}

func newCache[T any](budget int64) *Cache[T] {
	return &Cache[T]{budget: budget, by: map[string]cached[T]{}}
}

// costOf estimates the memory of parsed metadata from the length of its JSON: objects, strings and
// maps need several times the memory of their text.
func costOf(jsonLen int64) int64 { return 4*jsonLen + 1024 }

// Get returns the value for a key.
func (c *Cache[T]) Get(key string) (T, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	found, ok := c.by[key]
	return found.value, ok
}

// Put adds a value. cost is its approximate size in bytes.
func (c *Cache[T]) Put(key string, value T, cost int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.remove(key)
	for other := range c.by {
		if c.used+cost <= c.budget {
			break
		}
		c.remove(other)
	}
	c.by[key] = cached[T]{value, cost}
	c.used += cost
}

func (c *Cache[T]) drop(key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.remove(key)
}

func (c *Cache[T]) remove(key string) {
	c.used -= c.by[key].cost
	delete(c.by, key)
}

// maxAnswers limits the bytes that Lookup remembers, enough for 16,000 tables. Each answer has its
// own copy of the namespace's rules, so the rules count for each table.
const maxAnswers = 8 << 20

// answer is what Lookup returns for a table.
type answer struct{ loc, rules string }

// answers remembers the answers of Lookup from SQLite until any connection, in this process or
// another, commits something. On a separate connection, it asks SQLite for the version of the
// database each time. This is far cheaper than a query.
type answers struct {
	driver driver.Driver
	dsn    string

	mu      sync.Mutex
	conn    driver.Conn
	ask     driver.Stmt
	version uint32
	known   map[TableName]answer
	bytes   int // approximate size of the known answers
}

// open opens the connection.
func (a *answers) open() (err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.conn, err = a.driver.Open(a.dsn); err != nil {
		return err
	}
	a.known = map[TableName]answer{}
	// It starts a read, because SQLite notices others' commits only then.
	a.ask, err = a.conn.Prepare(`PRAGMA data_version`)
	return err
}

// refresh forgets outdated answers, and returns the version of the database; mu must be held.
func (a *answers) refresh() (uint32, error) {
	if a.ask == nil {
		return 0, partd.ErrClosed
	}
	// With a context that can end, the driver would start a goroutine.
	if _, err := a.ask.(driver.StmtExecContext).ExecContext(context.Background(), nil); err != nil {
		return 0, err
	}
	version, err := a.conn.(sqlite.FileControl).FileControlDataVersion("main")
	if err == nil && version != a.version {
		a.forget()
		a.version = version
	}
	return version, err
}

// get returns the answer for a table if it is known, and the version of the database.
func (a *answers) get(n TableName) (is answer, known bool, version uint32, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	version, err = a.refresh()
	is, known = a.known[n]
	return is, known && err == nil, version, err
}

// put remembers an answer, unless the database has changed since get returned version.
func (a *answers) put(n TableName, is answer, version uint32) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	now, err := a.refresh()
	if err != nil || now != version {
		return err
	}
	const each = 256 // in addition to its texts
	size := each + len(n.Namespace) + len(n.Name) + len(is.loc) + len(is.rules)
	if a.bytes+size > maxAnswers {
		a.forget()
	}
	a.known[n] = is
	a.bytes += size
	return nil
}

func (a *answers) forget() {
	clear(a.known)
	a.bytes = 0
}

func (a *answers) close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	var err error
	if a.ask != nil {
		err = a.ask.Close()
	}
	if a.conn != nil {
		err = errors.Join(err, a.conn.Close())
	}
	a.ask, a.conn = nil, nil
	return err
}

// Location returns the location of a table's metadata. It changes with each commit to the table.
func (c *Catalog) Location(ctx context.Context, namespace, name string) (string, error) {
	loc, _, err := c.Lookup(ctx, namespace, name)
	return loc, err
}

// Lookup returns a table's metadata location, and the namespace's RulesProperty.
func (c *Catalog) Lookup(ctx context.Context, namespace, name string) (loc, rules string, err error) {
	if err := canceled.Err(ctx); err != nil {
		return "", "", err
	}
	if c.postgres { // its client prepares statements itself
		found, err := scanAnswer(c.reads.QueryRowContext(ctx, selectLocation, namespace, name))
		return found.loc, found.rules, canceled.Explain(ctx, err)
	}
	n := TableName{namespace, name}
	found, known, version, err := c.answers.get(n)
	if err != nil || known {
		return found.loc, found.rules, err
	}
	// With a context that can end, the driver would start a goroutine. The query takes
	// microseconds.
	if found, err = scanAnswer(c.lookup.QueryRowContext(context.WithoutCancel(ctx), namespace, name)); err != nil {
		return "", "", err
	}
	return found.loc, found.rules, c.answers.put(n, found, version)
}

func scanAnswer(row *sql.Row) (found answer, err error) {
	var property sql.NullString
	err = row.Scan(&found.loc, &property)
	if errors.Is(err, sql.ErrNoRows) {
		err = ErrNotFound
	}
	found.rules = property.String
	return found, err
}

// Load returns the current state of a table.
func (c *Catalog) Load(ctx context.Context, namespace, name string) (*table.Table, error) {
	for {
		loc, err := c.Location(ctx, namespace, name)
		if err != nil {
			return nil, err
		}
		t, err := c.LoadAt(ctx, namespace, name, loc)
		if errors.Is(err, ErrContent) {
			// Another commit may have removed the old metadata in between.
			if now, again := c.Location(ctx, namespace, name); again != nil || now != loc {
				continue
			}
		}
		return t, err
	}
}

// LoadAt returns a table with the metadata at a location.
func (c *Catalog) LoadAt(ctx context.Context, namespace, name, loc string) (*table.Table, error) {
	if t, ok := c.cache.Get(loc); ok {
		return t, nil
	}
	t, size, err := c.loadInline(ctx, namespace, name, loc)
	if t == nil && err == nil {
		t, size, err = c.loadFile(ctx, namespace, name, loc)
	}
	if err != nil {
		return nil, err
	}
	c.cache.Put(loc, t, costOf(size))
	return t, nil
}

// loadFile returns a table with the metadata in a file.
func (c *Catalog) loadFile(ctx context.Context, namespace, name, loc string) (_ *table.Table, size int64, err error) {
	b, err := c.reader.ReadFile(loc)
	if err != nil {
		return nil, 0, err
	}
	defer func() {
		if p := recover(); p != nil { // the library panics on some invalid metadata
			err = fmt.Errorf("%v", p)
		}
		if err != nil && ctx.Err() == nil {
			err = &Damaged{File: c.DisplayPath(loc), Err: err, Remedy: Unusable}
		}
	}()
	openHeld := func(context.Context) (iceio.IO, error) { return memoryFile{c.reader, b}, nil }
	t, err := table.NewFromLocation(ctx, table.Identifier{namespace, name}, loc, openHeld, nil)
	if err != nil {
		return nil, 0, err
	}
	return c.Staged(namespace, name, t.Metadata(), loc, c.reader), int64(len(b)), nil
}

// memoryFile is a FileIO whose ReadFile returns content from memory.
type memoryFile struct {
	*FileIO
	content []byte
}

func (h memoryFile) ReadFile(string) ([]byte, error) { return h.content, nil }

// Staged returns a table with the given metadata whose files are written through io. Its
// transactions can be staged, but only Commit commits them.
func (c *Catalog) Staged(namespace, name string, meta table.Metadata, loc string, io *FileIO) *table.Table {
	return table.New(table.Identifier{namespace, name}, meta, loc, func(context.Context) (iceio.IO, error) { return io, nil }, nil)
}
