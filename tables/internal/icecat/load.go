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

// Cache holds what was read of files that never change, such as tables by the location of
// their metadata, within a budget of bytes. What goes is left to chance. It is safe for
// concurrent use.
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

// costOf estimates the memory that metadata takes from the length of its JSON:
// objects, strings and maps take several times as much as their text.
func costOf(jsonLen int64) int64 { return 4*jsonLen + 1024 }

// Get returns what Put was given.
func (c *Cache[T]) Get(key string) (T, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	found, ok := c.by[key]
	return found.value, ok
}

// Put adds a value that takes about so many bytes.
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

// mostAnswers is how many bytes Lookup remembers about, those of 16,000 tables. The rules of
// a namespace count with each of its tables: each answer has its own copy.
const mostAnswers = 8 << 20

// answer is what Lookup returns of a table.
type answer struct{ loc, rules string }

// answers remembers what Lookup found in SQLite until anybody commits something, in this
// process or another. A connection of its own, on which nothing is written, asks SQLite
// for the version of the database each time: that is cheaper than a query by far.
type answers struct {
	driver driver.Driver
	dsn    string

	mu      sync.Mutex
	conn    driver.Conn
	ask     driver.Stmt
	version uint32
	known   map[TableName]answer
	bytes   int // of those known, about
}

// open opens the connection.
func (a *answers) open() (err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.conn, err = a.driver.Open(a.dsn); err != nil {
		return err
	}
	a.known = map[TableName]answer{}
	// It begins to read, which is when SQLite looks for what others have committed.
	a.ask, err = a.conn.Prepare(`PRAGMA data_version`)
	return err
}

// now forgets what does not hold any more, and returns the version of the database. It wants mu.
func (a *answers) now() (uint32, error) {
	if a.ask == nil {
		return 0, partd.ErrClosed
	}
	// A context that may end would cost a goroutine that watches it.
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

// get returns the answer for a table, if it is known, and the version of the database.
func (a *answers) get(n TableName) (is answer, known bool, version uint32, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	version, err = a.now()
	is, known = a.known[n]
	return is, known && err == nil, version, err
}

// put remembers an answer that was found after get returned a version, if that is the
// version still.
func (a *answers) put(n TableName, is answer, version uint32) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	now, err := a.now()
	if err != nil || now != version {
		return err
	}
	const each = 256 // besides its texts
	size := each + len(n.Namespace) + len(n.Name) + len(is.loc) + len(is.rules)
	if a.bytes+size > mostAnswers {
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

// Location returns where the metadata of a table is: it is another one after
// each change of the table.
func (c *Catalog) Location(ctx context.Context, namespace, name string) (string, error) {
	loc, _, err := c.Lookup(ctx, namespace, name)
	return loc, err
}

// Lookup is Location, and the namespace's RulesProperty.
func (c *Catalog) Lookup(ctx context.Context, namespace, name string) (loc, rules string, err error) {
	if err := canceled.Err(ctx); err != nil {
		return "", "", err
	}
	if c.postgres { // which prepares it by itself
		found, err := lookedUp(c.reads.QueryRowContext(ctx, selectLocation, namespace, name))
		return found.loc, found.rules, canceled.Explain(ctx, err)
	}
	n := TableName{namespace, name}
	found, known, version, err := c.known.get(n)
	if err != nil || known {
		return found.loc, found.rules, err
	}
	// The driver starts a goroutine to watch a context that may end, and this takes microseconds.
	if found, err = lookedUp(c.lookup.QueryRowContext(context.WithoutCancel(ctx), namespace, name)); err != nil {
		return "", "", err
	}
	return found.loc, found.rules, c.known.put(n, found, version)
}

func lookedUp(row *sql.Row) (found answer, err error) {
	var property sql.NullString
	err = row.Scan(&found.loc, &property)
	if errors.Is(err, sql.ErrNoRows) {
		err = ErrNotFound
	}
	found.rules = property.String
	return found, err
}

// Load returns a table as it is now.
func (c *Catalog) Load(ctx context.Context, namespace, name string) (*table.Table, error) {
	for {
		loc, err := c.Location(ctx, namespace, name)
		if err != nil {
			return nil, err
		}
		t, err := c.LoadAt(ctx, namespace, name, loc)
		if errors.Is(err, ErrContent) {
			// Somebody changed the table and removed its old metadata in between?
			if now, again := c.Location(ctx, namespace, name); again != nil || now != loc {
				continue
			}
		}
		return t, err
	}
}

// LoadAt returns a table as the metadata at a location has it.
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

// loadFile returns a table as a file has its metadata.
func (c *Catalog) loadFile(ctx context.Context, namespace, name, loc string) (_ *table.Table, size int64, err error) {
	b, err := c.reader.ReadFile(loc)
	if err != nil {
		return nil, 0, err
	}
	defer func() {
		if p := recover(); p != nil { // the library does where metadata of others lies
			err = fmt.Errorf("%v", p)
		}
		if err != nil && ctx.Err() == nil {
			err = &Damaged{File: c.Shown(loc), Err: err, Remedy: Unusable}
		}
	}()
	held := func(context.Context) (iceio.IO, error) { return heldFile{c.reader, b}, nil }
	t, err := table.NewFromLocation(ctx, table.Identifier{namespace, name}, loc, held, nil)
	if err != nil {
		return nil, 0, err
	}
	return c.Staged(namespace, name, t.Metadata(), loc, c.reader), int64(len(b)), nil
}

// heldFile is a view of the files that has one in memory.
type heldFile struct {
	*FileIO
	content []byte
}

func (h heldFile) ReadFile(string) ([]byte, error) { return h.content, nil }

// Staged returns a table of the metadata given whose files are written through io.
// Its transactions are staged, and committed by Commit alone.
func (c *Catalog) Staged(namespace, name string, meta table.Metadata, loc string, io *FileIO) *table.Table {
	return table.New(table.Identifier{namespace, name}, meta, loc, func(context.Context) (iceio.IO, error) { return io, nil }, nil)
}
