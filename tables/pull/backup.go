package pull

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/objstore"
	"github.com/go-partd/partd/tables/internal/parallel"
)

const (
	backupFiles = "files/"   // then the hash: nodes' files and manifests as they are
	backupNames = "backups/" // then the name: what the backup has
)

// Copied says what a backup, or a restore, did with a table.
type Copied struct {
	Name    string
	Version int64
	Rows    int64
	Files   int   // with the manifest, that were sent; those that are there already are not
	Bytes   int64 // in them
}

// BackupInfo describes a backup in a listing.
type BackupInfo struct {
	Name string
	Time time.Time // by the clock of the bucket
}

// backup is the object that makes files a backup. It is made last.
type backup struct {
	ID     string   `json:"id"`
	Tables []record `json:"tables"`
}

// vault is a bucket for backups.
type vault struct {
	objstore.Bucket
	retryFor time.Duration
}

func newVault(b objstore.Bucket) vault {
	if _, local := b.(*objstore.Directory); local {
		return vault{b, 0}
	}
	return vault{b, time.Minute}
}

func backupObject(name string) string { return backupNames + url.PathEscape(name) + ".json" }

// create makes an object. Where there is one it has to be the same, as after an answer
// that was lost.
func (v vault) create(ctx context.Context, name string, data []byte) error {
	err := objstore.Retry(ctx, v.retryFor, int64(len(data)), func(ctx context.Context) error { return v.Create(ctx, name, data) })
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	has, err2 := v.read(ctx, name, int64(len(data)))
	if err2 == nil && bytes.Equal(has, data) {
		return nil
	}
	return errors.Join(err, err2)
}

// read returns an object, or one byte more than most of it.
func (v vault) read(ctx context.Context, name string, most int64) (b []byte, err error) {
	err = objstore.Retry(ctx, v.retryFor, most, func(ctx context.Context) error {
		r, err := v.ReadRange(ctx, name, 0, -1)
		if err != nil {
			return err
		}
		b, err = io.ReadAll(io.LimitReader(r, most+1))
		return errors.Join(err, r.Close())
	})
	return b, err
}

// file returns a file that is what its name says.
func (v vault) file(ctx context.Context, hash string, size int64) ([]byte, error) {
	b, err := v.read(ctx, backupFiles+hash, size)
	if err == nil && (int64(len(b)) != size || hashOf(b) != hash) {
		err = &partd.CorruptError{Path: backupFiles + hash, Offset: -1, Err: errDamaged}
	}
	return b, err
}

// sizes returns what a bucket has of files.
func (v vault) sizes(ctx context.Context) (all map[string]int64, err error) {
	err = objstore.Retry(ctx, v.retryFor, 0, func(ctx context.Context) error {
		all = map[string]int64{}
		for o, err := range v.List(ctx, backupFiles, "") {
			if err != nil {
				return err
			}
			all[strings.TrimPrefix(o.Name, backupFiles)] = o.Size
		}
		return nil
	})
	return all, err
}

// Backups returns the backups that a bucket has, oldest first.
func Backups(ctx context.Context, b objstore.Bucket) (all []BackupInfo, err error) {
	err = objstore.Retry(ctx, newVault(b).retryFor, 0, func(ctx context.Context) error {
		all = nil
		for o, err := range b.List(ctx, backupNames, "") {
			if err != nil {
				return err
			}
			name, err := url.PathUnescape(strings.TrimSuffix(strings.TrimPrefix(o.Name, backupNames), ".json"))
			if err == nil && backupObject(name) == o.Name {
				all = append(all, BackupInfo{name, o.Modified})
			}
		}
		return nil
	})
	slices.SortStableFunc(all, func(a, b BackupInfo) int { return a.Time.Compare(b.Time) })
	return all, err
}

// Backup puts the newest version of each table into a bucket, under a name. What is not
// here is fetched before. Files that the bucket has from earlier backups, of whatever node,
// are not sent again; with verify they are read, as are those that are sent, and replaced
// where they are damaged.
//
// A backup that was stopped has no name, and the next one goes on with what it left. The
// error wraps fs.ErrExist where there is a backup of the name.
func (n *Node) Backup(ctx context.Context, to objstore.Bucket, name string, verify bool) ([]Copied, error) {
	done, err := n.backup(ctx, newVault(to), name, verify)
	if err != nil {
		return nil, &Error{Op: "backup", Name: name, Err: err}
	}
	return done, nil
}

func (n *Node) backup(ctx context.Context, to vault, name string, verify bool) (done []Copied, err error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	names, err := Backups(ctx, to.Bucket)
	if err == nil && slices.ContainsFunc(names, func(i BackupInfo) bool { return i.Name == name }) {
		err = fmt.Errorf("there is a backup of this name: choose another one (%w)", fs.ErrExist)
	}
	if err != nil {
		return nil, err
	}
	has, err := to.sizes(ctx)
	if err != nil {
		return nil, err
	}
	all, err := n.List(ctx)
	if err != nil {
		return nil, err
	}
	made := backup{ID: rand.Text()}
	for _, t := range all {
		m, rec, _, _, err := n.newest(ctx, t.Name, time.Time{}, time.Time{})
		if err != nil {
			return nil, fmt.Errorf("table %q: %w", t.Name, err)
		}
		c := Copied{Name: rec.Name, Version: rec.Version, Rows: rec.Rows}
		n.disk.pin(rec.Manifest, 1)
		err = n.send(ctx, to, has, rec, m, verify, &c)
		n.disk.pin(rec.Manifest, -1)
		if err != nil {
			return nil, fmt.Errorf("table %q: %w", t.Name, err)
		}
		made.Tables, done = append(made.Tables, rec), append(done, c)
	}
	b, err := json.Marshal(made)
	if err != nil {
		return nil, err
	}
	return done, to.create(ctx, backupObject(name), b)
}

