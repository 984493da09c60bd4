package icecat

import (
	"sync"

	"github.com/apache/iceberg-go/table"
)

// cache holds tables by the location of their metadata, which never changes,
// within a budget of bytes. What goes is left to chance.
type cache struct {
	budget int64

	mu    sync.Mutex
	used  int64
	byLoc map[string]cached
}

type cached struct {
	t    *table.Table
	cost int64
}

// costOf estimates the memory that metadata takes from the length of its JSON:
// objects, strings and maps take several times as much as their text.
func costOf(jsonLen int64) int64 { return 4*jsonLen + 1024 }

func (c *cache) get(loc string) *table.Table {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.byLoc[loc].t
}

// put adds a table, and drops replaces: only the newest metadata of a table is
// worth keeping.
func (c *cache) put(loc string, t *table.Table, jsonLen int64, replaces string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.remove(replaces)
	c.remove(loc)
	for other := range c.byLoc {
		if c.used+costOf(jsonLen) <= c.budget {
			break
		}
		c.remove(other)
	}
	c.byLoc[loc] = cached{t, costOf(jsonLen)}
	c.used += costOf(jsonLen)
}

func (c *cache) remove(loc string) {
	c.used -= c.byLoc[loc].cost
	delete(c.byLoc, loc)
}
