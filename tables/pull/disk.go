package pull

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-partd/partd/internal/vfs"
	"github.com/go-partd/partd/objstore"
	"github.com/go-partd/partd/tables/internal/content"
)

// grace is how long a replaced version is kept, because other nodes may be reading or
// fetching it.
const grace = time.Hour

// orphanAge is the age after which an unreferenced file is removed. Younger ones may
// belong to a version that is being fetched or saved.
const orphanAge = 24 * time.Hour

// disk is a node's directory, with files/HASH, heads/KEY, tmp/ and the node's id.
type disk struct {
	content.Dir
	dir, id string
	storage *content.Bucket // storage of the files; nil if the directory holds them

	mu    sync.Mutex
	pins  map[string]int // manifests in use by readers, with counts
	swept time.Time
}

// head is the newest version of a table in the directory. The modification time of its
// file is the last time at which it was known to be the newest of all.
type head struct {
	record
	Old []oldVersion `json:"old,omitempty"` // previous versions

	confirmed time.Time
}

type oldVersion struct {
	record
	Until time.Time `json:"until"`
}

// keyOf returns a table's key, which is valid in file names, URLs and the registry.
func keyOf(name string) string {
	return content.HashOf([]byte(name))
}

func openDisk(dir string, storage objstore.Bucket) (*disk, error) {
	d := &disk{Dir: content.Dir{Files: filepath.Join(dir, "files"), Temp: filepath.Join(dir, "tmp")}, dir: dir, pins: map[string]int{}}
	for _, sub := range []string{d.Files, d.Temp, filepath.Join(dir, "heads")} {
		if err := os.MkdirAll(sub, 0o777); err != nil {
			return nil, err
		}
	}
	return d, d.locked(func() error {
		path := filepath.Join(dir, "id")
		b, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			b = []byte(strings.ToLower(rand.Text()))
			err = d.replace(path, b)
		}
		d.id = string(b)
		if err == nil && (len(b) < 16 || strings.Trim(d.id, "abcdefghijklmnopqrstuvwxyz234567") != "") {
			err = fmt.Errorf("%s is damaged: remove it, so that the node gets a new ID", path)
		}
		if storage != nil {
			// With a storage, the directory holds an empty file with the name, size and
			// age of each file. So the node knows without a request what the storage
			// holds, and a sweep finds the files that a killed process left there.
			s := backupBucket(storage)
			s.Prefix = d.id + "/"
			d.storage = &s
		}
		return err
	})
}

// locked calls f while no other process can change a head.
func (d *disk) locked(f func() error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	l := vfs.OS{}.NewLock(filepath.Join(d.dir, "lock"))
	if err := l.Lock(true); err != nil {
		return err
	}
	return errors.Join(f(), l.Unlock())
}

// replace replaces a file atomically, even on a power failure.
func (d *disk) replace(path string, b []byte) error { return vfs.Replace(path, d.Temp, "", b) }

// keep reports whether a file is here. It protects an old file from a sweep like a new
// one, because a version in progress may use it before any head does.
func (d *disk) keep(f content.Named) bool {
	path := d.Path(f.Hash)
	info, err := os.Stat(path)
	if err == nil && time.Since(info.ModTime()) > orphanAge/2 {
		err = d.locked(func() error { // the lock prevents a sweep from removing it now
			now := time.Now()
			return os.Chtimes(path, now, now)
		})
	}
	return err == nil && info.Size() == f.Size
}

// readAll reads and closes f unless err is set.
func readAll(f *os.File, err error) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(f)
	return b, errors.Join(err, f.Close())
}

func (d *disk) headPath(key string) string { return filepath.Join(d.dir, "heads", key) }

// head returns a table's head, with version 0 if there is none.
func (d *disk) head(key string) (h head, err error) {
	path := d.headPath(key)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return h, nil
	}
	info, err2 := os.Stat(path)
	if err = errors.Join(err, err2); err == nil {
		err = json.Unmarshal(b, &h)
	}
	if err == nil {
		h.confirmed, err = info.ModTime(), h.check(key)
	}
	if err != nil { // the registry and the other nodes still have the record
		return head{}, fmt.Errorf("%s: %w: remove the file, and the node gets the record from the registry again", path, err)
	}
	return h, nil
}

// heads calls f with each head, and skips damaged ones.
func (d *disk) heads(f func(key string, h head) error) error {
	entries, err := os.ReadDir(filepath.Join(d.dir, "heads"))
	for _, e := range entries {
		if h, err := d.head(e.Name()); err == nil && h.Version > 0 {
			if err := f(e.Name(), h); err != nil {
				return err
			}
		}
	}
	return err
}

// branched reports whether r is from another history than from. It reports false if r is
// newer than from.
func (r record) branched(from record) bool {
	return r.Version > 0 && r.Version <= from.Version && (r.Table != from.Table || r.Version == from.Version && r.Manifest != from.Manifest)
}

// setHead makes r the head of its table, unless the current head is newer or from another
// history. An audit keeps a head of another history under another name.
func (d *disk) setHead(r record) error {
	key := keyOf(r.Name)
	return d.locked(func() error {
		h, err := d.head(key)
		if err == nil && (h.Version > r.Version || h.record == r || h.branched(r)) {
			return nil
		}
		now := time.Now()
		if h.Version > 0 && h.Manifest != r.Manifest {
			h.Old = append(h.Old, oldVersion{h.record, now})
		}
		h.Old = slices.DeleteFunc(h.Old, d.expired)
		h.record = r
		b, err := json.Marshal(h)
		if err != nil {
			return err
		}
		return d.replace(d.headPath(key), b)
	})
}

// expired reports whether an old version may be removed. mu must be held.
func (d *disk) expired(o oldVersion) bool {
	return time.Since(o.Until) > grace && d.pins[o.Manifest] == 0
}

func (d *disk) pin(manifest string, by int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.pins[manifest] += by; d.pins[manifest] == 0 {
		delete(d.pins, manifest)
	}
}

// sweep removes old files except those of the newest versions, of versions replaced
// within the grace period, and of versions being read. records are the registry's
// records: a killed process may have saved one of those here without setting a head. With
// a storage, which needs a request for each manifest, sweep runs once an hour.
func (d *disk) sweep(ctx context.Context, records []record) error {
	used := map[string]bool{}
	use := func(r record) error {
		if used[r.Manifest] {
			return nil
		}
		used[r.Manifest] = true
		b, err := readAll(d.Open(ctx, r.file()))
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err // without the manifest, sweep would remove files that are in use
		}
		m, err := readManifest(b, r)
		if err == nil {
			for _, f := range m.files {
				used[f.Hash] = true
			}
		}
		return err
	}
	return d.locked(func() error {
		if d.storage != nil && time.Since(d.swept) < grace {
			return nil
		}
		d.swept = time.Now()
		err := d.heads(func(_ string, h head) error {
			err := use(h.record)
			for _, o := range h.Old {
				if err == nil && !d.expired(o) {
					err = use(o.record)
				}
			}
			return err
		})
		for _, r := range records {
			err = errors.Join(err, use(r))
		}
		if err != nil {
			return err
		}
		for _, sub := range []string{d.Files, d.Temp} {
			entries, err := os.ReadDir(sub)
			if err != nil {
				return err
			}
			for _, e := range entries {
				info, err := e.Info()
				if err == nil && !used[e.Name()] && time.Since(info.ModTime()) > orphanAge {
					if sub == d.Files {
						_ = d.remove(ctx, e.Name())
					} else {
						_ = os.RemoveAll(filepath.Join(sub, e.Name()))
					}
				}
			}
		}
		return nil
	})
}