// allFiles returns a version's files, and its manifest.
func allFiles(r record, m *manifest) []dataFile {
	return append(slices.Clone(m.files), dataFile{Hash: r.Manifest, Size: r.Size})
}

// send puts those files of a version into a bucket that it lacks.
func (n *Node) send(ctx context.Context, to vault, has map[string]int64, r record, m *manifest, verify bool, done *Copied) error {
	var mu sync.Mutex
	return parallel.Each(ctx, slices.Values(allFiles(r, m)), 0, func(ctx context.Context, f dataFile) error {
		size, there := has[f.Hash]
		right := there && size == f.Size
		if right && verify {
			_, err := to.file(ctx, f.Hash, f.Size)
			if right = err == nil; err != nil && !errors.Is(err, errDamaged) {
				return err
			}
		}
		if right {
			return nil
		}
		data, err := n.disk.read(f.Hash, f.Size)
		if err != nil {
			if err = n.mend(ctx, r, f.Hash, f.Size, err); err == nil {
				data, err = n.disk.read(f.Hash, f.Size)
			}
		}
		if err == nil && there {
			n.log.Warn("pull: a file of the backups is damaged, and is replaced", "table", r.Name, "file", f.Hash)
			err = objstore.Retry(ctx, to.retryFor, 0, func(ctx context.Context) error { return to.Delete(ctx, backupFiles+f.Hash) })
		}
		if err == nil {
			err = to.create(ctx, backupFiles+f.Hash, data)
		}
		if err == nil && verify {
			_, err = to.file(ctx, f.Hash, f.Size)
		}
		mu.Lock()
		defer mu.Unlock()
		done.Files++
		done.Bytes += f.Size
		return err
	})
}

// Restore makes tables, all without names, what they were in a backup. One that no node
// has is there again as it was, for nodes that return as well; one that has changed since
// gets a new version, of the rows of then. Files that are here and right are not fetched,
// and a Restore that was stopped goes on when it is called again.
func (n *Node) Restore(ctx context.Context, from objstore.Bucket, name string, tables ...string) ([]Copied, error) {
	done, err := n.restore(ctx, newVault(from), name, tables)
	if err != nil {
		err = &Error{Op: "restore", Name: name, Err: err}
	}
	return done, err
}

func (n *Node) restore(ctx context.Context, from vault, name string, tables []string) (done []Copied, err error) {
	b, err := from.read(ctx, backupObject(name), maxManifest)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there is no backup of this name: %w", ErrNotFound)
	}
	var made backup
	if err == nil {
		err = json.Unmarshal(b, &made)
	}
	if err != nil {
		return nil, err
	}
	for _, t := range tables {
		if !slices.ContainsFunc(made.Tables, func(r record) bool { return r.Name == t }) {
			return nil, fmt.Errorf("the backup has no table %q: %w", t, ErrNotFound)
		}
	}
	for _, r := range made.Tables {
		if len(tables) > 0 && !slices.Contains(tables, r.Name) {
			continue
		}
		c := Copied{Name: r.Name, Rows: r.Rows}
		err := r.check(keyOf(r.Name))
		if err == nil {
			c.Version, err = n.restoreTable(ctx, from, r, &c)
		}
		if err != nil {
			return done, fmt.Errorf("table %q: %w", r.Name, err)
		}
		done = append(done, c)
	}
	return done, nil
}

func (n *Node) restoreTable(ctx context.Context, from vault, was record, done *Copied) (version int64, err error) {
	var mu sync.Mutex
	get := func(ctx context.Context, f dataFile) error {
		if has, err := n.disk.open(f.Hash, f.Size); err == nil {
			return has.Close()
		} else if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, errDamaged) {
			return err
		}
		b, err := from.file(ctx, f.Hash, f.Size)
		if err == nil {
			_, _, err = n.disk.create(func(w io.Writer) error { _, err := w.Write(b); return err })
		}
		mu.Lock()
		defer mu.Unlock()
		done.Files++
		done.Bytes += f.Size
		return err
	}
	if err := get(ctx, dataFile{Hash: was.Manifest, Size: was.Size}); err != nil {
		return 0, err
	}
	b, err := n.disk.read(was.Manifest, was.Size)
	if err != nil {
		return 0, err
	}
	m, err := readManifest(b, was)
	if err == nil {
		err = parallel.Each(ctx, slices.Values(m.files), 0, get)
	}
	if err != nil {
		return 0, err
	}
	h, err := n.disk.head(keyOf(was.Name))
	if err != nil {
		return 0, err
	}
	now, revision, err := n.ask(ctx, keyOf(was.Name), h)
	switch {
	case errors.Is(err, ErrNotFound):
		if err = n.commit(ctx, was, revision); err == nil {
			now, err = was, n.saved(ctx, was)
		}
	case err == nil && now == was:
		err = n.saved(ctx, was)
	case err == nil:
		if has, err2 := n.manifest(ctx, now); err2 == nil && slices.Equal(has.files, m.files) && has.schema.Equal(m.schema) {
			return now.Version, n.saved(ctx, now)
		}
		now, err = n.publish(ctx, m, now, revision)
	}
	return now.Version, err
}
