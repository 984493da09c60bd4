package icecat

import (
	"context"
	"database/sql/driver"
	"errors"
	"sync"

	"modernc.org/sqlite"

	"github.com/go-partd/partd"
)

// Cache caches the contents of immutable files up to a memory budget. It evicts arbitrary entries. It is safe for
// concurrent use.
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

// answers caches results of Lookup from SQLite. A commit through any connection, in this process or another, makes them
// outdated. To detect this, each lookup asks SQLite for the database version on a separate connection, which is far
// cheaper than a query.
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
	a.conn, err = a.driver.Open(a.dsn)
	if err != nil {
		return err
	}
	a.entries = map[TableName]answer{}
	// SQLite detects other connections' commits only when a read starts; executing this statement starts a read.
	a.versionQuery, err = a.conn.Prepare(`PRAGMA data_version`)
	return err
}

// refresh drops the answers if they are outdated and returns the database version. mu must be held.
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
