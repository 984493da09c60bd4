package stage

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/go-partd/partd/internal/vfs"
)

// stamp tells one state of a file from another: what was changed has another time of
// its inode, whatever the time of its content was set to.
type stamp struct {
	Size         int64
	MTime, CTime int64 // nanoseconds since 1970
	Dev, Ino     uint64
}

func stampOf(path string) (stamp, error) {
	i, err := vfs.OS{}.Info(path)
	if err == nil && !i.Mode.IsRegular() {
		err = fmt.Errorf("%s is no regular file: name the files of a directory as in dir/*", path)
	}
	return stamp{i.Size, i.MTime, i.CTime, i.Dev, i.Ino}, err
}

// settled reports whether no change after a time can have left the times as they are.
func (s stamp) settled(at time.Time) bool {
	return at.UnixNano()-max(s.MTime, s.CTime) > int64(settled)
}

// hashed is the hash of a file's content.
type hashed struct {
	Stamp stamp
	Sum   string
}

const (
	// settled is how old a file's last change has to be before its hash is remembered:
	// another change soon after might have the same times.
	settled = 3 * time.Second

	maxHashes = 100_000
)

// hashes remembers hashes of files' content, by their absolute paths.
type hashes struct {
	path   string
	mu     sync.Mutex
	byPath map[string]hashed
	dirty  bool
}

// openHashes reads what is remembered. What is damaged is hashed anew.
func openHashes(path string) *hashes {
	h := &hashes{path: path}
	if b, err := os.ReadFile(path); err != nil || json.Unmarshal(b, &h.byPath) != nil || h.byPath == nil {
		h.byPath = map[string]hashed{}
	}
	return h
}

// save replaces the file, unless somebody else has the lock of it, who is about to.
func (h *hashes) save(r *Results) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.dirty {
		return nil
	}
	return r.unused(context.Background(), hashesLock, func() error {
		h.dirty = false
		text, err := json.Marshal(h.byPath)
		if err != nil {
			return err
		}
		return vfs.Replace(h.path, r.path(tmpDir), "hashes.", text)
	})
}

// sum returns the hash of a file's content, and the state of the file that it is of.
func (h *hashes) sum(path string) (hashed, error) {
	began := time.Now()
	absolute, err := filepath.Abs(path)
	if err != nil {
		return hashed{}, err
	}
	is, err := stampOf(path)
	if err != nil {
		return hashed{}, err
	}
	h.mu.Lock()
	known := h.byPath[absolute]
	h.mu.Unlock()
	if known.Stamp == is {
		return known, nil
	}
	sum, err := hashFile(path)
	if err == nil && is.settled(began) {
		h.mu.Lock()
		defer h.mu.Unlock()
		if len(h.byPath) >= maxHashes {
			clear(h.byPath)
		}
		h.byPath[absolute], h.dirty = hashed{is, sum}, true
	}
	return hashed{is, sum}, err
}

func hashFile(path string) (sum string, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	h := sha256.New()
	_, err = io.Copy(h, f)
	return hex.EncodeToString(h.Sum(nil)), errors.Join(err, f.Close())
}

// match returns the files that patterns match.
func match(patterns []string) (files []string, err error) {
	for _, p := range patterns {
		found, err := filepath.Glob(p)
		if err == nil && len(found) == 0 {
			err = os.ErrNotExist
		}
		if err != nil {
			return nil, fmt.Errorf("files %s: %w", p, err)
		}
		slices.Sort(found)
		files = append(files, slices.DeleteFunc(found, func(f string) bool { return slices.Contains(files, f) })...)
	}
	return files, nil
}
