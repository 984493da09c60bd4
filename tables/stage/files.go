package stage

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/ipc"

	"github.com/go-partd/partd/internal/disk/vfs"
)

// stamp identifies a version of a file. CTime changes with every change, even if a program resets MTime afterwards.
type stamp struct {
	Size         int64
	MTime, CTime int64 // in Unix nanoseconds
	Dev, Ino     uint64
}

func stampOf(path string) (stamp, error) {
	i, err := vfs.OS{}.Info(path)
	if err == nil && !i.Mode.IsRegular() {
		err = fmt.Errorf("%s is not a regular file: for the files of a directory, use the pattern dir/*", path)
	}
	return stamp{i.Size, i.MTime, i.CTime, i.Dev, i.Ino}, err
}

// isSettled reports whether any change to the file after t would also change the stamp.
func (s stamp) isSettled(t time.Time) bool {
	return t.UnixNano()-max(s.MTime, s.CTime) > int64(minSettledAge)
}

type fileHash struct {
	Stamp stamp
	Sum   string
}

const (
	// minSettledAge is how long ago a file must have changed for its hash to be cached. If the file changes again
	// sooner, its times may stay the same.
	minSettledAge = 3 * time.Second

	maxHashes = 100_000
)

// hashes is a cache of the hashes of raw files, by absolute path.
type hashes struct {
	path    string
	mu      sync.Mutex
	byPath  map[string]fileHash
	isDirty bool
}

// openHashes reads the cache file. If the file is missing or damaged, it returns an empty cache.
func openHashes(path string) *hashes {
	h := &hashes{path: path}
	if b, err := os.ReadFile(path); err != nil || json.Unmarshal(b, &h.byPath) != nil || h.byPath == nil {
		h.byPath = map[string]fileHash{}
	}
	return h
}

// save replaces the cache file, unless the cache is unchanged or another process is replacing the file.
func (h *hashes) save(r *Results) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.isDirty {
		return nil
	}
	return r.ifUnused(context.Background(), hashesLock, func() error {
		h.isDirty = false
		text, err := json.Marshal(h.byPath)
		if err != nil {
			return err
		}
		return vfs.Replace(h.path, r.path(tmpDir), "hashes.", text)
	})
}

// sum returns the hash of a file's content, and the stamp before the file was read.
func (h *hashes) sum(path string) (fileHash, error) {
	start := time.Now()
	absolute, err := filepath.Abs(path)
	if err != nil {
		return fileHash{}, err
	}
	current, err := stampOf(path)
	if err != nil {
		return fileHash{}, err
	}
	h.mu.Lock()
	cached := h.byPath[absolute]
	h.mu.Unlock()
	if cached.Stamp == current {
		return cached, nil
	}
	sum, err := hashFile(path)
	if err == nil && current.isSettled(start) {
		h.mu.Lock()
		defer h.mu.Unlock()
		if len(h.byPath) >= maxHashes {
			clear(h.byPath)
		}
		h.byPath[absolute], h.isDirty = fileHash{current, sum}, true
	}
	return fileHash{current, sum}, err
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

// hashResult returns the hash of a result. For a folder, it hashes the names, permissions and contents of the files.
// Otherwise, it hashes the table's Arrow stream. kind is the result's type and codec, which is part of the hash because
// the same bytes may stand for different values.
func hashResult(kind string, t arrow.Table, folder string) (_ string, err error) {
	d := newDigest(kind)
	if folder != "" {
		err := filepath.WalkDir(folder, func(path string, e fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			name, err1 := filepath.Rel(folder, path)
			info, err2 := e.Info()
			sum := ""
			err = errors.Join(err1, err2)
			if err == nil && !e.IsDir() {
				sum, err = hashFile(path)
			}
			if err == nil {
				d.add(name, info.Mode().String(), sum)
			}
			return err
		})
		return d.sum(), err
	}
	w, r := ipc.NewWriter(d, ipc.WithSchema(t.Schema())), array.NewTableReader(t, batchRows)
	defer r.Release()
	for err == nil && r.Next() {
		err = w.Write(r.RecordBatch())
	}
	err = errors.Join(err, r.Err(), w.Close())
	return d.sum(), err
}

// matchFiles returns the files that match the patterns, without duplicates. Every pattern must match a file.
func matchFiles(patterns []string) (files []string, err error) {
	for _, p := range patterns {
		paths, err := filepath.Glob(p)
		if err == nil && len(paths) == 0 {
			err = os.ErrNotExist
		}
		if err != nil {
			return nil, fmt.Errorf("files %s: %w", p, err)
		}
		slices.Sort(paths)
		files = append(files, slices.DeleteFunc(paths, func(f string) bool { return slices.Contains(files, f) })...)
	}
	return files, nil
}
