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
	"github.com/go-partd/partd/internal/base/canceled"
)

// Cache caches the contents of immutable files up to a memory budget. It evicts arbitrary entries. It is safe for concurrent use.
type Cache[T any] struct {
	budget int64

	mu        sync.Mutex
	usedBytes int64
	entries   map[string]cached[T]
}

type cached[T any] struct {
	value T
	cost  int64
}

func newCache[T any](budget int64) *Cache[T] {
	return &Cache[T]{budget: budget, entries: map[string]cached[T]{}}
}

// costOf estimates the memory of parsed metadata. Objects, strings and maps need several times the memory of their JSON.
func costOf(jsonLen int64) int64 { return 4*jsonLen + 1024 }

// Get returns the value for a key.
func (c *Cache[T]) Get(key string) (T, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	entry, ok := c.entries[key]
	return entry.value, ok
}

// Put adds a value. cost is its approximate size in bytes.
func (c *Cache[T]) Put(key string, value T, cost int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.remove(key)
	for victim := range c.entries {
		if c.usedBytes+cost <= c.budget {
			break
		}
		c.remove(victim)
	}
	c.entries[key] = cached[T]{value, cost}
	c.usedBytes += cost
}

func (c *Cache[T]) drop(key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.remove(key)
}

func (c *Cache[T]) remove(key string) {
	c.usedBytes -= c.entries[key].cost
	delete(c.entries, key)
}

// maxAnswerBytes limits the memory for cached answers. It suffices for about 16,000 tables. Each answer has its own
// copy of the namespace's rules.
const maxAnswerBytes = 8 << 20

// answer is the result of Lookup for one table.
type answer struct{ location, rules string }

// answers caches the results of Lookup from SQLite. A commit through any connection, in this process or another, makes them outdated.
// To detect that, each lookup asks SQLite for the database version on a separate connection, which is far cheaper than a query.
type answers struct {
	driver driver.Driver
	dsn    string

	mu           sync.Mutex
	conn         driver.Conn
	versionQuery driver.Stmt
	version      uint32
	entries      map[TableName]answer
	bytes        int // approximate memory of the entries
}

func (a *answers) open() (err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.conn, err = a.driver.Open(a.dsn); err != nil {
		return err
	}
	a.entries = map[TableName]answer{}
	// SQLite detects other connections' commits only when a read starts; executing this statement starts a read.
	a.versionQuery, err = a.conn.Prepare(`PRAGMA data_version`)
	return err
}

// refresh drops the answers if they are outdated, and returns the database version. mu must be held.
func (a *answers) refresh() (uint32, error) {
	if a.versionQuery == nil {
		return 0, partd.ErrClosed
	}
	// Use context.Background, because the driver would start a goroutine for a cancelable context.
	if _, err := a.versionQuery.(driver.StmtExecContext).ExecContext(context.Background(), nil); err != nil {
		return 0, err
	}
	version, err := a.conn.(sqlite.FileControl).FileControlDataVersion("main")
	if err == nil && version != a.version {
		a.forget()
		a.version = version
	}
	return version, err
}

// get returns the cached answer for a table, and the database version.
func (a *answers) get(n TableName) (result answer, cached bool, version uint32, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	version, err = a.refresh()
	result, cached = a.entries[n]
	return result, cached && err == nil, version, err
}

// put caches an answer, unless the database has changed since get returned version.
func (a *answers) put(n TableName, result answer, version uint32) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	current, err := a.refresh()
	if err != nil || current != version {
		return err
	}
	const overhead = 256 // memory of an entry besides its strings
	size := overhead + len(n.Namespace) + len(n.Name) + len(result.location) + len(result.rules)
	if a.bytes+size > maxAnswerBytes {
		a.forget()
	}
	a.entries[n] = result
	a.bytes += size
	return nil
}

func (a *answers) forget() {
	clear(a.entries)
	a.bytes = 0
}

