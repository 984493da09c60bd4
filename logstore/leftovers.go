package logstore

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/engine/segment"
)

func (d *directory) isUnusedWAL(path string) (bool, error) {
	info, err := d.fs.Info(path)
	if err != nil || info.Size > walStep {
		return false, err
	}
	b, err := d.readAll(path, walStep)
	if err != nil {
		return false, err
	}
	return len(b) <= walHeaderLen || len(bytes.Trim(b[walHeaderLen:], "\x00")) == 0, nil
}

// listStoreFiles lists the directory's files that are named like data files or write-ahead files.
func (d *directory) listStoreFiles() ([]string, error) {
	list, err := d.fs.ReadDir(d.dir)
	if err != nil {
		return nil, err
	}
	var names []string
	entries, err := list.Next(-1)
	for _, entry := range entries {
		if name := entry.Name(); isDataName(name) || name == "wal-0" || name == "wal-1" || name == "wal-2" {
			names = append(names, name)
		}
	}
	return names, errors.Join(err, list.Close())
}

// isDataName reports whether dataName can return this name.
func isDataName(name string) bool {
	prefix, digits, _ := strings.Cut(name, "-")
	n, err := strconv.ParseUint(digits, 10, 32)
	return err == nil && (prefix == "seg" || prefix == "blob") && digits == fmt.Sprintf("%08d", n)
}

// isOwnFile reports whether a data file belongs to this store. An empty, zero-filled or truncated
// header also qualifies, because a crash can leave one.
func (c *catalog) isOwnFile(path string) (bool, error) {
	info, err := c.fs.Info(path)
	if err != nil || !info.Mode.IsRegular() {
		return false, err
	}
	b, err := c.readStart(path, segment.HeaderLen)
	if err != nil {
		return false, err
	}
	if len(bytes.Trim(b, "\x00")) == 0 {
		return info.Size <= segment.HeaderLen, nil
	}
	return c.format.OwnsHeader(b), nil
}

// removeLeftovers removes data files that the manifest does not name. A crash during a Drop, or
// after the creation of a file, leaves such files.
func (c *catalog) removeLeftovers() error {
	names, err := c.listStoreFiles()
	if err != nil {
		return err
	}
	for _, name := range names {
		path := filepath.Join(c.dir, name)
		hasThisPath := func(r fileRef) bool { return dataName(c.dir, r.kind, r.number) == path }
		if strings.HasPrefix(name, "wal-") || slices.ContainsFunc(c.manifest.files, hasThisPath) {
			continue
		}
		isOwn, err := c.isOwnFile(path)
		if err != nil {
			return err
		}
		if !isOwn {
			c.log.Warn("logstore: ignoring a file that belongs to another store", "path", path)
			continue
		}
		c.log.Info("logstore: removing a leftover file of an interrupted operation", "path", path)
		if err := c.fs.Remove(path); err != nil {
			return err
		}
	}
	for _, name := range []string{manifestTmpName, blobTmpName} {
		if err := c.fs.Remove(filepath.Join(c.dir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

func (d *directory) newManifest() (manifest, error) {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	m := manifest{
		id: binary.LittleEndian.Uint64(b[:]), seed: binary.LittleEndian.Uint64(b[8:]),
		liveEpoch: 1, nextSeq: 1,
	}
	// Sessions start at a random number, so that sessions of an earlier store in this
	// directory are not mistaken for sessions of this one.
	m.sessions = newSessionTable(m.id &^ (1<<32 - 1))
	// If data files exist, the manifest was lost. An empty write-ahead file is allowed,
	// because a crash while the store is created leaves one.
	names, err := d.listStoreFiles()
	if err != nil {
		return m, err
	}
	for _, name := range names {
		path := filepath.Join(d.dir, name)
		if strings.HasPrefix(name, "wal-") {
			isUnused, err := d.isUnusedWAL(path)
			if err != nil {
				return m, err
			}
			if isUnused {
				continue
			}
		}
		return m, &partd.CorruptError{
			Path: filepath.Join(d.dir, manifestName), Offset: -1,
			Err: fmt.Errorf("it is missing, although %s exists", name),
		}
	}
	return m, nil
}
