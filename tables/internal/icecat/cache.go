package icecat

import (
	"container/list"
	"sync"

	"github.com/apache/iceberg-go/table"
)

// cache holds tables by the location of their metadata, which never changes,
// within a budget of bytes. What was used longest ago goes first.
type cache struct {
	budget int64

	mu    sync.Mutex
	used  int64
	byLoc map[string]*list.Element
	order list.List // of *cached, newest first
}

type cached struct {
	loc  string
	t    *table.Table
	cost int64
}

// costOf estimates the memory that metadata takes from the length of its JSON:
// objects, strings and maps take several times as much as their text.
func costOf(jsonLen int64) int64 { return 4*jsonLen + 1024 }

func (c *cache) get(loc string) *table.Table {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.byLoc[loc]
	if e == nil {
		return nil
	}
	c.order.MoveToFront(e)
	return e.Value.(*cached).t
}

// put adds a table, and drops replaces: only the newest metadata of a table is
// worth keeping.
func (c *cache) put(loc string, t *table.Table, jsonLen int64, replaces string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.remove(c.byLoc[replaces])
	c.remove(c.byLoc[loc])
	n := &cached{loc, t, costOf(jsonLen)}
	c.byLoc[loc] = c.order.PushFront(n)
	for c.used += n.cost; c.used > c.budget && c.order.Len() > 1; {
		c.remove(c.order.Back())
	}
}

func (c *cache) remove(e *list.Element) {
	if e == nil {
		return
	}
	n := c.order.Remove(e).(*cached)
	delete(c.byLoc, n.loc)
	c.used -= n.cost
}
