// Package filecache keeps copies of files that never change in a directory, up to a
// size: those used last. Several processes may share the directory.
//
//	files/<2 hex>/<30 hex>   a copy, named by the hash of its key, placed by a rename
//	processes/               a directory of package tempdir for each process: what it is
//	                         fetching, and links to what it pins
//	evict.lock               held by who makes room
//
// A link keeps a copy that is pinned when its name goes, so that no process has to know
// of another's pins.
package filecache

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/zeebo/xxh3"
	"golang.org/x/sync/singleflight"

	"github.com/go-partd/partd/internal/tempdir"
	"github.com/go-partd/partd/internal/vfs"
)

// Cache is an open cache. It is safe for concurrent use.
type Cache struct {
	dir, own string
	limit    int64
	temp     *tempdir.Set // of own
	flights  singleflight.Group

	mu      sync.Mutex
	made    int
	used    int64 // as found at the last look, and what was placed since
	placed  int64 // since the last look
	checked map[string]stamp
	pins    map[string]*pin
}

// stamp tells a file that was checked.
type stamp struct {
	size int64
	at   time.Time // when it was placed or used last
}

type pin struct {
	path string
	refs int
}

// maxChecked is of how many files it is remembered that they were checked.
const maxChecked = 1 << 16

// Open opens the cache in a directory, and makes it where it is missing. About limit
// bytes stay in it, beside what is pinned.
func Open(dir string, limit int64) (*Cache, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if limit <= 0 {
		return nil, fmt.Errorf("the cache's size is %d bytes: it must be above 0", limit)
	}
	processes := filepath.Join(dir, "processes")
	c := &Cache{dir: dir, limit: limit, checked: map[string]stamp{}, pins: map[string]*pin{}}
	for _, d := range []string{filepath.Join(dir, "files"), processes} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return nil, err
		}
	}
	if c.own, c.temp, err = tempdir.Own(processes); err != nil {
		return nil, err
	}
	return c, c.evict("")
}

// Close removes what the process has of its own.
func (c *Cache) Close() error { return c.temp.Close() }

func (c *Cache) path(key string) string {
	sum := xxh3.HashString128(key).Bytes()
	name := hex.EncodeToString(sum[:])
	return filepath.Join(c.dir, "files", name[:2], name[2:])
}

// Temp makes a file for Place, or to be removed.
func (c *Cache) Temp() (*os.File, error) {
	return os.OpenFile(c.unique(), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
}

func (c *Cache) unique() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.made++
	return filepath.Join(c.own, strconv.Itoa(c.made))
}

// Place makes a file of Temp the copy of a key.
func (c *Cache) Place(temp, key string) error {
	info, err := os.Stat(temp)
	if err != nil {
		return err
	}
	path := c.path(key)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	if err := os.Rename(temp, path); err != nil {
		return err
	}
	c.mu.Lock()
	c.used += info.Size()
	c.placed += info.Size()
	look := c.used > c.limit || c.placed > c.limit/16
	c.mu.Unlock()
	c.remember(key, info)
	if look {
		return c.evict(path)
	}
	return nil
}

func (c *Cache) remember(key string, info fs.FileInfo) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.checked) >= maxChecked {
		clear(c.checked)
	}
	c.checked[key] = stamp{info.Size(), time.Now()}
}

// With calls use with the path of the copy of a key, which may be removed any time: use
// opens it or links to it. Fetch writes a file that is missing, and check looks at one
// that this process has not seen before: if it is not right, it is fetched again.
func (c *Cache) With(key string, check func(path string) error, fetch func(*os.File) error, use func(path string) error) error {
	for range 2 {
		if err := c.have(key, check, fetch); err != nil {
			return err
		}
		if err := use(c.path(key)); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	// Others make room as fast as this: it gets one of its own.
	temp, err := c.fetch(fetch)
	if err != nil {
		return err
	}
	return errors.Join(use(temp), os.Remove(temp))
}

// fetch returns the path of a file that was fetched.
func (c *Cache) fetch(fetch func(*os.File) error) (string, error) {
	f, err := c.Temp()
	if err != nil {
		return "", err
	}
	if err := errors.Join(fetch(f), f.Close()); err != nil {
		return "", errors.Join(err, os.Remove(f.Name()))
	}
	return f.Name(), nil
}

// have sees to it that there is a copy.
func (c *Cache) have(key string, check func(path string) error, fetch func(*os.File) error) error {
	path := c.path(key)
	info, err := os.Stat(path)
	if err == nil {
		c.mu.Lock()
		known, seen := c.checked[key]
		c.mu.Unlock()
		if seen = seen && known.size == info.Size(); !seen {
			err = check(path)
		}
		if err == nil {
			if !seen || time.Since(known.at) > time.Minute {
				now := time.Now()
				_ = os.Chtimes(path, now, now) // else it seems to be used less
				c.remember(key, info)
			}
			return nil
		}
		_ = os.Remove(path)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	_, err, _ = c.flights.Do(key, func() (any, error) {
		temp, err := c.fetch(fetch)
		if err != nil {
			return nil, err
		}
		return nil, c.Place(temp, key)
	})
	return err
}

// Pin is With for a link to the copy, that stays until it is released.
func (c *Cache) Pin(key string, check func(path string) error, fetch func(*os.File) error) (path string, release func(), err error) {
	p := c.pinned(key, nil)
	if p == nil {
		link := c.unique()
		err = c.With(key, check, fetch, func(path string) error { return os.Link(path, link) })
		if err != nil {
			return "", func() {}, err
		}
		if p = c.pinned(key, &pin{path: link}); p.path != link { // another one was as fast
			_ = os.Remove(link)
		}
	}
	return p.path, sync.OnceFunc(func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if p.refs--; p.refs == 0 {
			delete(c.pins, key)
			_ = os.Remove(p.path) // what is left goes with the process
		}
	}), nil
}

// pinned adds a reference to what is pinned, or pins a new one.
func (c *Cache) pinned(key string, p *pin) *pin {
	c.mu.Lock()
	defer c.mu.Unlock()
	if was := c.pins[key]; was != nil {
		p = was
	} else if p != nil {
		c.pins[key] = p
	}
	if p != nil {
		p.refs++
	}
	return p
}

// Forget removes the copy of a key.
func (c *Cache) Forget(key string) { _ = os.Remove(c.path(key)) }

// evict removes the files that were used longest ago, until a tenth of the limit is
// free, and what processes left that ended. It leaves what was just placed. Where
// another process does so, it returns.
func (c *Cache) evict(placed string) (err error) {
	l, err := vfs.TryLock(vfs.OS{}, filepath.Join(c.dir, "evict.lock"), true)
	if l == nil || err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Unlock()) }()
	type file struct {
		path string
		size int64
		used time.Time
	}
	var files []file
	var total int64
	err = filepath.WalkDir(filepath.Join(c.dir, "files"), func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			var info fs.FileInfo
			if info, err = d.Info(); err == nil {
				files = append(files, file{path, info.Size(), info.ModTime()})
				total += info.Size()
			}
		}
		if errors.Is(err, fs.ErrNotExist) {
			err = nil // removed meanwhile
		}
		return err
	})
	if err != nil {
		return err
	}
	if total > c.limit {
		slices.SortFunc(files, func(a, b file) int { return a.used.Compare(b.used) })
		for _, f := range files {
			if total <= c.limit/10*9 {
				break
			}
			if f.path == placed {
				continue
			}
			if err := os.Remove(f.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			total -= f.size
		}
	}
	c.mu.Lock()
	c.used, c.placed = total, 0
	c.mu.Unlock()
	return c.temp.Sweep()
}