func (a *answers) close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	var err error
	if a.versionQuery != nil {
		err = a.versionQuery.Close()
	}
	if a.conn != nil {
		err = errors.Join(err, a.conn.Close())
	}
	a.versionQuery, a.conn = nil, nil
	return err
}

// Location returns the location of a table's metadata. It changes with each commit to the table.
func (c *Catalog) Location(ctx context.Context, namespace, name string) (string, error) {
	location, _, err := c.Lookup(ctx, namespace, name)
	return location, err
}

// Lookup returns a table's metadata location, and the RulesProperty of its namespace.
func (c *Catalog) Lookup(ctx context.Context, namespace, name string) (location, rules string, err error) {
	if err := canceled.Err(ctx); err != nil {
		return "", "", err
	}
	if c.postgres { // The PostgreSQL client prepares statements itself.
		result, err := scanAnswer(c.reads.QueryRowContext(ctx, selectLocation, namespace, name))
		return result.location, result.rules, canceled.Explain(ctx, err)
	}
	n := TableName{namespace, name}
	result, cached, version, err := c.answers.get(n)
	if err != nil || cached {
		return result.location, result.rules, err
	}
	// Use a context that cannot be canceled: for a cancelable one, the driver would start a goroutine. The query takes
	// only microseconds.
	if result, err = scanAnswer(c.lookup.QueryRowContext(context.WithoutCancel(ctx), namespace, name)); err != nil {
		return "", "", err
	}
	return result.location, result.rules, c.answers.put(n, result, version)
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
func (c *Catalog) Load(ctx context.Context, namespace, name string) (*table.Table, error) {
	for {
		location, err := c.Location(ctx, namespace, name)
		if err != nil {
			return nil, err
		}
		t, err := c.LoadAt(ctx, namespace, name, location)
		if errors.Is(err, ErrContent) {
			// The metadata may be missing only because another commit has just replaced it.
			if newest, err2 := c.Location(ctx, namespace, name); err2 != nil || newest != location {
				continue
			}
		}
		return t, err
	}
}

// LoadAt returns a table in the state that the metadata at a location describes.
func (c *Catalog) LoadAt(ctx context.Context, namespace, name, location string) (*table.Table, error) {
	if t, ok := c.cache.Get(location); ok {
		return t, nil
	}
	t, size, err := c.loadInline(ctx, namespace, name, location)
	if t == nil && err == nil {
		t, size, err = c.loadFile(ctx, namespace, name, location)
	}
	if err != nil {
		return nil, err
	}
	c.cache.Put(location, t, costOf(size))
	return t, nil
}

func (c *Catalog) loadFile(ctx context.Context, namespace, name, location string) (_ *table.Table, size int64, err error) {
	b, err := c.reader.ReadFile(location)
	if err != nil {
		return nil, 0, err
	}
	defer func() {
		if p := recover(); p != nil { // the library panics on some invalid metadata
			err = fmt.Errorf("%v", p)
		}
		if err != nil && ctx.Err() == nil {
			err = &Damaged{File: c.DisplayPath(location), Err: err, Remedy: RemedyUnrepairable}
		}
	}()
	openBytes := func(context.Context) (iceio.IO, error) { return memoryFile{c.reader, b}, nil }
	t, err := table.NewFromLocation(ctx, table.Identifier{namespace, name}, location, openBytes, nil)
	if err != nil {
		return nil, 0, err
	}
	return c.Staged(namespace, name, t.Metadata(), location, c.reader), int64(len(b)), nil
}

// memoryFile is a FileIO that returns content for every ReadFile.
type memoryFile struct {
	*FileIO
	content []byte
}

func (h memoryFile) ReadFile(string) ([]byte, error) { return h.content, nil }

// Staged returns a table that has the given metadata and writes its files through fileIO. Only Catalog.Commit can
// commit its changes.
func (c *Catalog) Staged(namespace, name string, meta table.Metadata, location string, fileIO *FileIO) *table.Table {
	return table.New(table.Identifier{namespace, name}, meta, location, func(context.Context) (iceio.IO, error) { return fileIO, nil }, nil)
}
