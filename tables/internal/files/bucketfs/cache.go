package bucketfs

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
	"sync/atomic"
	"time"

	"github.com/zeebo/xxh3"
	"golang.org/x/sync/singleflight"

	"github.com/go-partd/partd/internal/disk/tempdir"
	"github.com/go-partd/partd/internal/disk/vfs"
)

// Cache keeps local copies of immutable files in a directory of limited size. It evicts the least
// recently used copies. Several processes may share the directory.
//
//	files/<2 hex>/<30 hex>   a copy, named by the hash of its key, added by a rename
//	processes/               a temporary directory of each process, made by package tempdir: files
//	                         being fetched, and hard links to pinned copies
//	evict.lock               held during eviction
//
// A hard link keeps a pinned copy alive after another process has evicted it, so processes need not know each other's pins.
//
// A Cache is safe for concurrent use.
type Cache struct {
	dir       string
	ownDir    string       // directory of this process, in processes/
	limit     int64        // approximate maximum size of the copies that are not pinned, in bytes
	tempDirs  *tempdir.Set // removes ownDir, and the directories of processes that have ended
	flights   singleflight.Group
	pathCount atomic.Int64 // number of paths that uniquePath returned

	mu         sync.Mutex
	totalBytes int64 // size of the cache at the last scan of the directory, plus addedBytes
	addedBytes int64 // bytes added since that scan
	verified   map[string]verification
	pins       map[string]*pin
}

type verification struct {
	size       int64     // size of the copy when it was verified
	recordedAt time.Time // time when the copy was last verified or recorded as used
}

// pin is a link to a copy. Eviction does not remove the link.
type pin struct {
	path string // path of the link
	refs int
}

// maxVerified limits the number of copies that are recorded as verified.
const maxVerified = 1 << 16

// OpenCache opens the cache in dir and creates dir if it does not exist. It keeps about limit bytes, not counting
// pinned copies.
func OpenCache(dir string, limit int64) (*Cache, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if limit <= 0 {
		return nil, fmt.Errorf("the cache's size is %d bytes: it must be above 0", limit)
	}
	processes := filepath.Join(dir, "processes")
	c := &Cache{dir: dir, limit: limit, verified: map[string]verification{}, pins: map[string]*pin{}}
	for _, d := range []string{filepath.Join(dir, "files"), processes} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return nil, err
		}
	}
	c.ownDir, c.tempDirs, err = tempdir.NewDir(processes)
	if err != nil {
		return nil, err
	}
	return c, c.evict("")
}

// Close removes this process's temporary files and links.
func (c *Cache) Close() error { return c.tempDirs.Close() }

func (c *Cache) path(key string) string {
	sum := xxh3.HashString128(key).Bytes()
	name := hex.EncodeToString(sum[:])
	return filepath.Join(c.dir, "files", name[:2], name[2:])
}

// uniquePath returns the path of a new temporary file. The caller must pass the file to Add or remove it.
func (c *Cache) uniquePath() string {
	return filepath.Join(c.ownDir, strconv.FormatInt(c.pathCount.Add(1), 10))
}

// Add moves the file temp into the cache as the copy for key. temp must be a path that uniquePath returned.
func (c *Cache) Add(temp, key string) error {
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
	c.totalBytes += info.Size()
	c.addedBytes += info.Size()
	// Only a scan, which is part of evict, shows what other processes have added. So also scan from time to time.
	mustEvict := c.totalBytes > c.limit || c.addedBytes > c.limit/16
	c.mu.Unlock()
	c.markVerified(key, info)
	if mustEvict {
		return c.evict(path)
	}
	return nil
}

func (c *Cache) markVerified(key string, info fs.FileInfo) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.verified) >= maxVerified {
		clear(c.verified)
	}
	c.verified[key] = verification{info.Size(), time.Now()}
}

