package icecat

import "sync"

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
