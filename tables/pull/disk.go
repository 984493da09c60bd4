package pull

import (
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

	"github.com/go-partd/partd/internal/disk/vfs"
	"github.com/go-partd/partd/tables/internal/files/content"
)

// grace is how long a replaced version is kept for nodes that are reading or fetching it.
const grace = time.Hour

// orphanAge is the age at which sweep removes an unreferenced file. A younger file may
// belong to a version that is being fetched or saved.
const orphanAge = 24 * time.Hour

// disk is a node's directory. It contains files/HASH, heads/KEY, tmp/, lock, and id, which
// holds the node's ID. KEY is the result of keyOf for a table's name.
type disk struct {
	content.Dir
	dir, id string

	mu   sync.Mutex
	pins map[string]int // number of readers of each version, by the hash of its manifest
}

// head is the newest version of a table in this directory. The modification time of the
// head's file is when this version was last known to be the newest on any node.
type head struct {
	record
	Old []oldVersion `json:"old,omitempty"` // previous versions

	confirmedAt time.Time // modification time of the head's file
}

type oldVersion struct {
	record
	Until time.Time `json:"until"` // when the version was replaced
}

func openDisk(dir string) (*disk, error) {
	d := &disk{Dir: content.Dir{Files: filepath.Join(dir, "files"), Temp: filepath.Join(dir, "tmp")}, dir: dir, pins: map[string]int{}}
	for _, sub := range []string{d.Files, d.Temp, filepath.Join(dir, "heads")} {
		if err := os.MkdirAll(sub, 0o777); err != nil {
			return nil, err
		}
	}
	return d, d.withLock(func() error {
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
		return err
	})
}

// withLock calls f while it holds the directory's lock, so that no other process can change a head.
func (d *disk) withLock(f func() error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	l := vfs.OS{}.NewLock(filepath.Join(d.dir, "lock"))
	if err := l.Lock(true); err != nil {
		return err
	}
	return errors.Join(f(), l.Unlock())
}

// replace replaces a file atomically, even if the power fails.
func (d *disk) replace(path string, b []byte) error { return vfs.Replace(path, d.Temp, "", b) }

// touch reports whether the directory has a file with the name and size of f. It renews the modification
// time of an old file, so that sweep keeps the file until the version being fetched or saved refers to it.
func (d *disk) touch(f content.HashNamed) bool {
	path := d.Path(f.Hash)
	info, err := os.Stat(path)
	if err == nil && time.Since(info.ModTime()) > orphanAge/2 {
		err = d.withLock(func() error { // under the lock, no sweep can remove the file
			now := time.Now()
			return os.Chtimes(path, now, now)
		})
	}
	return err == nil && info.Size() == f.Size
}

// readAll reads and closes f, or returns err if it is set.
func readAll(f *os.File, err error) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(f)
	return b, errors.Join(err, f.Close())
}

func (d *disk) headFile(key string) string { return filepath.Join(d.dir, "heads", key) }

// head returns a table's head, with version 0 if the directory does not have the table.
func (d *disk) head(key string) (h head, err error) {
	path := d.headFile(key)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return h, nil
	}
	info, err2 := os.Stat(path)
	err = errors.Join(err, err2)
	if err == nil {
		err = json.Unmarshal(b, &h)
	}
	if err == nil {
		h.confirmedAt, err = info.ModTime(), h.check(key)
	}
	if err != nil { // removing the file is safe: the registry and other nodes have the record
		return head{}, fmt.Errorf("%s: %w: remove the file, so that the node gets the record from the registry again", path, err)
	}
	return h, nil
}

// heads calls f for each head except damaged ones, until f returns an error.
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

// diverged reports whether r and other, versions of the same table, certainly belong to different histories.
// If r is newer than other, diverged returns false, because only r's manifest can tell.
func (r record) diverged(other record) bool {
	return r.Version > 0 && r.Version <= other.Version && (r.Table != other.Table || r.Version == other.Version && r.Manifest != other.Manifest)
}

// setHead makes r the head of its table, unless the current head is newer or belongs to another history. If it belongs
// to another history, the next audit keeps it under a new name.
func (d *disk) setHead(r record) error {
	key := keyOf(r.Name)
	return d.withLock(func() error {
		h, err := d.head(key)
		if err == nil && (h.Version > r.Version || h.record == r || h.diverged(r)) {
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
		return d.replace(d.headFile(key), b)
	})
}

// expired reports whether an old version may be removed. mu must be held.
func (d *disk) expired(o oldVersion) bool {
	return time.Since(o.Until) > grace && d.pins[o.Manifest] == 0
}

// pin adds delta to the number of readers of the version with this manifest. sweep keeps versions that have readers.
func (d *disk) pin(manifest string, delta int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.pins[manifest] += delta
	if d.pins[manifest] == 0 {
		delete(d.pins, manifest)
	}
}

// sweep removes unreferenced files that are older than orphanAge. It keeps the files of heads, of versions replaced
// within the grace period, and of versions that are being read. It also keeps the files of the versions in records, the
// registry's newest: a killed process may have saved one of them without setting a head.
func (d *disk) sweep(records []record) error {
	used := map[string]bool{}
	markUsed := func(r record) error {
		if used[r.Manifest] {
			return nil
		}
		used[r.Manifest] = true
		b, err := readAll(d.Open(r.manifestFile()))
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err // without the manifest, sweep could remove files that are in use
		}
		m, err := readManifest(b, r)
		if err != nil {
			return err
		}
		for _, f := range m.files {
			used[f.Hash] = true
		}
		return nil
	}
	return d.withLock(func() error {
		err := d.heads(func(_ string, h head) error {
			err := markUsed(h.record)
			for _, o := range h.Old {
				if err == nil && !d.expired(o) {
					err = markUsed(o.record)
				}
			}
			return err
		})
		for _, r := range records {
			err = errors.Join(err, markUsed(r))
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
					_ = os.Remove(filepath.Join(sub, e.Name())) // the next sweep tries again
				}
			}
		}
		return nil
	})
}