// WithCopy calls use with the path of the copy for a key. use must open or link the copy at once, because the copy can
// be evicted at any time. fetch writes a missing copy. check verifies a copy that this process has not verified yet; if
// it fails, the copy is fetched again.
func (c *Cache) WithCopy(key string, check func(path string) error, fetch func(*os.File) error, use func(path string) error) error {
	for range 2 {
		if err := c.ensureCopy(key, check, fetch); err != nil {
			return err
		}
		if err := use(c.path(key)); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	// Other processes evict the copy too quickly, so use a private copy.
	temp, err := c.fetchTemp(fetch)
	if err != nil {
		return err
	}
	return errors.Join(use(temp), os.Remove(temp))
}

// fetchTemp creates a temporary file, fills it with fetch, and returns its path.
func (c *Cache) fetchTemp(fetch func(*os.File) error) (string, error) {
	f, err := os.OpenFile(c.uniquePath(), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", err
	}
	if err := errors.Join(fetch(f), f.Close()); err != nil {
		return "", errors.Join(err, os.Remove(f.Name()))
	}
	return f.Name(), nil
}

// ensureCopy makes sure that there is a verified copy for key.
func (c *Cache) ensureCopy(key string, check func(path string) error, fetch func(*os.File) error) error {
	path := c.path(key)
	info, err := os.Stat(path)
	if err == nil {
		c.mu.Lock()
		previous, isVerified := c.verified[key]
		c.mu.Unlock()
		isVerified = isVerified && previous.size == info.Size()
		if !isVerified {
			err = check(path)
		}
		if err == nil {
			if !isVerified || time.Since(previous.recordedAt) > time.Minute {
				now := time.Now()
				_ = os.Chtimes(path, now, now) // if this fails, the copy may be evicted sooner
				c.markVerified(key, info)
			}
			return nil
		}
		_ = os.Remove(path) // otherwise, Add replaces it
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	_, err, _ = c.flights.Do(key, func() (any, error) {
		temp, err := c.fetchTemp(fetch)
		if err != nil {
			return nil, err
		}
		return nil, c.Add(temp, key)
	})
	return err
}

// Pin creates a link to the copy for a key and returns the link's path. The link exists until release is called. For
// check and fetch, see WithCopy.
func (c *Cache) Pin(key string, check func(path string) error, fetch func(*os.File) error) (path string, release func(), err error) {
	p := c.addPin(key, nil)
	if p == nil {
		link := c.uniquePath()
		err = c.WithCopy(key, check, fetch, func(path string) error { return os.Link(path, link) })
		if err != nil {
			return "", func() {}, err
		}
		p = c.addPin(key, &pin{path: link})
		if p.path != link { // Another goroutine has just pinned the key.
			_ = os.Remove(link) // If this fails, the link stays until the process's directory is removed.
		}
	}
	return p.path, sync.OnceFunc(func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		p.refs--
		if p.refs == 0 {
			delete(c.pins, key)
			_ = os.Remove(p.path) // If this fails, the link stays until the process's directory is removed.
		}
	}), nil
}

// addPin adds a reference to the pin of a key. If the key has no pin, it registers p, unless p is nil.
func (c *Cache) addPin(key string, p *pin) *pin {
	c.mu.Lock()
	defer c.mu.Unlock()
	if existing := c.pins[key]; existing != nil {
		p = existing
	} else if p != nil {
		c.pins[key] = p
	}
	if p != nil {
		p.refs++
	}
	return p
}

// Forget removes the copy for a key.
func (c *Cache) Forget(key string) { _ = os.Remove(c.path(key)) } // there may be no copy

// evict removes the least recently used copies until a tenth of the limit is free. It keeps the copy at the path added,
// which is new. It also removes files of processes that have ended. If another process is evicting, it does nothing.
func (c *Cache) evict(added string) (err error) {
	l, err := vfs.TryLock(vfs.OS{}, filepath.Join(c.dir, "evict.lock"), true)
	if l == nil || err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Unlock()) }()
	type file struct {
		path     string
		size     int64
		lastUsed time.Time
	}
	var files []file
	var total int64
	err = filepath.WalkDir(filepath.Join(c.dir, "files"), func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			var info fs.FileInfo
			info, err = d.Info()
			if err == nil {
				files = append(files, file{path, info.Size(), info.ModTime()})
				total += info.Size()
			}
		}
		if errors.Is(err, fs.ErrNotExist) {
			err = nil // another process has removed the file
		}
		return err
	})
	if err != nil {
		return err
	}
	if total > c.limit {
		slices.SortFunc(files, func(a, b file) int { return a.lastUsed.Compare(b.lastUsed) })
		for _, f := range files {
			if total <= c.limit/10*9 {
				break
			}
			if f.path == added {
				continue
			}
			if err := os.Remove(f.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			total -= f.size
		}
	}
	c.mu.Lock()
	c.totalBytes, c.addedBytes = total, 0
	c.mu.Unlock()
	return c.tempDirs.Sweep()
}
